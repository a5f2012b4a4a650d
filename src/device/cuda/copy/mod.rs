//! Copies on the multiprocessors: a batch becomes a few launches of one kernel (kernels/copy.cu).
//!
//! Copies inside a device, one by one or by `cuMemcpyBatchAsync`, cost the device 1.7 µs each; a launch costs that once for
//! hundreds or thousands of them (H200, driver 580). [`encode`] says how much one launch takes and how the kernel is told,
//! of rows in [`rows`], of neighbours alike in [`run`], and of different lengths in [`ragged`]; [`kernels`] loads it, [`table`]
//! is the memory of descriptions that do not fit into launch parameters, [`payload`] and [`staging`] take plain host memory
//! along, [`split`] cuts large batches and [`graph_cache`] launches small ones on an idle stream, and [`launcher`] does it.

mod encode;
mod extent;
mod graph_cache;
mod kernels;
mod launcher;
mod launches;
mod layout;
mod lazy;
mod memcpy;
mod memcpy_routing;
mod payload;
mod ragged;
mod remaining;
mod ring;
mod rows;
mod run;
mod split;
mod staging;
mod table;
#[cfg(test)]
mod tests;

pub(super) use self::{
    kernels::Kernels, launcher::BatchLauncher, layout::LARGEST_GRAPH, memcpy::Failure, payload::MOST as MOST_PAYLOAD,
    staging::MOST as MOST_STAGED,
};
