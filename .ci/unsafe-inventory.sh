#!/usr/bin/env bash
# Counts `unsafe` per file of the library and compares with the pinned inventory. `--bless` rewrites the inventory.
# A change of the inventory is a change of the trusted base, and is reviewed as such.
set -euo pipefail
cd "$(dirname "$0")/.."

inventory() {
    git ls-files 'src/**.rs' 'crates/driver/src/**.rs' 'crates/simulator/src/**.rs' | grep -v '/tests' | sort -u | while read -r file; do
        # Code only: comments and attribute strings do not count.
        blocks=$(sed -e 's://.*$::' "$file" | grep -oE '\bunsafe[[:space:]]*(\{|fn|impl|trait|extern)' | wc -l || true)
        [ "$blocks" -eq 0 ] || printf '%4d %s\n' "$blocks" "$file"
    done
}

if [ "${1:-}" = --bless ]; then
    inventory >.ci/unsafe-inventory.txt
    exit 0
fi
if ! diff -u .ci/unsafe-inventory.txt <(inventory); then
    echo "the unsafe inventory has changed: review it, then run .ci/unsafe-inventory.sh --bless"
    exit 1
fi

# Every unsafe block and impl has its SAFETY comment: clippy holds that. Here: whatever has no unsafe code forbids it.
missing=$(comm -23 <(git ls-files 'src/**.rs' 'crates/driver/src/**.rs' 'crates/simulator/src/**.rs' | grep -v '/tests' | sort -u) <(awk '{print $2}' .ci/unsafe-inventory.txt | sort -u) |
    while read -r file; do
        grep -q 'forbid(unsafe_code)' "$file" || echo "$file"
    done)
# A module file cannot forbid what a child needs.
missing=$(for file in $missing; do
    folder=${file%/*}
    case ${file##*/} in
    mod.rs | lib.rs) grep -qF "$folder/" .ci/unsafe-inventory.txt && continue ;;
    *) grep -qF "${file%.rs}/" .ci/unsafe-inventory.txt && continue ;;
    esac
    echo "$file"
done)
if [ -n "$missing" ]; then
    echo "files without unsafe code that do not forbid it:" "$missing"
    exit 1
fi
