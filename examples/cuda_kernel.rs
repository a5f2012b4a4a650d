//! Your own device code on the library's memory: the program loads PTX, runs a kernel on memory of
//! an arena, and reads the result back.
//!
//! `cargo run --example cuda_kernel`; without a GPU it prints so and exits successfully.

use std::{error::Error, process::ExitCode};

use tidelock::{
    Ctx, Result, Stack, View, ViewMut,
    cuda::{Cuda, Device, Function, Grid, Module},
    stream::StreamOptions,
};

/// `axpy(y, x, a, n)`: adds `a` times `x` to `y`, element by element.
const PTX: &str = "
.version 7.0
.target sm_80
.address_size 64

.visible .entry axpy(.param .u64 axpy_y, .param .u64 axpy_x, .param .f32 axpy_a, .param .u32 axpy_n)
{
    .reg .pred %p<2>;
    .reg .f32 %f<5>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [axpy_y];
    ld.param.u64 %rd2, [axpy_x];
    ld.param.f32 %f1, [axpy_a];
    ld.param.u32 %r1, [axpy_n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.u32 %rd5, %r5, 4;
    add.u64 %rd6, %rd3, %rd5;
    add.u64 %rd7, %rd4, %rd5;
    ld.global.f32 %f2, [%rd6];
    ld.global.f32 %f3, [%rd7];
    fma.rn.f32 %f4, %f1, %f3, %f2;
    st.global.f32 [%rd6], %f4;
DONE:
    ret;
}
";

/// Elements of a vector.
const LEN: usize = 1 << 20;

fn main() -> ExitCode {
    let device = match Device::open(0) {
        Ok(device) => device,
        Err(reason) => {
            println!("no kernel was run: {reason}");
            return ExitCode::SUCCESS;
        }
    };
    match run(&device) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(device: &Device) -> Result<(), Box<dyn Error>> {
    let axpy = Axpy { kernel: Module::load(device, PTX)?.function("axpy")? };
    let wrong = device.stream_with(&StreamOptions::default(), |mut stream, _env| -> Result<usize> {
        let mut stack = Stack::new(stream.ctx().pool());
        let mut wrong = 0;
        // The first step sizes the arena; the others allocate without a driver call.
        for step in 0..4_u8 {
            let ctx = stream.ctx().with_device_alloc(&stack);
            let (mut x, mut y) = (ctx.zeros::<f32>(LEN)?, ctx.zeros::<f32>(LEN)?);
            ctx.upload(&ramp(LEN), x.view_mut())?;
            for _ in 0..=step {
                axpy.launch(&ctx, y.view_mut(), x.view(), 0.5)?;
            }
            let page = ctx.init_from(ctx.alloc_pinned(LEN)?.stage(&ctx), y.view())?;
            drop((x, y));
            // The one wait of the step.
            let synced = stream.synchronize()?;
            let expected = ramp(LEN).into_iter().map(|x| 0.5 * x * f32::from(step + 1));
            wrong += page.peek(&synced).iter().zip(expected).filter(|(found, expected)| **found != *expected).count();
            drop(page);
            stack.reset()?;
        }
        println!("4 steps of {LEN} elements in an arena of {} bytes: {wrong} wrong", stack.usage().capacity);
        Ok(wrong)
    })??;
    if wrong == 0 { Ok(()) } else { Err("the device calculates otherwise".into()) }
}

/// Whole numbers, small enough that every sum of halves of them is exact.
fn ramp(len: usize) -> Vec<f32> {
    (0..1024_u16).cycle().map(f32::from).take(len).collect()
}

/// The kernel as the rest of a program sees it: safe, because its types and lengths are checked
/// here.
struct Axpy {
    kernel: Function,
}

impl Axpy {
    /// Adds `a` times `x` to `y`.
    fn launch<'s, A>(
        &self,
        ctx: &Ctx<'_, Cuda<'s>, A>,
        y: ViewMut<'_, f32, Cuda<'s>>,
        x: View<'_, f32, Cuda<'s>>,
        a: f32,
    ) -> Result<()> {
        let (expected, found) = (y.len(), x.len());
        if expected != found {
            return Err(tidelock::Error::Length { operand: "x", expected, found });
        }
        let n = u32::try_from(expected).map_err(|_| tidelock::Error::TooLarge { operand: "y" })?;
        // SAFETY:
        // - The kernel reads the first `n` elements of `x` and `y` and writes those of `y`, each in
        //   one thread.
        // - Its parameters are two addresses of `f32`, an `f32` and a `u32`; whatever it writes is
        //   an `f32`; it ends.
        unsafe { ctx.launch_kernel((&self.kernel, Grid::over(expected)), (y, x, a, n)) }
    }
}
