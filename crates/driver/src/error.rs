//! Errors: one small enum, a zero-sized range error for hot paths, and an error that hands a moved
//! value back.

#![forbid(unsafe_code)]

use core::{fmt, panic::Location};

use crate::code::DriverError;

/// The result of a call that can fail.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a call failed, and which operand is at fault.
///
/// Formatting an error makes no driver call, so that it works anywhere, also without a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The length of an operand does not match the other operands.
    #[error("`{operand}` has {found} elements where {expected} are needed")]
    Length {
        /// The operand at fault.
        operand: &'static str,
        /// The length the call needs.
        expected: usize,
        /// The length it has.
        found: usize,
    },
    /// A range does not lie inside the operand.
    #[error("a range does not lie inside `{operand}`")]
    OutOfRange {
        /// The operand at fault.
        operand: &'static str,
    },
    /// An index names a row that does not exist.
    #[error("`{operand}`[{position}] is {index}, but there are {rows} rows")]
    Index {
        /// The operand at fault.
        operand: &'static str,
        /// The position of the index in the operand.
        position: usize,
        /// The index.
        index: usize,
        /// How many rows there are.
        rows: usize,
    },
    /// A row is named twice where every row is written once.
    #[error("`{operand}`[{position}] is {index}, which is there already")]
    Repeated {
        /// The operand at fault.
        operand: &'static str,
        /// The position of the second index of the row in the operand.
        position: usize,
        /// The index.
        index: usize,
    },
    /// A row of one buffer is read and written by copies that have no order.
    #[error("`{operand}`[{position}] is {index}, a row that is written too: copy it in an earlier batch")]
    ReadAndWritten {
        /// The operand at fault.
        operand: &'static str,
        /// The position of the index in the operand.
        position: usize,
        /// The index.
        index: usize,
    },
    /// An offset table decreases, or is that of a whole batch and does not start at 0.
    #[error("`{operand}`[{position}] is {value}: offsets never decrease, and those of a whole batch start at 0")]
    Offsets {
        /// The operand at fault.
        operand: &'static str,
        /// The position of the offset in the operand.
        position: usize,
        /// The offset.
        value: usize,
    },
    /// A row is longer than its room at the destination.
    #[error("row {row} of `{operand}` needs room for {found} elements, there is room for {room}")]
    Room {
        /// The operand at fault.
        operand: &'static str,
        /// The row that does not fit, counted at the destination.
        row: usize,
        /// The elements of the row.
        found: usize,
        /// The elements that there is room for.
        room: usize,
    },
    /// A reinterpreted view is not a whole number of the new elements, or not aligned for them.
    #[error("`{operand}` is not a whole number of aligned elements of {size} bytes")]
    Reinterpret {
        /// The operand at fault.
        operand: &'static str,
        /// The size of the new element in bytes.
        size: usize,
    },
    /// A tensor or a list has another number of axes than the call needs.
    #[error("`{operand}` has {found} axes where {expected} are possible")]
    Rank {
        /// The operand at fault.
        operand: &'static str,
        /// The number of axes the call needs, or the most that are possible.
        expected: usize,
        /// The number of axes it has.
        found: usize,
    },
    /// An axis is not what the call needs.
    #[error("axis {axis} of `{operand}` {reason}")]
    Axis {
        /// The operand at fault.
        operand: &'static str,
        /// The axis.
        axis: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two tensors that need one shape have different ones.
    #[error("axis {axis} of `{operand}` has {found} places where {expected} are needed")]
    Extent {
        /// The operand at fault.
        operand: &'static str,
        /// The axis.
        axis: usize,
        /// The extent the call needs.
        expected: usize,
        /// The extent it has.
        found: usize,
    },
    /// Two indices of a destination may name one element.
    #[error("`{operand}` may name an element twice along axis {axis}: its strides must nest")]
    Aliases {
        /// The operand at fault.
        operand: &'static str,
        /// The axis whose stride is not larger than all that the smaller strides reach.
        axis: usize,
    },
    /// Elements that are needed as adjacent ones are not adjacent.
    #[error("axis {axis} of `{operand}` does not continue the axes inside of it: copy the tensor first")]
    NotContiguous {
        /// The operand at fault.
        operand: &'static str,
        /// The axis.
        axis: usize,
    },
    /// A tensor whose element is known when the program runs has another element.
    #[error("the elements of `{operand}` are {found} where {expected} is needed")]
    Element {
        /// The operand at fault.
        operand: &'static str,
        /// The name of the element that the call needs.
        expected: &'static str,
        /// The name of the element that it has.
        found: &'static str,
    },
    /// A tensor that was asked for by its name cannot be had. The error of the map says which.
    #[error("a tensor that was asked for by its name {reason}")]
    Tensor {
        /// Why.
        reason: &'static str,
    },
    /// Bytes that are read as elements are not the bytes of a value.
    #[error("`{operand}`[{position}] has bytes that are no value of the element")]
    NotAValue {
        /// The operand at fault.
        operand: &'static str,
        /// The position of the element.
        position: usize,
    },
    /// A request exceeds the address space.
    #[error("`{operand}` would be larger than the address space")]
    TooLarge {
        /// The operand at fault.
        operand: &'static str,
    },
    /// A part of a buffer that was to be initialised was not written.
    #[error("{missing} of the {len} elements of output {output} were not written")]
    Unwritten {
        /// The position of the buffer among those that were to be initialised.
        output: usize,
        /// How many of its elements were not written.
        missing: usize,
        /// How many elements it has.
        len: usize,
    },
    /// A launch has more bytes by value than a launch can take.
    #[error("`{operand}` has {bytes} bytes by value, and a launch takes at most {most}: pass a view, or a `Box`")]
    ByValue {
        /// The operand at fault: the arguments, or the kernel with what it captures.
        operand: &'static str,
        /// The bytes of arguments and kernel together.
        bytes: usize,
        /// The bytes that a launch takes.
        most: usize,
    },
    /// There is no memory for a request. Before the error, the library gave back what it could
    /// without a wait, or with one if `StreamOptions::wait_for_memory` allows it.
    #[error("no {location} memory left for {bytes} bytes{}", ShortageNote(*shortage))]
    OutOfMemory {
        /// The kind of memory.
        location: &'static str,
        /// The requested bytes.
        bytes: usize,
        /// The state of that memory when the request was refused, if the allocator reports it.
        shortage: Option<Shortage>,
    },
    /// No memory of this kind has the alignment of the elements.
    #[error(
        "elements aligned to {align} bytes cannot lie in {location} memory: device and pinned memory is aligned to 256"
    )]
    Alignment {
        /// The kind of memory.
        location: &'static str,
        /// The alignment of the elements in bytes.
        align: usize,
    },
    /// Memory or a stream belongs to another device. A device is identified by its state, not by
    /// its ordinal (D1).
    #[error("`{operand}` belongs to another device")]
    OtherDevice {
        /// The operand at fault.
        operand: &'static str,
    },
    /// A future has returned its buffer already.
    #[error("`{operand}` has returned its buffer already")]
    Taken {
        /// The operand at fault.
        operand: &'static str,
    },
    /// A stream cannot lend to itself.
    #[error("a stream cannot lend memory to itself")]
    SameStream,
    /// The driver refused a call. The stream stays usable.
    #[error("{0}")]
    Driver(DriverError),
    /// The stream cannot be used any more: the device has failed permanently, or the stream still
    /// uses memory and cannot be waited for.
    #[error("the stream is poisoned: {0}")]
    Poisoned(DriverError),
}

