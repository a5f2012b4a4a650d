//! Elements: small floats against CUDA's own conversions, packed values, names, and what can be
//! read as what.

#![forbid(unsafe_code)]

mod casts;
mod dtypes;
mod hostile;
mod packed;
mod small_floats;
