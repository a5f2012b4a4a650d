// R9: an element is plain bytes, and a pointer is more than its bytes.
// Instead: a table of addresses is a `Buffer<usize, L>` of `rows.as_ptr().expose_provenance()`.
use std::ptr::NonNull;
use tidelock::{Buffer, Result, location::Host};

pub fn table(rows: &[NonNull<i32>]) -> Result<Buffer<NonNull<i32>, Host>> {
    Buffer::from_slice(rows)
}

fn main() {}