/// The state of a kind of memory when a request for it was refused, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortage {
    /// The ordinal of the stream's device.
    pub device: usize,
    /// Bytes that were free on the device, without what pools cache and other processes hold.
    pub free: usize,
    /// All bytes of the device; 0 if unknown, as for pinned memory.
    pub total: usize,
    /// Bytes that the pools of the device's open streams hold and that are not allocated, mostly
    /// because their stream has not passed the free yet. For pinned memory, unused bytes of the
    /// process-wide pool, in pieces that are too small.
    pub cached: usize,
    /// Bytes of deferred frees, which wait until the stream has passed their last use.
    pub waiting: usize,
}

impl Shortage {
    /// The state of the memory of `device`: free and total bytes, cached bytes, and bytes of
    /// deferred frees.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub const fn new(device: usize, (free, total): (usize, usize), cached: usize, waiting: usize) -> Self {
        Shortage { device, free, total, cached, waiting }
    }
}

/// A shortage, formatted as the end of a sentence.
struct ShortageNote(Option<Shortage>);

impl fmt::Display for ShortageNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Shortage { device, free, total, cached, waiting }) = self.0 else { return Ok(()) };
        if total == 0 {
            write!(f, " (device {device}")?;
        } else {
            write!(f, " (device {device}: {free} of {total} bytes are free")?;
        }
        if cached != 0 {
            write!(f, ", pools hold {cached} more")?;
        }
        if waiting != 0 {
            write!(f, ", {waiting} wait for the stream to pass")?;
        }
        f.write_str(")")
    }
}

