//! Append.

use tidelock::{Error, Permutation, View, ViewMut, batch::Group, buffer::Offsets, sim::Sim, stream::BatchSource};

use super::{
    Call, Numbered, Operands, Part, Predicted, Run, Source,
    case::{Case, Flaw, flawed},
    check, numbers, start, width,
};

struct Append<'c> {
    case: &'c Case,
    sizes: Vec<u32>,
    second: Offsets<'c>,
    dst_width: usize,
    dst_sizes: Vec<u32>,
}

impl<T: Numbered> Call<T> for Append<'_> {
    fn add<'e, 's, S: BatchSource<Sim<'s>>, N: BatchSource<Sim<'s>>>(
        &mut self,
        group: &mut Group<'_, 'e, Sim<'s>>,
        first: View<'e, T, S>,
        second: View<'e, T, N>,
        tokens: View<'e, T, Sim<'s>>,
        dst: ViewMut<'e, T, Sim<'s>>,
    ) -> Result<(), Error>
    where
        Self: 'e,
    {
        let permutation = Permutation::new(&self.case.rows, self.case.old, self.case.joining)?;
        let joining = second.ragged(self.second)?;
        let (history, dst) = (first.rows(width(self.case.width))?, dst.rows(width(self.dst_width))?);
        group.append(history, &self.sizes, tokens, joining, permutation, dst, &mut self.dst_sizes)
    }
}

pub(super) fn append<T: Numbered>(case: &Case, lens: &[usize], part: Part, sizes: &[usize], dst_width: usize) {
    let (first, second, dst) = case.counts();
    let second = &lens[..second];
    let tokens = flawed(case.old, if let Flaw::Tokens(more) = case.flaw { Some(more) } else { None });
    let sizes = &sizes[..case.table(case.old)];
    let dst_sizes = flawed(case.rows.len(), (case.flaw == Flaw::DstWidth).then_some(true));
    let width = case.width;
    let predict = || -> Predicted {
        case.check_indices()?;
        Case::length("history", case.old, first)?;
        Case::length("sizes", case.old, sizes.len())?;
        Case::length("tokens", case.old, tokens)?;
        Case::length("joining", case.joining, second.len())?;
        Case::length("dst", case.rows.len(), dst)?;
        Case::length("dst_sizes", case.rows.len(), dst_sizes)?;
        let mut runs = Vec::new();
        for (i, row) in case.rows.iter().enumerate() {
            let (row, to) = (*row as usize, i * dst_width);
            let room = |found| Error::Room { operand: "dst", row: i, found, room: dst_width };
            if row < case.old {
                let size = sizes[row];
                if size > width {
                    return Err(Error::Room { operand: "history", row: i, found: size, room: width });
                }
                if size + 1 > dst_width {
                    return Err(room(size + 1));
                }
                runs.push(Run { source: Source::First, from: row * width, to, len: size });
                runs.push(Run { source: Source::Tokens, from: row, to: to + size, len: 1 });
            } else {
                let len = second[row - case.old];
                if len > dst_width {
                    return Err(room(len));
                }
                runs.push(Run { source: Source::Second, from: part.lead() + start(second, row - case.old), to, len });
            }
        }
        Ok(runs)
    };
    let predicted = predict();
    let operands = Operands::<T> {
        places: case.places,
        first: numbers(1, first * width),
        second: numbers(100, part.lead() + second.iter().sum::<usize>()),
        tokens: numbers(150, tokens),
        dst: numbers(200, dst * dst_width),
    };
    let sizes: Vec<u32> = sizes.iter().map(|size| *size as u32).collect();
    let table = part.table(second);
    let mut call =
        Append { case, sizes, second: part.of(&table, second.len()), dst_width, dst_sizes: vec![77; dst_sizes] };
    check(&operands, case.seed, &mut call, &predicted);
    let grown = |row: &u32| match (*row as usize).checked_sub(case.old) {
        None => call.sizes[*row as usize] + 1,
        Some(row) => second[row] as u32,
    };
    let expected = match &predicted {
        Err(_) => vec![77; dst_sizes],
        Ok(_) => case.rows.iter().map(grown).collect(),
    };
    assert_eq!(call.dst_sizes, expected);
}
