//! Tensors of other programs and for other programs of one process, by
//! [DLPack](https://dmlc.github.io/dlpack/latest/). Feature `dlpack`.
//!
//! [`export`] and [`export_shared`] hand host tensors out, and `cuda::export_tensor` hands out those of
//! a GPU. [`Imported`] is a host tensor of another
//! program, and [`import_on_stream`] makes a device tensor of another program shared memory of a
//! stream. The structures are those of [`abi`].
//!
//! ```
//! use tidelock::{Buffer, dlpack::{Imported, export}, location::Host};
//!
//! let tensor = Buffer::<f32, Host>::from_slice(&[1.0, 2.0, 3.0, 4.0])?.tensor([2, 2])?;
//! let theirs = export(tensor.into()).into_raw();
//! // SAFETY: the structure was just exported, and is given away.
//! let ours = unsafe { Imported::new(theirs) }.expect("a tensor of the host");
//! assert_eq!(ours.view().downcast::<f32, 2>()?.get([1, 0])?, &3.0);
//! # Ok::<(), tidelock::Error>(())
//! ```

pub mod abi;
mod checks;
mod dtype;
mod export;
mod import;

#[cfg(feature = "cuda-core")]
pub(crate) use self::export::exported;
pub use self::{
    checks::DlError,
    export::{Exported, export, export_shared},
    import::{Imported, import_on_stream},
};
