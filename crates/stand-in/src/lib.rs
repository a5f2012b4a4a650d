//! A stand-in for `libcuda.so`: the simulated GPU of tidelock behind the C
//! interface of the CUDA driver.
//!
//! A test opens the library by its path; whoever opens `libcuda.so` in the same process after that
//! gets this one, because the loader finds it under its name. It is never used by accident: it lies
//! where no loader looks.
//!
//! It accepts and refuses what the driver does, and where the driver may do one of two things it
//! does the worse. Every call is logged by name, can be made to fail, and no panic leaves one. A
//! test controls it through the functions of [`control`], whose names begin with `tl_`.
//!
//! | the driver | here |
//! |---|---|
//! | a device | a simulated GPU: a thread for each stream, delays, poisoned memory, the race detector |
//! | a context | a handle; contexts of one device share its simulated GPU, and primary contexts keep their handle when all is reset |
//! | calls on a stream | work whatever context is current, or ask for one (`stream_calls_need_context`); a batch asks for any |
//! | a process that was forked after `cuInit` | is refused every call |
//! | calls without a stream | ask for a current context |
//! | pageable operands of a copy | read and written late, or before the call returns (`pageable_synchronous`) |
//! | a batch with an overlap flag and sources to be read during the call | they are read late |
//! | destroying a stream | returns at once, the work goes on |
//! | an address of another device | refused |
//! | kernels | host functions by name; the image only has to look like PTX |
//! | compiled images | those of the library, which `kernels.txt` beside them lists with their kernels |
//! | the library's copy kernels | a twin of them (`kernel_model`), which also looks at what the kernels take for granted; or none (`copy_kernels`) |
//!
//! What it cannot show: device code, timing, peer access, capture, managed memory.
#![warn(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    rust_2018_idioms,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::missing_safety_doc,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![allow(non_snake_case, reason = "the functions are named as the driver names them")]
#![allow(clippy::too_many_arguments, reason = "the functions take what the driver's take")]

#[macro_use]
mod abi;
mod context;
pub mod control;
mod copy;
mod device;
mod driver;
mod event;
mod fault_injection;
mod graph;
mod image;
mod kernel_model;
mod lookup;
mod memory;
mod module;
mod pointer;
mod pool;
mod settings;
mod stream;
