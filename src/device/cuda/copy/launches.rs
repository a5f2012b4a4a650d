//! The launches of one stream, and the memory that their descriptions need.

use core::num::NonZero;
use std::sync::Arc;

use tidelock_driver::{Backend, CopyBatch, DriverError};

use super::{
    encode::{encode, encode_on_device, encode_with},
    extent::wide,
    graph_cache::GraphCache,
    kernels::{Chosen, Kernels, too_large},
    layout::{LARGEST_GRAPH, Parameters, SEGMENTS},
    lazy::Lazy,
    memcpy_routing::MemcpyRouting,
    payload::Payload,
    remaining::{Budget, Launch, Remaining},
    split::FirstPart,
    table::Tables,
};
use crate::device::cuda::{copy_tuning::CopyTuning, stream_calls::StreamCalls};

/// Launches the copy kernels on one stream.
pub(super) struct Launches<B: Backend> {
    kernels: Arc<Kernels>,
    parameters: Parameters,
    tables: Option<Tables<B>>,
    graphs: Lazy<GraphCache>,
    copy_tuning: CopyTuning,
}

impl<B: Backend> Launches<B> {
    pub(super) fn new(kernels: Arc<Kernels>, copy_tuning: CopyTuning) -> Self {
        Launches { kernels, parameters: Parameters::new(), tables: None, graphs: Lazy::Untried, copy_tuning }
    }

    /// Makes the tables and the graphs.
    ///
    /// # Errors
    /// What the driver answered; what was made stays.
    pub(super) fn warm(&mut self, stream: &StreamCalls) -> Result<(), DriverError> {
        let tables = match &mut self.tables {
            Some(tables) => tables,
            None => self.tables.insert(Tables::new(stream)?),
        };
        tables.warm(stream)?;
        if let Lazy::Untried = self.graphs {
            // Any kernel: each batch sets what its graph launches.
            let any = Launch { blocks: 1, plain: true, ..Launch::default() };
            let chosen = self.kernels.choose(&self.parameters, &any, false)?;
            self.graphs.get_or_make(|| GraphCache::new(stream, &chosen, &self.parameters));
        }
        Ok(())
    }

    /// Destroys the graphs.
    pub(super) fn close_graphs(&mut self, stream: &StreamCalls) {
        if let Some(graphs) = self.graphs.give_up() {
            graphs.close(stream);
        }
    }

    /// Releases the tables, their page-locked memory only if the stream has `passed` everything.
    pub(super) fn close_tables(&mut self, stream: &StreamCalls, passed: bool) {
        if let Some(mut tables) = self.tables.take() {
            tables.close(stream, passed);
        }
    }

    /// Enqueues `copies`, all of which are read in stream order.
    ///
    /// # Errors
    /// What the driver answered; some of the copies may be enqueued.
    ///
    /// # Safety
    /// As for `RawStream::batch`.
    pub(super) unsafe fn run_in_order(
        &mut self,
        stream: &StreamCalls,
        copies: CopyBatch<'_>,
    ) -> Result<(), DriverError> {
        let routing = MemcpyRouting::look(&copies, self.copy_tuning.copy_engine);
        let mut rest = copies;
        while !rest.is_empty() {
            // Up to the next copy that the driver's copy engines take.
            let each = rest.len.iter().zip(rest.src).zip(rest.dst);
            let mine = if routing.takes_none {
                rest.len.len()
            } else {
                each.take_while(|((len, src), dst)| !routing.takes(**len, **src, **dst)).count()
            };
            let Some(part) = rest.first(mine) else { break };
            // SAFETY:
            // - A part of `copies`, for which the caller keeps the contract.
            unsafe { self.run(stream, part) }?;
            let Some(behind) = rest.behind(mine) else { break };
            // SAFETY:
            // - Copies for which the caller keeps the contract.
            unsafe { copy_first(stream, &behind) }?;
            rest = behind.behind(1).unwrap_or_default();
        }
        Ok(())
    }

