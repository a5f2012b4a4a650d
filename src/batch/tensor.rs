//! Copies of tensors in a batch.

#![forbid(unsafe_code)]

use tidelock_driver::StridedCopy;

use super::{Group, storage::Run};
use crate::{
    Element,
    error::Result,
    layout::plan,
    stream::{BatchSource, DeviceLocation, KernelAccessible},
    tensor::{Parts, TensorDst, TensorView},
};

impl<'env, L: DeviceLocation> Group<'_, 'env, L> {
    /// Adds a copy of the elements of `src` to those of `dst` at the same indices. Both may have
    /// any layout.
    ///
    /// Cost: one entry of the batch, of any number of runs; one for each run of plain host memory.
    ///
    /// # Errors
    /// [`Error::Extent`](crate::Error::Extent) if the shapes differ,
    /// [`Error::Length`](crate::Error::Length) if an output has another number of elements,
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the storage cannot grow.
    #[inline]
    pub fn copy_tensor<T: Element, S: BatchSource<L>, D: KernelAccessible<L>, const R: usize>(
        &mut self,
        src: TensorView<'env, T, S, R>,
        dst: impl TensorDst<'env, T, D, R>,
    ) -> Result<()> {
        let Parts { ptr, layout, counter } = dst.into_parts(src.shape())?;
        let loops = plan(&src.layout(), &layout, size_of::<T>())?;
        self.expects_output(counter)?;
        self.add_strided(StridedCopy::new(ptr.cast(), src.as_ptr().cast(), loops), S::DURING_CALL)?;
        self.count_rows(counter, 1, layout.size());
        Ok(())
    }

    /// Adds a strided copy, whose source is read during the call or in stream order.
    fn add_strided(&mut self, copy: StridedCopy, during_call: bool) -> Result<()> {
        let bytes = copy.loops.run();
        if during_call {
            self.storage.reserve_during_call(copy.loops.runs())?;
            return copy.loops.iter().try_for_each(|(from, to)| {
                let (dst, src) = (copy.dst.wrapping_add(to), copy.src.wrapping_add(from));
                self.storage.push_during_call(Run { dst, src, bytes })
            });
        }
        match copy.loops.runs() {
            0 => {}
            1 => return self.storage.push(Run { dst: copy.dst, src: copy.src, bytes }),
            _ => self.storage.push_strided(copy)?,
        }
        self.beyond = self.beyond.wrapping_add(1);
        Ok(())
    }
}
