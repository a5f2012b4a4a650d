//! Row gathers: random programs, and programs in which a call fails.

pub mod failing;
pub mod programs;
