//! Tensors of a file, loaded to a device.

#![forbid(unsafe_code)]

mod fillers;
mod plan;
mod source;

use core::{fmt, num::NonZero, ops::ControlFlow, slice};
use std::{collections::BTreeSet, thread};

use bytemuck::Pod;

use self::{
    fillers::Fillers,
    plan::{Part, Plan},
    source::{Registered, Ring, Source},
};
use super::{File, FileError, Found};
use crate::{
    Scalar,
    any::{AnyTensor, TensorMap},
    buffer::View,
    dispatch,
    element::{DType, f4e2m1x2, f6e2m3x4, f6e3m2x4, f8e4m3, f8e5m2, f8e8m0, u2x4, u4x2, u6x4},
    error::{Error, Rejected},
    half::{bf16, f16},
    stream::{Ctx, DeviceLocation, Stream, StreamAlloc},
};

/// How tensors of a file are loaded to a device. [`File::load`] makes one.
///
/// There are two ways, which give the same tensors:
///
/// - [`through_ring`](Load::through_ring): threads of the host copy the file into pieces of pinned
///   memory, from which the device copies.
/// - [`registered`](Load::registered): the bytes of the file are page-locked where they are, and
///   the device copies from them.
///
/// If a call fails, what was loaded is freed. No tensor is returned of which a byte is missing.
#[must_use = "`through_ring` or `registered` loads"]
pub struct Load<'f, 'd> {
    file: &'f File<'d>,
    /// `None` for all.
    names: Option<BTreeSet<String>>,
    threads: NonZero<usize>,
    pinned_bytes: usize,
    progress: Option<OnProgress<'f>>,
}

/// What is called with the progress.
type OnProgress<'f> = Box<dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'f>;

/// How much of a file is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'n> {
    /// The tensor that is being loaded.
    pub name: &'n str,
    /// Bytes that were handed to the stream. The stream has yet to pass at most as many as the
    /// pinned memory has, or 48 MiB of a registered file; of `bool`s, which are
    /// [uploaded](crate::Ctx::upload), as many as the stream's own ring has.
    pub done: usize,
    /// Bytes of all tensors that are loaded.
    pub total: usize,
}

/// Bytes of a pinned piece, unless the pinned memory has less than two of them.
const PIECE: usize = 2 << 20;
/// Bytes of a registered file that are enqueued before the record behind them is made.
const STEP: usize = 16 << 20;

impl<'d> File<'d> {
    /// Loads tensors to a device: all of them, by 4 threads, through 48 MiB of pinned memory,
    /// unless something else is chosen.
    ///
    /// ```
    /// use core::ops::ControlFlow;
    /// use tidelock::{Buffer, file::{Contents, FileError, save}, location::Host, sim::{self, Sim}};
    ///
    /// # let path = std::env::temp_dir().join("tidelock-load-example.safetensors");
    /// # let weight = Buffer::<f32, Host>::from_slice(&[1.0, 2.0, 3.0, 4.0])?.tensor([2, 2])?;
    /// # save(&path, [("weight", weight.view().any())])?;
    /// let contents = Contents::read(&path)?; // or `Mapped::open`
    /// let (file, mut shown) = (contents.file()?, 0);
    /// sim::Device::default().stream(|mut stream, _env| {
    ///     let progress = |now: tidelock::file::Progress<'_>| {
    ///         shown = now.done * 100 / now.total;
    ///         ControlFlow::Continue(()) // or `Break(())`, which ends the load
    ///     };
    ///     let mut tensors = file.load().progress(progress).through_ring(&stream.ctx())?;
    ///     let weight = tensors.consume_tensor::<f32, Sim<'_>, 2>("weight")?;
    ///     assert_eq!(stream.read(weight.buffer().view())?, [1.0, 2.0, 3.0, 4.0]);
    ///     Ok::<_, FileError>(())
    /// })??;
    /// assert_eq!(shown, 100);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), tidelock::file::FileError>(())
    /// ```
    #[inline]
    pub fn load<'f>(&'f self) -> Load<'f, 'd> {
        const FOUR: NonZero<usize> = NonZero::new(4).unwrap();
        Load { file: self, names: None, threads: FOUR, pinned_bytes: 48 << 20, progress: None }
    }
}

