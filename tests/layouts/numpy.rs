//! Every line of `numpy_table.txt`, which `numpy_table.py` writes.

use tidelock::{AnyLayout, Error};

const TABLE: &str = include_str!("numpy_table.txt");

fn numbers(text: &str) -> Vec<usize> {
    text.split(',').filter(|text| !text.is_empty()).map(|text| text.parse().unwrap()).collect()
}

/// Shape, strides and offset. NumPy gives an axis of extent 1 any stride.
fn shown(layout: AnyLayout, offset: usize) -> String {
    let list = |numbers: Vec<String>| numbers.join(",");
    let strides = layout.shape().iter().zip(layout.stride());
    let strides = strides.map(|(extent, stride)| if *extent == 1 { "_".into() } else { stride.to_string() });
    format!("{}; {}; {offset}", list(layout.shape().iter().map(usize::to_string).collect()), list(strides.collect()))
}

#[test]
fn every_operation_answers_what_numpy_answers() {
    let (mut lines, mut refused) = (0, 0);
    for line in TABLE.lines() {
        let fields: Vec<&str> = line.split(';').map(str::trim).collect();
        let [operation, shape, stride, arguments, answer @ ..] = fields.as_slice() else { panic!("{line}") };
        let layout = AnyLayout::strided(&numbers(shape), &numbers(stride)).unwrap();
        let arguments = numbers(arguments);
        let found = match (*operation, arguments.as_slice()) {
            ("slice", &[axis, start, end]) => layout.slice(axis, start..end),
            ("select", &[axis, place]) => layout.select(axis, place),
            ("permute", order) => layout.permute(order).map(|layout| (layout, 0)),
            ("view", shape) => layout.view(shape).map(|layout| (layout, 0)),
            ("contiguous", []) => {
                assert_eq!(layout.is_contiguous(), answer == ["1"], "{line}");
                Ok((layout, 0))
            }
            _ => panic!("{line}"),
        };
        lines += 1;
        match (answer, found) {
            (["1" | "0"], Ok(_)) => {}
            (["refused"], found) => {
                assert!(matches!(found, Err(Error::NotContiguous { .. })), "{line}: {found:?}");
                refused += 1;
            }
            (&[shape, stride, offset], Ok((layout, at))) => {
                let expected = AnyLayout::strided(&numbers(shape), &numbers(stride)).unwrap();
                assert_eq!(shown(layout, at), shown(expected, offset.parse().unwrap()), "{line}");
            }
            (_, found) => panic!("{line}: {found:?}"),
        }
    }
    assert_eq!((lines, refused > 20), (1000, true));
}
