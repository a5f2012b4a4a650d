//! Graphs: nodes that launch kernels, each behind the others in the order in which they were added.

use std::sync::{Arc, Mutex};

use tidelock_driver::code::Code;

use crate::{
    abi::{Handle, In, Out},
    context,
    driver::{driver, fresh, lock, note},
    module::{Given, Shape},
};

/// A graph, and its nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    nodes: Arc<Mutex<Vec<(Handle, Given)>>>,
}

/// An executable graph: the nodes as they were when it was made, with the updates since.
#[derive(Clone, Debug)]
pub(crate) struct Executable {
    /// The graph it was made of, whose nodes name its own.
    graph: Handle,
    nodes: Arc<Mutex<Vec<(Handle, Given)>>>,
}

/// `CUDA_KERNEL_NODE_PARAMS`, the second version.
#[derive(Debug)]
#[repr(C)]
pub struct Node {
    function: Handle,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    params: *const *const u8,
    extra: usize,
    kernel: Handle,
    context: Handle,
}

impl Node {
    /// What it launches, with copies of the parameters.
    ///
    /// # Safety
    /// - `params` is null or has the address of each of the kernel's parameters.
    unsafe fn given(&self) -> Result<Given, Code> {
        if self.extra != 0 || self.kernel != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        let shape = Shape { grid: self.grid, block: self.block, shared_bytes: self.shared_bytes };
        // SAFETY: promised by the caller.
        let params = unsafe { In::new(self.params) };
        // SAFETY: promised by the caller.
        unsafe { Given::copy(self.function, shape, &params) }
    }
}

exports! {
    /// Makes a graph without nodes.
    fn cuGraphCreate(out: Out<Handle>, flags: u32) {
        out.check()?;
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        out.put(driver().graphs.insert(Graph::default()))
    }

    /// Adds a launch, behind what there is. Needs a current context.
    fn cuGraphAddKernelNode_v2(
        out: Out<Handle>, graph: Handle, dependencies: In<Handle>, count: usize, node: In<Node>,
    ) {
        out.check()?;
        context::current()?;
        if count != 0 && dependencies.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let found = driver().graphs.get(graph)?;
        // SAFETY: promised by the caller.
        let given = unsafe { node.first()?.given() }?;
        let handle = fresh();
        lock(&found.nodes).push((handle, given));
        out.put(handle)
    }

    /// Makes an executable graph of what the graph is now.
    fn cuGraphInstantiateWithFlags(out: Out<Handle>, graph: Handle, flags: u64) {
        out.check()?;
        context::current()?;
        if flags != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        let driver = driver();
        let nodes = Arc::new(Mutex::new(lock(&driver.graphs.get(graph)?.nodes).clone()));
        out.put(driver.executables.insert(Executable { graph, nodes }))
    }

    /// Tells a node what it launches from now on. The graph is still there, and the function is of
    /// the same device.
    fn cuGraphExecKernelNodeSetParams_v2(executable: Handle, node: Handle, params: In<Node>) {
        let driver = driver();
        let Executable { graph, nodes } = driver.executables.get(executable)?;
        driver.graphs.get(graph)?;
        // SAFETY: promised by the caller.
        let given = unsafe { params.first()?.given() }?;
        let mut nodes = lock(&nodes);
        let (_, place) = nodes.iter_mut().find(|(handle, _)| *handle == node).ok_or(Code::INVALID_VALUE)?;
        if place.device() != given.device() {
            note("a node of a graph got a kernel of another device".to_owned());
            return Err(Code::INVALID_VALUE);
        }
        *place = given;
        Ok(())
    }

    /// Enqueues the launches as they are now.
    fn cuGraphLaunch(executable: Handle, stream: Handle) {
        let nodes = lock(&driver().executables.get(executable)?.nodes).clone();
        nodes.iter().try_for_each(|(_, given)| given.enqueue(stream))
    }

    /// Destroys an executable graph. What was launched goes on.
    fn cuGraphExecDestroy(executable: Handle) {
        driver().executables.remove(executable).map(drop)
    }

    /// Destroys a graph; executable graphs made of it stay.
    fn cuGraphDestroy(graph: Handle) {
        driver().graphs.remove(graph).map(drop)
    }
}
