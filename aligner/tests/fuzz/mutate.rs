//! Changes of bytes and of header fields.

use fastrand::Rng;

use crate::nifti_file::File;

/// What is written into a field.
#[derive(Clone, Copy)]
enum Kind {
    I16,
    I32,
    I64,
    F32,
    F64,
    Bytes(usize),
}

/// Fields of NIfTI-1 on which something depends: offset, type.
const FIELDS_1: &[(usize, Kind)] = &[
    (0, Kind::I32),
    (40, Kind::I16),
    (42, Kind::I16),
    (44, Kind::I16),
    (46, Kind::I16),
    (48, Kind::I16),
    (50, Kind::I16),
    (52, Kind::I16),
    (54, Kind::I16),
    (56, Kind::F32),
    (68, Kind::I16),
    (70, Kind::I16),
    (72, Kind::I16),
    (76, Kind::F32),
    (80, Kind::F32),
    (84, Kind::F32),
    (88, Kind::F32),
    (92, Kind::F32),
    (108, Kind::F32),
    (112, Kind::F32),
    (116, Kind::F32),
    (123, Kind::Bytes(1)),
    (124, Kind::F32),
    (128, Kind::F32),
    (148, Kind::Bytes(80)),
    (228, Kind::Bytes(24)),
    (252, Kind::I16),
    (254, Kind::I16),
    (256, Kind::F32),
    (260, Kind::F32),
    (264, Kind::F32),
    (268, Kind::F32),
    (272, Kind::F32),
    (276, Kind::F32),
    (280, Kind::F32),
    (284, Kind::F32),
    (288, Kind::F32),
    (292, Kind::F32),
    (296, Kind::F32),
    (300, Kind::F32),
    (304, Kind::F32),
    (308, Kind::F32),
    (312, Kind::F32),
    (316, Kind::F32),
    (320, Kind::F32),
    (324, Kind::F32),
    (328, Kind::Bytes(16)),
    (344, Kind::Bytes(4)),
    (348, Kind::Bytes(4)),
];

/// The same of NIfTI-2.
const FIELDS_2: &[(usize, Kind)] = &[
    (0, Kind::I32),
    (4, Kind::Bytes(8)),
    (12, Kind::I16),
    (14, Kind::I16),
    (16, Kind::I64),
    (24, Kind::I64),
    (32, Kind::I64),
    (40, Kind::I64),
    (48, Kind::I64),
    (56, Kind::I64),
    (64, Kind::I64),
    (72, Kind::I64),
    (104, Kind::F64),
    (112, Kind::F64),
    (120, Kind::F64),
    (128, Kind::F64),
    (168, Kind::I64),
    (176, Kind::F64),
    (184, Kind::F64),
    (240, Kind::Bytes(80)),
    (344, Kind::I32),
    (348, Kind::I32),
    (352, Kind::F64),
    (360, Kind::F64),
    (368, Kind::F64),
    (376, Kind::F64),
    (400, Kind::F64),
    (408, Kind::F64),
    (416, Kind::F64),
    (424, Kind::F64),
    (432, Kind::F64),
    (440, Kind::F64),
    (448, Kind::F64),
    (456, Kind::F64),
    (464, Kind::F64),
    (472, Kind::F64),
    (480, Kind::F64),
    (488, Kind::F64),
    (500, Kind::I32),
    (504, Kind::I32),
    (540, Kind::Bytes(4)),
];

const INTEGERS: &[i64] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    16,
    24,
    32,
    64,
    127,
    128,
    255,
    256,
    348,
    512,
    540,
    768,
    1007,
    1024,
    1280,
    1536,
    1792,
    2048,
    2304,
    4096,
    32767,
    32768,
    40000,
    65535,
    65536,
    1 << 31,
    1 << 32,
    1 << 62,
    i64::MAX,
    -1,
    -2,
    -8,
    -128,
    -32768,
    i32::MIN as i64,
    i64::MIN,
];

const FLOATS: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    7.0,
    10.0,
    348.0,
    351.0,
    352.0,
    352.5,
    353.0,
    368.0,
    416.0,
    544.0,
    1e3,
    16777217.0,
    1e9,
    1e15,
    1e30,
    1e38,
    1e300,
    -1e30,
    1e-9,
    1e-30,
    1e-45,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

/// `datatype` and `bitpix`.
const TYPES: [(i16, i16); 10] = [
    (2, 8),
    (256, 8),
    (512, 16),
    (4, 16),
    (768, 32),
    (8, 32),
    (1280, 64),
    (1024, 64),
    (16, 32),
    (64, 64),
];

/// A valid file: version, byte order, type, rank, forms, scaling and offset by chance.
pub(crate) fn valid(random: &mut Rng) -> File {
    if random.u8(..4) == 0 {
        return File::nifti2(random.bool());
    }
    let mut file = File::nifti1(random.bool());
    let (code, bits) = TYPES[random.usize(..TYPES.len())];
    file.i16(70, code).i16(72, bits);
    let sizes: [i16; 5] = std::array::from_fn(|_| random.i16(1..6));
    let rank = random.usize(1..=5);
    file.i16(40, rank as i16);
    (0..5).for_each(|axis| {
        file.i16(42 + 2 * axis, sizes[axis]);
    });
    let voxels: usize = sizes[..rank].iter().map(|size| *size as usize).product();
    file.data = std::iter::repeat_with(|| random.u8(..))
        .take(voxels * bits as usize / 8)
        .collect();
    if random.bool() {
        file.i16(252, random.i16(0..3)).i16(254, random.i16(0..3));
    }
    if random.u8(..4) == 0 {
        file.f32(112, random.f32()).f32(116, random.f32());
    }
    if random.u8(..8) == 0 {
        let offset = 352 + 16 * random.usize(1..5);
        file.header.resize(offset, random.u8(..));
        file.f32(108, offset as f32);
    }
    file
}

/// Writes something odd into some fields.
pub(crate) fn fields(file: &mut File, random: &mut Rng) {
    let fields = if file.header.len() >= 544 && file.header[4] == b'n' {
        FIELDS_2
    } else {
        FIELDS_1
    };
    for _ in 0..random.u8(..3) {
        let (at, kind) = fields[random.usize(..fields.len())];
        let integer = INTEGERS[random.usize(..INTEGERS.len())];
        let float = FLOATS[random.usize(..FLOATS.len())];
        match kind {
            Kind::I16 => drop(file.i16(at, integer as i16)),
            Kind::I32 => drop(file.i32(at, integer as i32)),
            Kind::I64 => drop(file.i64(at, integer)),
            Kind::F32 => drop(file.f32(at, float as f32)),
            Kind::F64 => drop(file.f64(at, float)),
            Kind::Bytes(count) => file.header[at..at + count].fill_with(|| random.u8(..)),
        }
    }
}

/// Damages bytes as disks, networks and editors do.
pub(crate) fn bytes(bytes: &mut Vec<u8>, random: &mut Rng) {
    if bytes.is_empty() {
        return;
    }
    let at = random.usize(..bytes.len());
    let end = random.usize(at..bytes.len());
    match random.u8(..8) {
        0 => bytes[at] ^= 1 << random.u8(..8),
        1 => bytes[at] = random.u8(..),
        2 => bytes.truncate(at),
        3 => bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(at.min(64))),
        4 => drop(bytes.drain(at..end)),
        5 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        6 => bytes[at..end].fill(random.u8(..)),
        _ => bytes.swap(at, end),
    }
}
