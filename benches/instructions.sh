#!/usr/bin/env bash
# Counts the instructions that the fast paths of benches/instructions.rs execute in the release build, beside their
# raw-pointer twins, and fails if one is above its limit, or if a batch allocates on the heap when it is submitted again.
# Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=$(cargo bench --no-run --bench instructions --message-format=json 2>/dev/null |
    sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p')
out=$(mktemp)
trap 'rm -f "$out"*' EXIT

run() { # what
    valgrind --quiet --tool=callgrind --callgrind-out-file="$out-$1" --compress-strings=no "$binary" "--$1"
}
run all
run copies
run warp
run ragged
run table
"$binary" --steady

# Callgrind's format: an `fn=` line starts a function, cost lines are "line cost", a `calls=` line is followed by the cost of
# the callee, which is the function's own only where it is asked for with what it calls.
count() { # run name with-callees thousands-of-calls
    awk -v name="$2" -v all="$3" -v thousands="$4" '
        /^fn=/      { own = ($0 == "fn=" name) }
        /^calls=/   { skip = (all != "all"); next }
        skip        { skip = 0; next }
        own && /^[+*0-9-]/ { sum += $2 }
        END { printf "%.1f", sum / 1000 / thousands }' "$out-$1"
}

status=0
printf '%-40s %9s %9s %9s\n' "fast path" tidelock limit "raw twin"
while read -r label run name callees limit twin thousands; do
    thousands=${thousands:-1}
    ours=$(count "$run" "$name" "$callees" "$thousands")
    raw=–
    [ "$twin" = none ] || raw=$(count "$run" "$twin" "$callees" "$thousands")
    printf '%-40s %9s %9s %9s\n' "${label//_/ }" "$ours" "$limit" "$raw"
    awk -v ours="$ours" -v limit="$limit" 'BEGIN { exit !(ours > 0 && ours <= limit) }' || status=1
done <<'PATHS'
slice_a_view all slice_view own 8 slice_raw
slice_a_layout_of_three_axes all slice_layout own 46 slice_layout_raw
split_the_columns_of_a_tensor all split_columns own 45 none
a_view_as_a_tensor all tensor_of_view own 24 none
cast_of_static_rows all cast_view own 4 cast_raw
merging_copy_of_a_group all merge_group own 15 merge_raw
allocate_from_a_stack all alloc_stack own 20 alloc_raw
free_to_a_stack all free_stack own 18 free_raw
allocate_into_one_of_2000_holes all alloc_hole all 3300 none
leave_that_hole_again all free_hole all 2900 none
free_to_a_stack,_first_in_first_out all free_first all 720 none
derive_a_context all derive_ctx own 3 derive_raw
collect_a_copy_of_a_scattered_row all build_copies all 29 build_copies_raw
encode_it_for_the_copy_kernel copies tidelock::device::cuda::copy::encode::encode all 16 none
encode_one_where_lengths_differ ragged tidelock::device::cuda::copy::encode::encode all 43 none
encode_it_in_a_table table tidelock::device::cuda::copy::encode::encode all 63 none 8
collect_a_row_of_a_Warp all build_warp all 3 build_warp_raw
encode_it_for_the_copy_kernel warp tidelock::device::cuda::copy::encode::encode all 2.1 none
PATHS
[ "$status" -eq 0 ] || echo "a fast path is above its limit"
exit "$status"
