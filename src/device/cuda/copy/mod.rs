//! Copies on the multiprocessors: a batch becomes a few launches of one kernel (kernels/copy.cu).
//!
//! Copies inside a device, one by one or by `cuMemcpyBatchAsync`, cost the device 1.7 µs each. A
//! launch costs that once for hundreds or thousands of them (H200, driver 580). [`launcher`]
//! decides what carries out a batch: [`launches`] or, by the driver's copy calls, [`memcpy`].
//! [`memcpy_routing`] leaves long copies over PCIe to the copy engines. [`encode`] describes a
//! launch in the terms of [`layout`]: row gathers with [`rows`], copies that one form describes
//! with [`run`], copies of different lengths with [`ragged`]. [`kernels`] loads and launches the
//! kernels. [`table`] holds descriptions that do not fit into launch parameters; [`payload`] and
//! [`staging`] take the bytes of plain host memory along. [`split`] launches a large batch in two
//! parts, and [`graph_cache`] launches small batches on an idle stream as graphs. [`strided`] launches
//! copies between two layouts.

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
mod strided;
mod table;
#[cfg(test)]
mod tests;

pub(super) use self::{
    kernels::Kernels, launcher::BatchLauncher, layout::LARGEST_GRAPH, memcpy::Failure, payload::MOST as MOST_PAYLOAD,
    staging::MOST as MOST_STAGED,
};
