//! The copy kernels, loaded into a device, and their launch.

use core::{
    ffi::{c_uint, c_void},
    ptr,
};
use std::sync::OnceLock;

use tidelock_driver::DriverError;

use super::{
    encode::Launch,
    layout::{Head, Parameters, SEGMENTS, Segment, THREADS},
};
use crate::device::cuda::{
    context::Context,
    driver::{Answer, Handle, symbol},
    error::NoCopyKernels,
    handle::DriverObject,
    image::Image,
    stream_calls::StreamCalls,
};

/// The kernels' code, for compute capability 8.0 on and 9.0 on.
const SM_80: &str = include_str!("../kernels/copy_sm80.ptx");
const SM_90: &str = include_str!("../kernels/copy_sm90.ptx");

/// The least compute capability of each.
const OLDEST: (u32, u32) = (8, 0);
const OVERLAPPING: (u32, u32) = (9, 0);

/// The bytes of the kernels' parameters, what their names begin with, and the kinds that there are of each.
const VARIANTS: [(usize, &str, &[&str]); 15] = [
    (320, "copy_320_single", &SINGLE),
    (768, "copy_768_single", &SINGLE),
    (1280, "copy_1280_single", &SINGLE),
    (2304, "copy_2304_single", &SINGLE),
    (4352, "copy_4352_single", &SINGLE),
    (8448, "copy_8448_single", &["_plain_2"]),
    (16384, "copy_16384_single", &["_plain_2"]),
    (768, "copy_768", &FEW),
    (1280, "copy_1280", &FEW),
    (2304, "copy_2304", &FEW),
    (4352, "copy_4352", &KINDS),
    (8448, "copy_8448", &KINDS),
    (16384, "copy_16384", &KINDS),
    (TABLE_BYTES, "copy_table", &KINDS),
    (16384, "copy_mixed", &["_plain_2"]),
];
/// Where those with any number of segments begin, those with a table, and those with a table whose first words are in the
/// parameters too.
const ANY: usize = 7;
const TABLE: usize = 13;
const MIXED: usize = 14;
/// Beyond so many bytes a single segment has kernels of its own only if it is plain.
const MOST_SINGLE: usize = 4352;
const TABLE_BYTES: usize = size_of::<Head>() + SEGMENTS * size_of::<Segment>();

/// For plain launches, and for 2 and 4 groups a thread.
const KINDS: [&str; 3] = ["_plain_2", "_2", "_4"];
const FEW: [&str; 2] = ["_plain_2", "_2"];
/// For plain launches, for others, and for those whose threads copy words or bytes.
const SINGLE: [&str; 3] = ["_plain_2", "_2", "_unit_2"];

/// The kernel of a launch, and how it is launched.
pub(super) struct Chosen {
    /// Its one parameter is as much of [`Parameters`] as it has.
    pub(super) function: DriverObject,
    /// The bytes of the parameter.
    pub(super) bytes: usize,
    pub(super) blocks: c_uint,
    pub(super) shared_bytes: c_uint,
}

/// The copy kernels of one context. They stay loaded until they are unloaded.
#[derive(Debug)]
pub(in super::super) struct Kernels {
    image: Image,
    /// For each of [`VARIANTS`]: the kernels of its kinds.
    functions: Vec<Vec<DriverObject>>,
    launch: LaunchEx,
    /// Whether a launch may begin before the work before it has ended.
    overlaps: bool,
}

