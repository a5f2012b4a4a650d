//! The main example's engine on the CUDA device, over the stand-in driver. There the token step is
//! a function of the host, and everything around it is what runs on a GPU.
#![cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};

use indicatif::ProgressBar;
use tidelock::cuda::{Batching, CopyKernels, Device};
use tidelock::{Ctx, Error, Result, Stack, cuda::Cuda};
use tidelock_test_support::stand_in::{self, Control, Launch};

use tidelock_continuous_batching::{
    cuda::{self, CudaModel, TokenStep},
    model::{Model, Sequences},
    oracle::{self, Digest},
    replay::Replay,
    schedule::{BLOCK_TOKENS, Peaks},
    workload::{Request, Sampling},
};
use tidelock_test_support::heap;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

const SEED: u64 = 3;
const MAX_BATCH: NonZeroU32 = NonZeroU32::new(8).unwrap();

/// The driver calls of an iteration, from one launch of the model to the next: the copies to the
/// host and the one wait. Then the temporaries are cleared, new rows are uploaded, the states are
/// re-packed, and the model is launched.
const ITERATION: [&str; 6] = ["cuLaunchKernel", BATCH, "cuStreamSynchronize", "cuMemsetD8Async", BATCH, BATCH];

/// The same on two streams: the copies to the host and their fence; a query whether the device
/// still works; the wait for the previous upload, the next upload in one piece, and its fence, whose
/// record is that of the transfer too; the transfers of the upload to the compute stream and of used
/// memory back; the wait for the tokens of the previous step, unless the query has seen them; and the
/// next step.
const ITERATION_ON_TWO: [&str; 12] = [
    "cuLaunchKernel",
    BATCH,
    "cuEventRecord",
    "cuEventQuery",
    "cuEventSynchronize",
    "cuMemcpyAsync",
    "cuEventRecord",
    "cuStreamWaitEvent",
    "cuEventRecord",
    "cuStreamWaitEvent",
    "cuEventSynchronize",
    BATCH,
];

const BATCH: &str = "cuMemcpyBatchAsync_v2";

/// With the copy kernels a batch is one launch or several, or a graph on an idle stream. This
/// bounds the calls of an iteration.
const MOST: usize = 8;
const MOST_ON_TWO: usize = 15;

/// The workload: requests that join, outgrow their blocks and leave at different times.
fn requests() -> Vec<Request> {
    let request =
        |id: u32| Request { id, arrival: f64::from(id) * 0.2, prompt: 20 + id * 37 % 170, generate: 3 + id * 5 % 40 };
    (0..40).map(request).collect()
}

fn replay(requests: &[Request]) -> Replay<'_> {
    Replay { requests, max_batch: MAX_BATCH, seed: SEED }
}

/// The stand-in with the token step registered, and a device on it.
fn open(settings: &[(&str, u64)], kernel: stand_in::Kernel) -> (Control, Device) {
    let control = stand_in::load();
    settings.iter().for_each(|&(name, value)| control.set(name, value));
    control.reset();
    // SAFETY: the functions use only the arrays that the kernel's parameters name, and catch
    // panics.
    unsafe { control.register(cuda::NAME, &cuda::PARAMETERS, kernel) };
    (control, Device::open(0).unwrap())
}

/// Replays the workload on `device`, with the model as `wrap` wraps it.
macro_rules! serve {
    ($device:expr, $driver_calls:expr, $wrap:expr) => {{
        let requests = requests();
        $device.stream(|stream, _env| {
            let kernel = TokenStep::load($device)?;
            let model = |ctx: &Ctx<'_, _>, peaks: &Peaks| Ok(($wrap)(CudaModel::new(ctx, &kernel, peaks.blocks)?));
            replay(&requests).run(stream, model, $driver_calls, &ProgressBar::hidden())
        })
    }};
    ($device:expr) => {
        serve!($device, || 0, |model| model)
    };
}

/// The same on two streams.
macro_rules! serve_on_two {
    ($device:expr, $driver_calls:expr, $wrap:expr) => {{
        let requests = requests();
        $device.stream(|upload, _env| {
            $device.stream(|compute, _env| {
                let kernel = TokenStep::load($device)?;
                let model = |ctx: &Ctx<'_, _>, peaks: &Peaks| Ok(($wrap)(CudaModel::new(ctx, &kernel, peaks.blocks)?));
                replay(&requests).run_on_two(&upload, &compute, model, $driver_calls, &ProgressBar::hidden())
            })
        })
    }};
}

