#!/usr/bin/env bash
# Compares licences, versions and sources of the dependencies with deny.toml, by cargo-deny.
# Arguments name other checks, such as `advisories`, which fetches a database from the network.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2 tools=$PWD/target/tools

# Built once, without optimisation: it runs for two seconds.
if ! "$tools/bin/cargo-deny" --version 2>/dev/null | grep -qxF "cargo-deny $version"; then
    cargo install --quiet --locked --debug --root "$tools" --target-dir "$tools/build" "cargo-deny@$version"
    rm -rf "$tools/build"
fi
[ $# -gt 0 ] || set -- licenses bans sources
"$tools/bin/cargo-deny" --workspace --locked check "$@"
