//! Where the callers run: a device, the calls that its driver gets, and kernels of numbers.

#![forbid(unsafe_code)]

use std::{fmt, sync::atomic::AtomicBool};

use tidelock::{
    Ctx, Device, Result, Stream, View, ViewMut,
    driver::{Backend, RawDevice},
    sim,
    stream::{Entry, On, StreamOptions, TableView},
};

/// The memory of a stream of site `S`.
pub type At<'s, S> = On<'s, <S as Site>::Family>;

/// A kernel: the slices that it reads, and those that it writes.
pub type Kernel<const N: usize, const M: usize> = fn([&[i32]; N], [&mut [i32]; M]);

/// A kernel that reads the targets of a table.
pub type TableKernel = fn(&[&[i32]], &mut [i32]);

/// A device whose calls are counted.
pub trait Site: Sync {
    /// The family of devices.
    type Family: Backend<Device = Self::Device>;
    /// The device.
    type Device: RawDevice<Backend = Self::Family>;

    fn device(&self) -> &Self::Device;

    /// What a kernel of this site waits for. One test uses it.
    fn gate() -> &'static AtomicBool;

    /// Runs `f`, and says which calls it made.
    fn calls_of<R>(&self, f: impl FnOnce() -> R) -> (R, Calls);

    /// Enqueues `kernel`. One driver call.
    fn launch<'s, const N: usize, const M: usize>(
        &self,
        ctx: &Ctx<'_, At<'s, Self>, impl Copy>,
        inputs: [View<'_, i32, At<'s, Self>>; N],
        outputs: [ViewMut<'_, i32, At<'s, Self>>; M],
        kernel: Kernel<N, M>,
    ) -> Result<()>;

    /// Enqueues `kernel`. One driver call.
    fn launch_table<'s, E: Entry<At<'s, Self>, Element = i32, Payload = ()>>(
        &self,
        ctx: &Ctx<'_, At<'s, Self>, impl Copy>,
        table: TableView<'_, E, At<'s, Self>>,
        output: ViewMut<'_, i32, At<'s, Self>>,
        kernel: TableKernel,
    ) -> Result<()>;

    /// Runs `f` with a stream as an engine opens it: what the first use acquires is acquired.
    fn stream<R>(&self, f: impl for<'s> FnOnce(Stream<At<'s, Self>>) -> Result<R>) -> Result<R> {
        self.device().stream_with(&warm(), |stream, _env| f(stream)).and_then(|answer| answer)
    }

    /// Runs `f` with two streams.
    fn streams<R>(
        &self,
        f: impl for<'s, 't> FnOnce(Stream<At<'s, Self>>, Stream<At<'t, Self>>) -> Result<R>,
    ) -> Result<R> {
        self.stream(|one| self.stream(|two| f(one, two)))
    }
}

pub fn warm() -> StreamOptions {
    StreamOptions::default().warm(true)
}

/// Driver calls by what they do, whatever the backend's name for them, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Calls(Vec<String>);

impl Calls {
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Calls {
        let mut calls: Vec<_> = names.into_iter().filter_map(kind).map(str::to_owned).collect();
        calls.sort_unstable();
        Calls(calls)
    }

    /// How many there are of a kind.
    pub fn of(&self, kind: &str) -> usize {
        self.0.iter().filter(|call| *call == kind).count()
    }

    pub fn total(&self) -> usize {
        self.0.len()
    }

    /// Panics if these are not the calls of `kinds`, which are separated by spaces, in any order.
    #[track_caller]
    pub fn expect(&self, kinds: &str) {
        let mut expected: Vec<_> = kinds.split_whitespace().collect();
        expected.sort_unstable();
        assert_eq!(self.0, expected);
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// What a call of the driver does.
fn kind(name: &str) -> Option<&str> {
    Some(match name.split(' ').next().unwrap_or_default() {
        "cuEventRecord" => "record",
        "cuStreamWaitEvent" => "wait",
        "cuEventSynchronize" | "cuStreamSynchronize" => "host-waits",
        "cuEventQuery" | "cuStreamQuery" => "query",
        // A batch is one of these. On an idle stream it is a graph, whose parameters are set by a
        // call that reaches no stream.
        "cuMemcpyAsync" | "cuMemcpyBatchAsync" | "cuLaunchKernelEx" | "cuGraphLaunch" => "copy",
        "cuGraphExecKernelNodeSetParams_v2" => return None,
        "cuMemsetD8Async" => "fill",
        "cuLaunchKernel" => "launch",
        "cuMemAllocFromPoolAsync" => "alloc",
        "cuMemFreeAsync" => "free",
        other => other,
    })
}

/// The simulated device.
pub struct Simulated(pub sim::Device);

impl Site for Simulated {
    type Family = sim::SimBackend;
    type Device = sim::Device;

    fn device(&self) -> &sim::Device {
        &self.0
    }

    fn gate() -> &'static AtomicBool {
        static GATE: AtomicBool = AtomicBool::new(true);
        &GATE
    }

    fn calls_of<R>(&self, f: impl FnOnce() -> R) -> (R, Calls) {
        let before = self.0.gpu().counts();
        let answer = f();
        let after = self.0.gpu().counts();
        let made = sim::Call::ALL.iter().flat_map(|&call| {
            let times = after.of(call) - before.of(call);
            (0..times).map(move |_| call.name())
        });
        (answer, Calls::new(made))
    }

    fn launch<'s, const N: usize, const M: usize>(
        &self,
        ctx: &Ctx<'_, At<'s, Self>, impl Copy>,
        inputs: [View<'_, i32, At<'s, Self>>; N],
        outputs: [ViewMut<'_, i32, At<'s, Self>>; M],
        kernel: Kernel<N, M>,
    ) -> Result<()> {
        ctx.launch((inputs, outputs), move |(inputs, outputs)| kernel(inputs, outputs))
    }

    fn launch_table<'s, E: Entry<At<'s, Self>, Element = i32, Payload = ()>>(
        &self,
        ctx: &Ctx<'_, At<'s, Self>, impl Copy>,
        table: TableView<'_, E, At<'s, Self>>,
        output: ViewMut<'_, i32, At<'s, Self>>,
        kernel: TableKernel,
    ) -> Result<()> {
        ctx.launch((table, output), move |(table, output)| kernel(table, output))
    }
}
