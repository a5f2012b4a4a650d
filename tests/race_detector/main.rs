//! The race detector against programs with one wait removed, against the races that other libraries
//! are known for, and against a reference that keeps the whole order.

mod classics;
mod comparison;
mod random;
mod removed;
mod several_hosts;
mod threads;
