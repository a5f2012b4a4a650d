// R10: row numbers, resolvers and pieces of the pinned pool carry promises: what makes or ends them is unsafe to call.
// Instead: `Permutation` and batches by rows; `ctx.launch(..)`, whose closure sees slices; buffers of pinned memory.
use std::{alloc::Layout, ptr::{self, NonNull}};
use tidelock::driver::{Backend, HostFn, HostFns, In, InTable, Launch, Out, RawArg, RawArgs, Resolve, RowGather, RowGathers, SameAddress, Slot};

pub fn gathers(all: &[RowGather]) {
    let _ = RowGathers::new(all);
}

pub fn see<R: Resolve>(memory: &R) {
    let _ = SameAddress::new();
    let _ = In(ptr::without_provenance::<u32>(8), 1).see(memory, &mut ());
    let _ = (Out(ptr::without_provenance_mut::<u32>(8), 1),).see(memory, &mut ((),));
}

pub fn tables(slots: NonNull<Slot<()>>, lengths: NonNull<usize>) {
    let table = InTable::<u32, ()>::new(slots, lengths, ptr::null(), ptr::null(), 1);
    (table,).uses(|_| ());
}

pub fn run<S: HostFns>(raw: &S) {
    let _ = raw.launch(HostFn(|()| ()), ());
    let _ = raw.run(|_| Ok(()), |_| ());
}

pub fn give_back_twice<B: Backend>(layout: Layout) {
    let piece = B::PINNED.alloc(layout).unwrap();
    B::PINNED.dealloc(piece, layout);
}

fn main() {}
