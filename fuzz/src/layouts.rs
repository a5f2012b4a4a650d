//! Layouts, against lists of all their offsets.

use tidelock::{AnyLayout, Error, layout::REST};

use super::Input;

/// The offsets of all elements, the last axis fastest.
struct Brute {
    shape: Vec<usize>,
    offsets: Vec<usize>,
}

/// The most elements that are listed.
const MOST: usize = 4096;

impl Brute {
    /// By the definition.
    fn of(shape: &[usize], stride: &[usize]) -> Brute {
        let mut offsets = if shape.contains(&0) { Vec::new() } else { vec![0] };
        for (&extent, &stride) in shape.iter().zip(stride) {
            offsets = offsets.iter().flat_map(|at| (0..extent).map(move |i| at + i * stride)).collect();
        }
        Brute { shape: shape.to_vec(), offsets }
    }

    /// The elements whose index `keep` keeps, as it changes it.
    fn pick(&self, shape: Vec<usize>, from: impl Fn(&[usize]) -> Vec<usize>) -> Brute {
        let mut offsets = Vec::new();
        for at in 0..shape.iter().product() {
            let index = from(&unravel(at, &shape));
            let flat = index.iter().zip(&self.shape).fold(0, |flat, (at, extent)| flat * extent + at);
            offsets.push(self.offsets[flat]);
        }
        Brute { shape, offsets }
    }
}

fn unravel(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, extent) in index.iter_mut().zip(shape).rev() {
        (*place, at) = (at % extent, at / extent);
    }
    index
}

/// A layout and what is done with it, read from the bytes.
pub fn run(input: &[u8]) -> String {
    let mut input = Input(input);
    let kind = input.byte();
    let shape: Vec<usize> = (0..kind % 10).map(|_| input.number() as usize).collect();
    let made = if kind < 100 {
        AnyLayout::new(&shape)
    } else {
        let stride: Vec<usize> = (0..kind % 10 + u8::from(kind == 255)).map(|_| input.number() as usize).collect();
        let made = AnyLayout::strided(&shape, &stride);
        assert_eq!(made.is_ok(), fits(&shape, &stride), "{shape:?} {stride:?}");
        made
    };
    let mut layout = match made {
        Ok(layout) => layout,
        Err(error) => return words(&error),
    };
    if layout.size() > MOST {
        return format!("{} axes, large", layout.axes());
    }
    let mut brute = Brute::of(layout.shape(), layout.stride());
    let (mut base, mut reached) = (0, format!("{}", layout.axes()));
    check(&layout, &brute, base);
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        let (done, name) = step(&mut input, layout, &brute);
        match done {
            Ok((next, more, found)) => {
                (layout, brute) = (next, found);
                // Without elements there is no place, and the offset is 0.
                base += more;
                reached += name;
                check(&layout, &brute, base);
            }
            Err(error) => reached += &format!(" !{name}{}", words(&error)),
        }
    }
    reached.chars().take(60).collect()
}

fn words(error: &Error) -> String {
    error.to_string().chars().filter(|c| !c.is_ascii_digit()).take(30).collect()
}

type Step = Result<(AnyLayout, usize, Brute), Error>;

/// One operation, of the layout and of the list.
fn step(input: &mut Input<'_>, layout: AnyLayout, brute: &Brute) -> (Step, &'static str) {
    let (operation, axis) = (input.byte() % 8, usize::from(input.byte() % 10));
    let rank = layout.axes();
    let done = |next: AnyLayout, more, brute| Ok((next, more, brute));
    match operation {
        0 => {
            let (from, to) = (input.number() as usize, input.number() as usize);
            let step = layout.slice(axis, from..to);
            assert_eq!(
                step.is_ok(),
                axis < rank && from <= to && to <= brute.shape[axis],
                "{layout} {axis} {from}..{to}"
            );
            let step = step.and_then(|(next, offset)| {
                let mut shape = brute.shape.clone();
                shape[axis] = to - from;
                let part = brute.pick(shape, |index| {
                    let mut index = index.to_vec();
                    index[axis] += from;
                    index
                });
                done(next, offset, part)
            });
            (step, "slice")
        }
        1 => {
            let place = input.number() as usize;
            let step = layout.select(axis, place);
            assert_eq!(step.is_ok(), axis < rank && place < brute.shape[axis], "{layout} {axis} {place}");
            let step = step.and_then(|(next, offset)| {
                let mut shape = brute.shape.clone();
                shape.remove(axis);
                let part = brute.pick(shape, |index| {
                    let mut index = index.to_vec();
                    index.insert(axis, place);
                    index
                });
                done(next, offset, part)
            });
            (step, "select")
        }
        2 => {
            let axes: Vec<usize> = (0..rank).map(|at| (usize::from(input.byte() % 16) + at) % (rank + 1)).collect();
            let mut sorted = axes.clone();
            sorted.sort_unstable();
            let step = layout.permute(&axes);
            assert_eq!(step.is_ok(), sorted.iter().copied().eq(0..rank), "{layout} {axes:?}");
            let step = step.and_then(|next| {
                let shape = axes.iter().map(|axis| brute.shape[*axis]).collect();
                let part = brute.pick(shape, |index| {
                    let mut from = vec![0; rank];
                    axes.iter().zip(index).for_each(|(axis, at)| from[*axis] = *at);
                    from
                });
                done(next, 0, part)
            });
            (step, "permute")
        }
        3 => {
            let other = usize::from(input.byte() % 10);
            let step = layout.transpose(axis, other);
            assert_eq!(step.is_ok(), axis < rank && other < rank);
            let step = step.and_then(|next| {
                let swapped = |index: &[usize]| {
                    let mut index = index.to_vec();
                    index.swap(axis, other);
                    index
                };
                done(next, 0, brute.pick(swapped(&brute.shape), swapped))
            });
            (step, "transpose")
        }
        4 => {
            let step = layout.squeeze(axis);
            assert_eq!(step.is_ok(), brute.shape.get(axis) == Some(&1));
            let step = step.and_then(|next| {
                let mut shape = brute.shape.clone();
                shape.remove(axis);
                done(next, 0, Brute { shape, offsets: brute.offsets.clone() })
            });
            (step, "squeeze")
        }
        5 => {
            let step = layout.unsqueeze(axis);
            assert_eq!(step.is_ok(), axis <= rank && rank < 8);
            let step = step.and_then(|next| {
                let mut shape = brute.shape.clone();
                shape.insert(axis, 1);
                done(next, 0, Brute { shape, offsets: brute.offsets.clone() })
            });
            (step, "unsqueeze")
        }
        6 => (done(layout.coalesce(), 0, coalesced(layout, brute)), "coalesce"),
        _ => (view(input, layout, brute), "view"),
    }
}

