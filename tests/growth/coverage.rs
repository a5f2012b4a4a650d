//! Compares the public functions that the loops call with the library's source.

use super::{crossings, cuda, lanes, operations, sim};
use tidelock_test_support::public_functions;

/// Values that only configure later calls, and are copied.
const CHOICES: &[&str] = &[
    "Indices::new",
    "Offsets::from_first",
    "Offsets::new",
    "Permutation::by_position",
    "Permutation::new",
    "Ctx::plain",
    "Ctx::pool",
    "Ctx::with_device_alloc",
    "Ctx::with_host_alloc",
    "Ctx::with_pinned_alloc",
    "Ctx::with_pool",
    "HasAlloc::handle",
    "Load::only",
    "Load::pinned_bytes",
    "Load::progress",
    "Load::threads",
    "PinnedAlloc::new",
    "Stream::ctx",
    "StreamOptions::max_deferred_frees",
    "StreamOptions::max_deferred_bytes",
    "StreamOptions::pool",
    "StreamOptions::priority",
    "StreamOptions::ring_bytes",
    "cuda::Device::with_batching",
    "cuda::Device::with_copy_tuning",
    "cuda::Grid::new",
    "cuda::Grid::over",
    "cuda::Grid::shared_bytes",
    "sim::Options::by_thread",
    "sim::Options::delay",
    "sim::Options::memory_limit",
    "sim::Options::race_detector",
    "sim::Options::ordinal",
    "sim::Options::poison",
    "sim::Options::quick",
    "sim::Options::seed",
];

/// Functions that return what exists already, or turn it into an error. They change nothing and
/// allocate nothing.
const ANSWERS: &[&str] = &[
    "AttachAlloc::attach",
    "AttachAlloc::base",
    "CrossAlloc::detach",
    "Device::leaked_bytes",
    "Shared::as_ptr",
    "Shared::is_empty",
    "Shared::len",
    "Shared::view",
    "cuda::ConsumerStream::from_raw",
    "cuda::Event::from_raw",
    "BatchCopy::stats",
    "Buffer::allocator",
    "Buffer::byte_len",
    "Buffer::is_empty",
    "Buffer::len",
    "Code::advice",
    "Code::is_sticky",
    "Code::name",
    "Ctx::device_ordinal",
    "Device::deferred_bytes",
    "DriverError::new",
    "DriverError::of_copy",
    "Error::named",
    "Lane::leaked_bytes",
    "OutOfRange::of",
    "PinnedPool::usage",
    "Rejected::into_error",
    "Stack::usage",
    "State::is_empty",
    "State::len",
    "Stream::leaked_bytes",
    "cuda::CudaStream::raw",
    "cuda::Device::compute_capability",
    "cuda::Device::copy_tuning",
    "cuda::Device::has_memory_pools",
    "cuda::Device::ordinal",
    "cuda::Function::params",
    "cuda::Function::raw",
    "cuda::Module::device",
    "sim::Counts::of",
    "sim::Counts::total",
    "sim::Device::gpu",
    "sim::Gpu::address",
    "sim::Gpu::calls_since_arming",
    "sim::Gpu::counts",
    "sim::Gpu::ordinal",
    "sim::Gpu::traffic",
    "sim::Report::is_clean",
    "sim::SimStream::gpu",
    "sim::SimStream::pool",
    "sim::SimStream::stream",
    "sim::Traffic::bytes",
    "sim::Use::read",
    "sim::Use::write",
];

/// They make the simulated GPU break its rules, for tests of its race detector.
const SABOTAGE: &[&str] = &["sim::Gpu::pretend", "sim::Gpu::sabotage"];

/// The sources of the loops.
const SOURCES: [&str; 5] = [
    include_str!("crossings.rs"),
    include_str!("cuda.rs"),
    include_str!("lanes.rs"),
    include_str!("operations.rs"),
    include_str!("sim.rs"),
];

/// Panics for a public function that is in no table, or that a table lists and no loop calls.
pub fn every_public_function_is_in_a_table() {
    let mut called: Vec<&str> = operations::COVERED.concat();
    called.extend(crossings::COVERED.iter().chain(lanes::COVERED).chain(sim::COVERED).chain(cuda::COVERED));
    let tables = [
        ("called", &called[..]),
        ("views", public_functions::VIEWS),
        ("choices", CHOICES),
        ("answers", ANSWERS),
        ("sabotage", SABOTAGE),
    ];
    public_functions::assert_in_one(&tables);
    for path in called {
        let name = path.rsplit("::").next().unwrap();
        // A value is dropped implicitly too.
        let is_called = |source: &str| source.contains(&format!("{name}(")) || source.contains(&format!("{name}::<"));
        assert!(name == "drop" || SOURCES.iter().any(|source| is_called(source)), "{path} is not called");
    }
}