/// A model that passes the batch to a function before it generates.
struct Before<'s, F> {
    model: CudaModel<'s>,
    look: F,
}

impl<'s, F> Model<Cuda<'s>> for Before<'s, F>
where
    F: FnMut(&mut Sequences<'_, Cuda<'s>>) -> Result<()>,
{
    fn generate(
        &mut self,
        ctx: &Ctx<'_, Cuda<'s>, &Stack<Cuda<'s>>>,
        mut batch: Sequences<'_, Cuda<'s>>,
    ) -> Result<()> {
        (self.look)(&mut batch)?;
        self.model.generate(ctx, batch)
    }
}

/// What the driver's log had of each iteration, and how many batches had one copy only.
#[derive(Default)]
struct Log {
    iterations: u64,
    batches: u64,
    single: u64,
}

impl Log {
    /// Takes the calls since the last launch of the model, and compares them with those of an
    /// iteration.
    ///
    /// # Errors
    ///
    /// None. The type is that of a function that is passed a batch.
    fn include(&mut self, control: &Control, expected: &[&str]) -> Result<()> {
        let calls = control.take_log();
        self.iterations += 1;
        // The first iterations create what the others use again, and one has the calls between the
        // warm-up and the workload.
        if self.iterations <= WARM_UP {
            return Ok(());
        }
        let iteration = self.iterations;
        let mut expected = expected.to_vec();
        let wait = expected.len() - 2;
        if calls.len() < expected.len() && expected[wait] == "cuEventSynchronize" {
            expected.remove(wait);
        }
        assert_eq!(calls.len(), expected.len(), "iteration {iteration}: {calls:?}");
        for (call, expected) in calls.iter().zip(expected) {
            // A batch of one copy is a plain copy.
            let is_single = expected == BATCH && call == "cuMemcpyAsync";
            assert!(is_single || call == expected, "iteration {iteration}: {calls:?}");
            self.batches += u64::from(expected == BATCH);
            self.single += u64::from(is_single);
        }
        Ok(())
    }

    /// Takes the calls since the last launch of the model. There are at most `most`, and launches
    /// of copies among them.
    ///
    /// # Errors
    ///
    /// None. The type is that of a function that is passed a batch.
    fn include_bounded(&mut self, control: &Control, most: usize) -> Result<()> {
        let calls = control.take_log();
        self.iterations += 1;
        if self.iterations <= WARM_UP {
            return Ok(());
        }
        assert!(calls.len() <= most, "iteration {}: {calls:?}", self.iterations);
        let count = |names: &[&str]| calls.iter().filter(|call| names.contains(&call.as_str())).count() as u64;
        assert_eq!(count(&[BATCH]), 0, "iteration {}: {calls:?}", self.iterations);
        let (launches, single) = (count(&["cuLaunchKernelEx", "cuGraphLaunch"]), count(&["cuMemcpyAsync"]));
        self.batches += launches + single;
        self.single += single;
        Ok(())
    }

    /// Asserts that there was something to compare: batches of one copy and of several.
    fn assert_compared(&self) {
        let Self { iterations, batches, single } = *self;
        assert!(iterations > 100 && 0 < single && single < batches, "{iterations}, {batches}, {single}");
    }
}

/// A closure that is passed the batches of any stream.
fn before<F: FnMut(&mut Sequences<'_, Cuda<'_>>) -> Result<()>>(look: F) -> F {
    look
}

#[test]
fn every_request_is_verified_with_six_driver_calls_and_no_heap_allocation_per_iteration() {
    let (control, device) = open(&[], token_step);
    let device = device.with_batching(Batching::Driver);
    // SAFETY: this is its type.
    let calls = unsafe { control.library().function::<unsafe extern "C" fn() -> u64>("tl_calls") };
    // SAFETY: it allocates nothing.
    let outcome = serve!(&device, || unsafe { calls() }, |model| model).unwrap().unwrap();
    assert_eq!((outcome.summary.verified, outcome.mismatches), (40, vec![]));
    assert_eq!(outcome.summary.driver_calls.to_string(), "6");
    assert_eq!(outcome.summary.heap_allocations.to_string(), "0");
    control.report().assert_clean();
}

#[test]
fn the_calls_of_an_iteration_are_these() {
    let (control, device) = open(&[], token_step);
    let device = device.with_batching(Batching::Driver);
    let mut log = Log::default();
    let look = before(|_| log.include(&control, &ITERATION));
    let outcome = serve!(&device, || 0, |model| Before { model, look }).unwrap().unwrap();
    assert_eq!(outcome.summary.verified, 40);
    log.assert_compared();
}

