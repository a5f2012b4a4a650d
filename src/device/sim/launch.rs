//! Launching Rust functions as kernels of a simulated stream.

use core::ptr::NonNull;

use super::{
    Sim,
    engine::{Call, MOST, Memory, PLACED, Task, Use, is_device, is_watching},
};
use crate::{
    Element,
    buffer::{View, ViewMut},
    device::code::{Code, DriverError},
    error::{Error, Result},
    location::KernelAccessible,
    stream::Ctx,
};

impl<'s, A> Ctx<'_, Sim<'s>, A> {
    /// Runs `kernel` on the stream, in stream order, over `args`: a tuple of up to twelve views and scalars, of which the
    /// kernel sees slices and values.
    ///
    /// A panic in it is caught and breaks the device, as a faulting kernel does: every later call says so. Cost: one driver
    /// call; no allocation unless arguments and captures are more than 256 bytes.
    ///
    /// # Errors
    /// [`Error::ByValue`] if arguments and captures are more than 4096 bytes, of which a view takes 16: what every CUDA
    /// driver takes as the parameters of a kernel. `MISALIGNED_ADDRESS` for device memory that was reinterpreted as elements
    /// aligned to more than 512 bytes, which the memory behind the simulated addresses need not be. Else what the driver
    /// answered. Nothing is enqueued then.
    #[inline]
    pub fn launch<P: Args<'s>>(
        &self,
        args: P,
        kernel: impl for<'k> FnOnce(P::Seen<'k>) + Send + 'static,
    ) -> Result<()> {
        self.launch_kernel(args, kernel)
    }

    #[inline]
    fn launch_kernel<P: Args<'s>, K>(&self, args: P, kernel: K) -> Result<()>
    where
        K: for<'k> FnOnce(P::Seen<'k>) + Send + 'static,
    {
        // Constant, so that no code is made, and no stack is used, for moving what is too large.
        if const { size_of::<(P::Sent, K)>() > MOST } {
            let operand = if size_of::<P::Sent>() > MOST { "args" } else { "kernel" };
            return Err(Error::ByValue { operand, bytes: size_of::<(P::Sent, K)>(), most: MOST });
        }
        let sent = args.send();
        if !P::is_placed(&sent) {
            return Err(Error::Driver(DriverError::new(Call::LaunchKernel.name(), Code::MISALIGNED_ADDRESS)));
        }
        let mut uses = Uses::new();
        if is_watching() {
            P::uses(&sent, &mut uses);
        }
        let task = Task::new(move |memory| {
            // SAFETY:
            // - `is_placed` was asked above.
            // - The task runs in stream order. The views' memory belongs to this stream, and lives and is borrowed as the
            //   views say until the stream has passed the launch, as for a copy.
            kernel(unsafe { P::see(&sent, memory) }?);
            Ok(())
        });
        self.handle().with_queue(|queue| queue.launch_using(task, uses.as_slice()))
    }
}

/// The memory that the arguments of one launch name, for the oracle.
#[doc(hidden)]
#[derive(Debug)]
pub struct Uses {
    uses: [Use; 12],
    len: usize,
}

impl Uses {
    const fn new() -> Self {
        Uses { uses: [Use::read(core::ptr::null(), 0); 12], len: 0 }
    }

    fn add<T>(&mut self, range: &Range<T>, to_use: fn(*const u8, usize) -> Use) {
        if let Some(place) = self.uses.get_mut(self.len) {
            *place = to_use(range.ptr.as_ptr().cast(), range.bytes());
            self.len = self.len.wrapping_add(1);
        }
    }

    fn as_slice(&self) -> &[Use] {
        self.uses.get(..self.len).unwrap_or_default()
    }
}

/// An argument of a simulated kernel of stream `'s`: a view of memory the stream's kernels may use, or an element by value. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a simulated kernel",
    label = "expected a view of this stream's memory, or an element by value",
    note = "memory is passed as `buffer.view()` or `buffer.view_mut()`; pinned memory is staged first"
)]
pub trait Arg<'s>: sealed::SealedArg<'s> {
    /// What travels to the stream's thread.
    #[doc(hidden)]
    type Sent: Send + 'static;
    /// What the kernel sees: a slice, an exclusive slice, or the value.
    type Seen<'k>;
    /// Takes the argument apart.
    #[doc(hidden)]
    fn send(self) -> Self::Sent;
    /// Whether the memory is aligned where the kernel sees it.
    #[doc(hidden)]
    fn is_placed(sent: &Self::Sent) -> bool;
    /// Names the memory that the kernel sees.
    #[doc(hidden)]
    fn uses(sent: &Self::Sent, uses: &mut Uses);
    /// Makes what the kernel sees.
    ///
    /// # Safety
    /// - [`is_placed`](Arg::is_placed) answered `true`.
    /// - Called on the stream's thread, once, in stream order; the memory is borrowed as the argument said for `'k`.
    #[doc(hidden)]
    unsafe fn see<'k>(sent: &Self::Sent, memory: &'k Memory) -> Result<Self::Seen<'k>, Code>;
}