impl<'f> Load<'f, '_> {
    /// Loads the tensors of these names only.
    #[inline]
    pub fn only<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.names = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Copies by so many threads. Those that would have nothing to copy are not started.
    #[inline]
    pub fn threads(mut self, threads: NonZero<usize>) -> Self {
        self.threads = threads;
        self
    }

    /// Copies through at most so many bytes of pinned memory, and through 512 at least. They are
    /// divided into pieces of 2 MiB, or of the largest power of two of which there are two. The
    /// pinned pool locks 2 MiB at a time.
    #[inline]
    pub fn pinned_bytes(mut self, bytes: usize) -> Self {
        self.pinned_bytes = bytes;
        self
    }

    /// Calls `f` behind each copy that is enqueued, in the order of the file. `Break` ends the load
    /// with [`FileError::Stopped`].
    #[inline]
    pub fn progress(mut self, f: impl FnMut(Progress<'_>) -> ControlFlow<()> + 'f) -> Self {
        self.progress = Some(Box::new(f));
        self
    }

    /// Loads through pieces of pinned memory. The tensors are in the pool of the stream.
    ///
    /// The file is read during the call, and the copies to the device may end later, in stream
    /// order. The pieces come from the process-wide pinned pool, and return to it once the stream
    /// has passed them: [`PinnedPool::trim`](crate::alloc::PinnedPool::trim) unlocks them. Host
    /// memory beyond the file is bounded by [`pinned_bytes`](Load::pinned_bytes), and by about a
    /// hundred bytes for each 2 MiB and each tensor.
    ///
    /// Cost: an allocation for each tensor, a driver call for each part of a tensor in a piece, a
    /// record and a wait for each piece. Tensors of `bool` are
    /// [uploaded](crate::Ctx::upload) by the calling thread, one after the other.
    ///
    /// # Errors
    /// [`FileError::Missing`], [`FileError::DType`] and [`FileError::Tensor`] as for [`File::any`],
    /// before anything is loaded. [`FileError::Tensor`] with the driver's error, or if there is no
    /// memory; [`FileError::Stopped`]; [`FileError::Io`] if a thread cannot be started.
    #[inline]
    pub fn through_ring<L: DeviceLocation, A: Copy>(
        self,
        ctx: &Ctx<'_, L, A>,
    ) -> Result<TensorMap<'static, L>, FileError> {
        // A power of two, because the pool rounds smaller pieces up to one.
        let size = PIECE.min(self.pinned_bytes / 2).checked_ilog2().map_or(0, |bits| PIECE.min(1 << bits));
        let (tensors, plan) = self.plan(size)?;
        let pieces = self.pinned_bytes.checked_div(plan.size()).unwrap_or(0).max(2).min(plan.pieces());
        let (bytes, planned, ctx) = (self.file.bytes, &plan, ctx.plain());
        let fill = |piece: usize, memory: &mut [u8]| {
            for part in planned.parts_of(piece) {
                let to = part.at..part.at.saturating_add(part.bytes.len());
                if let (Some(to), Some(from)) = (memory.get_mut(to), bytes.get(part.bytes.clone())) {
                    to.copy_from_slice(from);
                }
            }
        };
        thread::scope(|scope| {
            let fillers = Fillers::new(scope, self.threads.get().min(pieces), fill)?;
            let ring = Ring::new(ctx, planned, fillers, pieces).map_err(|error| FileError::Load { error })?;
            self.run(tensors, planned, &ctx, ring)
        })
    }

    /// Loads from the file's own memory, which is page-locked for the call, from the first of its
    /// tensors to the last. The tensors are in the pool of the stream. The call waits for the
    /// stream at its end.
    ///
    /// It takes no memory beside the file. Each page is read and locked before the first copy: see
    /// [`HostScope::register`](crate::stream::HostScope::register) for what that costs.
    ///
    /// Cost: an allocation for each tensor, a driver call for each 16 MiB and each tensor, a record
    /// and a wait for each 16 MiB.
    ///
    /// # Errors
    /// As for [`through_ring`](Load::through_ring), and [`FileError::Load`] with the driver's error
    /// if the memory cannot be locked or unlocked, as for
    /// [`HostScope::register`](crate::stream::HostScope::register).
    ///
    /// # Aborts
    /// As for [`Stream::host_scope`], because the file is on loan.
    #[inline]
    pub fn registered<L: DeviceLocation>(self, stream: &mut Stream<L>) -> Result<TensorMap<'static, L>, FileError> {
        let (tensors, plan) = self.plan(STEP)?;
        let parts = plan.parts();
        let from = parts.first().map_or(0, |part| part.bytes.start);
        let to = parts.last().map_or(0, |part| part.bytes.end);
        let bytes = self.file.bytes.get(from..to).unwrap_or(&[]);
        let answer = stream.host_scope(|scope| {
            let locked = scope.register(bytes).map_err(|error| FileError::Load { error })?;
            self.run(tensors, &plan, &scope.ctx(), Registered::new(scope.ctx(), locked, from))
        });
        answer.map_err(|error| FileError::Load { error })?
    }
}

