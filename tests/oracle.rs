//! The oracle against programs with one wait removed, the races that other libraries are known for, and a reference that
//! knows the order of everything.

#[path = "oracle/classics.rs"]
mod classics;
mod common;
#[path = "oracle/comparison.rs"]
mod comparison;
#[path = "oracle/random.rs"]
mod random;
#[path = "oracle/removed.rs"]
mod removed;
#[path = "oracle/several_hosts.rs"]
mod several_hosts;
#[path = "oracle/threads.rs"]
mod threads;
