//! The laws of the driver contract, as tests of a backend: what a program sees on every device.
//!
//! A backend's test binary has a function that calls a law with a device, and that checks
//! afterwards what the backend can check of itself: that nothing is left, for instance. [`laws!`]
//! expands to one `#[test]` for each law there, so that the names and the filters of the test
//! harness work. [`laws_of_two_devices!`] adds what takes two devices, for a backend that has them.
//! A function that has no device calls nothing.
//!
//! ```
//! use tidelock::sim::Device;
//!
//! fn on_one(law: impl FnOnce(&Device)) {
//!     law(&Device::default());
//! }
//!
//! fn on_two(law: impl FnOnce(&Device, &Device)) {
//!     law(&Device::default(), &Device::default());
//! }
//!
//! tidelock_contract_suite::laws!(on_one);
//! tidelock_contract_suite::laws_of_two_devices!(on_two);
//! ```
//!
//! The laws use the public interface of `tidelock` alone. They need no kernel: a backend whose
//! device launches nothing keeps all of them. The feature `cuda` adds the laws of kernels, for the
//! CUDA device alone.

pub mod batches;
pub mod copies;
#[cfg(all(feature = "cuda", unix))]
pub mod cuda;
pub mod devices;
pub mod host_fns;
pub mod lanes;
pub mod memory;
pub mod permutations;
pub mod resources;
pub mod scatters;
pub mod staging;
pub mod streams;
pub mod tensors;
#[cfg(all(feature = "cuda", unix))]
pub mod two_gpus;

use tidelock::{
    Ctx, Device, DeviceLocation, Stream,
    alloc::Allocator,
    stream::{AllocHandle, Env, On},
};
use tidelock_test_support::memory::{get, noise, put, staged};

/// Makes a `#[test]` of each law of one device. The argument is a function that takes `impl
/// FnOnce(&Device)`.
#[macro_export]
macro_rules! laws {
    ($on:path) => {
        $crate::laws!($on, copies: copies_carry_every_byte, copies_at_odd_addresses, a_fill_ends_where_it_should,
            uploads_read_the_slice_at_once, uploads_wrap_the_ring, borrowed_slices_go_both_ways, empty_operations_do_nothing,
            wrong_lengths_are_refused);
        $crate::laws!($on, staging: a_fence_gives_back_what_was_enqueued_before, many_fences_at_once,
            memory_is_looked_at_in_place, a_ring_of_pending_buffers, arriving_memory_is_waited_for_elsewhere,
            a_pending_buffer_is_awaited, closures_are_called_behind_what_was_enqueued);
        $crate::laws!($on, batches: a_batch_goes_all_ways_at_once, sources_in_host_memory_are_read_at_once, big_batches,
            batches_on_an_idle_stream, big_batches_from_the_host, neighbouring_allocations_are_not_merged,
            neighbouring_pieces_are_merged, large_copies_in_a_batch, a_batch_that_fails_copies_nothing);
        $crate::laws!($on, permutations: rows_change_places, states_share_their_numbers);
        $crate::laws!($on, tensors: tensors_of_any_layouts_are_copied, tensors_of_many_axes_and_runs,
            parts_of_tensors_are_lent, blocks_of_any_layouts_are_copied, blocks_of_many_layers_and_pools,
            blocks_that_are_refused, random_blocks, whole_blocks_go_to_the_host_and_back);
        $crate::laws!($on, scatters: rows_go_by_pairs, rows_change_places_in_one_buffer, columns_are_rows);
        $crate::laws!($on, resources: a_warm_stream_serves_from_the_first_call, registered_memory_goes_both_ways,
            uploads_of_many_pieces, hand_overs_to_another_thread_keep_their_events, an_arena_with_holes);
        $crate::laws!($on, memory: an_arena_is_used_again, pools_of_either_kind, trimming_keeps_what_lives,
            synchronous_memory, too_much_is_a_typed_error, memory_after_an_error, many_allocations_of_all_sizes,
            the_device_reports_its_memory);
        $crate::laws!($on, streams: nested_streams_keep_apart, memory_is_handed_over, memory_is_lent,
            detached_memory_travels, shared_memory_is_read_by_many, shared_memory_is_read_by_two_streams_at_once, streams_of_other_threads,
            foreign_memory_is_used_behind_a_foreign_event, priorities_of_any_size,
            an_idle_stream_says_so, the_time_between_two_points, a_panic_leaves_the_device_usable);
        $crate::laws!($on, lanes: a_lane_is_used_in_many_visits, two_threads_enter_one_lane_in_turn,
            memory_goes_from_lane_to_lane, what_a_visit_lends_is_back_at_its_end, lanes_with_arenas_end_anywhere);
    };
    ($on:path, $module:ident: $($law:ident),+) => {$(
        #[test]
        fn $law() {
            $on(|device| $crate::$module::$law(device));
        }
    )+};
}

