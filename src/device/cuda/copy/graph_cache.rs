//! Launches a copy kernel as a graph of one node, which an idle device begins sooner than a plain
//! launch.
//!
//! An executable graph keeps the parameters of its node. A batch that equals one of the last few is
//! one call without parameters. For another batch the parameters are set, which costs most of what
//! the graph wins. On an H200 a batch alone on its stream ends 1.5 to 2 µs earlier if it equals one
//! of the last few, and 0.2 to 0.8 µs earlier if not. With kernels behind it, the first ends 0.6 to
//! 1.6 µs earlier, the second 0 to 0.7 µs later. Behind other work a graph ends 1.3 to 2.2 µs later
//! than a plain launch, because it does not begin before that work has ended (benches/RESULTS.md,
//! "Ways to launch").

use core::{
    ffi::{c_uint, c_ulonglong, c_void},
    ptr::{self, NonNull},
};
use std::sync::OnceLock;

use tidelock_driver::{Code, DriverError};

use super::{
    kernels::Chosen,
    layout::{LARGEST_GRAPH, Parameters, THREADS},
};
use crate::device::cuda::{
    context::given,
    driver::{Answer, Handle, symbol},
    stream_calls::StreamCalls,
};

/// Graphs for the last few batches of one stream.
pub(super) struct GraphCache {
    calls: &'static Calls,
    graphs: [Graph; KEPT],
    /// The graph that the next new batch takes, below `KEPT`.
    next: usize,
}

/// How many batches are kept: an engine that alternates between two sets of states has two batches
/// for each.
const KEPT: usize = 4;

/// An executable graph with one node.
struct Graph {
    /// Invariant: a live graph, which has the node.
    graph: NonNull<c_void>,
    node: NonNull<c_void>,
    /// Invariant: a live executable graph made of `graph`.
    executable: NonNull<c_void>,
    /// What it launches.
    batch: Batch,
    /// The used words of the parameters.
    parameters: [u32; LARGEST_GRAPH / 4],
}

/// A launch without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    function: Handle,
    blocks: c_uint,
    shared_bytes: c_uint,
    /// How many words of the parameters are used; `usize::MAX` if the slot matches no batch.
    words: usize,
}

impl Batch {
    fn of(chosen: &Chosen, parameters: &Parameters) -> Batch {
        let Chosen { function, blocks, shared_bytes, .. } = *chosen;
        Batch { function: function.raw(), blocks, shared_bytes, words: parameters.used_words().len() }
    }
}

impl GraphCache {
    /// Makes the graphs of a stream.
    ///
    /// Cost: 16 µs each and 16 KiB (H200).
    ///
    /// # Errors
    /// What the driver answered, `NOT_FOUND` if it has no graphs. No graph is left behind.
    pub(super) fn new(
        stream: &StreamCalls,
        first: &Chosen,
        parameters: &Parameters,
    ) -> Result<GraphCache, DriverError> {
        let calls = CALLS.get_or_init(Calls::find).as_ref();
        let calls = calls.ok_or(DriverError::new(CREATE, Code::NOT_FOUND))?;
        let mut made = [const { None }; KEPT];
        let answer = made
            .iter_mut()
            .try_for_each(|place| Graph::new(calls, stream, first, parameters).map(|graph| *place = Some(graph)));
        match (answer, made) {
            (Ok(()), [Some(a), Some(b), Some(c), Some(d)]) => Ok(GraphCache { calls, graphs: [a, b, c, d], next: 0 }),
            (answer, made) => {
                made.into_iter().flatten().for_each(|graph| graph.destroy(calls, stream));
                Err(answer.err().unwrap_or(DriverError::new(CREATE, Code::UNKNOWN)))
            }
        }
    }