/// The arguments of a simulated kernel: a tuple of up to twelve [`Arg`]s. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are not the arguments of a simulated kernel",
    label = "expected a tuple of views and elements",
    note = "memory is passed as `buffer.view()` or `buffer.view_mut()`; a single argument is a tuple too: `(x.view(),)`"
)]
pub trait Args<'s>: sealed::SealedArgs<'s> {
    /// What travels to the stream's thread.
    #[doc(hidden)]
    type Sent: Send + 'static;
    /// The tuple of what the kernel sees.
    type Seen<'k>;
    /// Takes the arguments apart.
    #[doc(hidden)]
    fn send(self) -> Self::Sent;
    /// Whether all memory is aligned where the kernel sees it.
    #[doc(hidden)]
    fn is_placed(sent: &Self::Sent) -> bool;
    /// Names the memory that the kernel sees.
    #[doc(hidden)]
    fn uses(sent: &Self::Sent, uses: &mut Uses);
    /// Makes what the kernel sees.
    ///
    /// # Safety
    /// - As for [`Arg::see`].
    #[doc(hidden)]
    unsafe fn see<'k>(sent: &Self::Sent, memory: &'k Memory) -> Result<Self::Seen<'k>, Code>;
}

/// A range of memory on its way to the stream's thread.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Range<T> {
    ptr: NonNull<T>,
    len: usize,
}

// SAFETY:
// - A range gives access to nothing by itself; `see` does, under its own contract. Elements are `Send` and `Sync`.
unsafe impl<T: Element> Send for Range<T> {}

impl<T: Element> Range<T> {
    /// Where the elements really are; where the view is if they take no bytes.
    fn resolve(&self, memory: &Memory) -> Result<*mut T, Code> {
        Ok(memory.resolve(self.ptr.as_ptr().cast(), self.bytes())?.cast())
    }

    /// Whether elements that are aligned at their address are so where they really are.
    fn is_placed(&self) -> bool {
        align_of::<T>() <= PLACED || self.len == 0 || !is_device(self.ptr.addr().get())
    }
}

impl<T> Range<T> {
    fn bytes(&self) -> usize {
        // A layout of `[T; len]` exists, so that the product does not wrap.
        self.len.wrapping_mul(size_of::<T>())
    }
}

impl<'s, T: Element, D: KernelAccessible<Sim<'s>>> Arg<'s> for View<'_, T, D> {
    type Sent = Range<T>;
    type Seen<'k> = &'k [T];

    #[inline]
    fn send(self) -> Range<T> {
        Range { ptr: NonNull::new(self.as_ptr().cast_mut()).unwrap_or(NonNull::dangling()), len: self.len() }
    }

    #[inline]
    fn is_placed(sent: &Range<T>) -> bool {
        sent.is_placed()
    }

    #[inline]
    fn uses(sent: &Range<T>, uses: &mut Uses) {
        uses.add(sent, Use::read);
    }

    #[inline]
    unsafe fn see<'k>(sent: &Range<T>, memory: &'k Memory) -> Result<&'k [T], Code> {
        let ptr = sent.resolve(memory)?;
        // SAFETY:
        // - `resolve` found `len` elements in one live allocation. They are aligned: the view is, host memory goes by its own
        //   address, and addresses of device memory are congruent modulo 512 with those of what stands behind them, which
        //   the caller promises to be enough.
        // - They are initialised as `T` in stream order, and nobody writes them for 'k: the caller promises it.
        Ok(unsafe { core::slice::from_raw_parts(ptr, sent.len) })
    }
}

impl<'s, T: Element, D: KernelAccessible<Sim<'s>>> Arg<'s> for ViewMut<'_, T, D> {
    type Sent = Range<T>;
    type Seen<'k> = &'k mut [T];

