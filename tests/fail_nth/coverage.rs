//! Which public functions the fault sweeps cover, and why the others need none.

use tidelock_test_support::public_functions::{VIEWS, assert_in_one};

/// Swept with a failure at each driver call, on the simulated device here and on CUDA in
/// `stand_in_cuda/faults.rs`.
const BOTH: &[&str] = &[
    "Device::stream",
    "Device::stream_with",
    "Allocator::alloc",
    "Allocator::dealloc",
    "Allocator::shortage",
    "Batch::copy",
    "Batch::group",
    "BatchCopy::scope",
    "Buffer::drop",
    "Buffer::from_fn",
    "Buffer::from_fn_in",
    "Buffer::from_slice",
    "Buffer::from_slice_in",
    "Buffer::peek",
    "Buffer::peek_mut",
    "Buffer::reclaim",
    "Buffer::stage",
    "Buffer::uninit_in",
    "Buffer::write_with",
    "Buffer::zeros",
    "Buffer::zeros_in",
    "ClosureAlloc::new",
    "Ctx::attach",
    "Ctx::clear",
    "Ctx::copy",
    "Ctx::detach",
    "Ctx::alloc",
    "Ctx::empty_like",
    "Ctx::fence",
    "Ctx::init_from",
    "Ctx::lend",
    "Ctx::lend_mut",
    "Ctx::memory_info",
    "Ctx::alloc_pinned",
    "Ctx::transfer",
    "Ctx::upload",
    "Ctx::upload_new",
    "Ctx::init_zeros",
    "Ctx::zeros",
    "Detached::drop",
    "Detached::freeze",
    "DevicePermutation::upload",
    "Env::frozen",
    "Group::append",
    "Group::copy",
    "Group::copy_unmerged",
    "Group::warp",
    "Group::warp_by",
    "Group::warp_join",
    "Group::warp_join_by",
    "Group::warp_ragged",
    "HostScope::register",
    "HostScope::register_mut",
    "HostScope::source",
    "HostScope::target",
    "Pending::drop",
    "Pending::is_ready",
    "Pending::wait",
    "PinnedPool::drop",
    "PinnedPool::reserve",
    "PinnedPool::trim",
    "Stack::drop",
    "Stack::reset",
    "Stack::reserve",
    "Stack::shrink_to",
    "State::step",
    "State::zeros",
    "Stream::host_scope",
    "Stream::is_idle",
    "Stream::read",
    "Stream::synchronize",
    "Stream::trim",
    "StreamOptions::wait_for_memory",
    "StreamOptions::warm",
];

/// The same, on the simulated device.
const SIM: &[&str] = &[
    "Ctx::alloc_in",
    "Ctx::launch",
    "Env::source",
    "Env::target",
    "sim::Device::stream",
    "sim::Device::stream_with",
    "sim::SimStream::drop",
];

/// The same, on CUDA: `stand_in_cuda/faults.rs` and `stand_in_cuda/calibrating.rs`.
const CUDA: &[&str] = &[
    "Ctx::launch_kernel",
    "cuda::CudaStream::drop",
    "cuda::Device::calibrate",
    "cuda::Device::copy_kernels",
    "cuda::Device::count",
    "cuda::Device::from_cudarc",
    "cuda::Device::open",
    "cuda::Device::stream",
    "cuda::Device::stream_with",
    "cuda::Module::function",
    "cuda::Module::function_declared",
    "cuda::Module::load",
    "cuda::Module::load_image",
    "cuda::Module::unload",
];

/// One call of the simulated driver and nothing around it. These are the calls that fail.
const CALLS: &[&str] = &[
    "sim::Gpu::default_pool",
    "sim::Gpu::event_create",
    "sim::Gpu::event_destroy",
    "sim::Gpu::event_query",
    "sim::Gpu::event_record",
    "sim::Gpu::event_synchronize",
    "sim::Gpu::launch",
    "sim::Gpu::launch_using",
    "sim::Gpu::mem_alloc",
    "sim::Gpu::mem_alloc_async",
    "sim::Gpu::mem_free",
    "sim::Gpu::mem_free_async",
    "sim::Gpu::mem_get_info",
    "sim::Gpu::mem_host_alloc",
    "sim::Gpu::mem_host_free",
    "sim::Gpu::mem_host_register",
    "sim::Gpu::mem_host_unregister",
    "sim::Gpu::memcpy_async",
    "sim::Gpu::memcpy_batch_async",
    "sim::Gpu::memset_d8_async",
    "sim::Gpu::pool_create",
    "sim::Gpu::pool_destroy",
    "sim::Gpu::pool_set_threshold",
    "sim::Gpu::pool_trim_to",
    "sim::Gpu::pool_usage",
    "sim::Gpu::stream_create",
    "sim::Gpu::stream_destroy",
    "sim::Gpu::stream_priority",
    "sim::Gpu::stream_query",
    "sim::Gpu::stream_synchronize",
    "sim::Gpu::stream_wait_event",
];

