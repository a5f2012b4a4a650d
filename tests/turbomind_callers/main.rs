//! Call sites of TurboMind in the spelling of this library, on the simulated device with the race
//! detector on, and on the stand-in driver. Each asserts its driver calls against what the C++
//! makes: never more. The C++ is lmdeploy's at 1263d5cd8, under `src/turbomind`.
#![cfg(feature = "sim")]
#![deny(unsafe_code)]

mod c14_output_logits;
mod overlap;
mod rows;
mod shared;
mod site;
mod staging;
#[cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "kernels of the stand-in driver")]
mod stand_in_site;
mod tables;
mod threads;

macro_rules! callers {
    ($($file:ident: $($name:ident)*;)*) => {
        mod simulated {
            use tidelock::sim;

            use crate::site::Simulated;

            $($(#[test]
            fn $name() {
                let device = sim::Device::new(sim::Options::default().race_detector(true));
                crate::$file::$name(&Simulated(device.clone()));
                device.gpu().check().unwrap();
                let report = device.gpu().report();
                assert!(report.is_clean(), "{report:?}");
            })*)*
        }

        #[cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]
        mod on_the_stand_in {
            use crate::stand_in_site::StandIn;

            $($(#[test]
            fn $name() {
                let site = StandIn::open();
                crate::$file::$name(&site);
                site.close();
            })*)*
        }
    };
}
callers! {
    c14_output_logits: logits_go_to_their_requests;
    overlap: c11_guided_decoding c22_both_ends_beside_the_middle c24_the_main_stream_rests_beside_a_long_kernel;
    shared: f2_produced_behind_the_batch f5_exported_memory_outlives_its_stream
        f10_parts_are_kept_with_the_sequence f11_weights_are_replaced f6_streams_in_objects;
    tables: c17_block_pointers f3_token_pointers_stay_in_the_module c12_borrowed_views
        c12_parts_kept_by_the_layer f1_flags_as_bytes;
    rows: c07_tokens_to_their_positions c07_prefixes_of_rows_of_a_free_list c08_embeddings_of_two_modules
        c20_cache_blocks_in_order c20_cache_blocks_of_all_layers f9_rows_to_write f12_columns
        warp_by_turbominds_numbers;
    staging: c06_setup_of_two_phases f7_fence_of_all_modules f4_outputs_in_pageable_memory;
    threads: c10_ten_buffers_cross_two_threads c10_each_way_is_a_record_and_a_wait;
}
