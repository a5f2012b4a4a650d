//! A matrix product of cuBLAS between two steps of this library, on one stream: the operands are
//! uploaded by this library, cuBLAS multiplies, and this library reads the result back. The host checks
//! it.
//!
//! ```sh
//! cargo run --release --example cublas_gemm
//! ```
//!
//! It needs an NVIDIA GPU and cuBLAS, such as that of Python's `nvidia-cublas-cu12`, in
//! `LD_LIBRARY_PATH`. Where one of them is missing, it says so and ends.

use std::{error::Error, sync::Arc};

use cudarc::{
    cublas::{CudaBlas, Gemm, GemmConfig, sys},
    driver::CudaContext,
};
use tidelock::cuda;

/// Rows of the result, columns of the result, and the length of the sums.
const SHAPE: [usize; 3] = [64, 48, 32];

fn main() -> Result<(), Box<dyn Error>> {
    let device = match cuda::Device::open(0) {
        Ok(device) => device,
        Err(reason) => {
            println!("no GPU here: {reason}");
            return Ok(());
        }
    };
    // SAFETY: it opens libraries by their names, as the first call of cuBLAS does.
    if !unsafe { sys::is_culib_present() } {
        println!("cuBLAS was not found: put the folder of libcublas.so.12 into LD_LIBRARY_PATH");
        return Ok(());
    }
    // The primary context is the one of the device above.
    let worst = difference(&device, &CudaContext::new(0)?)?;
    println!("{SHAPE:?}: the largest difference from the host is {worst}");
    if worst > 1e-3 { Err("cuBLAS and the host disagree".into()) } else { Ok(()) }
}

/// The largest difference between a product on `device` and the same on the host.
fn difference(device: &cuda::Device, theirs: &Arc<CudaContext>) -> Result<f32, Box<dyn Error>> {
    let [m, n, k] = SHAPE;
    let (a, b) = (values(m * k, 7), values(k * n, 5));
    let product = device.stream(|mut stream, _env| -> Result<_, Box<dyn Error>> {
        let ctx = stream.ctx().with_pool();
        let (left, right) = (ctx.upload_new(&a)?, ctx.upload_new(&b)?);
        let mut out = ctx.zeros::<f32>(m * n)?;
        {
            // SAFETY: `blas` and the bridge end before the stream, and nothing captures it.
            let bridge = unsafe { ctx.to_cudarc(theirs) }?;
            let blas = CudaBlas::new(bridge.stream().clone())?;
            let [rows, columns, sums] = [m, n, k].map(|side| i32::try_from(side).unwrap_or(i32::MAX));
            // Matrices of cuBLAS are stored by columns.
            let config = GemmConfig {
                transa: sys::cublasOperation_t::CUBLAS_OP_N,
                transb: sys::cublasOperation_t::CUBLAS_OP_N,
                m: rows,
                n: columns,
                k: sums,
                alpha: 1.0,
                lda: rows,
                ldb: sums,
                beta: 0.0,
                ldc: rows,
            };
            let (left, right) = (bridge.read(left.view()), bridge.read(right.view()));
            // SAFETY: the three matrices have the sides that `config` names.
            unsafe { blas.gemm(config, &left, &right, &mut bridge.write(out.view_mut())) }?;
        }
        let page = ctx.alloc_pinned(m * n)?.stage(&ctx);
        let page = ctx.init_from(page, out.view()).map_err(|refused| refused.error)?;
        Ok(page.reclaim(&stream.synchronize()?).to_vec())
    })??;
    let expected = |row: usize, column: usize| (0..k).map(|i| a[row + i * m] * b[i + column * k]).sum::<f32>();
    let cells = (0..n).flat_map(|column| (0..m).map(move |row| (row, column)));
    Ok(cells.zip(&product).map(|((row, column), got)| (got - expected(row, column)).abs()).fold(0.0, f32::max))
}

/// `len` small numbers.
fn values(len: usize, step: usize) -> Vec<f32> {
    (0..len).map(|i| f32::from(u8::try_from(i * step % 17).unwrap_or(0)) / 8.0 - 1.0).collect()
}