#[test]
fn on_two_streams_an_iteration_is_twelve_calls_at_most() {
    let (control, device) = open(&[], token_step);
    let device = device.with_batching(Batching::Driver);
    // SAFETY: this is its type.
    let calls = unsafe { control.library().function::<unsafe extern "C" fn() -> u64>("tl_calls") };
    // SAFETY: it allocates nothing.
    let outcome = serve_on_two!(&device, || unsafe { calls() }, |model| model).unwrap().unwrap().unwrap();
    assert_eq!((outcome.summary.verified, outcome.mismatches), (40, vec![]));
    let calls = outcome.summary.driver_calls.to_string();
    assert!(["11", "11 to 12", "12"].contains(&calls.as_str()), "{calls}");
    assert_eq!(outcome.summary.heap_allocations.to_string(), "0");
    control.report().assert_clean();
}

#[test]
fn the_calls_of_an_iteration_on_two_streams_are_these() {
    let (control, device) = open(&[], token_step);
    let device = device.with_batching(Batching::Driver);
    let mut log = Log::default();
    let look = before(|_| log.include(&control, &ITERATION_ON_TWO));
    let outcome = serve_on_two!(&device, || 0, |model| Before { model, look }).unwrap().unwrap().unwrap();
    assert_eq!(outcome.summary.verified, 40);
    log.assert_compared();
}

#[test]
fn with_copy_kernels_the_calls_of_an_iteration_are_bounded() {
    let (control, device) = open(&[], token_step);
    assert_eq!(device.copy_kernels(), CopyKernels::Loaded);
    let mut log = Log::default();
    let look = before(|_| log.include_bounded(&control, MOST));
    let outcome = serve!(&device, || 0, |model| Before { model, look }).unwrap().unwrap();
    assert_eq!((outcome.summary.verified, outcome.mismatches), (40, vec![]));
    log.assert_compared();
    control.report().assert_clean();
}

#[test]
fn with_copy_kernels_the_calls_of_an_iteration_on_two_streams_are_bounded() {
    let (control, device) = open(&[], token_step);
    let mut log = Log::default();
    let look = before(|_| log.include_bounded(&control, MOST_ON_TWO));
    let outcome = serve_on_two!(&device, || 0, |model| Before { model, look }).unwrap().unwrap().unwrap();
    assert_eq!((outcome.summary.verified, outcome.mismatches), (40, vec![]));
    log.assert_compared();
    control.report().assert_clean();
}

#[test]
fn with_copy_kernels_no_iteration_allocates_on_the_heap() {
    let (control, device) = open(&[], token_step);
    let summary = serve!(&device).unwrap().unwrap().summary;
    assert_eq!((summary.verified, summary.heap_allocations.to_string().as_str()), (40, "0"));
    let summary = serve_on_two!(&device, || 0, |model| model).unwrap().unwrap().unwrap().summary;
    assert_eq!((summary.verified, summary.heap_allocations.to_string().as_str()), (40, "0"));
    control.report().assert_clean();
}

#[test]
fn every_request_is_verified_whatever_the_driver_does() {
    let drivers: [(&[(&str, u64)], Batching); 7] = [
        (&[("seed", 1), ("delay", 300)], Batching::Auto),
        (&[("seed", 1), ("delay", 300)], Batching::Driver),
        (&[("pageable_synchronous", 1), ("stream_calls_need_context", 1)], Batching::Auto),
        (&[("pageable_synchronous", 1), ("stream_calls_need_context", 1)], Batching::Driver),
        // The copies go one by one.
        (&[("compute_major", 10)], Batching::Loop),
        // Before batches, and before the driver reports the parameters of a kernel.
        (&[("driver_version", 12_000)], Batching::Driver),
        (&[("driver_version", 12_080)], Batching::Driver),
    ];
    for (settings, batching) in drivers {
        let (control, device) = open(settings, token_step);
        let device = device.with_batching(batching);
        let outcome = serve!(&device).unwrap().unwrap();
        assert_eq!((outcome.summary.verified, outcome.mismatches), (40, vec![]), "{settings:?}");
        control.report().assert_clean();
    }
}

#[test]
fn a_kernel_that_forgets_a_key_is_noticed() {
    let (control, device) = open(&[], forgetful_step);
    let outcome = serve!(&device).unwrap().unwrap();
    assert!(outcome.summary.verified < 40 && !outcome.mismatches.is_empty());
    control.report().assert_clean();
}

