//! The model on a GPU: a kernel that is launched with typed arguments.

use tidelock::cuda::{CopyKernels, Device, Function, Grid, Module};
use tidelock::{Buffer, Ctx, Error, Result, Stack, cuda::Cuda, stream::SyncAlloc};

use super::model::{Model, Sequences};
use super::schedule::BLOCK_TOKENS;

/// The token step's kernel, loaded on a device.
#[derive(Clone, Debug)]
pub struct TokenStep(Function);

/// The model of stream `'s`, with its KV cache.
#[derive(Debug)]
pub struct CudaModel<'s> {
    kernel: TokenStep,
    cache: Buffer<u32, Cuda<'s>, SyncAlloc<Cuda<'s>>>,
}

/// The kernel, which `token_step.sh` builds from `token_step.cu`.
const PTX: &str = include_str!("token_step.ptx");

/// The name of the kernel.
pub const NAME: &str = "token_step";

/// The sizes of its parameters in bytes: nine arrays, and three numbers of elements.
pub const PARAMETERS: [usize; 12] = [8, 8, 8, 8, 8, 8, 8, 8, 8, 4, 4, 4];

/// The threads of a block, each of which works on one row.
const THREADS: u32 = 256;

/// The compute capability that the kernel is made for; later ones run it too.
pub const CAPABILITY: (u32, u32) = (8, 0);

impl TokenStep {
    /// Loads the kernel.
    ///
    /// # Errors
    ///
    /// The driver's error. A device with a compute capability below [`CAPABILITY`] cannot load it.
    pub fn load(device: &Device) -> Result<Self> {
        let module = Module::load(device, PTX)?;
        // SAFETY:
        // - These are the kernel's parameters. Drivers before CUDA 12.4 cannot report them.
        Ok(Self(unsafe { module.function_declared(NAME, &PARAMETERS) }?))
    }
}

impl<'s> CudaModel<'s> {
    /// A model with a cache of `blocks` blocks.
    ///
    /// # Errors
    ///
    /// Those of the allocation.
    pub fn new(ctx: &Ctx<'_, Cuda<'s>>, kernel: &TokenStep, blocks: usize) -> Result<Self> {
        let ctx = ctx.with_device_alloc(ctx.sync_alloc());
        let kernel = kernel.clone();
        Ok(Self { kernel, cache: ctx.zeros(blocks.saturating_mul(BLOCK_TOKENS as usize))? })
    }
}

impl<'s> Model<Cuda<'s>> for CudaModel<'s> {
    fn generate(&mut self, ctx: &Ctx<'_, Cuda<'s>, &Stack<Cuda<'s>>>, batch: Sequences<'_, Cuda<'s>>) -> Result<()> {
        let Sequences { history, lengths, cached, sampling, random, tables, offsets, tokens } = batch;
        let cache = self.cache.view_mut();
        let rows = history.row_count();
        let columns = [
            ("lengths", lengths.len(), rows),
            ("cached", cached.len(), rows),
            ("sampling", sampling.len(), rows),
            ("random", random.len(), rows),
            ("tokens", tokens.len(), rows),
            ("offsets", offsets.len(), rows.saturating_add(1)),
        ];
        if let Some((operand, found, expected)) = columns.into_iter().find(|(_, found, expected)| found != expected) {
            return Err(Error::Length { operand, expected, found });
        }
        let grid = Grid::new([number("history", rows)?, 1, 1], [THREADS, 1, 1]);
        let width = number("history", history.width().get())?;
        let entries = number("tables", tables.len())?;
        let blocks = number("cache", cache.len() / BLOCK_TOKENS as usize)?;
        let history = history.as_view()?;
        // SAFETY:
        // - There is a row, or an element, for each block of the grid in every array, one more in
        //   `offsets`, `entries` in `tables` and `blocks` times `BLOCK_TOKENS` in the cache. The
        //   kernel goes by these and checks what it reads.
        // - The parameters are `PARAMETERS`: addresses of `u32`, `u64` and `Sampling`, which is two
        //   words of which the first is not interpreted, and three `u32`. What it writes are `u32`
        //   and `u64`, all of whose values are some.
        // - A block writes the elements of its own row, one of its threads each, after all have
        //   read them. Into the cache it writes by relaxed atomic stores, which do not race even if
        //   block tables overlap.
        // - Its loops are over the positions of a row, of which there are at most `width`.
        unsafe {
            ctx.launch_kernel(
                (&self.kernel.0, grid),
                (history, lengths, cached, sampling, random, tables, offsets, cache, tokens, width, entries, blocks),
            )
        }
    }
}

/// What makes a run on `device` slower than it could be, in one line.
pub fn warning(device: &Device) -> Option<String> {
    let CopyKernels::Absent(reason) = device.copy_kernels() else { return None };
    let reason = reason.to_string();
    // The message of the driver's compiler may have more lines.
    let reason = reason.lines().next().unwrap_or_default();
    Some(format!("without copy kernels, batches go the driver's way, which is slower: {reason}"))
}

/// A number of elements in the kernel's type.
fn number(operand: &'static str, len: usize) -> Result<u32> {
    u32::try_from(len).map_err(|_| Error::TooLarge { operand })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::VOCABULARY;

    const SOURCE: &str = include_str!("token_step.cu");

    #[test]
    fn the_kernel_and_the_host_have_the_same_constants() {
        for (name, value) in [("BLOCK_TOKENS", BLOCK_TOKENS), ("VOCABULARY", VOCABULARY)] {
            assert!(SOURCE.contains(&format!("#define {name} {value}u\n")), "{name} is not {value}");
        }
        assert!(SOURCE.contains(&format!("#define THREADS {THREADS}\n")));
    }

    #[test]
    fn the_kernel_is_made_of_its_source_as_it_is() {
        let sum = format!("// Source: {} {}\n", checksum(SOURCE.as_bytes()), SOURCE.len());
        assert!(PTX.contains(&sum), "run token_step.sh: there is no `{}`", sum.trim_end());
    }

    #[test]
    fn the_kernel_has_the_parameters_that_are_declared() {
        let sizes = PTX.split(".param .").skip(1).map(|rest| rest.split_once(' ').unwrap().0);
        let expected = PARAMETERS.map(|bytes| format!("u{}", 8 * bytes));
        assert!(sizes.eq(expected.iter().map(String::as_str)));
        assert!(PTX.contains(&format!(".visible .entry {NAME}(")));
        let (major, minor) = CAPABILITY;
        assert!(PTX.contains(&format!(".target sm_{major}{minor}\n")));
        // The first version of PTX with this target, which every driver from CUDA 12.0 on accepts.
        assert!(PTX.contains(".version 7.0\n"));
    }

    /// The checksum of the POSIX tool `cksum`.
    fn checksum(bytes: &[u8]) -> u32 {
        let mut length = bytes.len();
        let mut crc = 0_u32;
        let mut push = |byte: u8| {
            crc ^= u32::from(byte) << 24;
            for _ in 0..8 {
                crc = (crc << 1) ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 };
            }
        };
        bytes.iter().for_each(|&byte| push(byte));
        while length > 0 {
            push(length.to_le_bytes()[0]);
            length >>= 8;
        }
        !crc
    }
}