    /// Describes `copies`, all of which are read in stream order, and `payload`; `None` if one
    /// launch does not take it all, or if some of it is left to the driver's copy engines.
    pub(super) fn encode_with(&mut self, copies: CopyBatch<'_>, payload: &Payload<'_>) -> Option<Launch> {
        let routing = MemcpyRouting::look(&copies, self.copy_tuning.copy_engine);
        if !routing.takes_none {
            return None;
        }
        encode_with(&Remaining::new(copies), payload, &mut self.parameters)
    }

    /// # Safety
    /// As for `RawStream::batch`; no copy is longer than `LONGEST`.
    unsafe fn run(&mut self, stream: &StreamCalls, copies: CopyBatch<'_>) -> Result<(), DriverError> {
        let mut rest = Remaining::new(copies);
        let mut first = FirstPart::of(&rest, stream.seems_idle(), self.copy_tuning.part);
        while !rest.is_empty() {
            let done = match rest.first_gather() {
                // SAFETY:
                // - The caller keeps the contract for `rest`, here and below.
                Some(m) if !m.device.is_null() => unsafe { self.launch_numbers_on_device(stream, &rest) }?,
                // SAFETY:
                // - As above.
                _ => unsafe { self.launch_next(stream, &rest, first.take()) }?,
            };
            // A launch that takes nothing would repeat forever: an error, as is one beyond the end.
            let behind = rest.behind(&done).filter(|_| rest.taken(&done) != 0);
            rest = behind.ok_or_else(too_large)?;
        }
        Ok(())
    }

    /// Launches the first part of `rest`, whose next row numbers are on the host: the `first` part
    /// if it is given, otherwise as much as one launch takes. Returns the launch.
    ///
    /// # Safety
    /// As for `RawStream::batch`.
    unsafe fn launch_next(
        &mut self,
        stream: &StreamCalls,
        rest: &Remaining<'_>,
        first: Option<FirstPart>,
    ) -> Result<Launch, DriverError> {
        let budget = first.map_or(Budget::ALL, |first| first.most);
        let described = if first.is_none() && rest.exceeds_parameters() {
            None
        } else {
            encode(rest, &mut self.parameters, None, budget)
        };
        let is_all = |launch: &Launch| rest.taken(launch) == rest.row_count().saturating_add(rest.copy_count());
        let is_worth = |launch: &Launch| match first {
            Some(first) => rest.bytes(launch) >= first.least,
            // A table would have no more segments.
            None => is_all(launch) || launch.segments == SEGMENTS,
        };
        if let Some(launch) = described.filter(is_worth) {
            // SAFETY:
            // - The parameters describe the first copies of `rest`, for which the caller keeps the
            //   contract.
            return unsafe { self.launch(stream, launch, is_all(&launch)) };
        }
        // SAFETY:
        // - The caller keeps the contract for `rest`.
        unsafe { self.launch_table(stream, rest, first.map_or(Budget::ALL, |first| first.in_table)) }
    }

    /// Launches what the parameters describe, as a graph if the stream is idle and it is the `last`
    /// launch of its batch: no other launch overlaps with a graph. Returns the launch.
    ///
    /// # Safety
    /// As for `RawStream::batch`, for the copies described.
    pub(super) unsafe fn launch(
        &mut self,
        stream: &StreamCalls,
        launch: Launch,
        last: bool,
    ) -> Result<Launch, DriverError> {
        let head = &mut self.parameters.head;
        // Reset, so equal batches have equal parameters, whatever was launched in between.
        (head.early, head.epoch, head.table, head.fetched) = (0, 0, 0, 0);
        let Launches { kernels, parameters, graphs, .. } = self;
        let chosen = kernels.choose(parameters, &launch, false)?;
        if last && stream.seems_idle() && chosen.bytes <= self.copy_tuning.graph.min(LARGEST_GRAPH) {
            // SAFETY:
            // - The parameters describe these copies only, and name no table; the caller keeps the
            //   rest.
            if unsafe { launch_as_graph(graphs, stream, &chosen, parameters) } {
                return Ok(launch);
            }
        }
        // SAFETY:
        // - As above, and nothing was enqueued there.
        unsafe { kernels.launch(stream, &chosen, parameters) }?;
        Ok(launch)
    }