/// No driver call: they return what the simulated driver does and has recorded.
const WATCHES: &[&str] = &[
    "sim::Counts::of",
    "sim::Counts::total",
    "sim::Gpu::address",
    "sim::Gpu::calls_since_arming",
    "sim::Gpu::check",
    "sim::Gpu::counts",
    "sim::Gpu::disarm",
    "sim::Gpu::fail",
    "sim::Gpu::fail_in_turn",
    "sim::Gpu::host_touches",
    "sim::Gpu::log",
    "sim::Gpu::new",
    "sim::Gpu::ordinal",
    "sim::Gpu::pretend",
    "sim::Gpu::report",
    "sim::Gpu::sabotage",
    "sim::Gpu::take_log",
    "sim::Gpu::traffic",
    "sim::Memory::resolve",
    "sim::Report::is_clean",
    "sim::Task::drop",
    "sim::Task::new",
    "sim::Task::new_unchecked",
    "sim::Traffic::bytes",
    "sim::Use::read",
    "sim::Use::write",
    "sim::pinned_counts",
    "sim::with_pinned_faults",
];

/// No driver call: they build values from their arguments.
const MAKES: &[&str] = &[
    "BatchCopy::new",
    "DriverError::new",
    "DriverError::of_copy",
    "Indices::new",
    "Offsets::from_first",
    "Offsets::new",
    "Permutation::new",
    "PinnedAlloc::new",
    "PinnedPool::new",
    "Stack::new",
    "Stack::with_align",
    "State::new",
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
    "sim::Device::new",
    "sim::Options::by_thread",
    "sim::Options::delay",
    "sim::Options::memory_limit",
    "sim::Options::race_detector",
    "sim::Options::ordinal",
    "sim::Options::poison",
    "sim::Options::quick",
    "sim::Options::seed",
];

/// No driver call: memory of the host's allocator, or of an owner that is no driver.
const HOST: &[&str] = &["Buffer::from_owner", "Ctx::alloc_host", "Owner::drop"];

/// No driver call: they read a value, slice a view, or take a value apart.
const LOOKS: &[&str] = &[
    "BatchCopy::stats",
    "Buffer::allocator",
    "Buffer::assume_init",
    "Buffer::byte_len",
    "Buffer::from_raw_owner",
    "Buffer::from_raw_parts",
    "Buffer::into_raw_parts",
    "Buffer::is_empty",
    "Buffer::len",
    "Code::advice",
    "Code::is_sticky",
    "Code::name",
    "Ctx::device_ordinal",
    "Ctx::pool",
    "Ctx::sync_alloc",
    "Ctx::with_device_alloc",
    "Ctx::with_pool",
    "Detached::is_empty",
    "Detached::len",
    "Error::named",
    "Frozen::is_empty",
    "Frozen::len",
    "HasAlloc::handle",
    "HostScope::ctx",
    "OutOfRange::of",
    "PinnedPool::usage",
    "RowNumbers::unchecked",
    "Stack::usage",
    "State::is_empty",
    "State::len",
    "Stream::ctx",
    "Stream::leaked_bytes",
    "cuda::Ctx::raw_stream",
    "cuda::CudaStream::raw",
    "cuda::Device::compute_capability",
    "cuda::Device::copy_tuning",
    "cuda::Device::has_memory_pools",
    "cuda::Device::ordinal",
    "cuda::Function::params",
    "cuda::Function::raw",
    "cuda::Module::device",
    "sim::Device::gpu",
    "sim::SimStream::gpu",
    "sim::SimStream::pool",
    "sim::SimStream::stream",
];

#[test]
fn every_public_function_is_swept_or_makes_no_driver_call() {
    assert_in_one(&[
        ("BOTH", BOTH),
        ("SIM", SIM),
        ("CUDA", CUDA),
        ("CALLS", CALLS),
        ("WATCHES", WATCHES),
        ("MAKES", MAKES),
        ("HOST", HOST),
        ("LOOKS", LOOKS),
        ("VIEWS", VIEWS),
    ]);
}

/// The programs of the sweep call what the tables list as swept. Drops and raw streams have no call
/// to search for.
#[test]
fn what_is_swept_is_called() {
    let sim =
        [include_str!("copies.rs"), include_str!("memory.rs"), include_str!("streams.rs"), include_str!("waits.rs")];
    let cuda = [include_str!("../stand_in_cuda/faults.rs"), include_str!("../stand_in_cuda/calibrating.rs")];
    for (tables, programs, of) in [([BOTH, SIM], &sim[..], "Sim"), ([BOTH, CUDA], &cuda[..], "CUDA")] {
        for path in tables.concat() {
            let name = path.rsplit("::").next().unwrap();
            let patterns =
                [".", "::"].map(|before| [format!("{before}{name}("), format!("{before}{name}::<")]).concat();
            let is_called = patterns.iter().any(|pattern| programs.iter().any(|program| program.contains(pattern)));
            let has_no_name = name == "drop" || path.contains("Queue::") || path == "ClosureAlloc::new";
            assert!(is_called || has_no_name, "{path} is not called on {of}");
        }
    }
}
