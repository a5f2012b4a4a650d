//! The memory loop of an LLM inference engine with continuous batching, replaying real or generated
//! requests.
//!
//! Requests arrive, join the batch where there is room, generate a token in every iteration, and
//! leave; the batch is re-packed each time. [`engine`] and [`rows`] are what a user of tidelock
//! writes, generic over the device, and [`pipeline`] is the same on two streams; [`model`] is what
//! differs between devices: a backend of one's own implements [`Model`](model::Model), and
//! [`Replay`](replay::Replay) runs it. [`schedule`] decides who is in the batch; [`oracle`]
//! computes what every request must generate, and a replay counts the requests that did.
//!
//! The program is `examples/continuous_batching` of tidelock.

pub mod blocks;
pub mod closure_model;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod engine;
pub mod events;
pub mod memory;
pub mod model;
pub mod oracle;
pub mod pipeline;
pub mod recorder;
pub mod replay;
pub mod report;
pub mod rows;
pub mod schedule;
pub mod svg;
pub mod table;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod turn;
pub mod workload;
