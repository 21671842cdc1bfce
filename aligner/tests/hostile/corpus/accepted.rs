//! Unusual files that are legal, or whose meaning is beyond doubt: they have to be read, and right.

use super::{Case, Expect, counting};
use crate::nifti_file::{File, gzip};

type Change = fn(&mut File);
type Values = fn() -> Vec<f64>;

/// Kind, change to a good file, values of all voxels.
const VALUES: &[(&str, Change, Values)] = &[
    ("as it is", |_| (), counting),
    (
        "voxels from byte 416, no extension",
        |f| {
            f.f32(108, 416.0);
            f.header.resize(416, 0xAA);
        },
        counting,
    ),
    (
        "voxels from byte 512, junk before",
        |f| {
            f.f32(108, 512.0);
            f.header.resize(512, 0x7F);
        },
        counting,
    ),
    ("an extension", |f| extension(f, 16, 16), counting),
    ("an extension of size 0", |f| extension(f, 0, 16), counting),
    (
        "an extension of negative size",
        |f| extension(f, -16, 16),
        counting,
    ),
    (
        "an extension larger than its room",
        |f| extension(f, 1 << 30, 16),
        counting,
    ),
    (
        "an extension over the voxels",
        |f| extension(f, 32, 16),
        counting,
    ),
    (
        "slope 0.5, intercept 10",
        |f| scale(f, 0.5, 10.0),
        || counting().iter().map(|v| 0.5 * v + 10.0).collect(),
    ),
    (
        "slope negative",
        |f| scale(f, -1.0, 0.0),
        || counting().iter().map(|v| -v).collect(),
    ),
    ("slope 0, intercept 10", |f| scale(f, 0.0, 10.0), counting),
    ("slope NaN", |f| scale(f, f32::NAN, 10.0), counting),
    ("slope infinite", |f| scale(f, f32::INFINITY, 0.0), counting),
    ("intercept NaN", |f| scale(f, 2.0, f32::NAN), counting),
    ("rank 1", |f| sizes(f, &[24]), counting),
    ("rank 2", |f| sizes(f, &[6, 4]), counting),
    (
        "rank 4 with one frame",
        |f| sizes(f, &[3, 4, 2, 1]),
        counting,
    ),
    (
        "rank 7 of ones",
        |f| sizes(f, &[3, 4, 2, 1, 1, 1, 1]),
        counting,
    ),
    ("two frames", |f| sizes(f, &[3, 4, 1, 2]), counting),
    (
        "frames in the sixth dimension",
        |f| sizes(f, &[3, 2, 2, 1, 1, 2]),
        counting,
    ),
    (
        "junk in unused dimensions",
        |f| (4..8).for_each(|k| void(f.i16(40 + 2 * k, -7))),
        counting,
    ),
    (
        "qfac 0",
        |f| {
            qform(f);
            f.f32(76, 0.0);
        },
        counting,
    ),
    (
        "qfac 7",
        |f| {
            qform(f);
            f.f32(76, 7.0);
        },
        counting,
    ),
    (
        "qfac NaN",
        |f| {
            qform(f);
            f.f32(76, f32::NAN);
        },
        counting,
    ),
    ("qform alone", qform, counting),
    (
        "qform of half a turn, a little too long",
        |f| {
            qform(f);
            f.f32(264, 1.000_000_2);
        },
        counting,
    ),
    (
        "sform alone, voxel sizes 0",
        |f| (1..4).for_each(|k| void(f.f32(76 + 4 * k, 0.0))),
        counting,
    ),
    (
        "sform alone, voxel sizes negative",
        |f| (1..4).for_each(|k| void(f.f32(76 + 4 * k, -0.5))),
        counting,
    ),
    (
        "sform with a reflection",
        |f| void(f.f32(280, -0.5)),
        counting,
    ),
    ("sform with shear", |f| void(f.f32(284, 0.1)), counting),
    ("unit and time", |f| f.header[123] = 2 | 8, counting),
    ("micrometres", |f| f.header[123] = 3, counting),
    ("metres", |f| f.header[123] = 1, counting),
    ("no unit", |f| f.header[123] = 0, counting),
    (
        "description without an end",
        |f| f.header[148..228].fill(b'x'),
        counting,
    ),
    (
        "description that is no text",
        |f| f.header[148..228].fill(0xFF),
        counting,
    ),
    (
        "intent of vectors on a scalar",
        |f| void(f.i16(68, 1007)),
        counting,
    ),
    (
        "old ANALYZE fields filled",
        |f| {
            f.header[4..40].fill(0x5A);
            f.header[39] = 0;
        },
        counting,
    ),
    ("all values equal", |f| f.data.fill(0), || vec![0.0; 24]),
];

