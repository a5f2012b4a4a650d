#!/usr/bin/env bash
# Counts the instructions that the fast paths of benches/instructions.rs execute in the release build, beside their
# raw-pointer twins, and fails if one is above its limit. Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=$(cargo bench --no-run --bench instructions --message-format=json 2>/dev/null |
    sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p')
out=$(mktemp)
trap 'rm -f "$out"' EXIT
valgrind --quiet --tool=callgrind --callgrind-out-file="$out" --compress-strings=no "$binary"

# Callgrind's format: an `fn=` line starts a function, cost lines are "line cost", a `calls=` line is followed by the cost of
# the callee, which is not the function's own.
count() { # name limit twin
    awk -v name="$1" '
        /^fn=/      { own = ($0 == "fn=" name) }
        /^calls=/   { skip = 1; next }
        skip        { skip = 0; next }
        own && /^[+*0-9-]/ { sum += $2 }
        END { printf "%.1f", sum / 1000 }' "$out"
}

status=0
printf '%-28s %9s %9s %9s\n' "fast path" tidelock limit "raw twin"
while read -r label name limit twin; do
    ours=$(count "$name")
    printf '%-28s %9s %9s %9s\n' "${label//_/ }" "$ours" "$limit" "$(count "$twin")"
    awk -v ours="$ours" -v limit="$limit" 'BEGIN { exit !(ours > 0 && ours <= limit) }' || status=1
done <<'PATHS'
slice_a_view slice_view 8 slice_raw
merging_copy_of_a_group merge_group 15 merge_raw
allocate_from_a_stack alloc_stack 20 alloc_raw
free_to_a_stack free_stack 18 free_raw
derive_a_context derive_ctx 3 derive_raw
PATHS
[ "$status" -eq 0 ] || echo "a fast path is above its limit"
exit "$status"
