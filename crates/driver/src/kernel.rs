//! Kernels: what a stream launches, and host functions as kernels.

use crate::{
    args::{KernelUse, RawArgs, Resolve},
    code::{Code, DriverError},
    error::{Error, Result},
    stream::RawStream,
};

/// The most bytes that a launch takes by value, arguments and captures together. Every CUDA driver
/// takes that many bytes as the parameters of a kernel.
pub const MAX_LAUNCH_BYTES: usize = 4096;

/// A stream that runs kernels `K` over arguments `P`. Unsafe to implement.
///
/// `K` is the backend's type for a kernel, such as a function of a module with a grid. For
/// closures, [`HostFn<F>`](HostFn), every stream with [`HostFns`] has an implementation from this
/// crate.
///
/// # Safety
/// The implementation keeps clauses L1 to L4 and L6, and S5 for `launch`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not run kernels `{K}` over `{P}`",
    label = "not a kernel of this stream",
    note = "a GPU runs the functions of a module: `unsafe {{ ctx.launch_kernel((&function, grid), args) }}`",
    note = "generic code says which kernels it launches, with `driver::{{StreamOf, Launch, In, Out, Value}}`: `where StreamOf<L::Backend>: Launch<K, (Out<f32>, In<f32>, Value<f32>)>`"
)]
pub unsafe trait Launch<K, P: RawArgs>: RawStream {
    /// Enqueues `kernel` over `args`.
    ///
    /// # Errors
    /// If the kernel has other parameters (L3), or the driver's error. Nothing is enqueued then.
    ///
    /// # Safety
    /// - K1 to K3.
    unsafe fn launch(&self, kernel: K, args: P) -> Result<()>;

    /// Whether a launch of `kernel` runs it: not if its grid is empty (L6). Provided: `true`.
    #[inline]
    fn runs(kernel: &K) -> bool {
        let _ = kernel;
        true
    }
}

/// A stream that runs functions of the host. Unsafe to implement.
///
/// # Safety
/// The implementation keeps clauses L1, L2 and L4, and S5 for `run`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` runs no closures",
    label = "this backend's kernels are functions of a module",
    note = "`unsafe {{ ctx.launch_kernel((&function, grid), args) }}` launches one",
    note = "generic code that launches closures says so: `where driver::StreamOf<L::Backend>: driver::HostFns`",
    note = "generic code for every backend takes the kernel as a parameter: `StreamOf<L::Backend>: Launch<K, (Out<f32>, In<f32>, Value<f32>)>`"
)]
pub unsafe trait HostFns: RawStream {
    /// The resolver of the addresses in arguments.
    type Memory: Resolve;

    /// Enqueues `f`, which uses the memory that `uses` names (L2).
    ///
    /// A backend that checks order calls `uses` during the call. Others ignore it.
    ///
    /// # Errors
    /// The driver's error. `f` is dropped then.
    ///
    /// # Safety
    /// - K1 to K3.
    unsafe fn run(
        &self,
        f: impl FnOnce(&Self::Memory) -> Result<(), Code> + Send + 'static,
        uses: impl FnOnce(&mut dyn FnMut(KernelUse)),
    ) -> Result<(), DriverError>;
}

/// A Rust closure as a kernel. It gets slices and values: [`RawArgs::Seen`].
#[derive(Clone, Copy, Debug)]
pub struct HostFn<F>(pub F);

impl<F> HostFn<F> {
    /// The error of launching the closure with arguments `P`, if both together are more than
    /// [`MAX_LAUNCH_BYTES`].
    ///
    /// Callers evaluate it in a constant, so that no code is generated, and no stack is used, to
    /// move a value that is too large.
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
// - L1, L2 and L4: `HostFns::run` keeps them, and gets the closure once.
// - L3: the type of a closure says that its parameters are the arguments.
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
        // SAFETY:
        // - What the arguments were made from is borrowed during this call (K1).
        if !unsafe { args.are_aligned::<S::Memory>() } {
            return Err(Error::Driver(DriverError::new("launching a host function", Code::MISALIGNED_ADDRESS)));
        }
        let run = move |memory: &S::Memory| {
            let mut rooms = P::rooms();
            // SAFETY:
            // - `are_aligned` returned `true` above.
            // - The stream has come to the launch, and calls this once (L2). The caller promises
            //   the use of the memory (K1).
            (kernel.0)(unsafe { args.see(memory, &mut rooms) }?);
            P::finish(rooms, memory)
        };
        // SAFETY:
        // - What the arguments were made from is borrowed during this call (K1), after which
        //   `HostFns::run` cannot have kept the closure.
        let uses = |each: &mut dyn FnMut(KernelUse)| unsafe { args.uses(each) };
        // SAFETY:
        // - The caller promises K1 and K3. A closure touches the slices that it gets and what it
        //   owns (K2).
        Ok(unsafe { self.run(run, uses) }?)
    }
}