/// Makes a `#[test]` of each law of a device whose streams run functions of the host. Some break
/// it. The argument is as that of [`laws`].
#[macro_export]
macro_rules! laws_of_host_fns {
    ($on:path) => {
        $crate::laws!($on, host_fns: a_payload_that_panics_when_dropped_goes_no_further,
            a_capture_that_panics_when_dropped_goes_no_further, a_kernel_that_drops_detached_memory_ends,
            a_kernel_that_drops_a_lane_ends,
            a_host_function_writes_its_outputs, an_output_that_is_not_written_breaks_the_device,
            lists_and_tables_are_slices, tensors_are_indexed);
    };
}

/// Makes a `#[test]` of each law of two devices. The argument is a function that takes
/// `impl FnOnce(&Device, &Device)`.
#[macro_export]
macro_rules! laws_of_two_devices {
    ($on:path) => {
        $crate::laws_of_two_devices!($on, two_devices_at_once, memory_of_another_device_is_refused,
            pinned_memory_goes_from_device_to_device, batches_on_nested_devices);
    };
    ($on:path, $($law:ident),+) => {$(
        #[test]
        fn $law() {
            $on(|one, two| $crate::devices::$law(one, two));
        }
    )+};
}

/// Opens a stream with the default options, which must work.
fn run<'env, D: Device, R>(
    device: &'env D,
    f: impl for<'s> FnOnce(Stream<On<'s, D::Backend>>, Env<'s, 'env, On<'s, D::Backend>>) -> R,
) -> R {
    device.stream(f).unwrap()
}

/// Allocates from `alloc`, and asserts that the memory holds what is written to it.
fn holds<L: DeviceLocation, X: Allocator<L> + AllocHandle>(ctx: &Ctx<'_, L>, alloc: X, values: &[u32]) {
    let ctx = ctx.with_device_alloc(alloc);
    let memory = ctx.init_from(ctx.alloc::<u32>(values.len()).unwrap(), staged(&ctx, values).view()).unwrap();
    assert_eq!(get(&ctx, memory.view()), values);
}

/// Makes a module `cuda_only` with the laws of kernels, of cudarc beside the library, and of a
/// device that breaks, and a module `two_gpus` with the laws of two GPUs. They run on the first
/// GPUs that the process finds, if there are any.
#[cfg(feature = "cuda")]
#[macro_export]
macro_rules! laws_of_cuda {
    () => {
        mod cuda_only {
            $crate::laws_of_cuda!(cuda: devices_are_distinguished_by_their_context, kernels_run_in_stream_order_on_memory_of_all_kinds, kernels_take_tensors, a_launch_needs_no_current_context, a_launch_that_does_not_fit_is_refused, ptx_that_does_not_compile_says_why, cudarc_launches_on_our_stream_and_memory, memory_that_waits_is_found, a_context_is_adopted_again_and_again, a_kernel_that_faults_poisons_and_nothing_hangs, a_loan_that_cannot_be_settled_aborts, breaks_a_device);
        }
        mod two_gpus {
            $crate::laws_of_cuda!(two_gpus: nested_streams_leave_the_current_context_as_it_was, the_outer_stream_may_be_of_the_second_gpu, both_gpus_work_at_the_same_time_on_threads_of_their_own, nothing_hangs_on_one_gpu_when_the_other_breaks, breaks_one_gpu);
        }
    };
    ($module:ident: $($law:ident),+) => {$(
        #[test]
        fn $law() {
            $crate::$module::$law();
        }
    )+};
}
