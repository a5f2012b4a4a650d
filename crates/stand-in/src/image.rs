//! The text of modules: what it declares. Each text is read once, because most modules of a process
//! have the same one.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tidelock_driver::code::Code;

use crate::driver::lock;

/// The text of a module.
#[derive(Debug)]
pub(crate) struct Image {
    text: String,
    /// The kernels that it declares, each with the bytes of its first parameter if that is an array
    /// of bytes.
    kernels: BTreeMap<String, Option<usize>>,
}

/// The texts that were read. They stay: a program has few.
static IMAGES: Mutex<Vec<Arc<Image>>> = Mutex::new(Vec::new());

impl Image {
    /// The image that `text` is.
    ///
    /// # Errors
    /// `INVALID_PTX` if it does not begin like PTX or multiplies in a way that there is not.
    pub(crate) fn read(text: &[u8]) -> Result<Arc<Image>, Code> {
        let mut images = lock(&IMAGES);
        if let Some(image) = images.iter().find(|image| image.text.as_bytes() == text) {
            return Ok(Arc::clone(image));
        }
        let text = String::from_utf8_lossy(text).into_owned();
        let start = text.trim_start();
        let is_ptx = start.starts_with("//") || start.starts_with(".version");
        if !is_ptx || !multiplies(&text) {
            return Err(Code::INVALID_PTX);
        }
        let kernels = text.split(".entry").skip(1).map(kernel).collect();
        let image = Arc::new(Image { text, kernels });
        images.push(Arc::clone(&image));
        Ok(image)
    }

    /// Whether the text declares the kernel; a text that declares none declares all.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.kernels.is_empty() || self.kernels.contains_key(name)
    }

    /// The bytes of the kernel's first parameter, which is an array of bytes, as compiled
    /// structures are.
    pub(crate) fn parameter(&self, name: &str) -> Option<usize> {
        self.kernels.get(name).copied().flatten()
    }
}

/// The kernel that the text behind `.entry` is of.
fn kernel(behind: &str) -> (String, Option<usize>) {
    let behind = behind.trim_start();
    let name = behind.split(|end: char| !is_of_name(end)).next().unwrap_or_default();
    let array = behind.split_once(&format!(" {name}_param_0[")).and_then(|(_, bytes)| bytes.split(']').next());
    (name.to_owned(), array.and_then(|bytes| bytes.parse().ok()))
}

/// Whether all multiplications are of kinds that there are: the one mistake that is known.
fn multiplies(text: &str) -> bool {
    const KINDS: &[&str] = &["lo", "hi", "wide", "rn", "rz", "rm", "rp", "ftz", "sat", "f16", "f32", "f64", "bf16"];
    text.match_indices("mul.").all(|(at, word)| {
        let (before, rest) = text.split_at(at);
        let begins = before.is_empty() || before.ends_with(char::is_whitespace);
        let kind = rest.strip_prefix(word).and_then(|rest| rest.split(|end: char| !is_of_name(end)).next());
        !begins || kind.is_some_and(|kind| KINDS.contains(&kind))
    })
}

fn is_of_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_' || char == '$'
}
