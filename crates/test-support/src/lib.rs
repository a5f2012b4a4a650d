//! What the tests of tidelock and of its backends share.

#[cfg(feature = "sim")]
pub mod checked;
pub mod files;
pub mod heap;
pub mod memory;
pub mod public_functions;
pub mod random;
pub mod random_batches;
pub mod random_moves;
pub mod random_scatters;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub mod stand_in;
