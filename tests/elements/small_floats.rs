//! Every pattern, and floats around every value, against `cuda_table.txt`, which CUDA's headers
//! write (`cuda_table.cpp`). And every other float against the list of values.

use std::collections::BTreeMap;

use tidelock::element::{f4e2m1x2, f6e2m3x4, f6e3m2x4, f8e4m3, f8e5m2, f8e8m0};

const TABLE: &str = include_str!("cuda_table.txt");

struct Format {
    name: &'static str,
    encode: fn(f32) -> u8,
    decode: fn(u8) -> f32,
}

const FORMATS: [Format; 6] = [
    Format { name: "f8e4m3", encode: |x| f8e4m3::from_f32(x).to_bits(), decode: |b| f8e4m3::from_bits(b).to_f32() },
    Format { name: "f8e5m2", encode: |x| f8e5m2::from_f32(x).to_bits(), decode: |b| f8e5m2::from_bits(b).to_f32() },
    Format { name: "f8e8m0", encode: |x| f8e8m0::from_f32(x).to_bits(), decode: |b| f8e8m0::from_bits(b).to_f32() },
    Format {
        name: "f6e2m3",
        encode: |x| f6e2m3x4::from_f32([x, 0.0, 0.0, 0.0]).to_bytes()[0] & 63,
        decode: |b| f6e2m3x4::from_bytes([b, 0, 0]).values()[0],
    },
    Format {
        name: "f6e3m2",
        encode: |x| f6e3m2x4::from_f32([x, 0.0, 0.0, 0.0]).to_bytes()[0] & 63,
        decode: |b| f6e3m2x4::from_bytes([b, 0, 0]).values()[0],
    },
    Format {
        name: "f4e2m1",
        encode: |x| f4e2m1x2::from_f32([x, 0.0]).to_bytes()[0] & 15,
        decode: |b| f4e2m1x2::from_bytes([b]).values()[0],
    },
];

/// The words behind each title of the table.
fn sections() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut sections: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut title = "";
    for line in TABLE.lines() {
        if line.starts_with("decode") || line.starts_with("encode") {
            title = line;
        } else {
            sections.entry(title).or_default().extend(line.split_whitespace());
        }
    }
    sections
}

fn hex(text: &str) -> u32 {
    u32::from_str_radix(text, 16).unwrap()
}

#[test]
fn every_pattern_has_the_value_of_cuda() {
    for Format { name, decode, .. } in FORMATS {
        let values = &sections()[format!("decode {name}").as_str()];
        assert!([16, 64, 256].contains(&values.len()));
        for (pattern, value) in (0..=255_u8).zip(values) {
            let (found, expected) = (decode(pattern), f32::from_bits(hex(value)));
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{name} {pattern:#x}: {found} {expected}"
            );
        }
    }
}

#[test]
fn floats_around_every_value_round_as_on_cuda() {
    for Format { name, encode, .. } in FORMATS {
        let pairs = &sections()[format!("encode {name}").as_str()];
        assert!(pairs.len() > 250, "{name}: {}", pairs.len());
        for pair in pairs {
            let (float, pattern) = pair.split_once(':').unwrap();
            let float = f32::from_bits(hex(float));
            assert_eq!(u32::from(encode(float)), hex(pattern), "{name} {float} ({:#x})", float.to_bits());
        }
    }
}

/// The pattern of the value of `of` that is nearest to a finite `x`, ties to the even pattern; the
/// sign stays.
fn nearest(of: &[(f64, u8)], x: f32, sign: u8) -> u8 {
    let magnitude = f64::from(x.abs());
    let distance = |value: f64| (value - magnitude).abs();
    let best = of.iter().min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)).then((a.1 & 1).cmp(&(b.1 & 1))));
    best.unwrap().1 | if x.is_sign_negative() { sign } else { 0 }
}

#[test]
fn all_other_floats_round_to_the_nearest_value() {
    let signs = [("f8e4m3", 0x80), ("f8e5m2", 0x80), ("f6e2m3", 0x20), ("f6e3m2", 0x20), ("f4e2m1", 8)];
    for (name, sign) in signs {
        let Format { encode, .. } = FORMATS.into_iter().find(|format| format.name == name).unwrap();
        let values = &sections()[format!("decode {name}").as_str()];
        let of: Vec<(f64, u8)> = (0..=255_u8)
            .zip(values)
            .map(|(pattern, value)| (f64::from(f32::from_bits(hex(value))), pattern))
            .filter(|(value, pattern): &(f64, u8)| value.is_finite() && pattern & sign == 0)
            .collect();
        // A stride that is prime, over the floats of this size, of both signs.
        for exponent in 100..=147_u32 {
            for bits in (exponent << 23..(exponent + 1) << 23).step_by(2_609) {
                for bits in [bits, bits | 1 << 31] {
                    let x = f32::from_bits(bits);
                    assert_eq!(encode(x), nearest(&of, x, sign), "{name} {x} ({bits:#x})");
                }
            }
        }
    }
}

#[test]
fn all_other_floats_round_up_to_a_power_of_two() {
    let Format { encode, .. } = FORMATS.into_iter().find(|format| format.name == "f8e8m0").unwrap();
    let values: Vec<f32> = sections()["decode f8e8m0"].iter().map(|value| f32::from_bits(hex(value))).collect();
    for bits in (0..0x7F80_0000_u32).step_by(6_101) {
        for bits in [bits, bits | 1 << 31] {
            let x = f32::from_bits(bits);
            let pattern = values.partition_point(|value| *value < x.abs()).min(254);
            assert_eq!(usize::from(encode(x)), pattern, "{x} ({bits:#x})");
        }
    }
}

#[test]
fn comparisons_are_those_of_the_values() {
    let nan = f8e4m3::from_f32(f32::NAN);
    assert!(nan != nan && nan.to_f32().is_nan());
    assert_eq!(f8e4m3::from_bits(0x80), f8e4m3::from_bits(0));
    assert!(f8e5m2::from_f32(-1.5) < f8e5m2::from_f32(0.25));
    assert_eq!(f8e4m3::from_f32(f32::INFINITY).to_f32(), 448.0);
    assert_eq!(f8e5m2::from_f32(f32::NEG_INFINITY).to_f32(), -57344.0);
    assert_eq!(f8e5m2::from_bits(0x7C).to_f32(), f32::INFINITY);
    assert_eq!(
        (format!("{}", f8e4m3::from_f32(1.3)), format!("{:?}", f8e8m0::from_f32(3.0))),
        ("1.25".into(), "4.0".into())
    );
}
