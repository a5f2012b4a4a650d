//! Random calls with at most one flaw each, and what the model predicts for those over rows of one
//! width.

use proptest::{collection::vec, prelude::*};
use tidelock::Error;

use super::{Numbered, Operands, Places, Predicted, Run, Source, numbers, places};

/// The flaw of a case, if any. There is one at a time, so that the model can predict the error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Flaw {
    None,
    /// An index exceeds the number of rows by this much.
    Index(u32),
    /// An operand has a row more or fewer than the permutation requires.
    First(bool),
    Second(bool),
    Dst(bool),
    SecondWidth,
    DstWidth,
    /// A table has an element more or fewer.
    Table(bool),
    Tokens(bool),
}

fn flaw() -> impl Strategy<Value = Flaw> {
    prop_oneof![
        8 => Just(Flaw::None),
        1 => (0..3_u32).prop_map(Flaw::Index),
        1 => any::<bool>().prop_map(Flaw::First),
        1 => any::<bool>().prop_map(Flaw::Second),
        1 => any::<bool>().prop_map(Flaw::Dst),
        1 => Just(Flaw::SecondWidth),
        1 => Just(Flaw::DstWidth),
        1 => any::<bool>().prop_map(Flaw::Table),
        1 => any::<bool>().prop_map(Flaw::Tokens),
    ]
}

/// `count`, or one more or fewer if `flaw` says so. A count of 0 only grows.
pub(super) fn flawed(count: usize, flaw: Option<bool>) -> usize {
    match flaw {
        None => count,
        Some(false) if count > 0 => count - 1,
        Some(_) => count + 1,
    }
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) places: Places,
    pub(super) old: usize,
    pub(super) joining: usize,
    pub(super) width: usize,
    pub(super) rows: Vec<u32>,
    pub(super) flaw: Flaw,
    pub(super) seed: u64,
}

prop_compose! {
    pub(super) fn case()(old in 0..7_usize, joining in 0..4_usize)(
        rows in if old + joining == 0 { vec(0..1_u32, 0..1) } else { vec(0..(old + joining) as u32, 0..9) },
        ascending in any::<bool>(),
        places in places(),
        width in 1..6_usize,
        flaw in flaw(),
        seed in any::<u64>(),
        old in Just(old),
        joining in Just(joining),
    ) -> Case {
        let mut rows = rows;
        if old + joining == 0 {
            rows.clear();
        }
        if ascending {
            // Neighbours that stay neighbours, so that copies merge.
            rows.sort_unstable();
            rows.dedup();
        }
        if let (Flaw::Index(by), Some(last)) = (flaw, rows.last_mut()) {
            *last = (old + joining) as u32 + by;
        }
        Case { places, old, joining, width, rows, flaw, seed }
    }
}

impl Case {
    pub(super) fn length(operand: &'static str, expected: usize, found: usize) -> Result<(), Error> {
        if expected == found { Ok(()) } else { Err(Error::Length { operand, expected, found }) }
    }

    /// The actual number of rows of the two sources and of the destination.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let by = |is: fn(Flaw) -> Option<bool>| is(self.flaw);
        (
            flawed(self.old, by(|flaw| if let Flaw::First(more) = flaw { Some(more) } else { None })),
            flawed(self.joining, by(|flaw| if let Flaw::Second(more) = flaw { Some(more) } else { None })),
            flawed(self.rows.len(), by(|flaw| if let Flaw::Dst(more) = flaw { Some(more) } else { None })),
        )
    }

    pub(super) fn table(&self, len: usize) -> usize {
        flawed(len, if let Flaw::Table(more) = self.flaw { Some(more) } else { None })
    }

    /// Returns an error for the first index that names no row.
    pub(super) fn check_indices(&self) -> Result<(), Error> {
        let bound = self.old + self.joining;
        match self.rows.iter().position(|row| *row as usize >= bound) {
            None => Ok(()),
            Some(position) => {
                let index = self.rows[position] as usize;
                Err(Error::Index { operand: "permutation", position, index, rows: bound })
            }
        }
    }

    pub(super) fn second_width(&self) -> usize {
        self.width + usize::from(self.flaw == Flaw::SecondWidth)
    }

    pub(super) fn dst_width(&self) -> usize {
        self.width + usize::from(self.flaw == Flaw::DstWidth)
    }

    /// The operands of the Warps over rows of one width.
    pub(super) fn operands<T: Numbered>(&self) -> Operands<T> {
        let (first, second, dst) = self.counts();
        Operands {
            places: self.places,
            first: numbers(1, first * self.width),
            second: numbers(100, second * self.second_width()),
            tokens: numbers(150, 1),
            dst: numbers(200, dst * self.dst_width()),
        }
    }

    pub(super) fn warp(&self) -> Predicted {
        let (first, _, dst) = self.counts();
        self.check_indices()?;
        Case::length("src", self.old, first)?;
        Case::length("dst", self.rows.len(), dst)?;
        Case::length("dst row", self.width, self.dst_width())?;
        let width = self.width;
        let stays = self.rows.iter().enumerate().filter(|(_, row)| (**row as usize) < self.old);
        Ok(stays
            .map(|(i, row)| Run { source: Source::First, from: *row as usize * width, to: i * width, len: width })
            .collect())
    }

    pub(super) fn warp_join(&self) -> Predicted {
        let (first, second, dst) = self.counts();
        self.check_indices()?;
        Case::length("src", self.old, first)?;
        Case::length("joining", self.joining, second)?;
        Case::length("dst", self.rows.len(), dst)?;
        Case::length("joining row", self.width, self.second_width())?;
        Case::length("dst row", self.width, self.dst_width())?;
        let width = self.width;
        let run = |(i, row): (usize, &u32)| {
            let row = *row as usize;
            let (source, row) = if row < self.old { (Source::First, row) } else { (Source::Second, row - self.old) };
            Run { source, from: row * width, to: i * width, len: width }
        };
        Ok(self.rows.iter().enumerate().map(run).collect())
    }
}
