//! Copies on the multiprocessors: a batch becomes a few launches of one kernel (kernels/copy.cu).
//!
//! Copies inside a device, one by one or by `cuMemcpyBatchAsync`, cost the device 1.7 µs each; a launch costs that once for
//! hundreds or thousands of them (H200, driver 580). [`describe`] says how much one launch takes and how the kernel is told,
//! of rows in [`rows`], of neighbours alike in [`region`], and of different lengths in [`ragged`]; [`kernels`] loads it, [`table`]
//! is the memory of descriptions that do not fit into launch parameters, [`payload`] and [`staging`] take plain host memory
//! along, [`first`] cuts large batches and [`replay`] launches small ones on an idle stream, and [`engine`] does it.

mod describe;
mod engine;
mod extent;
mod first;
mod kernels;
mod layout;
mod payload;
mod ragged;
mod region;
mod replay;
mod ring;
mod rows;
mod staging;
mod table;
#[cfg(test)]
mod tests;

pub(super) use self::{
    engine::{Done, Engine},
    kernels::Kernels,
    payload::MOST as MOST_PAYLOAD,
    replay::LARGEST as LARGEST_GRAPH,
    staging::MOST as MOST_STAGED,
};

/// Loads the copy kernels of `device`, unless that was tried before.
///
/// # Errors
/// Why they cannot be had.
pub(super) fn load(device: &super::Device) -> Result<(), super::NoCopyKernels> {
    Kernels::of(device).map(drop)
}