fn coalesced(layout: AnyLayout, brute: &Brute) -> Brute {
    let shape = layout.coalesce().shape().to_vec();
    assert!(!shape.contains(&1), "{layout}");
    Brute { shape, offsets: brute.offsets.clone() }
}

/// Another shape: there are strides if and only if those that the first places show are right.
fn view(input: &mut Input<'_>, layout: AnyLayout, brute: &Brute) -> Step {
    let wanted: Vec<usize> =
        (0..input.byte() % 9).map(|_| if input.byte() < 30 { REST } else { input.number() as usize }).collect();
    let answer = layout.view(&wanted);
    let size = brute.offsets.len();
    let known =
        wanted.iter().filter(|extent| **extent != REST).try_fold(1_usize, |all, extent| all.checked_mul(*extent));
    let shape: Option<Vec<usize>> = known.and_then(|known| {
        let rest = size.checked_div(known);
        let shape: Option<Vec<usize>> =
            wanted.iter().map(|extent| if *extent == REST { rest } else { Some(*extent) }).collect();
        let whole = wanted.iter().filter(|extent| **extent == REST).count() <= 1;
        shape.filter(|shape| whole && shape.iter().product::<usize>() == size)
    });
    let Some(shape) = shape else {
        assert!(answer.is_err(), "{layout} {wanted:?}");
        return Err(answer.unwrap_err());
    };
    let possible = size == 0 || {
        let mut below = size;
        let stride: Vec<usize> = shape
            .iter()
            .map(|extent| {
                below /= extent;
                if *extent == 1 { Some(0) } else { brute.offsets[below].checked_sub(brute.offsets[0]) }
                    .unwrap_or(usize::MAX)
            })
            .collect();
        let offset = |at| {
            unravel(at, &shape)
                .iter()
                .zip(&stride)
                .fold(0_usize, |all, (at, by)| all.wrapping_add(at.wrapping_mul(*by)))
        };
        (0..size).all(|at| offset(at).wrapping_add(brute.offsets[0]) == brute.offsets[at])
    };
    if size != 0 {
        assert_eq!(answer.is_ok(), possible, "{layout} {wanted:?}: {answer:?}");
    }
    let next = answer?;
    assert_eq!(next.shape(), shape, "{layout} {wanted:?}");
    Ok((next, 0, Brute { shape, offsets: brute.offsets.clone() }))
}

/// Whether a layout can be: in `u128`, with extents of 0 counted as 1.
fn fits(shape: &[usize], stride: &[usize]) -> bool {
    const MAX: u128 = isize::MAX as u128;
    let (mut size, mut last) = (1_u128, 0_u128);
    for (&extent, &stride) in shape.iter().zip(stride) {
        size = size.saturating_mul(extent.max(1) as u128);
        last = last.saturating_add((extent.max(1) as u128 - 1).saturating_mul(stride as u128));
    }
    let strides = stride.iter().all(|stride| *stride as u128 <= MAX);
    shape.len() == stride.len() && shape.len() <= 8 && size <= MAX && last < MAX && strides
}

/// What a layout says, against the list.
fn check(layout: &AnyLayout, brute: &Brute, base: usize) {
    let offsets: Vec<usize> = brute.offsets.iter().map(|at| at - base).collect();
    assert_eq!((layout.shape(), layout.size()), (&brute.shape[..], offsets.len()), "{layout}");
    for (at, offset) in offsets.iter().enumerate() {
        assert_eq!(layout.offset(&unravel(at, &brute.shape)), Ok(*offset), "{layout}");
    }
    assert_eq!(layout.cosize(), offsets.iter().max().map_or(0, |last| last + 1), "{layout}");
    assert_eq!(layout.is_contiguous(), offsets.iter().copied().eq(0..offsets.len()), "{layout}");
    assert_eq!(layout.contiguous("it").is_ok(), layout.is_contiguous());
    let mut sorted = offsets.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert!(!layout.is_injective() || sorted.len() == offsets.len(), "{layout}: not injective");
    assert!(AnyLayout::strided(layout.shape(), layout.stride()).is_ok(), "{layout}: not a layout");
    let places: Vec<usize> = layout.shape().to_vec();
    assert!(layout.offset(&places).is_err() || places.is_empty(), "{layout}");
    if let Ok(three) = layout.rank::<3>() {
        assert_eq!(
            (three.any(), three.cosize(), three.is_injective()),
            (*layout, layout.cosize(), layout.is_injective())
        );
    }
}
