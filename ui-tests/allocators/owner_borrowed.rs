// R17: a buffer owns the owner of foreign memory, for as long as it likes.
// Instead: move the vector in: `Buffer::from_owner(tokens)`; to borrow, `View::from(&tokens[..])`.
use tidelock::Buffer;

fn main() {
    let mut tokens = vec![1_u32, 2];
    let mut buffer = Buffer::from_owner(&mut tokens[..]);
    buffer[0] = 3;
}
