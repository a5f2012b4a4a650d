#!/usr/bin/env bash
# Shows that a build without the `sim` feature has nothing of the simulated GPU in it: neither the crate among its
# dependencies nor a symbol of it in a static library. The same is looked for in a build with the feature, where it must be
# found: a search that finds nothing anywhere shows nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
crate=tidelock-simulator symbol=tidelock_simulator library=target/release/libtidelock.a

# How many lines of the dependency tree name the crate.
dependencies() {
    cargo tree --edges normal --prefix none --no-default-features --features "$1" | grep -c "^$crate " || true
}

# How many symbols of the linked library name the crate.
symbols() {
    cargo rustc --quiet --lib --release --no-default-features --features "$1" --crate-type staticlib
    nm "$library" 2>/dev/null | grep -c "$symbol" || true
}

fail() {
    echo "$1"
    exit 1
}

[ "$(dependencies cuda,sim)" -gt 0 ] || fail "$crate is not found among the dependencies with the feature sim"
[ "$(dependencies cuda)" -eq 0 ] || fail "$crate is a dependency without the feature sim"
with=$(symbols cuda,sim) without=$(symbols cuda)
rm -f "$library"
[ "$with" -gt 0 ] || fail "no symbol names $symbol with the feature sim"
[ "$without" -eq 0 ] || fail "$without symbols name $symbol without the feature sim"
echo "symbols of $crate: $with with the feature sim, none without"
