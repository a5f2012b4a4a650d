//! The three Warps.

use tidelock::{Error, Permutation, View, ViewMut, batch::Group, buffer::Offsets, sim::Sim, stream::BatchSource};

use super::{
    Call, Numbered, Operands, Part, Predicted, Run, Source, case::Case, check, numbers, offsets, start, width,
};

struct Warp<'c>(&'c Case);

impl<T: Numbered> Call<T> for Warp<'_> {
    fn add<'e, 's, S: BatchSource<Sim<'s>>, N: BatchSource<Sim<'s>>>(
        &mut self,
        group: &mut Group<'_, 'e, Sim<'s>>,
        first: View<'e, T, S>,
        _: View<'e, T, N>,
        _: View<'e, T, Sim<'s>>,
        dst: ViewMut<'e, T, Sim<'s>>,
    ) -> Result<(), Error>
    where
        Self: 'e,
    {
        let case = self.0;
        let permutation = Permutation::new(&case.rows, case.old, case.joining)?;
        group.warp(first.rows(width(case.width))?, permutation, dst.rows(width(case.dst_width()))?)
    }
}

struct WarpJoin<'c>(&'c Case);

impl<T: Numbered> Call<T> for WarpJoin<'_> {
    fn add<'e, 's, S: BatchSource<Sim<'s>>, N: BatchSource<Sim<'s>>>(
        &mut self,
        group: &mut Group<'_, 'e, Sim<'s>>,
        first: View<'e, T, S>,
        second: View<'e, T, N>,
        _: View<'e, T, Sim<'s>>,
        dst: ViewMut<'e, T, Sim<'s>>,
    ) -> Result<(), Error>
    where
        Self: 'e,
    {
        let case = self.0;
        let permutation = Permutation::new(&case.rows, case.old, case.joining)?;
        let (first, second) = (first.rows(width(case.width))?, second.rows(width(case.second_width()))?);
        group.warp_join(first, second, permutation, dst.rows(width(case.dst_width()))?)
    }
}

pub(super) fn warps<T: Numbered>(case: &Case) {
    check::<T, _>(&case.operands(), case.seed, &mut Warp(case), &case.warp());
    check::<T, _>(&case.operands(), case.seed, &mut WarpJoin(case), &case.warp_join());
}

struct Ragged<'c> {
    case: &'c Case,
    first: Offsets<'c>,
    second: Offsets<'c>,
    /// The output. The warp writes all of it or nothing.
    offsets: Vec<u32>,
}

impl<T: Numbered> Call<T> for Ragged<'_> {
    fn add<'e, 's, S: BatchSource<Sim<'s>>, N: BatchSource<Sim<'s>>>(
        &mut self,
        group: &mut Group<'_, 'e, Sim<'s>>,
        first: View<'e, T, S>,
        second: View<'e, T, N>,
        _: View<'e, T, Sim<'s>>,
        dst: ViewMut<'e, T, Sim<'s>>,
    ) -> Result<(), Error>
    where
        Self: 'e,
    {
        let permutation = Permutation::new(&self.case.rows, self.case.old, self.case.joining)?;
        let (first, second) = (first.ragged(self.first)?, second.ragged(self.second)?);
        let end = group.warp_ragged(first, second, permutation, dst, &mut self.offsets)?;
        assert_eq!(Some(&(end as u32)), self.offsets.last());
        Ok(())
    }
}

pub(super) fn ragged<T: Numbered>(case: &Case, lens: &[usize], parts: (Part, Part), slack: isize) {
    let (first, second, _) = case.counts();
    let (first, second) = (&lens[..first], &lens[first..first + second]);
    let len = |row: u32| match (row as usize).checked_sub(case.old) {
        None => first[row as usize],
        Some(row) => second[row],
    };
    let valid = case.check_indices().is_ok() && first.len() == case.old && second.len() == case.joining;
    let total: usize = if valid { case.rows.iter().map(|row| len(*row)).sum() } else { 40 };
    let room = total.saturating_add_signed(slack);
    let table = case.table(case.rows.len() + 1);
    let predict = || -> Predicted {
        case.check_indices()?;
        Case::length("src", case.old, first.len())?;
        Case::length("joining", case.joining, second.len())?;
        Case::length("offsets", case.rows.len() + 1, table)?;
        let (mut runs, mut to) = (Vec::new(), 0);
        for (i, row) in case.rows.iter().enumerate() {
            let len = len(*row);
            if to + len > room {
                return Err(Error::Room { operand: "dst", row: i, found: len, room: room - to });
            }
            let (source, from) = match (*row as usize).checked_sub(case.old) {
                None => (Source::First, parts.0.lead() + start(first, *row as usize)),
                Some(row) => (Source::Second, parts.1.lead() + start(second, row)),
            };
            runs.push(Run { source, from, to, len });
            to += len;
        }
        Ok(runs)
    };
    let predicted = predict();
    let operands = Operands::<T> {
        places: case.places,
        first: numbers(1, parts.0.lead() + first.iter().sum::<usize>()),
        second: numbers(100, parts.1.lead() + second.iter().sum::<usize>()),
        tokens: numbers(150, 1),
        dst: numbers(200, room),
    };
    let tables = (parts.0.table(first), parts.1.table(second));
    let (first, second) = (parts.0.of(&tables.0, first.len()), parts.1.of(&tables.1, second.len()));
    let mut call = Ragged { case, first, second, offsets: vec![77; table] };
    check(&operands, case.seed, &mut call, &predicted);
    let expected = match &predicted {
        Err(_) => vec![77; table],
        Ok(runs) => offsets(&runs.iter().map(|run| run.len).collect::<Vec<_>>()),
    };
    assert_eq!(call.offsets, expected);
}