#[test]
fn a_kernel_that_faults_ends_the_run_with_the_error() {
    let (_control, device) = open(&[], faulting_step);
    let error = serve!(&device).and_then(|outcome| outcome).unwrap_err();
    assert!(matches!(error, Error::Poisoned(error) if error.code.0 == ILLEGAL_ADDRESS), "{error:?}");
}

#[test]
fn a_batch_whose_columns_differ_in_length_is_refused() {
    let (control, device) = open(&[], token_step);
    let look = before(|batch| {
        let offsets = batch.offsets;
        batch.offsets = offsets.slice(..offsets.len() - 1)?;
        Ok(())
    });
    let answer = serve!(&device, || 0, |model| Before { model, look }).unwrap();
    // The warm-up has the largest number of rows.
    assert_eq!(answer.unwrap_err(), Error::Length { operand: "offsets", expected: 9, found: 8 });
    control.report().assert_clean();
}

const ILLEGAL_ADDRESS: u32 = 700;

#[test]
fn a_device_without_copy_kernels_is_worth_a_warning() {
    let (_control, _) = open(&[("compute_major", 7), ("compute_minor", 5)], token_step);
    // What the library measured of a device is kept. No other test uses this one.
    let warning = cuda::warning(&Device::open(1).unwrap());
    let expected =
        "without copy kernels, batches go the driver's way, which is slower: compute capability 7.5 is below 8.0";
    assert_eq!(warning.as_deref(), Some(expected));
}

/// Launches before the steady state: those of the engine's warm-up, and some of the workload's.
const WARM_UP: u64 = 24;

/// The kernel as a function of the host.
unsafe extern "C" fn token_step(launch: *const Launch) -> u32 {
    // SAFETY: the stand-in passes a launch.
    caught(unsafe { &*launch }, 0)
}

/// The same, but it never caches the last token's key.
unsafe extern "C" fn forgetful_step(launch: *const Launch) -> u32 {
    // SAFETY: the stand-in passes a launch.
    caught(unsafe { &*launch }, 1)
}

unsafe extern "C" fn faulting_step(_: *const Launch) -> u32 {
    ILLEGAL_ADDRESS
}

fn caught(launch: &Launch, forgotten: u32) -> u32 {
    let step = catch_unwind(AssertUnwindSafe(|| step(launch, forgotten)));
    step.ok().flatten().map_or(ILLEGAL_ADDRESS, |()| 0)
}

/// One row after the other. It returns `None` if a parameter is no array of its length.
fn step(launch: &Launch, forgotten: u32) -> Option<()> {
    let rows = launch.grid[0] as usize;
    // SAFETY: the kernel is registered with three parameters of four bytes from the ninth on.
    let [width, entries, blocks] = [9, 10, 11].map(|index| unsafe { launch.value::<u32>(index) } as usize);
    /// An array among the parameters.
    macro_rules! array {
        ($index:literal, $type:ty, $len:expr) => {
            // SAFETY: the parameter is the address of such elements, which the kernel may use.
            unsafe { launch.slice::<$type>($index, $len) }?
        };
    }
    let history = array!(0, u32, rows * width);
    let (lengths, cached) = (array!(1, u32, rows), array!(2, u32, rows));
    let (sampling, random) = (array!(3, Sampling, rows), array!(4, u64, rows));
    let (tables, offsets) = (array!(5, u32, entries), array!(6, u32, rows + 1));
    let (cache, tokens) = (array!(7, u32, blocks * BLOCK_TOKENS as usize), array!(8, u32, rows));
    for row in 0..rows {
        let table = &tables[offsets[row] as usize..offsets[row + 1] as usize];
        let at = |position: u32| {
            let block = table[(position / BLOCK_TOKENS) as usize];
            (block * BLOCK_TOKENS + position % BLOCK_TOKENS) as usize
        };
        let length = lengths[row];
        let history = &history[row * width..][..length as usize];
        for position in cached[row]..length - forgotten.min(length) {
            cache[at(position)] = oracle::key(history[position as usize], position);
        }
        let mut digest = Digest::default();
        for (&token, position) in history.iter().zip(0..) {
            digest.keys = digest.keys.wrapping_add(cache[at(position)]);
            digest.tokens = digest.tokens.wrapping_add(oracle::token_term(token));
        }
        random[row] = oracle::step_random(random[row]);
        tokens[row] = oracle::sample(digest, random[row], sampling[row], length);
        (cached[row], lengths[row]) = (length, length + 1);
    }
    Some(())
}
