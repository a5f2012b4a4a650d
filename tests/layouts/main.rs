//! Layouts against brute force, and against NumPy.

mod brute_force;
mod numpy;
mod refused;
