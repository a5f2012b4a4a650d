//! The oracle against programs with one wait removed, the races that other libraries are known for, and a reference that
//! knows the order of everything.

#[path = "oracle/classics.rs"]
mod classics;
mod common;
#[path = "oracle/random.rs"]
mod random;
#[path = "oracle/removed.rs"]
mod removed;
