// R22: each destination row of a scatter is handed out once.
// Instead: `rows.reborrow().targets(&scatter)?`, and again once the first rows are used no more.
use tidelock::{DeviceLocation, Result, buffer::{RowsMut, Scatter}};

pub fn twice<L: DeviceLocation>(rows: RowsMut<'_, u32, L>, scatter: &Scatter) -> Result<usize> {
    let first = rows.targets(scatter)?;
    Ok(first.zip(rows.targets(scatter)?).count())
}

fn main() {}