impl<'d> Load<'_, 'd> {
    /// The tensors, checked, in the order of the file, and a plan of their parts in pieces of
    /// `size` bytes.
    fn plan(&self, size: usize) -> Result<(Vec<Found<'d>>, Plan), FileError> {
        let mut tensors = match &self.names {
            None => self.file.names().into_iter().map(|name| self.file.found(name)).collect::<Result<Vec<_>, _>>()?,
            Some(names) => names.iter().map(|name| self.file.found(name)).collect::<Result<_, _>>()?,
        };
        tensors.sort_by_key(|found| found.at);
        let mut plan = Plan::new(size);
        for found in &tensors {
            let element = NonZero::new(found.view.dtype().group_bytes()).unwrap_or(NonZero::<usize>::MIN);
            if found.view.dtype() != DType::Bool {
                plan.add(found.at..found.at.saturating_add(found.len), element);
            }
        }
        Ok((tensors, plan))
    }

    fn run<L: DeviceLocation, S: Source<L>>(
        self,
        tensors: Vec<Found<'d>>,
        plan: &Plan,
        ctx: &Ctx<'_, L>,
        source: S,
    ) -> Result<TensorMap<'static, L>, FileError> {
        let total = tensors.iter().fold(0, |sum: usize, found| sum.saturating_add(found.len));
        let mut loading = Loading {
            ctx: ctx.with_pool(),
            source,
            parts: plan.parts().iter(),
            progress: self.progress,
            done: 0,
            total,
        };
        let mut map = TensorMap::new();
        for found in tensors {
            let loaded = loading.tensor(&found).map_err(|halt| match halt {
                Halt::Error(error) => found.refused(error),
                Halt::Stopped => FileError::Stopped { name: found.name.clone(), done: loading.done, total },
            })?;
            // Each name was found once.
            let refused = found.refused(Error::Tensor { reason: "is there twice" });
            map.produce(found.name, loaded).map_err(|_| refused)?;
        }
        Ok(map)
    }
}

/// Tensors that are being loaded.
struct Loading<'c, 'p, 'f, L: DeviceLocation, S> {
    ctx: Ctx<'c, L, StreamAlloc<L>>,
    source: S,
    /// The parts that are still to be copied.
    parts: slice::Iter<'p, Part>,
    progress: Option<OnProgress<'f>>,
    done: usize,
    total: usize,
}

/// Why a tensor is not loaded.
enum Halt {
    Error(Error),
    Stopped,
}

impl From<Error> for Halt {
    fn from(error: Error) -> Halt {
        Halt::Error(error)
    }
}

impl<L: DeviceLocation, S: Source<L>> Loading<'_, '_, '_, L, S> {
    fn tensor(&mut self, found: &Found<'_>) -> Result<AnyTensor<L>, Halt> {
        let dtype = found.view.dtype();
        if dtype == DType::Bool {
            // Bytes in pinned memory are no `bool`s by their type, as those of the file are.
            return self.mask(found);
        }
        dispatch!(dtype, T in [
            u8, u16, u32, u64, i8, i16, i32, i64, f16, bf16, f32, f64, f8e4m3, f8e5m2, f8e8m0, u2x4, u4x2, u6x4, f4e2m1x2,
            f6e2m3x4, f6e3m2x4,
        ] => self.elements::<T>(found))?
    }

    fn elements<T: Scalar + Pod>(&mut self, found: &Found<'_>) -> Result<AnyTensor<L>, Halt> {
        let ctx = self.ctx;
        let fresh = ctx.alloc::<T>(found.view.layout().size())?;
        let written = ctx.init_with(fresh, |mut rest| {
            while !rest.is_empty() {
                let part = self.parts.next().ok_or(Error::Tensor { reason: "has no bytes" })?;
                let elements = self.source.part(part)?.try_cast::<T>()?;
                let (head, tail) = rest.split_at(elements.len()).map_err(Error::from)?;
                ctx.copy(elements, head)?;
                self.passed(&found.name, part.bytes.len())?;
                rest = tail;
            }
            Ok(())
        });
        let (buffer, ()) = written.map_err(Rejected::<_, Halt>::into_error)?;
        Ok(buffer.any_tensor(found.view.layout().shape()).map_err(Error::from)?)
    }

    fn mask(&mut self, found: &Found<'_>) -> Result<AnyTensor<L>, Halt> {
        let bytes = View::from(found.view.bytes()?.as_slice());
        let buffer = self.ctx.upload_new(bytes.checked::<bool>()?.as_slice())?;
        if found.len != 0 {
            self.passed(&found.name, found.len)?;
        }
        Ok(buffer.any_tensor(found.view.layout().shape()).map_err(Error::from)?)
    }

    /// Counts bytes whose copy is enqueued.
    fn passed(&mut self, name: &str, bytes: usize) -> Result<(), Halt> {
        self.done = self.done.saturating_add(bytes);
        let now = Progress { name, done: self.done, total: self.total };
        match self.progress.as_mut().map_or(ControlFlow::Continue(()), |progress| progress(now)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Halt::Stopped),
        }
    }
}

impl fmt::Debug for Load<'_, '_> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { file, names, threads, pinned_bytes, progress: _ } = self;
        f.debug_struct("Load")
            .field("file", file)
            .field("names", names)
            .field("threads", threads)
            .field("pinned_bytes", pinned_bytes)
            .finish_non_exhaustive()
    }
}
