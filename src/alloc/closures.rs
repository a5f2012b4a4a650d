//! An allocator made of two closures.

use core::{alloc::Layout, fmt, marker::PhantomData, ptr::NonNull};

use super::{AllocError, Allocator};
use crate::location::Location;

/// An allocator for location `D` made of two closures, for memory from elsewhere.
///
/// Buffers use it by reference. Building one is `unsafe`, because nothing checks the closures.
///
/// ```
/// use core::{alloc::Layout, ptr::NonNull};
/// use tidelock::{
///     Buffer,
///     alloc::{AllocError, ClosureAlloc},
///     location::Host,
/// };
///
/// // SAFETY: both closures call the global allocator.
/// let heap = unsafe {
///     ClosureAlloc::<Host, _, _>::new(
///         |layout: Layout| NonNull::new(unsafe { std::alloc::alloc(layout) }).ok_or(AllocError::OutOfMemory),
///         |ptr: NonNull<u8>, layout: Layout| unsafe { std::alloc::dealloc(ptr.as_ptr(), layout) },
///     )
/// };
/// let squares = Buffer::from_fn_in(4, |i| i as u32 * i as u32, &heap)?;
/// assert_eq!(&squares[..], &[0, 1, 4, 9]);
/// # Ok::<(), tidelock::Error>(())
/// ```
pub struct ClosureAlloc<D, F, G> {
    alloc: F,
    dealloc: G,
    location: PhantomData<D>,
}

impl<D: Location, F, G> ClosureAlloc<D, F, G>
where
    F: Fn(Layout) -> Result<NonNull<u8>, AllocError>,
    G: Fn(NonNull<u8>, Layout),
{
    /// An allocator that calls `alloc` with layouts of non-zero size, and `dealloc` with what came
    /// from it.
    ///
    /// # Safety
    /// - `alloc` and `dealloc` keep every promise in the `# Safety` section of [`Allocator`].
    #[inline]
    pub const unsafe fn new(alloc: F, dealloc: G) -> Self {
        ClosureAlloc { alloc, dealloc, location: PhantomData }
    }
}

// SAFETY:
// - The caller of `new` has promised the contract of this trait.
unsafe impl<D: Location, F, G> Allocator<D> for &ClosureAlloc<D, F, G>
where
    F: Fn(Layout) -> Result<NonNull<u8>, AllocError>,
    G: Fn(NonNull<u8>, Layout),
{
    #[inline]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        (self.alloc)(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        (self.dealloc)(ptr, layout);
    }
}

impl<D, F, G> fmt::Debug for ClosureAlloc<D, F, G> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClosureAlloc").finish_non_exhaustive()
    }
}
