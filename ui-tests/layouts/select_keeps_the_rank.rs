// R20: `select` gives a rank that is one less.
// Instead: `Layout<2>`, or `slice(0, i..=i)`, which keeps the axis.
use tidelock::{Layout, Result};

fn takes(_pages: Layout<3>) {}

pub fn page(pages: Layout<3>, i: usize) -> Result<()> {
    let (page, _) = pages.select(0, i)?;
    takes(page);
    Ok(())
}

fn main() {}
