//! Kernels: what a stream launches, and host functions as kernels.

use crate::{
    args::{KernelUse, RawArgs, Resolve},
    code::{Code, DriverError},
    error::{Error, Result},
    stream::RawStream,
};

/// The most bytes that a launch takes by value, arguments and captures together: what every CUDA
/// driver takes as the parameters of a kernel.
pub const MAX_LAUNCH_BYTES: usize = 4096;

/// A stream that runs kernels `K` over arguments `P`. Unsafe to implement.
///
/// `K` is what the backend calls a kernel: a function of a module and a grid, or
/// [`HostFn<F>`](HostFn), a closure, which every implementation of [`HostFns`] has from here.
///
/// # Safety
/// The implementation keeps clauses L1 to L4.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not run kernels `{K}` over `{P}`",
    label = "not a kernel of this stream",
    note = "a GPU runs the functions of a module: `unsafe {{ ctx.launch_kernel((&function, grid), args) }}`"
)]
pub unsafe trait Launch<K, P: RawArgs>: RawStream {
    /// Enqueues `kernel` over `args`.
    ///
    /// # Errors
    /// If the kernel takes other arguments, or what the driver answered. Nothing is enqueued then.
    ///
    /// # Safety
    /// - K1 to K3.
    unsafe fn launch(&self, kernel: K, args: P) -> Result<()>;
}

/// A stream that runs functions of the host. Unsafe to implement.
///
/// # Safety
/// The implementation keeps clauses L1, L2 and L4.
#[diagnostic::on_unimplemented(
    message = "`{Self}` runs no closures",
    label = "this backend's kernels are functions of a module",
    note = "`unsafe {{ ctx.launch_kernel((&function, grid), args) }}` launches one",
    note = "engine code takes the kernel as a parameter: `StreamOf<L::Backend>: Launch<K, (Out<f32>, In<f32>, Value<f32>)>`"
)]
pub unsafe trait HostFns: RawStream {
    /// What finds the memory behind the addresses of arguments.
    type Memory: Resolve;

    /// Enqueues `f`, which uses the memory that `uses` names (L2).
    ///
    /// A backend that checks order calls `uses` during the call; the others leave it alone.
    ///
    /// # Errors
    /// What the driver answered; `f` is dropped then.
    ///
    /// # Safety
    /// - K1 to K3.
    unsafe fn run(
        &self,
        f: impl FnOnce(&Self::Memory) -> Result<(), Code> + Send + 'static,
        uses: impl FnOnce(&mut dyn FnMut(KernelUse)),
    ) -> Result<(), DriverError>;
}

/// A Rust closure as a kernel. It sees slices and values: [`RawArgs::Seen`].
#[derive(Clone, Copy, Debug)]
pub struct HostFn<F>(pub F);

impl<F> HostFn<F> {
    /// Why the closure is not launched with arguments `P`, if they are more than
    /// [`MAX_LAUNCH_BYTES`] together.
    ///
    /// Asked in a constant, so that no code is made, and no stack is used, for moving what is too
    /// large.
    #[inline]
    #[must_use]
    pub const fn refusal<P>() -> Option<Error> {
        let bytes = size_of::<(P, F)>();
        if bytes <= MAX_LAUNCH_BYTES {
            return None;
        }
        let operand = if size_of::<P>() > MAX_LAUNCH_BYTES { "args" } else { "kernel" };
        Some(Error::ByValue { operand, bytes, most: MAX_LAUNCH_BYTES })
    }
}

// SAFETY:
// - L1, L2 and L4: by `HostFns::run`, which gets the closure once.
// - L3: a closure's parameters are the arguments, by its type.
unsafe impl<S, F, P> Launch<HostFn<F>, P> for S
where
    S: HostFns,
    P: RawArgs + Copy + Send + 'static,
    F: for<'k> FnOnce(P::Seen<'k>) + Send + 'static,
{
    #[inline]
    unsafe fn launch(&self, kernel: HostFn<F>, args: P) -> Result<()> {
        if const { HostFn::<F>::refusal::<P>().is_some() } {
            return HostFn::<F>::refusal::<P>().map_or(Ok(()), Err);
        }
        if !args.are_aligned::<S::Memory>() {
            return Err(Error::Driver(DriverError::new("launching a host function", Code::MISALIGNED_ADDRESS)));
        }
        let run = move |memory: &S::Memory| {
            // SAFETY:
            // - `are_aligned` returned `true` above.
            // - The stream has come to the launch, and calls this once (L2). The memory is the
            //   caller's promise (K1).
            (kernel.0)(unsafe { args.see(memory) }?);
            Ok(())
        };
        // SAFETY:
        // - The caller promises K1 and K3. A closure touches what it sees and what it owns (K2).
        Ok(unsafe { self.run(run, |each| args.uses(each)) }?)
    }
}
