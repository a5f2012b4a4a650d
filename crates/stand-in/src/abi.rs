//! The C interface: its types, and the macro that every function of it is written with.

use core::{
    ffi::{CStr, c_char, c_void},
    slice,
};

use tidelock_driver::code::Code;

/// A `CUresult`.
pub(crate) type Answer = u32;

/// A `CUcontext`, `CUstream`, `CUevent`, `CUmemoryPool`, `CUmodule` or `CUfunction`: a number that
/// is never dereferenced.
pub(crate) type Handle = usize;

/// A place that the caller of the interface wants written, or null.
///
/// Invariant, promised by the callers of the exported functions, which are the only ones that make
/// one: it is null, or valid for reads and writes of a `T` during the call.
#[repr(transparent)]
pub struct Out<T>(*mut T);

/// Values that the caller of the interface shows, or null.
///
/// Invariant, promised by the callers of the exported functions, which are the only ones that make
/// one: it is null, or valid for reads of as many `T` as the function says, during the call.
#[repr(transparent)]
pub struct In<T>(*const T);

/// A string of the caller, or null.
///
/// Invariant, promised by the callers of the exported functions, which are the only ones that make
/// one: it is null, or a string that ends in a zero byte and is valid during the call.
#[repr(transparent)]
pub struct Text(*const c_char);

impl<T> Out<T> {
    /// # Errors
    /// `INVALID_VALUE` if there is no place.
    pub(crate) fn check(&self) -> Result<(), Code> {
        if self.0.is_null() { Err(Code::INVALID_VALUE) } else { Ok(()) }
    }

    /// # Errors
    /// `INVALID_VALUE` if there is no place.
    pub(crate) fn put(&self, value: T) -> Result<(), Code> {
        self.check()?;
        // SAFETY: not null, so valid for a write by the invariant of the type.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Writes if there is a place.
    pub(crate) fn put_if(&self, value: T) {
        // Null is the only reason to fail.
        let _ = self.put(value);
    }

    /// Where the place is.
    pub(crate) fn raw(&self) -> *mut T {
        self.0
    }
}

impl<T> In<T> {
    /// The first `count` values.
    ///
    /// # Errors
    /// `INVALID_VALUE` if there are none.
    pub(crate) fn all(&self, count: usize) -> Result<&[T], Code> {
        if self.0.is_null() || !self.0.is_aligned() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null and aligned, and valid for reads of `count` values by the invariant of
        // the type.
        Ok(unsafe { slice::from_raw_parts(self.0, count) })
    }

    /// The first value.
    ///
    /// # Errors
    /// `INVALID_VALUE` if there is none.
    pub(crate) fn first(&self) -> Result<&T, Code> {
        self.all(1)?.first().ok_or(Code::INVALID_VALUE)
    }

    pub(crate) fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// What a structure of the caller's points to.
    ///
    /// # Safety
    /// - The invariant of the type holds.
    pub(crate) unsafe fn new(values: *const T) -> Self {
        In(values)
    }
}

impl Text {
    /// The string; what is not UTF-8 in it is replaced.
    ///
    /// # Errors
    /// `INVALID_VALUE` if there is none.
    pub(crate) fn read(&self) -> Result<String, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, so a string by the invariant of the type.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}

/// A function of the interface, for those who look one up by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Export {
    pub(crate) name: &'static str,
    pub(crate) address: fn() -> *const c_void,
}

/// Exports functions of the interface: each is logged, may be made to fail, and answers 999 if it
/// panics.
macro_rules! exports {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// What the CUDA driver manual asks for; pointers are null or valid for what it says of
            /// them.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($arg: $type),*) -> $crate::abi::Answer {
                $crate::fault_injection::call(stringify!($name), || $body)
            }
        )*

        /// The functions of this file.
        #[allow(clippy::as_conversions, reason = "the only way to the address of a function")]
        pub(crate) const EXPORTS: &[$crate::abi::Export] = &[
            $($crate::abi::Export { name: stringify!($name), address: || $name as *const core::ffi::c_void }),*
        ];
    };
}
