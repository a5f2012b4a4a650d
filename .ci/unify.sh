#!/usr/bin/env bash
# Checks that a program builds which uses this library and cudarc at once, whatever it asks cudarc for. Cargo gives both one
# cudarc with the features of both.
#
# A program of two lines is checked with cudarc alone and with this library beside it. Where it builds alone it must build
# beside; a combination that cudarc itself refuses is here to see that it is cudarc which refuses.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
version=$(sed -n 's/^cudarc = .*version = "\([^"]*\)", optional.*/\1/p' Cargo.toml)
program=$(mktemp -d)
trap 'rm -rf "$program"' EXIT
export CARGO_TARGET_DIR="$checkout/target/unify"

# The line that README shows, with a path in place of a version.
line=$(sed -n '/<!-- line: beside cudarc -->/,/```$/p' README.md | grep '^tidelock = ')
beside=$(echo "$line" | sed "s|version = \"[^\"]*\"|path = \"$checkout\"|")
defaults="tidelock = { path = \"$checkout\" }"

# What cudarc asks a toolkit for: its version, and where it links statically, libraries. Empty ones do for a check.
toolkit="$CARGO_TARGET_DIR/toolkit"
mkdir -p "$program/src" "$toolkit/present/lib" "$toolkit/absent"
cat >"$toolkit/present/nvcc" <<'NVCC'
#!/bin/sh
echo "nvcc: NVIDIA (R) Cuda compiler driver
Copyright (c) 2005-2025 NVIDIA Corporation
Built on Fri_Feb_21_20:23:50_PST_2025
Cuda compilation tools, release 12.8, V12.8.93"
NVCC
printf '#!/bin/sh\nexit 1\n' >"$toolkit/absent/nvcc"
chmod +x "$toolkit"/*/nvcc
for library in stdc++ cudart_static; do printf '!<arch>\n' >"$toolkit/present/lib/lib$library.a"; done

# check TOOLKIT CUDARC-FEATURES TIDELOCK-LINE: whether the program builds; what went wrong is in $program/log.
check() {
    cat >"$program/Cargo.toml" <<TOML
[package]
name = "unify"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
cudarc = { version = "$version", default-features = false, features = ["std", "driver"$2] }
$3
TOML
    cp Cargo.lock "$program/Cargo.lock"
    if [ -n "$3" ]; then
        cat >"$program/src/main.rs" <<'RUST'
use std::{error::Error, sync::Arc};
use cudarc::driver::CudaContext;
fn adopted(context: &Arc<CudaContext>) -> Result<tidelock::cuda::Device, Box<dyn Error>> {
    Ok(tidelock::cuda::Device::from_cudarc(context)?)
}
fn main() -> Result<(), Box<dyn Error>> {
    println!("{:?}", adopted(&CudaContext::new(0)?)?);
    Ok(())
}
RUST
    else
        echo 'fn main() { println!("{:?}", cudarc::driver::CudaContext::new(0)); }' >"$program/src/main.rs"
    fi
    (cd "$program" && CUDA_HOME="$toolkit/$1" PATH="$toolkit/$1:$PATH" cargo check --quiet) >"$program/log" 2>&1
}

fail() {
    echo "cudarc asked for$1: $2"
    cat "$program/log"
    exit 1
}

# combination TOOLKIT EXPECTED CUDARC-FEATURES TIDELOCK-LINE [DECLARATIONS]: EXPECTED is what both answer, or "one" where
# cudarc needs a loading feature that this library brings along. DECLARATIONS of that version are compared too.
combination() {
    local alone=no
    if [ "$2" != one ] && check "$1" "$3" ""; then alone=yes; fi
    local both=no
    if check "$1" "$3" "$4"; then both=yes; fi
    case "$2 $alone $both" in
    "yes yes yes" | "no no no" | "one no yes") ;;
    *) fail "$3" "alone it builds: $alone, beside this library: $both" ;;
    esac
    if [ "$2" = no ] && ! grep -qE '(custom build command for|could not compile) `cudarc' "$program/log"; then
        fail "$3" "it is not cudarc that refuses"
    fi
    if [ -n "${5:-}" ]; then
        (cd "$program" && CUDA_HOME="$toolkit/$1" cargo rustc --quiet -p tidelock --lib --profile check -- \
            --cfg tidelock_declarations --cfg "tidelock_declarations=\"$5\"") >"$program/log" 2>&1 ||
            fail "$3" "the declarations differ"
    fi
    printf '%4s s  %-3s %s\n' "$SECONDS" "$2" "$3"
}

candle=', "dynamic-linking", "cuda-version-from-build-system"'
combination present yes "$candle" "$beside"
combination present yes "$candle" "$defaults"
combination absent no ', "cuda-version-from-build-system"' "$beside"
combination absent yes ', "dynamic-loading", "cuda-version-from-build-system", "fallback-latest"' "$beside"
combination absent yes ', "dynamic-loading", "cuda-12000"' "$defaults"
combination present yes ', "static-linking", "cuda-12080"' "$beside" 12.8
combination absent no ', "static-linking", "cuda-12080"' "$beside"
combination absent yes ', "fallback-dynamic-loading", "cuda-11040"' "$beside"
combination absent yes ', "fallback-dynamic-loading", "cuda-11080"' "$beside"
combination absent yes ', "dynamic-loading", "cuda-13000"' "$beside" 13.0
combination absent one ', "cuda-13040"' "$beside" 13.0
