//! The copy kernels: loading, choosing and launching them.

use core::{
    ffi::{c_uint, c_void},
    ptr,
};
use std::sync::OnceLock;

use tidelock_driver::DriverError;

use super::{
    layout::{Head, Parameters, SEGMENTS, Segment, THREADS},
    remaining::Launch,
    strided,
};
use crate::device::cuda::{
    context::Context,
    driver::{Answer, Handle, symbol},
    error::NoCopyKernels,
    handle::DriverObject,
    image::Image,
    kernels,
    stream_calls::StreamCalls,
};

/// The compute capability from which the kernels wait for earlier work themselves.
const OVERLAPPING: (u32, u32) = (9, 0);

/// What the one parameter of a kernel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// One segment, and its words.
    Single,
    /// Any number of segments, and their words.
    Segments,
    /// Segments, whose words are in a table.
    Table,
    /// Segments, and the first words of their table.
    Mixed,
}

/// What the threads of a kernel do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// Each copies two whole groups of 16 bytes; for plain launches.
    Plain,
    /// Each copies up to two groups of 16 bytes, of any copies.
    Any,
    /// Each copies up to four groups of 16 bytes, of any copies.
    AnyOfFour,
    /// Each copies two words or bytes.
    Unit,
}

/// The kernels for parameters of one layout and size.
#[derive(Clone, Copy, Debug)]
struct Variant {
    layout: Layout,
    /// The bytes of the parameter.
    bytes: usize,
    bodies: &'static [Body],
}

/// All kernels of copy.cu. Those of one layout are sorted by size, so the first that fits is the
/// smallest.
const VARIANTS: [Variant; 15] = {
    use Body::{Any, AnyOfFour, Plain, Unit};
    use Layout::{Mixed, Segments, Single, Table};

    const fn variant(layout: Layout, bytes: usize, bodies: &'static [Body]) -> Variant {
        Variant { layout, bytes, bodies }
    }
    [
        variant(Single, 320, &[Plain, Any, Unit]),
        variant(Single, 768, &[Plain, Any, Unit]),
        variant(Single, 1280, &[Plain, Any, Unit]),
        variant(Single, 2304, &[Plain, Any, Unit]),
        variant(Single, MOST_SINGLE, &[Plain, Any, Unit]),
        variant(Single, 8448, &[Plain]),
        variant(Single, 16384, &[Plain]),
        variant(Segments, 768, &[Plain, Any]),
        variant(Segments, 1280, &[Plain, Any]),
        variant(Segments, 2304, &[Plain, Any]),
        variant(Segments, 4352, &[Plain, Any, AnyOfFour]),
        variant(Segments, 8448, &[Plain, Any, AnyOfFour]),
        variant(Segments, 16384, &[Plain, Any, AnyOfFour]),
        variant(Table, TABLE_BYTES, &[Plain, Any, AnyOfFour]),
        variant(Mixed, 16384, &[Plain]),
    ]
};
/// Above this size, a single segment has kernels of its own only if it is plain.
const MOST_SINGLE: usize = 4352;
const TABLE_BYTES: usize = size_of::<Head>() + SEGMENTS * size_of::<Segment>();

impl Variant {
    /// What the names of its kernels begin with, before [`Body::suffix`].
    fn name(&self) -> String {
        let bytes = self.bytes;
        match self.layout {
            Layout::Single => format!("copy_{bytes}_single"),
            Layout::Segments => format!("copy_{bytes}"),
            Layout::Table => "copy_table".to_owned(),
            Layout::Mixed => "copy_mixed".to_owned(),
        }
    }

    /// The position of the kernel with this body among its kernels.
    fn position(&self, body: Body) -> Option<usize> {
        self.bodies.iter().position(|of| *of == body)
    }
}

impl Body {
    /// What the name of a kernel ends with: what it does, and how many groups or units a thread
    /// copies.
    const fn suffix(self) -> &'static str {
        match self {
            Body::Plain => "_plain_2",
            Body::Any => "_2",
            Body::AnyOfFour => "_4",
            Body::Unit => "_unit_2",
        }
    }
}

/// The kernel of a launch, and how it is launched.
pub(super) struct Chosen {
    /// Its one parameter is a prefix of those that it was chosen for.
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
    /// For each of [`VARIANTS`]: the kernels with its bodies, in their order.
    functions: Vec<Vec<DriverObject>>,
    /// For each of [`strided::VARIANTS`]: the kernels with its sizes, in their order.
    strided: Vec<Vec<DriverObject>>,
    launch: LaunchEx,
    /// Whether a launch may begin before earlier work has ended.
    overlaps: bool,
}