impl Error {
    /// The same error, with `name` as its operand.
    #[inline]
    #[must_use]
    pub fn named(self, name: &'static str) -> Error {
        match self {
            Error::OutOfRange { .. } => Error::OutOfRange { operand: name },
            Error::Length { expected, found, .. } => Error::Length { operand: name, expected, found },
            Error::Reinterpret { size, .. } => Error::Reinterpret { operand: name, size },
            Error::TooLarge { .. } => Error::TooLarge { operand: name },
            Error::Rank { expected, found, .. } => Error::Rank { operand: name, expected, found },
            Error::Axis { axis, reason, .. } => Error::Axis { operand: name, axis, reason },
            Error::Extent { axis, expected, found, .. } => Error::Extent { operand: name, axis, expected, found },
            Error::Aliases { axis, .. } => Error::Aliases { operand: name, axis },
            Error::Element { expected, found, .. } => Error::Element { operand: name, expected, found },
            Error::NotAValue { position, .. } => Error::NotAValue { operand: name, position },
            Error::NotContiguous { axis, .. } => Error::NotContiguous { operand: name, axis },
            other => other,
        }
    }
}

impl From<DriverError> for Error {
    #[inline]
    fn from(error: DriverError) -> Error {
        if error.code.is_sticky() { Error::Poisoned(error) } else { Error::Driver(error) }
    }
}

/// A range does not lie inside a view. Zero-sized, so that slicing compiles to a few instructions.
///
/// It does not name the view. [`of`](OutOfRange::of) adds a name, and `?` adds `view`.
///
/// ```
/// # use tidelock_driver::OutOfRange;
/// let error = OutOfRange.of("lengths");
/// assert_eq!(error.to_string(), "a range does not lie inside `lengths`");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a range does not lie inside a view")]
pub struct OutOfRange;

impl OutOfRange {
    /// Names the operand.
    #[inline]
    #[must_use]
    pub const fn of(self, operand: &'static str) -> Error {
        Error::OutOfRange { operand }
    }
}

impl From<OutOfRange> for Error {
    #[inline]
    fn from(error: OutOfRange) -> Error {
        error.of("view")
    }
}

/// An [`Error`] with the place of the program where `?` raised it.
///
/// A function that returns it says which of its calls failed. Nothing else changes: an `Error` has
/// no place, and costs what it did. An error type of the program gets the place in the same way: by
/// an `impl From<Error>` whose `from` is `#[track_caller]`.
///
/// ```
/// use tidelock_driver::{OutOfRange, error::{Located, Result}};
///
/// const LINE: u32 = line!() + 2;
/// fn part(of: &[u8]) -> Result<&[u8], Located> {
///     Ok(of.get(2..).ok_or(OutOfRange.of("tokens"))?)
/// }
///
/// let error = part(&[1]).unwrap_err();
/// assert_eq!((error.at.file(), error.at.line()), (file!(), LINE));
/// assert!(error.to_string().starts_with("a range does not lie inside `tokens`, at "));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Why the call failed.
    pub error: Error,
    /// Where `?` raised the error.
    pub at: &'static Location<'static>,
}

impl fmt::Display for Located {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at {}", self.error, self.at)
    }
}

impl core::error::Error for Located {}

macro_rules! located {
    ($($from:ty $(, for any $parameter:ident)?;)+) => {$(
        impl$(<$parameter>)? From<$from> for Located {
            #[inline]
            #[track_caller]
            fn from(error: $from) -> Located {
                Located { error: error.into(), at: Location::caller() }
            }
        }
    )+};
}
located! {
    Error;
    OutOfRange;
    DriverError;
    Rejected<B>, for any B;
}

impl From<Located> for Error {
    #[inline]
    fn from(located: Located) -> Error {
        located.error
    }
}

const _: () = assert!(size_of::<OutOfRange>() == 0);
const _: () = assert!(size_of::<Error>() == 9 * size_of::<usize>());

/// The error of a call that had no effect, with the value that was moved into it.
///
/// `?` turns it into the plain [`Error`] and drops the value. Where the call runs a closure whose
/// error is an `E` of the program, `map_err(Rejected::into_error)` does so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rejected<B, E = Error> {
    /// Why the call was refused.
    pub error: E,
    /// The value that was moved into the call, unchanged.
    pub value: B,
}

impl<B> Rejected<B> {
    /// The rejection of `value` because of `error`.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub fn new(error: impl Into<Error>, value: B) -> Self {
        Rejected { error: error.into(), value }
    }
}

impl<B, E> Rejected<B, E> {
    /// The error. The value is dropped.
    #[inline]
    #[must_use]
    pub fn into_error(self) -> E {
        self.error
    }
}

impl<B, E: fmt::Debug> fmt::Debug for Rejected<B, E> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<B, E: fmt::Display> fmt::Display for Rejected<B, E> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<B, E: fmt::Debug + fmt::Display> core::error::Error for Rejected<B, E> {}

impl<B> From<Rejected<B>> for Error {
    #[inline]
    fn from(rejected: Rejected<B>) -> Error {
        rejected.error
    }
}
