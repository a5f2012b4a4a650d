//! The laws, generic over the device.

pub mod batches;
pub mod copies;
pub mod memory;
pub mod permutations;
pub mod resources;
pub mod staging;
pub mod streams;

use tidelock::{
    Buffer, Ctx, DeviceLocation, Element, Result, Stream, View,
    alloc::Allocator,
    driver::Backend,
    stream::{Env, OnBackend, Staged, StreamOptions},
};

/// A device that streams can be opened on.
pub trait Open: Clone + Send + Sync {
    type Family: Backend;
    type At<'s>: DeviceLocation + OnBackend<Backend = Self::Family>;

    fn open<'env, R>(
        &'env self,
        options: &StreamOptions,
        f: impl for<'s> FnOnce(Stream<Self::At<'s>>, Env<'s, 'env, Self::At<'s>>) -> R,
    ) -> Result<R>;

    /// Opens a stream with the default options, which must work.
    fn run<'env, R>(&'env self, f: impl for<'s> FnOnce(Stream<Self::At<'s>>, Env<'s, 'env, Self::At<'s>>) -> R) -> R {
        self.open(&StreamOptions::default(), f).unwrap()
    }
}

macro_rules! open {
    ($device:ty, $backend:ty) => {
        impl Open for $device {
            type Family = $backend;
            type At<'s> = tidelock::stream::On<'s, $backend>;

            fn open<'env, R>(
                &'env self,
                options: &StreamOptions,
                f: impl for<'s> FnOnce(Stream<Self::At<'s>>, Env<'s, 'env, Self::At<'s>>) -> R,
            ) -> Result<R> {
                self.stream_with(options, f)
            }
        }
    };
}
open!(tidelock::sim::Device, tidelock::sim::SimBackend);
#[cfg(feature = "cuda-core")]
open!(tidelock::cuda::Device, tidelock::cuda::CudaBackend);

/// Makes a test of each law: `on` gives it two devices.
macro_rules! laws {
    ($on:ident) => {
        crate::contract::laws!($on:
            copies: copies_carry_every_byte, copies_at_odd_addresses, a_fill_ends_where_it_should, uploads_read_the_slice_at_once,
                uploads_wrap_the_ring, borrowed_slices_go_both_ways, empty_operations_do_nothing, wrong_lengths_are_refused;
            staging: a_fence_gives_back_what_was_enqueued_before, many_fences_at_once, memory_is_looked_at_in_place,
                a_ring_of_pending_buffers;
            batches: a_batch_goes_all_ways_at_once, sources_in_host_memory_are_read_at_once, big_batches, batches_on_an_idle_stream,
                big_batches_from_the_host,
                neighbouring_allocations_are_not_merged, neighbouring_pieces_are_merged, large_copies_in_a_batch,
                a_batch_that_fails_copies_nothing;
            permutations: rows_change_places, states_share_their_numbers;
            resources: a_warm_stream_serves_from_the_first_call, registered_memory_goes_both_ways, uploads_of_many_pieces,
                hand_overs_to_another_thread_keep_their_events, an_arena_with_holes;
            memory: an_arena_is_used_again, pools_of_either_kind, trimming_keeps_what_lives, synchronous_memory,
                too_much_is_a_typed_error, memory_after_an_error, many_allocations_of_all_sizes, the_device_tells_its_memory;
            streams: nested_streams_keep_apart, two_devices_at_once, memory_of_another_device_is_refused,
                pinned_memory_goes_from_device_to_device, batches_on_nested_devices, memory_is_handed_over, memory_is_lent,
                detached_memory_travels, frozen_memory_is_read_by_many, streams_of_other_threads, priorities_of_any_size,
                an_idle_stream_says_so, a_panic_leaves_the_device_usable
        );
    };
    ($on:ident: $($family:ident: $($law:ident),+);+) => {$($(
        #[test]
        fn $law() {
            $on(|one, two| crate::contract::$family::$law(one, two));
        }
    )+)+};
}
pub(crate) use laws;

/// `0, 1, 2, ..`, scrambled, so that neighbours differ in every byte.
pub fn noise(seed: u32, len: usize) -> Vec<u32> {
    (seed..).map(|i| i.wrapping_mul(0x9e37_79b9).rotate_left(13) ^ 0x5bd1_e995).take(len).collect()
}

/// Staged memory with `values`.
pub fn staged<L: DeviceLocation, T: Element, A>(ctx: &Ctx<'_, L, A>, values: &[T]) -> Buffer<T, Staged<L>> {
    Buffer::<T, L::Pinned>::from_slice(values).unwrap().stage(ctx)
}

/// Device memory from the stream's pool, with `values`.
pub fn put<L: DeviceLocation, T: Element, A: Copy>(ctx: &Ctx<'_, L, A>, values: &[T]) -> Buffer<T, L> {
    let empty = ctx.with_pool().alloc::<T>(values.len()).unwrap();
    ctx.init_from(empty, staged(ctx, values).view()).unwrap()
}

/// What device memory holds once the stream has passed everything enqueued.
pub fn get<L: DeviceLocation, T: Element, A: Copy>(ctx: &Ctx<'_, L, A>, view: View<'_, T, L>) -> Vec<T> {
    let out = ctx.init_from(ctx.alloc_pinned::<T>(view.len()).unwrap().stage(ctx), view).unwrap();
    ctx.fence(out).unwrap().wait().unwrap().to_vec()
}

/// Takes memory of `alloc`, and sees that it holds what is written to it.
pub fn holds<L: DeviceLocation, X: Allocator<L> + Copy>(ctx: &Ctx<'_, L>, alloc: X, values: &[u32]) {
    let ctx = ctx.with_device_alloc(alloc);
    let memory = ctx.init_from(ctx.alloc::<u32>(values.len()).unwrap(), staged(&ctx, values).view()).unwrap();
    assert_eq!(get(&ctx, memory.view()), values);
}
