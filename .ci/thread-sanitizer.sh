#!/usr/bin/env bash
# Runs tests/thread_sanitizer/main.rs under ThreadSanitizer, whose runtime ships with the pinned toolchain.
# The test is compiled by hand: it needs nothing but the library, and the dependencies of the other tests take a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-gnu folder=target/tsan
# `std` comes without the sanitizer, which rustc is told to put up with; only the flags ask for the bootstrap variable.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer -Clink-arg=-rdynamic --cfg tidelock_tsan -Dwarnings"
cargo build --quiet --lib --no-default-features --features sim --target "$target" --target-dir "$folder"
libraries=$folder/$target/debug
# shellcheck disable=SC2086 # the flags are words
rustc --edition 2024 -g tests/thread_sanitizer/main.rs -o "$folder/thread_sanitizer" --target "$target" $RUSTFLAGS \
    --extern tidelock="$libraries/libtidelock.rlib" -L dependency="$libraries/deps" -L dependency="$folder/debug/deps"
TSAN_OPTIONS="suppressions=.ci/thread-sanitizer.supp" "$folder/thread_sanitizer"
