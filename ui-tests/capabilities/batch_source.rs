// R3: a batch reads pinned memory only after it was handed to the stream.
// Instead: `tokens.stage(&ctx)`.
use tidelock::{DeviceLocation, Result, View, ViewMut, batch::Batch, location::Pinned};

pub fn send<'env, L: DeviceLocation>(
    batch: &mut Batch<'_, 'env, L>,
    tokens: View<'env, u32, Pinned<L::Backend>>,
    device: ViewMut<'env, u32, L>,
) -> Result<()> {
    batch.copy(tokens, device)
}

fn main() {}
