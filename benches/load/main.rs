//! How fast a file of tensors is loaded to a device.
//!
//! `cargo bench --bench load [-- MIB [FOLDER]]` writes a file of so many MiB, 4096 unless another
//! number is given, to a folder, which is the one for temporary files unless another is given. It
//! prints a table in Markdown: the file loaded through the ring by 1, 4 and 8 threads, and from
//! page-locked pages, beside copies of as many bytes out of pinned memory. It runs on a GPU if there
//! is one, and on the simulated device otherwise, whose rates say nothing.
//!
//! The file was just written, so that it is in the page cache if memory is left for it. Each way is
//! measured three times. The first includes what it locks and starts: the pinned pool is empty
//! before. The host's page tables and the stream's pool are warm from a load that is not measured.

mod measure;

use std::{env, path::PathBuf};

use tidelock::{cuda, sim};

fn main() {
    let mut arguments = env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let mib: usize = arguments.next().map_or(4096, |mib| mib.parse().expect("a number of MiB"));
    let folder = arguments.next().map_or_else(env::temp_dir, PathBuf::from);
    let path = folder.join(format!("tidelock-load-{}.safetensors", std::process::id()));
    let table = match cuda::Device::open(0) {
        Ok(device) => device.stream(|mut stream, _env| measure::table(&mut stream, &path, mib)),
        Err(reason) => {
            println!("no GPU: {reason}\n");
            sim::Device::new(sim::Options::quick()).stream(|mut stream, _env| measure::table(&mut stream, &path, mib))
        }
    };
    let _ = std::fs::remove_file(&path);
    println!("{}", table.expect("the stream ends").expect("the file is loaded"));
}
