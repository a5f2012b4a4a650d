//! The oracle against programs with one wait removed, the races that other libraries are known for, and a reference that
//! knows the order of everything.

mod classics;
mod comparison;
mod random;
mod removed;
mod several_hosts;
mod threads;