impl Kernels {
    /// Loads the kernels into `context`, of a device with this compute capability.
    ///
    /// # Errors
    /// Why there are no kernels.
    pub(in super::super) fn load(context: Context, compute_capability: (u32, u32)) -> Result<Kernels, NoCopyKernels> {
        let launch = *LAUNCH_EX.get_or_init(|| symbol("cuLaunchKernelEx").ok());
        let launch = launch.ok_or(NoCopyKernels::Driver { lacks: "cuLaunchKernelEx" })?;
        let overlaps = compute_capability >= OVERLAPPING;
        let image = kernels::load(context, compute_capability)?;
        let find = |variant: &Variant| {
            let name = variant.name();
            // The kernels of a variant have one parameter, of its size (kernels/copy.cu).
            let names = variant.bodies.iter().map(|body| format!("{name}{}", body.suffix()));
            names.map(|name| image.declared(context, &name, &[variant.bytes])).collect()
        };
        let find_strided = |variant: &strided::Variant| {
            let sizes = variant.sizes.iter();
            sizes.map(|bytes| image.declared(context, &variant.name(*bytes), &[*bytes])).collect()
        };
        let functions: crate::error::Result<_> = VARIANTS.iter().map(find).collect();
        let all = functions.and_then(|functions| {
            Ok((functions, strided::VARIANTS.iter().map(find_strided).collect::<crate::error::Result<_>>()?))
        });
        match all {
            Ok((functions, strided)) => Ok(Kernels { image, functions, strided, launch, overlaps }),
            Err(error) => {
                // SAFETY:
                // - It was loaded into this context just now, and nothing of it was launched.
                // The first failure is reported; another one is ignored.
                let _ = unsafe { image.unload(context) };
                Err(NoCopyKernels::Kernel(error))
            }
        }
    }

    /// Unloads the kernels. Errors are ignored.
    ///
    /// # Safety
    /// - `context` is the one of the device that they were loaded for, and alive.
    /// - None of them is running or enqueued.
    pub(in super::super) unsafe fn unload(self, context: Context) {
        // SAFETY:
        // - The caller keeps the contract, and this is the end of the kernels' only owner.
        let _ = unsafe { self.image.unload(context) };
    }

    /// The smallest kernel for `launch`, which `parameters` describe, with a table if `in_table`.
    ///
    /// # Errors
    /// If no kernel has parameters so large.
    pub(super) fn choose(
        &self,
        parameters: &Parameters,
        launch: &Launch,
        in_table: bool,
    ) -> Result<Chosen, DriverError> {
        let used = parameters.bytes();
        let body = match launch.groups {
            _ if launch.plain => Body::Plain,
            2 => Body::Any,
            _ => Body::AnyOfFour,
        };
        let (layout, body) = match (in_table, parameters.head.along, parameters.head.segments) {
            (false, _, 1) if launch.plain => (Layout::Single, body),
            // A longer description of a single segment that is not plain has no kernel of its own.
            (false, _, 1) if launch.groups == 2 && used <= MOST_SINGLE => {
                (Layout::Single, if launch.unit { Body::Unit } else { body })
            }
            (false, ..) => (Layout::Segments, body),
            (true, 0, _) => (Layout::Table, body),
            _ => (Layout::Mixed, body),
        };
        let mut fitting =
            VARIANTS.iter().zip(&self.functions).filter(|(of, _)| of.layout == layout && of.bytes >= used);
        let found = fitting.find_map(|(of, functions)| Some((of.bytes, *functions.get(of.position(body)?)?)));
        let (bytes, function) = found.ok_or_else(too_large)?;
        let blocks = launch.blocks.saturating_add(parameters.head.fetchers);
        Ok(Chosen { function, bytes, blocks, shared_bytes: launch.shared })
    }

    /// The smallest kernel with this `body` for parameters of which `used` bytes are used, and
    /// `blocks` blocks. `None` if there is none.
    pub(super) fn strided(&self, body: strided::Body, used: usize, blocks: c_uint) -> Option<Chosen> {
        let (of, functions) = strided::VARIANTS.iter().zip(&self.strided).find(|(of, _)| of.body == body)?;
        let (bytes, function) = of.sizes.iter().zip(functions).find(|(bytes, _)| **bytes >= used)?;
        Some(Chosen { function: *function, bytes: *bytes, blocks, shared_bytes: 0 })
    }

    /// Launches the chosen kernel with `parameters`.
    ///
    /// # Safety
    /// - `chosen` comes from these kernels, for these parameters.
    /// - `parameters` describe copies that may be made in stream order on `stream`, whose context
    ///   is the kernels'.
    /// - A table they name is valid until the stream has passed the launch, and no other launch
    ///   uses the memory it is fetched into.
    pub(super) unsafe fn launch<P: bytemuck::NoUninit>(
        &self,
        stream: &StreamCalls,
        chosen: &Chosen,
        parameters: &P,
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
        // - `config` and the attribute it names, and the one parameter, which is at least as large
        //   as the kernel's, are read during the call.
        // - The kernel touches what the parameters describe only, and ends.
        stream.on_stream("cuLaunchKernelEx", || unsafe {
            call(&config, chosen.function.raw(), arguments.as_ptr(), ptr::null())
        })
    }
}

/// A description that no kernel's parameters hold. Encoding makes none.
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
