//! Elements: small floats against CUDA's own conversions, packed values, names, and what can be read
//! as what.

mod casts;
mod dtypes;
mod packed;
mod small_floats;
