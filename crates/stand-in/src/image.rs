//! The images of modules: what they declare. Each is read once, because most modules of a process
//! have the same one.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tidelock_driver::code::Code;

use crate::driver::lock;

/// The images of the library's copy kernels, and the kernels: the file says what its lines mean.
const KERNELS: &str = include_str!("../../../src/device/cuda/kernels/kernels.txt");

/// The image of a module.
#[derive(Debug)]
pub(crate) struct Image {
    bytes: Vec<u8>,
    runs_on: RunsOn,
    /// The kernels that it declares, each with the bytes of its first parameter if that is an array
    /// of bytes.
    kernels: BTreeMap<String, Option<usize>>,
}

/// The devices that an image is for.
#[derive(Clone, Copy, Debug)]
enum RunsOn {
    /// All that a text is compiled for.
    All,
    /// Those of one major version, from a minor version on.
    Major(u64, u64),
    /// Those from a version on.
    From(u64, u64),
}

/// The images that were read. They stay: a program has few.
static IMAGES: Mutex<Vec<Arc<Image>>> = Mutex::new(Vec::new());

impl Image {
    /// The image that the text of a PTX is.
    ///
    /// # Errors
    /// `INVALID_PTX` if it does not begin like PTX or multiplies in a way that there is not.
    pub(crate) fn text(text: &[u8]) -> Result<Arc<Image>, Code> {
        Image::known_or(text, || {
            let text = String::from_utf8_lossy(text);
            let start = text.trim_start();
            let is_ptx = start.starts_with("//") || start.starts_with(".version");
            if !is_ptx || !multiplies(&text) {
                return Err(Code::INVALID_PTX);
            }
            Ok((RunsOn::All, text.split(".entry").skip(1).map(kernel).collect()))
        })
    }

    /// The image that compressed or machine code is, which is one of the library's own.
    ///
    /// # Errors
    /// `INVALID_IMAGE` if it is none of them.
    pub(crate) fn code(code: &[u8]) -> Result<Arc<Image>, Code> {
        Image::known_or(code, || {
            let found = own_images().find(|(_, bytes, hash)| *bytes == code.len() && *hash == fnv(code));
            let (runs_on, ..) = found.ok_or(Code::INVALID_IMAGE)?;
            Ok((runs_on, own_kernels().collect()))
        })
    }

    /// The image with these bytes that was read before, or the one that `read` finds in them.
    fn known_or(
        bytes: &[u8],
        read: impl FnOnce() -> Result<(RunsOn, BTreeMap<String, Option<usize>>), Code>,
    ) -> Result<Arc<Image>, Code> {
        let mut images = lock(&IMAGES);
        if let Some(image) = images.iter().find(|image| image.bytes == bytes) {
            return Ok(Arc::clone(image));
        }
        let (runs_on, kernels) = read()?;
        let image = Arc::new(Image { bytes: bytes.to_vec(), runs_on, kernels });
        images.push(Arc::clone(&image));
        Ok(image)
    }

    /// Whether it has code for a device of this compute capability.
    pub(crate) fn runs_on(&self, major: u64, minor: u64) -> bool {
        match self.runs_on {
            RunsOn::All => true,
            RunsOn::Major(of, from) => major == of && minor >= from,
            RunsOn::From(of, from) => (major, minor) >= (of, from),
        }
    }

    /// Whether the image declares the kernel; a text that declares none declares all.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.kernels.is_empty() || self.kernels.contains_key(name)
    }

    /// The bytes of the kernel's first parameter, which is an array of bytes, as compiled
    /// structures are.
    pub(crate) fn parameter(&self, name: &str) -> Option<usize> {
        self.kernels.get(name).copied().flatten()
    }
}

/// The words of the lines that begin with `kind`.
fn lines(kind: &'static str) -> impl Iterator<Item = std::str::Split<'static, char>> {
    KERNELS.lines().filter_map(move |line| line.strip_prefix(kind)).map(|rest| rest.split(' '))
}

/// What each of the library's images runs on, its bytes and its hash; compressed, and as machine
/// code.
fn own_images() -> impl Iterator<Item = (RunsOn, usize, u64)> {
    lines("image ").flat_map(|mut words| {
        let runs_on = words.next().and_then(runs_on);
        let mut next = move || {
            let (bytes, hash) = (words.next()?.parse().ok()?, u64::from_str_radix(words.next()?, 16).ok()?);
            Some((runs_on?, bytes, hash))
        };
        [next(), next()].into_iter().flatten()
    })
}

/// What the file of an image runs on: `copy_smNNN.fatbin` or `copy_computeNNN.fatbin`, where the last
/// digit is the minor version.
fn runs_on(file: &str) -> Option<RunsOn> {
    let name = file.strip_prefix("copy_")?.strip_suffix(".fatbin")?;
    let version = |digits: &str| {
        let digits: u64 = digits.parse().ok()?;
        Some((digits.checked_div(10)?, digits.checked_rem(10)?))
    };
    match name.strip_prefix("sm") {
        Some(digits) => version(digits).map(|(major, minor)| RunsOn::Major(major, minor)),
        None => version(name.strip_prefix("compute")?).map(|(major, minor)| RunsOn::From(major, minor)),
    }
}

/// The library's copy kernels.
fn own_kernels() -> impl Iterator<Item = (String, Option<usize>)> {
    lines("kernel ").filter_map(|mut words| Some((words.next()?.to_owned(), words.next()?.parse().ok())))
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
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