    /// Launches the chosen kernel with `parameters`, of which at most [`LARGEST_GRAPH`] bytes are
    /// used.
    ///
    /// # Errors
    /// What the driver answered; nothing is enqueued, unless the device was broken before.
    ///
    /// # Safety
    /// As for `Kernels::launch`; the stream is the one that this was made for.
    pub(super) unsafe fn launch(
        &mut self,
        stream: &StreamCalls,
        chosen: &Chosen,
        parameters: &Parameters,
    ) -> Result<(), DriverError> {
        let batch = Batch::of(chosen, parameters);
        let used = parameters.used_words();
        let known = |graph: &Graph| graph.batch == batch && graph.parameters.get(..batch.words) == Some(used);
        let launch = self.calls.launch;
        let at = match self.graphs.iter().position(known) {
            Some(at) => at,
            None => {
                let at = self.next;
                self.next = at.wrapping_add(1) % KEPT;
                let graph = self.graphs.get_mut(at).ok_or(DriverError::new(SET, Code::INVALID_VALUE))?;
                // SAFETY:
                // - The caller keeps the contract for what is launched next.
                unsafe { graph.set(self.calls, stream, chosen, parameters) }?;
                at
            }
        };
        let graph = self.graphs.get(at).ok_or(DriverError::new(LAUNCH, Code::INVALID_VALUE))?;
        // SAFETY:
        // - Executable graph and stream are alive and of one context, as the caller promises, and one
        //   thread uses them at a time (S1).
        // - The node has the parameters given, which describe copies that may be made now.
        stream.on_stream(LAUNCH, || unsafe { launch(graph.executable.as_ptr(), stream.raw()) })
    }

    /// Destroys the graphs.
    pub(super) fn close(self, stream: &StreamCalls) {
        self.graphs.into_iter().for_each(|graph| graph.destroy(self.calls, stream));
    }
}

impl Graph {
    /// # Errors
    /// What the driver answered; nothing is left behind.
    fn new(
        calls: &Calls,
        stream: &StreamCalls,
        chosen: &Chosen,
        parameters: &Parameters,
    ) -> Result<Graph, DriverError> {
        let context = stream.context;
        let mut graph = ptr::null_mut();
        // SAFETY:
        // - `graph` is valid for a write; "flags: Graph creation flags, must be 0" (CUDA driver
        //   manual 13.0).
        context.enter(CREATE, || unsafe { (calls.create)(&mut graph, 0) })?;
        let graph = given(CREATE, graph)?;
        let made = Node::with(chosen, parameters, |node_params| {
            let mut node = ptr::null_mut();
            // SAFETY:
            // - `node` is valid for a write, the graph is alive, and there are no dependencies.
            // - `node_params` name a kernel of the context, a grid that it takes and its one
            //   parameter, which is copied.
            context.enter(ADD, || unsafe {
                (calls.add_kernel_node)(&mut node, graph.as_ptr(), ptr::null(), 0, node_params)
            })?;
            let mut executable = ptr::null_mut();
            // SAFETY:
            // - `executable` is valid for a write, and the graph is alive.
            context.enter(INSTANTIATE, || unsafe { (calls.instantiate)(&mut executable, graph.as_ptr(), 0) })?;
            Ok((given(ADD, node)?, given(INSTANTIATE, executable)?))
        });
        match made {
            Ok((node, executable)) => {
                let mut made = Graph {
                    graph,
                    node,
                    executable,
                    batch: Batch::of(chosen, parameters),
                    parameters: [0; LARGEST_GRAPH / 4],
                };
                made.keep(Batch::of(chosen, parameters), parameters);
                Ok(made)
            }
            Err(error) => {
                // SAFETY:
                // - The graph is alive, and this is its only owner.
                let _ = context.on_stream(DESTROY, || unsafe { (calls.destroy)(graph.as_ptr()) });
                Err(error)
            }
        }
    }

    /// Sets the batch that the graph launches from now on.
    ///
    /// # Errors
    /// What the driver answered. The slot then matches no batch.
    ///
    /// # Safety
    /// - The chosen function is one of the context of the stream, and the parameter one that it
    ///   takes.
    unsafe fn set(
        &mut self,
        calls: &Calls,
        stream: &StreamCalls,
        chosen: &Chosen,
        parameters: &Parameters,
    ) -> Result<(), DriverError> {
        self.batch.words = usize::MAX;
        let (executable, node, set) = (self.executable.as_ptr(), self.node.as_ptr(), calls.set_kernel_node);
        Node::with(chosen, parameters, |node_params| {
            // SAFETY:
            // - Executable graph and node are alive and belong together, by the invariants of the
            //   type.
            // - The caller promises the function and its parameter, which is copied: "The
            //   modifications only affect future launches of hGraphExec. Already enqueued or
            //   running launches of hGraphExec are not affected by this call" (CUDA driver manual
            //   13.0).
            stream.context.on_stream(SET, || unsafe { set(executable, node, node_params) })
        })?;
        self.keep(Batch::of(chosen, parameters), parameters);
        Ok(())
    }

    /// Keeps a copy of the parameters of the node.
    fn keep(&mut self, batch: Batch, parameters: &Parameters) {
        let used = parameters.used_words();
        if let Some(kept) = self.parameters.get_mut(..used.len()) {
            kept.copy_from_slice(used);
            self.batch = batch;
        }
    }