    /// Launches as much of `rest` as a table describes and `budget` allows, or as the parameters
    /// describe if there is no memory for tables. Returns the launch.
    ///
    /// # Safety
    /// As for `RawStream::batch`.
    unsafe fn launch_table(
        &mut self,
        stream: &StreamCalls,
        rest: &Remaining<'_>,
        budget: Budget,
    ) -> Result<Launch, DriverError> {
        if self.tables.is_none() {
            self.tables = Tables::new(stream).ok();
        }
        if let Some(tables) = &mut self.tables {
            let slot = tables.next(stream)?;
            if let Some(launch) = encode(rest, &mut self.parameters, Some(slot.words), budget) {
                let head = &mut self.parameters.head;
                (head.early, head.epoch) = (1, slot.epoch);
                (head.table, head.fetched) = (slot.table, slot.fetched);
                let chosen = self.kernels.choose(&self.parameters, &launch, true)?;
                // SAFETY:
                // - The parameters describe these copies only; the caller keeps the rest.
                // - The table lives as long as the stream, and is filled again only when the stream
                //   has passed the launch; the slot it is fetched into is used by no other launch
                //   that may run at the same time.
                unsafe { self.kernels.launch(stream, &chosen, &self.parameters) }?;
                return Ok(launch);
            }
        }
        if let Some(launch) = encode(rest, &mut self.parameters, None, Budget::ALL) {
            // SAFETY:
            // - The parameters describe the first copies of `rest`.
            return unsafe { self.launch(stream, launch, false) };
        }
        // SAFETY:
        // - One of the copies for which the caller keeps the contract.
        unsafe { copy_first(stream, &rest.copies) }?;
        Ok(Launch { copies: 1, ..Launch::default() })
    }

    /// Launches as much of the first gather of `rest` as one launch takes. Its numbers stay where
    /// they are, in device memory.
    ///
    /// # Safety
    /// As for `RawStream::batch`.
    unsafe fn launch_numbers_on_device(
        &mut self,
        stream: &StreamCalls,
        rest: &Remaining<'_>,
    ) -> Result<Launch, DriverError> {
        let described = encode_on_device(rest, &mut self.parameters);
        let (Some(launch), Some(m)) = (described, rest.first_gather()) else { return Err(too_large()) };
        let head = &mut self.parameters.head;
        // Earlier work on the stream may still be writing the numbers.
        (head.early, head.fetchers, head.pieces) = (0, 0, 0);
        (head.table, head.fetched) = (wide(m.device.addr()), 0);
        let chosen = self.kernels.choose(&self.parameters, &launch, true)?;
        // SAFETY:
        // - The parameters describe these rows only; the numbers may be read in stream order, as
        //   the caller promises.
        unsafe { self.kernels.launch(stream, &chosen, &self.parameters) }?;
        Ok(launch)
    }
}

/// Launches as a graph; `false` if that fails, and then nothing is enqueued. After one graph error,
/// this stream stops using graphs. The plain launch that follows reports the error, unless only
/// graphs have it.
///
/// # Safety
/// As for `Kernels::launch`; the stream is always the same.
unsafe fn launch_as_graph(
    graphs: &mut Lazy<GraphCache>,
    stream: &StreamCalls,
    chosen: &Chosen,
    parameters: &Parameters,
) -> bool {
    let Some(cache) = graphs.get_or_make(|| GraphCache::new(stream, chosen, parameters)) else { return false };
    // SAFETY:
    // - The caller keeps the contract.
    let launched = unsafe { cache.launch(stream, chosen, parameters) }.is_ok();
    if !launched && let Some(cache) = graphs.give_up() {
        cache.close(stream);
    }
    launched
}

/// Enqueues the first of `copies`, if there is one.
///
/// # Safety
/// As for `RawStream::batch`.
unsafe fn copy_first(stream: &StreamCalls, copies: &CopyBatch<'_>) -> Result<(), DriverError> {
    if let (Some(&dst), Some(&src), Some(&len)) = (copies.dst.first(), copies.src.first(), copies.len.first())
        && let Some(bytes) = NonZero::new(len)
    {
        // SAFETY:
        // - The caller keeps the contract for this copy.
        unsafe { stream.copy(dst, src, bytes) }.map_err(|error| error.of_copy(dst, len))?;
    }
    Ok(())
}
