//! A file of weights on the device: loaded, reshaped, split into q, k and v by columns, used in a
//! step, and saved.
//!
//! `cargo run --features safetensors --example safetensors -- IN.safetensors OUT.safetensors`. The
//! file has a tensor `qkv` of F32, whose rows are q, k and v of one token: two heads each.

use std::{env, ops::ControlFlow, path::Path};

use tidelock::{
    Stream, View,
    any::TensorMap,
    file::{Contents, File, FileError, Progress, save_map},
    sim::{self, Sim},
};

const HEADS: usize = 2;

/// Each token's sum of all v, weighted by the products of its q with all k, head by head.
fn step<'s>(stream: &mut Stream<Sim<'s>>, file: &File<'_>) -> Result<(Vec<f32>, usize), FileError> {
    let progress = |now: Progress<'_>| {
        println!("{} of {} bytes: `{}`", now.done, now.total, now.name);
        ControlFlow::Continue(()) // `Break(())` would end the load
    };
    // The threads of the ring copy the file into pinned memory, and the device copies from there.
    let mut weights = file.load().progress(progress).through_ring(&stream.ctx())?;
    let qkv = weights.consume_tensor::<f32, Sim<'s>, 2>("qkv")?;
    let [tokens, columns] = qkv.shape();
    let (width, size) = (columns / 3, columns / 3 / HEADS);

    // Views: nothing is copied. The columns of a part do not lie side by side in memory.
    let (q, kv) = qkv.view().split_at(1, width)?;
    let (k, v) = kv.split_at(1, width)?;
    let heads = [tokens, HEADS, size];
    let (q, k, v) = (q.view(heads)?, k.view(heads)?, v.view(heads)?);

    let ctx = stream.ctx().with_pool();
    let mut out = ctx.zeros::<f32>(tokens * width)?.tensor(heads)?;
    // A kernel of the simulated device is a closure. On CUDA the same arguments are passed by value,
    // as address, shape and strides.
    ctx.launch((out.view_mut(), q, k, v), move |(mut out, q, k, v)| {
        for (i, head, j) in (0..tokens).flat_map(|i| (0..HEADS * tokens).map(move |n| (i, n / tokens, n % tokens))) {
            let weight: f32 = (0..size).map(|c| q[[i, head, c]] * k[[j, head, c]]).sum();
            (0..size).for_each(|c| out[[i, head, c]] += weight * v[[j, head, c]]);
        }
    })?;
    Ok((stream.read(out.into_buffer().view())?, tokens))
}

/// Loads `from`, and saves the result of the step as `out` to `to`.
pub fn run(from: &Path, to: &Path) -> Result<Vec<f32>, FileError> {
    let contents = Contents::read(from)?; // `unsafe { Mapped::open(from) }` maps it instead
    let file = contents.file()?;
    let device = sim::Device::default();
    let (out, tokens) = device.stream(|mut stream, _env| step(&mut stream, &file))??;
    let mut saved = TensorMap::<Sim<'_>>::new();
    saved.produce("out", View::from(&out[..]).tensor([tokens, out.len() / tokens])?)?;
    save_map(to, &saved)?;
    // The simulated device detects unordered accesses, and finds none.
    assert_eq!(device.gpu().check(), Ok(()));
    Ok(out)
}

#[allow(dead_code, reason = "a test calls `run`")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = env::args_os().skip(1);
    let (Some(from), Some(to)) = (paths.next(), paths.next()) else {
        return Err("two paths are needed: of the file that is loaded, and of the one that is saved".into());
    };
    println!("out: {:?}", run(Path::new(&from), Path::new(&to))?);
    Ok(())
}
