//! Tensors: parts of them, copies between layouts, and what is refused.

mod copies;
mod hostile;
mod kernels;
mod lent;
mod outputs;
mod parts;
mod refused;
mod shared;
mod strangers;
