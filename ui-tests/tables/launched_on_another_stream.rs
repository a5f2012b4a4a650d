// R1: a kernel reads tables of its own stream.
// Instead: make a table on a context of stream `B`, of views that are lent to it.
use tidelock::{Ctx, DeviceLocation, Result, View, driver::{HostFns, StreamOf}, stream::TableView};

pub fn read<A: DeviceLocation, B: DeviceLocation>(b: Ctx<'_, B>, table: TableView<'_, View<'_, u8, A>, A>) -> Result<()>
where
    StreamOf<B::Backend>: HostFns,
{
    b.launch((table,), |_| ())
}

fn main() {}