/// Kind, change to a good file, and what the warning has to say.
const WARNED: &[(&str, Change, &str)] = &[
    (
        "neither form",
        |f| void(f.i16(254, 0)),
        "neither sform nor qform",
    ),
    (
        "forms that differ",
        |f| {
            qform(f);
            f.i16(254, 1).f32(268, 99.0);
        },
        "differ by up to",
    ),
    (
        "forms that differ, scanner and atlas",
        |f| {
            qform(f);
            f.i16(254, 2).f32(268, 99.0);
        },
        "sform code is above 1",
    ),
    ("unit unknown", |f| f.header[123] = 5, "unit code 5"),
    (
        "quaternion too long beside a good sform",
        |f| {
            qform(f);
            f.i16(254, 1).f32(256, 3.0);
        },
        "only the sform",
    ),
    (
        "quaternion NaN beside a good sform",
        |f| {
            qform(f);
            f.i16(254, 1).f32(256, f32::NAN);
        },
        "only the sform",
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for big_endian in [false, true] {
        let version_2 = File::nifti2(big_endian);
        push(&mut cases, "version 2", &version_2, || {
            Expect::Values(counting())
        });
        for (kind, change, values) in VALUES {
            let mut file = File::nifti1(big_endian);
            change(&mut file);
            push(&mut cases, kind, &file, || Expect::Values(values()));
        }
        for (kind, change, warning) in WARNED {
            let mut file = File::nifti1(big_endian);
            change(&mut file);
            push(&mut cases, kind, &file, || Expect::Warned(warning));
        }
        types(big_endian, &mut cases);
    }
    cases
}

/// A file, plain and compressed.
fn push(cases: &mut Vec<Case>, kind: &'static str, file: &File, expect: impl Fn() -> Expect) {
    let order = if file.big_endian { "big" } else { "little" };
    let plain = (order.to_owned(), file.bytes());
    let packed = (format!("{order} gzip"), gzip(&file.bytes()));
    for (variant, bytes) in [plain, packed] {
        cases.push(Case {
            kind,
            variant,
            bytes,
            expect: expect(),
        });
    }
}

/// Every type, with the ends of its range among the values.
fn types(big_endian: bool, cases: &mut Vec<Case>) {
    macro_rules! each {
        ($($type:ty => $code:literal, $kind:literal;)*) => {$({
            let mut values: Vec<$type> = (0_u8..24).map(|v| v as $type).collect();
            (values[0], values[1]) = (<$type>::MIN, <$type>::MAX);
            let mut file = File::nifti1(big_endian);
            file.i16(70, $code).i16(72, 8 * size_of::<$type>() as i16);
            let bytes = |v: &$type| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
            file.data = values.iter().flat_map(bytes).collect();
            let expected: Vec<f64> = values.iter().map(|v| *v as f64).collect();
            push(cases, $kind, &file, || Expect::Values(expected.clone()));
        })*};
    }
    each! {
        u8 => 2, "uint8"; i8 => 256, "int8"; u16 => 512, "uint16"; i16 => 4, "int16";
        u32 => 768, "uint32"; i32 => 8, "int32"; u64 => 1280, "uint64"; i64 => 1024, "int64";
        f32 => 16, "float32"; f64 => 64, "float64";
    }
    let special = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        f32::MIN_POSITIVE / 2.0,
    ];
    let mut file = File::nifti1(big_endian);
    file.i16(70, 16).i16(72, 32);
    let values: Vec<f32> = special.into_iter().cycle().take(24).collect();
    let bytes = |v: &f32| {
        if big_endian {
            v.to_be_bytes()
        } else {
            v.to_le_bytes()
        }
    };
    file.data = values.iter().flat_map(bytes).collect();
    let expected: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    push(cases, "NaN, infinities, smallest numbers", &file, || {
        Expect::Values(expected.clone())
    });
}

fn void<T>(_: T) {}

fn scale(file: &mut File, slope: f32, inter: f32) {
    file.f32(112, slope).f32(116, inter);
}

fn sizes(file: &mut File, sizes: &[i16]) {
    file.i16(40, sizes.len() as i16);
    for (index, size) in sizes.iter().enumerate() {
        file.i16(42 + 2 * index, *size);
    }
}

/// The same place as the sform says, as a qform.
fn qform(file: &mut File) {
    file.i16(254, 0).i16(252, 1);
    file.f32(268, 10.0).f32(272, 20.0).f32(276, 30.0);
}

/// An extension that says `claimed` bytes in a room of `room`.
fn extension(file: &mut File, claimed: i32, room: usize) {
    let start = file.header.len();
    file.header[348] = 1;
    file.header.resize(start + room, 0x33);
    file.i32(start, claimed).f32(108, (start + room) as f32);
}