    /// Destroys the graph. Errors are ignored.
    fn destroy(self, calls: &Calls, stream: &StreamCalls) {
        let context = stream.context;
        // SAFETY:
        // - The executable graph is alive and this is the end of its only owner. "If the executable
        //   graph is in-flight, it will not be terminated, but rather freed asynchronously on
        //   completion" (CUDA driver manual 13.0).
        let _ =
            context.on_stream(DESTROY_EXECUTABLE, || unsafe { (calls.destroy_executable)(self.executable.as_ptr()) });
        // SAFETY:
        // - The graph is alive, this is the end of its only owner, and no executable graph needs it
        //   any more.
        let _ = context.on_stream(DESTROY, || unsafe { (calls.destroy)(self.graph.as_ptr()) });
    }
}

const CREATE: &str = "cuGraphCreate";
const ADD: &str = "cuGraphAddKernelNode";
const INSTANTIATE: &str = "cuGraphInstantiate";
const SET: &str = "cuGraphExecKernelNodeSetParams";
const LAUNCH: &str = "cuGraphLaunch";
const DESTROY: &str = "cuGraphDestroy";
const DESTROY_EXECUTABLE: &str = "cuGraphExecDestroy";

macro_rules! calls {
    ($($(#[$doc:meta])* $field:ident: $symbol:ident($($arg:ty),*),)*) => {
        /// The driver's functions for graphs.
        struct Calls {
            $($(#[$doc])* $field: unsafe extern "C" fn($($arg),*) -> Answer,)*
        }

        impl Calls {
            /// All of them, or none. Every driver that this crate accepts has them.
            fn find() -> Option<Calls> {
                Some(Calls { $($field: symbol(stringify!($symbol)).ok()?,)* })
            }
        }

        #[cfg(any(test, tidelock_declarations))]
        mod declared {
            use super::*;
            use crate::device::cuda::declarations::{same_function, same_structure};

            $(same_function!(unsafe extern "C" fn($($arg),*) -> Answer, $symbol, $($arg),*);)*
            same_structure!(
                Node, CUDA_KERNEL_NODE_PARAMS_v2, function = func, blocks = gridDimX, threads = blockDimX,
                shared_bytes = sharedMemBytes, parameters = kernelParams, extra = extra, kernel = kern, context = ctx
            );
        }
    };
}
calls! {
    /// Where to write the graph, flags.
    create: cuGraphCreate(*mut Handle, c_uint),
    /// Where to write the node, graph, dependencies, their count, parameters.
    add_kernel_node: cuGraphAddKernelNode_v2(*mut Handle, Handle, *const Handle, usize, *const Node),
    /// Where to write the executable graph, graph, flags.
    instantiate: cuGraphInstantiateWithFlags(*mut Handle, Handle, c_ulonglong),
    /// Executable graph, node, parameters.
    set_kernel_node: cuGraphExecKernelNodeSetParams_v2(Handle, Handle, *const Node),
    /// Executable graph, stream.
    launch: cuGraphLaunch(Handle, Handle),
    destroy_executable: cuGraphExecDestroy(Handle),
    destroy: cuGraphDestroy(Handle),
}

static CALLS: OnceLock<Option<Calls>> = OnceLock::new();

/// `CUDA_KERNEL_NODE_PARAMS`, the second version.
#[repr(C)]
struct Node {
    function: Handle,
    blocks: [c_uint; 3],
    threads: [c_uint; 3],
    shared_bytes: c_uint,
    parameters: *const *mut c_void,
    extra: *const *mut c_void,
    /// A `CUkernel` and a `CUcontext`: null, as there is a function.
    kernel: Handle,
    context: Handle,
}

impl Node {
    /// Calls `f` with the node parameters of a launch, which are valid during the call.
    fn with<R>(chosen: &Chosen, parameters: &Parameters, f: impl FnOnce(*const Node) -> R) -> R {
        let arguments = [ptr::from_ref(parameters).cast_mut().cast::<c_void>()];
        let node = Node {
            function: chosen.function.raw(),
            blocks: [chosen.blocks, 1, 1],
            threads: [THREADS, 1, 1],
            shared_bytes: chosen.shared_bytes,
            parameters: arguments.as_ptr(),
            extra: ptr::null(),
            kernel: ptr::null_mut(),
            context: ptr::null_mut(),
        };
        f(&node)
    }
}

static_assertions::assert_eq_size!(Node, [u64; 9]);