    #[inline]
    fn send(mut self) -> Range<T> {
        Range { ptr: NonNull::new(self.as_mut_ptr()).unwrap_or(NonNull::dangling()), len: self.len() }
    }

    #[inline]
    fn is_placed(sent: &Range<T>) -> bool {
        sent.is_placed()
    }

    #[inline]
    fn uses(sent: &Range<T>, uses: &mut Uses) {
        uses.add(sent, Use::write);
    }

    #[inline]
    unsafe fn see<'k>(sent: &Range<T>, memory: &'k Memory) -> Result<&'k mut [T], Code> {
        let ptr = sent.resolve(memory)?;
        // SAFETY:
        // - As for a shared view; nobody else touches the elements for 'k: the caller promises it.
        Ok(unsafe { core::slice::from_raw_parts_mut(ptr, sent.len) })
    }
}

#[diagnostic::do_not_recommend]
impl<T: Element> Arg<'_> for T {
    type Sent = T;
    type Seen<'k> = T;

    #[inline]
    fn send(self) -> T {
        self
    }

    #[inline]
    fn is_placed(_: &T) -> bool {
        true
    }

    #[inline]
    fn uses(_: &T, _: &mut Uses) {}

    #[inline]
    unsafe fn see(sent: &T, _: &Memory) -> Result<T, Code> {
        Ok(*sent)
    }
}

macro_rules! tuples {
    ($(($($name:ident)+))+) => {$(
        impl<'s, $($name: Arg<'s>),+> sealed::SealedArgs<'s> for ($($name,)+) {}
        impl<'s, $($name: Arg<'s>),+> Args<'s> for ($($name,)+) {
            type Sent = ($($name::Sent,)+);
            type Seen<'k> = ($($name::Seen<'k>,)+);
            #[inline]
            #[expect(non_snake_case, reason = "the variables are named like their types")]
            fn send(self) -> Self::Sent {
                let ($($name,)+) = self;
                ($($name.send(),)+)
            }
            #[inline]
            #[expect(non_snake_case, reason = "the variables are named like their types")]
            fn is_placed(sent: &Self::Sent) -> bool {
                let ($($name,)+) = sent;
                $($name::is_placed($name))&&+
            }
            #[inline]
            #[expect(non_snake_case, reason = "the variables are named like their types")]
            fn uses(sent: &Self::Sent, uses: &mut Uses) {
                let ($($name,)+) = sent;
                $($name::uses($name, uses);)+
            }
            #[inline]
            #[expect(non_snake_case, reason = "the variables are named like their types")]
            unsafe fn see<'k>(sent: &Self::Sent, memory: &'k Memory) -> Result<Self::Seen<'k>, Code> {
                let ($($name,)+) = sent;
                // SAFETY:
                // - The caller keeps the same contract, for each of them.
                Ok(($(unsafe { $name::see($name, memory) }?,)+))
            }
        }
    )+};
}
tuples! {
    (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) (A B C D E F G H I)
    (A B C D E F G H I J) (A B C D E F G H I J K) (A B C D E F G H I J K M)
}

/// Each is implemented for what the public trait of its name is implemented for, and has its parameter.
mod sealed {
    use super::{Element, KernelAccessible, Sim, View, ViewMut};

    /// Implemented for views of memory that the stream's kernels may use, and for elements.
    #[diagnostic::on_unimplemented(
        message = "`sim::Arg` is sealed, and `{Self}` is neither a view of this stream's memory nor an element",
        label = "not a view, and not an `Element`",
        note = "a struct of your own is passed by value once it is an element: `impl tidelock::Element for {Self} {{}}`"
    )]
    pub trait SealedArg<'s> {}
    impl<'s, T: Element, D: KernelAccessible<Sim<'s>>> SealedArg<'s> for View<'_, T, D> {}
    impl<'s, T: Element, D: KernelAccessible<Sim<'s>>> SealedArg<'s> for ViewMut<'_, T, D> {}
    #[diagnostic::do_not_recommend]
    impl<T: Element> SealedArg<'_> for T {}

    /// Implemented for tuples of arguments.
    #[diagnostic::on_unimplemented(
        message = "`sim::Args` is sealed, and `{Self}` is not a tuple of kernel arguments",
        label = "not a tuple of views and elements",
        note = "the arguments of a kernel are passed as a tuple of views and elements: `(x.view(), y.view_mut(), 3_u32)`"
    )]
    pub trait SealedArgs<'s> {}
}