impl Kernels {
    /// Loads the kernels into `context`, of a device with this compute capability.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub(in super::super) fn load(context: Context, compute_capability: (u32, u32)) -> Result<Kernels, NoCopyKernels> {
        if compute_capability < OLDEST {
            return Err(NoCopyKernels::Capability { found: compute_capability });
        }
        let launch = *LAUNCH_EX.get_or_init(|| symbol("cuLaunchKernelEx").ok());
        let launch = launch.ok_or(NoCopyKernels::Driver { lacks: "cuLaunchKernelEx" })?;
        let overlaps = compute_capability >= OVERLAPPING;
        let image = Image::compile(context, if overlaps { SM_90 } else { SM_80 })?;
        let find = |bytes: usize, name: &str, kinds: &[&str]| {
            let kinds = kinds.iter();
            // The kernels of this name have one parameter, of this size (kernels/copy.cu).
            kinds.map(|kind| image.declared(context, &format!("{name}{kind}"), &[bytes])).collect()
        };
        let functions = VARIANTS.iter().map(|(bytes, name, kinds)| find(*bytes, name, kinds)).collect();
        match functions {
            Ok(functions) => Ok(Kernels { image, functions, launch, overlaps }),
            Err(error) => {
                // SAFETY:
                // - It was loaded into this context just now, and nothing of it was launched.
                // The failure that is reported is the one that came first.
                let _ = unsafe { image.unload(context) };
                Err(NoCopyKernels::Kernel(error))
            }
        }
    }

    /// Gives the memory of the kernels back; there is nobody to tell a failure.
    ///
    /// # Safety
    /// - `context` is the one of the device that they were loaded for, and alive.
    /// - None of them is running or enqueued.
    pub(in super::super) unsafe fn unload(self, context: Context) {
        // SAFETY:
        // - The caller keeps the contract, and this is the end of the kernels' only owner.
        let _ = unsafe { self.image.unload(context) };
    }

    /// The kernel for `launch` with what `parameters` say, in a table if `in_table`.
    ///
    /// # Errors
    /// If no kernel has so many parameters.
    pub(super) fn choose(
        &self,
        parameters: &Parameters,
        launch: &Launch,
        in_table: bool,
    ) -> Result<Chosen, DriverError> {
        let told = parameters.bytes();
        let kind = match (launch.plain, launch.groups) {
            (true, _) => 0,
            (false, 2) => 1,
            _ => 2,
        };
        let (from, kind) = match (in_table, parameters.head.along, parameters.head.segments) {
            (false, _, 1) if launch.plain => (0, kind),
            // Longer descriptions of others than plain copies have no kernels of their own.
            (false, _, 1) if launch.groups == 2 && told <= MOST_SINGLE => (0, if launch.unit { 2 } else { kind }),
            (false, ..) => (ANY, kind),
            (true, 0, _) => (TABLE, kind),
            _ => (MIXED, kind),
        };
        let of = VARIANTS.iter().zip(&self.functions).skip(from);
        let fitting = of.filter(|((bytes, ..), _)| *bytes >= told);
        let mut found = fitting.filter_map(|((bytes, ..), functions)| Some((*bytes, *functions.get(kind)?)));
        let (bytes, function) = found.next().ok_or_else(too_large)?;
        let blocks = launch.blocks.saturating_add(parameters.head.fetchers);
        Ok(Chosen { function, bytes, blocks, shared_bytes: launch.shared })
    }

    /// Launches what is chosen with what `parameters` say.
    ///
    /// # Safety
    /// - `chosen` comes from these kernels, for these parameters.
    /// - `parameters` describe copies that may be made in stream order on `stream`, whose context is the kernels'.
    /// - A table they name is valid until the stream has passed the launch, and what it is fetched into is nobody else's.
    pub(super) unsafe fn launch(
        &self,
        stream: &StreamCalls,
        chosen: &Chosen,
        parameters: &Parameters,
    ) -> Result<(), DriverError> {
        let overlap = Attribute { id: PROGRAMMATIC_STREAM_SERIALIZATION, pad: 0, value: [1, 0, 0, 0, 0, 0, 0, 0] };
        let config = Config {
            blocks: [chosen.blocks, 1, 1],
            threads: [THREADS, 1, 1],
            shared_bytes: chosen.shared_bytes,
            stream: stream.raw(),
            attributes: &overlap,
            attribute_count: c_uint::from(self.overlaps),
        };
        let arguments = [ptr::from_ref(parameters).cast_mut().cast::<c_void>()];
        let call = self.launch;
        // SAFETY:
        // - Function and stream are alive and of one context, as the caller promises.
        // - `config` and the attribute it names, and the one parameter, which is at least as large as the kernel's, are
        //   read during the call.
        // - The kernel touches what the parameters describe only, and ends.
        stream.on_stream("cuLaunchKernelEx", || unsafe {
            call(&config, chosen.function.raw(), arguments.as_ptr(), ptr::null())
        })
    }
}

/// A description that fits into no kernel's parameters: it is not made.
#[cold]
pub(super) fn too_large() -> DriverError {
    DriverError::new("cuLaunchKernelEx", crate::device::code::Code::INVALID_VALUE)
}

/// `cuLaunchKernelEx`: configuration, function, parameters, null.
type LaunchEx = unsafe extern "C" fn(*const Config, Handle, *const *mut c_void, *const *mut c_void) -> Answer;
static LAUNCH_EX: OnceLock<Option<LaunchEx>> = OnceLock::new();

/// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`: a number that is not 0 allows it.
const PROGRAMMATIC_STREAM_SERIALIZATION: c_uint = 6;

/// `CUlaunchConfig`.
#[repr(C)]
struct Config {
    blocks: [c_uint; 3],
    threads: [c_uint; 3],
    shared_bytes: c_uint,
    stream: Handle,
    attributes: *const Attribute,
    attribute_count: c_uint,
}

/// `CUlaunchAttribute`.
#[repr(C)]
struct Attribute {
    id: c_uint,
    pad: c_uint,
    value: [u64; 8],
}

#[cfg(any(test, tidelock_declarations))]
mod declared {
    use super::*;
    use crate::device::cuda::declarations::{same_function, same_number, same_structure};

    same_function!(LaunchEx, cuLaunchKernelEx, _, _, _, _);
    same_number!(
        PROGRAMMATIC_STREAM_SERIALIZATION,
        CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    );
    same_structure!(
        Config,
        CUlaunchConfig,
        blocks = gridDimX,
        threads = blockDimX,
        shared_bytes = sharedMemBytes,
        stream = hStream,
        attributes = attrs,
        attribute_count = numAttrs
    );
    same_structure!(Attribute, CUlaunchAttribute, id = id, pad = pad, value = value);
}

static_assertions::assert_eq_size!(Config, [u64; 7]);
static_assertions::assert_eq_size!(Attribute, [u64; 9]);
