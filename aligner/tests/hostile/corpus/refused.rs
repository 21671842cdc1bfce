//! Headers and lengths that cannot be, in both byte orders, plain and compressed.

use super::{Case, refused};
use crate::nifti_file::{File, gzip};

type Change = fn(&mut File);

/// Kind, change to a good file, and what the message must hold.
type Row = (&'static str, Change, &'static [&'static str]);

const NIFTI_1: &[Row] = &[
    (
        "sizeof_hdr 349",
        |f| void(f.i32(0, 349)),
        &["not a NIfTI file", "sizeof_hdr", "348"],
    ),
    (
        "sizeof_hdr 0",
        |f| void(f.i32(0, 0)),
        &["sizeof_hdr", "is 0", "348"],
    ),
    (
        "magic of a pair",
        |f| magic(f, *b"ni1\0"),
        &["magic", "ni1", ".hdr and .img"],
    ),
    ("magic of ANALYZE", |f| magic(f, [0; 4]), &["magic", "n+1"]),
    (
        "magic unknown",
        |f| magic(f, *b"abcd"),
        &["magic", "abcd", "n+1"],
    ),
    (
        "magic without zero",
        |f| magic(f, *b"n+1 "),
        &["magic", "n+1"],
    ),
    ("rank 0", |f| void(f.i16(40, 0)), &["dim[0]", "0", "1 to 7"]),
    ("rank 8", |f| void(f.i16(40, 8)), &["dim[0]", "8", "1 to 7"]),
    ("rank 9", |f| void(f.i16(40, 9)), &["dim[0]", "9", "1 to 7"]),
    (
        "rank negative",
        |f| void(f.i16(40, -1)),
        &["dim[0]", "-1", "1 to 7"],
    ),
    (
        "rank in the other byte order",
        |f| void(f.i16(40, 0x0300)),
        &["dim[0]", "768", "1 to 7"],
    ),
    (
        "size 0",
        |f| void(f.i16(42, 0)),
        &["dim[1]", "is 0", "1 to 32767"],
    ),
    (
        "size negative",
        |f| void(f.i16(44, -8)),
        &["dim[2]", "-8", "1 to 32767"],
    ),
    (
        "size smallest",
        |f| void(f.i16(46, i16::MIN)),
        &["dim[3]", "-32768", "1 to 32767"],
    ),
    (
        "frames 0",
        |f| void(f.i16(40, 4).i16(48, 0)),
        &["dim[4]", "is 0", "1 to 32767"],
    ),
    ("type 0", |f| void(f.i16(70, 0)), &["datatype", "is 0"]),
    (
        "type binary",
        |f| void(f.i16(70, 1)),
        &["datatype", "is 1,"],
    ),
    (
        "type complex64",
        |f| void(f.i16(70, 32).i16(72, 64)),
        &["datatype", "32", "complex"],
    ),
    (
        "type complex128",
        |f| void(f.i16(70, 1792).i16(72, 128)),
        &["datatype", "1792"],
    ),
    (
        "type complex256",
        |f| void(f.i16(70, 2048).i16(72, 256)),
        &["datatype", "2048"],
    ),
    (
        "type RGB",
        |f| void(f.i16(70, 128).i16(72, 24)),
        &["datatype", "128", "colour"],
    ),
    (
        "type RGBA",
        |f| void(f.i16(70, 2304).i16(72, 32)),
        &["datatype", "2304", "colour"],
    ),
    (
        "type float128",
        |f| void(f.i16(70, 1536).i16(72, 128)),
        &["datatype", "1536"],
    ),
    (
        "type unknown",
        |f| void(f.i16(70, 9999)),
        &["datatype", "9999"],
    ),
    (
        "bitpix of another type",
        |f| void(f.i16(72, 32)),
        &["bitpix", "32", "datatype"],
    ),
    (
        "bitpix 0",
        |f| void(f.i16(72, 0)),
        &["bitpix", "is 0", "datatype"],
    ),
    (
        "bitpix negative",
        |f| void(f.i16(72, -16)),
        &["bitpix", "-16", "datatype"],
    ),
    (
        "offset 0",
        |f| void(f.f32(108, 0.0)),
        &["vox_offset", "is 0", "352"],
    ),
    (
        "offset in the header",
        |f| void(f.f32(108, 100.0)),
        &["vox_offset", "100", "352"],
    ),
    (
        "offset in the extender",
        |f| void(f.f32(108, 351.0)),
        &["vox_offset", "351", "352"],
    ),
    (
        "offset with a fraction",
        |f| void(f.f32(108, 352.5)),
        &["vox_offset", "352.5", "whole"],
    ),
    (
        "offset negative",
        |f| void(f.f32(108, -352.0)),
        &["vox_offset", "-352", "whole"],
    ),
    (
        "offset NaN",
        |f| void(f.f32(108, f32::NAN)),
        &["vox_offset", "NaN", "whole"],
    ),
    (
        "offset infinite",
        |f| void(f.f32(108, f32::INFINITY)),
        &["vox_offset", "inf", "whole"],
    ),
    (
        "offset 1e30",
        |f| void(f.f32(108, 1e30)),
        &["vox_offset", "whole"],
    ),
    (
        "offset behind the end",
        |f| void(f.f32(108, 1e9)),
        &["describes 1000000048 bytes", "holds at most"],
    ),
    (
        "no form, voxel size 0",
        |f| void(f.i16(254, 0).f32(84, 0.0)),
        &["pixdim", "0.0", "positive"],
    ),
    (
        "no form, voxel size negative",
        |f| void(f.i16(254, 0).f32(80, -0.5)),
        &["pixdim", "-0.5", "positive"],
    ),
    (
        "no form, voxel size NaN",
        |f| void(f.i16(254, 0).f32(80, f32::NAN)),
        &["pixdim", "NaN", "positive"],
    ),
    (
        "no form, voxel size 1e30",
        |f| void(f.i16(254, 0).f32(80, 1e30)),
        &["pixdim", "voxel sizes", "1e9 mm"],
    ),
    (
        "no form, voxel size 1e-20",
        |f| void(f.i16(254, 0).f32(80, 1e-20)),
        &["pixdim", "voxel sizes", "1e-9"],
    ),
    (
        "sform NaN",
        |f| void(f.f32(280, f32::NAN)),
        &["srow_x", "not finite", "finite numbers"],
    ),
    (
        "sform infinite",
        |f| void(f.f32(300, f32::INFINITY)),
        &["srow_y", "not finite", "finite numbers"],
    ),
    (
        "sform with origin NaN",
        |f| void(f.f32(324, f32::NAN)),
        &["srow_z", "not finite", "finite numbers"],
    ),
    (
        "sform without a column",
        |f| void(f.f32(280, 0.0)),
        &["srow_x", "voxel sizes", "invertible"],
    ),
    (
        "sform in a plane",
        |f| flat(f, 0.0),
        &["srow_x", "determinant", "invertible"],
    ),
    (
        "sform nearly in a plane",
        |f| flat(f, 1e-7),
        &["srow_x", "determinant", "invertible"],
    ),
    (
        "sform 1e30",
        |f| void(f.f32(280, 1e30)),
        &["srow_x", "voxel sizes", "1e9 mm"],
    ),
    (
        "sform 1e-30",
        |f| void(f.f32(280, 1e-30)),
        &["srow_x", "voxel sizes", "1e-9"],
    ),
    (
        "sform with origin 1e30",
        |f| void(f.f32(292, 1e30)),
        &["srow_x", "origin", "1e9 mm"],
    ),
    (
        "quaternion too long",
        |f| quaternion(f, [3.0, 0.0, 0.0]),
        &["quatern_b", "3", "not longer than 1"],
    ),
    (
        "quaternion NaN",
        |f| quaternion(f, [0.0, f32::NAN, 0.0]),
        &["quatern_c", "NaN", "not longer than 1"],
    ),
    (
        "qform, voxel size 0",
        |f| {
            quaternion(f, [0.0; 3]);
            f.f32(80, 0.0);
        },
        &["pixdim", "0", "positive"],
    ),
    (
        "qform with origin NaN",
        |f| {
            quaternion(f, [0.0; 3]);
            f.f32(268, f32::NAN);
        },
        &["quatern_x", "not finite"],
    ),
    (
        "one byte missing",
        |f| void(f.data.pop()),
        &["399 bytes", "400", "cut"],
    ),
    (
        "half of the voxels missing",
        |f| f.data.truncate(24),
        &["376 bytes", "400", "cut"],
    ),
    (
        "no voxels",
        |f| f.data.clear(),
        &["352 bytes", "400", "cut"],
    ),
    (
        "header of 347 bytes",
        |f| {
            f.data.clear();
            f.header.truncate(347);
        },
        &["file size", "347", "348 bytes"],
    ),
    (
        "header of 200 bytes",
        |f| {
            f.data.clear();
            f.header.truncate(200);
        },
        &["file size", "200", "348 bytes"],
    ),
    (
        "header of 4 bytes",
        |f| {
            f.data.clear();
            f.header.truncate(4);
        },
        &["file size", "4", "348 bytes"],
    ),
    (
        "one byte too many",
        |f| f.data.push(0),
        &["goes on", "400 bytes"],
    ),
    (
        "zeros at the end",
        |f| f.data.extend([0; 112]),
        &["goes on", "400 bytes"],
    ),
    (
        "a megabyte at the end",
        |f| f.data.extend(vec![7; 1 << 20]),
        &["goes on", "400 bytes"],
    ),
    (
        "all sizes huge",
        |f| void(f.i16(42, 32767).i16(44, 32767).i16(46, 32767)),
        &["describes 70362301923678 bytes", "holds at most"],
    ),
    (
        "17 GB",
        |f| void(f.i16(42, 2048).i16(44, 2048).i16(46, 2048)),
        &["describes 17179869536 bytes", "holds at most"],
    ),
    (
        "one plane of 2 GB",
        |f| void(f.i16(42, 32767).i16(44, 32767).i16(46, 1)),
        &["describes", "holds at most"],
    ),
    (
        "one row of 64 kB",
        |f| void(f.i16(42, 32767).i16(44, 1).i16(46, 1)),
        &["65886"],
    ),
    (
        "product that wraps to 0",
        |f| {
            f.i16(40, 7);
            (1..8).for_each(|k| void(f.i16(40 + 2 * k, 16384)));
        },
        &["dim", "16384", "addressed"],
    ),
    (
        "product that wraps to a little",
        |f| {
            f.i16(40, 7);
            (1..8).for_each(|k| void(f.i16(40 + 2 * k, 32767)));
        },
        &["dim", "32767", "addressed"],
    ),
];

const NIFTI_2: &[Row] = &[
    (
        "v2: magic of version 1",
        |f| f.header[4..8].copy_from_slice(b"n+1\0"),
        &["magic", "n+1", "n+2"],
    ),
    (
        "v2: magic of a pair",
        |f| f.header[4..8].copy_from_slice(b"ni2\0"),
        &["magic", "ni2", "n+2"],
    ),
    (
        "v2: line ends converted",
        |f| f.header[8..12].copy_from_slice(b"\n\x1a\n\0"),
        &["magic", "copied as text"],
    ),
    (
        "v2: rank 2^40",
        |f| void(f.i64(16, 1 << 40)),
        &["dim[0]", "1099511627776", "1 to 7"],
    ),
    (
        "v2: size 40000",
        |f| void(f.i64(24, 40000)),
        &["dim[1]", "40000", "1 to 32767"],
    ),
    (
        "v2: size negative",
        |f| void(f.i64(32, -5)),
        &["dim[2]", "-5", "1 to 32767"],
    ),
    (
        "v2: size 2^62",
        |f| void(f.i64(40, 1 << 62)),
        &["dim[3]", "4611686018427387904", "1 to 32767"],
    ),
    (
        "v2: type complex",
        |f| void(f.i16(12, 32).i16(14, 64)),
        &["datatype", "32"],
    ),
    (
        "v2: bitpix of another type",
        |f| void(f.i16(14, 8)),
        &["bitpix", "8", "datatype"],
    ),
    (
        "v2: offset in the header",
        |f| void(f.i64(168, 352)),
        &["vox_offset", "352", "544"],
    ),
    (
        "v2: offset negative",
        |f| void(f.i64(168, -1)),
        &["vox_offset", "-1", "544"],
    ),
    (
        "v2: offset largest",
        |f| void(f.i64(168, i64::MAX)),
        &["vox_offset", "whole"],
    ),
    (
        "v2: offset behind the end",
        |f| void(f.i64(168, 1 << 40)),
        &["describes 1099511627824 bytes", "holds at most"],
    ),
    (
        "v2: sform NaN",
        |f| void(f.f64(400, f64::NAN)),
        &["srow_x", "not finite"],
    ),
    (
        "v2: sform 1e300",
        |f| void(f.f64(400, 1e300)),
        &["srow_x", "not finite"],
    ),
    (
        "v2: one byte missing",
        |f| void(f.data.pop()),
        &["591 bytes", "592", "cut"],
    ),
    (
        "v2: header of 500 bytes",
        |f| {
            f.data.clear();
            f.header.truncate(500);
        },
        &["file size", "500", "540 bytes"],
    ),
    (
        "v2: one byte too many",
        |f| f.data.push(0),
        &["goes on", "592 bytes"],
    ),
];

/// Contents that are no volumes at all.
const OTHER: &[(&str, &[u8], &[&str])] = &[
    ("empty file", b"", &["empty"]),
    ("one byte", b"x", &["sizeof_hdr"]),
    (
        "web page",
        b"<!doctype html><html><body>404 Not Found</body></html>",
        &["not a NIfTI file", "sizeof_hdr"],
    ),
    (
        "JSON error",
        b"{\"error\": \"token expired\"}",
        &["not a NIfTI file", "sizeof_hdr"],
    ),
    (
        "PNG",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        &["not a NIfTI file", "sizeof_hdr"],
    ),
    (
        "zip",
        b"PK\x03\x04\x14\0\0\0\x08\0",
        &["not a NIfTI file", "sizeof_hdr"],
    ),
    (
        "HDF5",
        b"\x89HDF\r\n\x1a\n\0\0\0\0\0",
        &["not a NIfTI file", "sizeof_hdr"],
    ),
    (
        "Git LFS pointer",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        &["not a NIfTI file"],
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, new) in [
        (NIFTI_1, File::nifti1 as fn(bool) -> File),
        (NIFTI_2, File::nifti2),
    ] {
        for (kind, change, parts) in rows {
            for (variant, big_endian) in [("little", false), ("big", true)] {
                let mut file = new(big_endian);
                change(&mut file);
                let mut add = |variant: String, bytes: Vec<u8>, parts: &[&str]| {
                    cases.push(Case {
                        kind,
                        variant,
                        bytes,
                        expect: refused(parts),
                    });
                };
                add(variant.to_owned(), file.bytes(), parts);
                // A compressed file may hold more than it has bytes: short claims are found out at
                // the end of the data, which the last text of the row does not say.
                let packed = gzip(&file.bytes());
                add(format!("{variant} gzip"), packed, compressed(parts));
            }
        }
    }
    cases.extend(OTHER.iter().map(|(kind, bytes, parts)| Case {
        kind,
        variant: "plain".to_owned(),
        bytes: bytes.to_vec(),
        expect: refused(parts),
    }));
    cases
}

fn compressed(parts: &'static [&'static str]) -> &'static [&'static str] {
    if parts.contains(&"65886") {
        &["the file is cut"]
    } else {
        parts
    }
}

/// Ends a chain of setters.
fn void<T>(_: T) {}

fn magic(file: &mut File, bytes: [u8; 4]) {
    file.header[344..348].copy_from_slice(&bytes);
}

/// Makes the second column the first one, `off` apart.
fn flat(file: &mut File, off: f32) {
    file.f32(280, 0.5).f32(284, 0.5).f32(288, 0.0);
    file.f32(296, 0.0).f32(300, off).f32(304, 0.0);
    file.f32(312, 0.0).f32(316, 0.0).f32(320, 0.5);
}

/// A qform alone.
fn quaternion(file: &mut File, [b, c, d]: [f32; 3]) {
    file.i16(254, 0).i16(252, 1);
    file.f32(256, b).f32(260, c).f32(264, d);
}
