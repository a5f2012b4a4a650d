//! Shapes, and the layouts of strided.cu.

use core::mem::offset_of;

use tidelock_driver::{self as driver, Loops};

use super::{
    kernels::{Body, VARIANTS},
    layout::{Head, KEEP, Loop, Parameters, WIDE_NUMBERS},
    shape::Shape,
};

const SOURCE: &str = include_str!("../../kernels/strided.cu");

/// What `MACRO(TYPE, FIELD, BYTES);` or `MACRO(TYPE, BYTES);` says of a type.
fn said(name: &str, of: &str) -> Vec<&'static str> {
    let start = format!("{name}({of}, ");
    SOURCE.lines().filter_map(|line| line.strip_prefix(&start)?.strip_suffix(");")).collect()
}

macro_rules! fields {
    ($type:ident: $($field:ident)*) => {
        vec![$(format!("{}, {}", stringify!($field), offset_of!($type, $field))),*]
    };
}

#[test]
fn structures_have_the_same_fields_at_the_same_places() {
    let head = fields!(
        Head: src_pitch dst_pitch units tiles tiles_magic tiles_shift run run_magic run_shift how parts part_tiles
            part_magic part_shift
    );
    assert_eq!(
        (said("OFFSET", "StridedHead"), said("SIZE", "StridedHead")),
        (head.iter().map(String::as_str).collect(), vec!["64"])
    );
    let of_loop = fields!(Loop: src dst times magic shift);
    assert_eq!(
        (said("OFFSET", "Loop"), said("SIZE", "Loop")),
        (of_loop.iter().map(String::as_str).collect(), vec!["32"])
    );
    assert_eq!((size_of::<Head>(), size_of::<Loop>(), size_of::<Parameters>()), (64, 32, 20992));
    for (name, number) in [("WIDE_NUMBERS", WIDE_NUMBERS), ("KEEP", KEEP)] {
        assert!(SOURCE.contains(&format!("#define {name} {number}u ")), "{name}");
    }
}

#[test]
fn the_source_has_the_kernels() {
    for variant in VARIANTS {
        let (line, sizes) = match variant.body {
            Body::Strided { unit, loops } => (format!("(STRIDED, {unit}, "), format!(", {loops})")),
            Body::Turned { unit, together } => (format!("(TURNED, {unit}, "), format!(", {together})")),
        };
        let found = SOURCE.lines().find(|one| one.contains(&line) && one.ends_with(&sizes)).unwrap();
        let all: &[usize] = if found.starts_with("SIZES") { &[512, 2560, 20992] } else { &[512, 20992] };
        assert_eq!(variant.sizes, all, "{variant:?}");
        if let Body::Strided { .. } = variant.body {
            assert!(found.contains(&format!(", {}, ", variant.body.units())), "{found}");
        }
    }
    let kernels = SOURCE.lines().filter(|line| line.starts_with("SIZES(") || line.starts_with("BOTH("));
    assert_eq!(kernels.count(), VARIANTS.len());
}

fn loops(run: usize, all: &[(usize, usize, usize)]) -> Loops {
    let all: Vec<_> = all.iter().map(|&(times, src, dst)| driver::Loop { times, src, dst }).collect();
    Loops::new(run, &all).unwrap()
}

#[test]
fn the_largest_unit_is_copied() {
    let unit = |run: usize, stride: usize, address: usize| {
        let shape = Shape::of(&loops(run, &[(3, stride, stride)]), address, 0).unwrap();
        match shape.body {
            Body::Strided { unit, .. } => (unit, shape.units as usize * unit),
            Body::Turned { .. } => unreachable!(),
        }
    };
    assert_eq!(unit(256, 512, 1 << 20), (16, 768));
    assert_eq!((unit(256, 520, 0), unit(24, 512, 0), unit(256, 512, 8)), ((8, 768), (8, 72), (8, 768)));
    assert_eq!(
        (unit(4, 512, 0), unit(6, 512, 0), unit(7, 512, 0), unit(16, 512, 1)),
        ((4, 12), (2, 18), (1, 21), (1, 48))
    );
}

#[test]
fn what_is_near_comes_first() {
    // The source and the destination strides of the loops, the innermost first.
    let order = |all: &[(usize, usize, usize)]| {
        let shape = Shape::of(&loops(256, all), 0, 0).unwrap();
        let depth = all.len();
        shape.loops().iter().take(depth).map(|one| (one.src as usize, one.dst as usize)).collect::<Vec<_>>()
    };
    let (token, head, kv, layer) = (16, 8, 2, 32);
    // Tokens first at the source, heads first at the destination, and the other way round.
    assert_eq!(order(&[(head, 256, 4096), (token, 2048, 256)]), [(2048, 256), (256, 4096)]);
    assert_eq!(order(&[(token, 256, 2048), (head, 4096, 256)]), [(256, 2048), (4096, 256)]);
    // To universal: the tokens and heads of a layer lie near each other at the source.
    let universal = [(head, 256, 262_144), (layer, 1 << 28, 8192), (kv, 1 << 27, 4096), (token, 2048, 256)];
    assert_eq!(order(&universal), [(2048, 256), (256, 262_144), (1 << 27, 4096), (1 << 28, 8192)]);
    // A long loop along one side leaves the other in pieces.
    let long = [(100_000, 256, 4096), (16, 25_600_000, 256)];
    assert_eq!(order(&long), [(25_600_000, 256), (256, 4096)]);
    // A source that is read again and again is no place to go along.
    assert_eq!(order(&[(100, 0, 4096), (16, 512, 256)]), [(512, 256), (0, 4096)]);
}

#[test]
fn rectangles_are_turned() {
    let body = |unit: usize, (rows, columns): (usize, usize), address: usize| {
        let turned = loops(unit, &[(rows, unit, columns * unit), (columns, rows * unit, unit)]);
        let shape = Shape::of(&turned, address, 0).unwrap();
        (shape.body, shape.run, shape.units, shape.tiles)
    };
    let turned = |unit, together| Body::Turned { unit, together };
    assert_eq!(body(4, (64, 128), 0), (turned(4, 2), 2, 1, 2));
    assert_eq!(body(4, (65, 128), 0), (turned(4, 1), 4, 3, 12));
    assert_eq!(body(4, (64, 128), 4), (turned(4, 1), 4, 2, 8));
    assert_eq!(body(2, (130, 64), 0), (turned(2, 2), 1, 3, 3));
    assert_eq!(body(1, (128, 132), 0), (turned(1, 4), 2, 1, 2));
    assert_eq!(body(1, (128, 130), 0), (turned(1, 1), 5, 4, 20));
    assert_eq!(body(8, (64, 64), 0), (turned(8, 2), 1, 1, 1));
    assert!(matches!(body(4, (8, 128), 0).0, Body::Strided { .. }), "too narrow");
    assert!(matches!(body(16, (64, 64), 0).0, Body::Strided { .. }), "whole groups");
}

#[test]
fn what_no_kernel_takes() {
    let eight = loops(1, &[(2, 1 << 20, 1 << 20); 8]);
    assert!(Shape::of(&eight, 0, 0).is_none());
    assert!(Shape::of(&loops(1, &[(1 << 31, 3, 2)]), 0, 0).is_none());
    assert!(Shape::of(&loops(16, &[((1 << 31) - 1, 48, 32)]), 0, 0).is_some());
}
