// R7: an arena counts without atomics, so that its memory stays on its thread.
// Instead: send memory of the default allocator, `Buffer<u32, Host>`.
use tidelock::{Buffer, Stack, location::Host};

fn to_another_thread<T: Send>(_: T) {}

pub fn hand_over(tokens: Buffer<u32, Host, &Stack<Host>>) {
    to_another_thread(tokens);
}

fn main() {}
