//! The calls of the driver by name, and how often each was made.

#![forbid(unsafe_code)]

use core::{fmt, ops::Sub};

macro_rules! calls {
    ($($index:literal $name:ident $driver:literal $doc:literal;)*) => {
        /// A call of the driver.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Call {
            $(#[doc = $doc] $name,)*
        }

        impl Call {
            /// Every call, each at its own index.
            pub const ALL: &'static [Call] = &[$(Call::$name),*];

            /// The name the driver manual gives the call.
            #[inline]
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Call::$name => $driver,)*
                }
            }

            pub(super) const fn index(self) -> usize {
                match self {
                    $(Call::$name => $index,)*
                }
            }
        }
    };
}

calls! {
    0 StreamCreate "cuStreamCreateWithPriority" "Creates a stream.";
    1 StreamDestroy "cuStreamDestroy" "Destroys a stream once its work is done.";
    2 StreamSynchronize "cuStreamSynchronize" "Waits for a stream.";
    3 StreamQuery "cuStreamQuery" "Asks whether a stream is done.";
    4 StreamWaitEvent "cuStreamWaitEvent" "Makes a stream wait for an event.";
    5 EventCreate "cuEventCreate" "Creates an event.";
    6 EventDestroy "cuEventDestroy" "Destroys an event.";
    7 EventRecord "cuEventRecord" "Records an event in a stream.";
    8 EventQuery "cuEventQuery" "Asks whether an event has been passed.";
    9 EventSynchronize "cuEventSynchronize" "Waits for an event.";
    10 MemAlloc "cuMemAlloc" "Allocates device memory at once.";
    11 MemFree "cuMemFree" "Frees device memory at once.";
    12 MemAllocFromPoolAsync "cuMemAllocFromPoolAsync" "Allocates device memory in stream order.";
    13 MemFreeAsync "cuMemFreeAsync" "Frees device memory in stream order.";
    14 MemHostAlloc "cuMemHostAlloc" "Allocates page-locked host memory.";
    15 MemFreeHost "cuMemFreeHost" "Frees page-locked host memory.";
    16 MemcpyAsync "cuMemcpyAsync" "Enqueues a copy.";
    17 MemcpyBatchAsync "cuMemcpyBatchAsync" "Enqueues many copies.";
    18 MemsetD8Async "cuMemsetD8Async" "Enqueues a fill by bytes.";
    19 LaunchKernel "cuLaunchKernel" "Enqueues a task.";
    20 DeviceGetDefaultMemPool "cuDeviceGetDefaultMemPool" "Names the default pool.";
    21 MemPoolCreate "cuMemPoolCreate" "Creates a pool.";
    22 MemPoolDestroy "cuMemPoolDestroy" "Destroys a pool.";
    23 MemPoolTrimTo "cuMemPoolTrimTo" "Gives cached memory of a pool back.";
    24 MemPoolSetAttribute "cuMemPoolSetAttribute" "Sets the release threshold of a pool.";
    25 MemPoolGetAttribute "cuMemPoolGetAttribute" "Reads the usage of a pool.";
    26 MemGetInfo "cuMemGetInfo" "Reads free and total memory.";
    27 MemHostRegister "cuMemHostRegister" "Page-locks host memory of the program.";
    28 MemHostUnregister "cuMemHostUnregister" "Ends that.";
    29 EventElapsedTime "cuEventElapsedTime" "Reads the time between two events.";
}

impl fmt::Display for Call {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each call was made, at one moment; the difference of two moments is what lies between
/// them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Counts {
    by_call: [u64; Call::ALL.len()],
}

impl Counts {
    pub(super) fn read(mut each: impl FnMut(Call) -> u64) -> Self {
        let mut by_call = [0; Call::ALL.len()];
        for (slot, call) in by_call.iter_mut().zip(Call::ALL) {
            *slot = each(*call);
        }
        Counts { by_call }
    }

    /// All calls together.
    #[inline]
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_call.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The calls of one kind.
    #[inline]
    #[must_use]
    pub fn of(&self, call: Call) -> u64 {
        self.by_call.get(call.index()).copied().unwrap_or(0)
    }
}

impl Sub for Counts {
    type Output = Counts;

    /// What was counted since `earlier`; a count that was larger then gives 0.
    #[inline]
    fn sub(self, earlier: Counts) -> Counts {
        Counts::read(|call| self.of(call).saturating_sub(earlier.of(call)))
    }
}

impl fmt::Debug for Counts {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = Call::ALL.iter().map(|call| (call.name(), self.of(*call))).filter(|(_, count)| *count > 0);
        f.debug_map().entries(made).finish()
    }
}
