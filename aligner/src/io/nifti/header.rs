//! NIfTI-1 and NIfTI-2 headers: parsing with every field checked that the voxels depend on.

use nifti::{Endianness, NiftiHeader};

use super::{
    datatype::Datatype,
    orientation::{self, AffineChoice},
};
use crate::{affine::Affine, grid::Grid};

/// Why a header is refused. Each message names the field, the value and what was expected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HeaderError {
    /// The first four bytes are no header size.
    #[error("not a NIfTI file: `sizeof_hdr` is {found}, expected 348 (NIfTI-1) or 540 (NIfTI-2)")]
    HeaderSize {
        /// The value in little-endian order.
        found: i32,
    },
    /// The magic is wrong.
    #[error("`magic` is {found:?}, expected {expected}")]
    Magic {
        /// The bytes, as text.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A field has a value that cannot be.
    #[error("`{field}` is {found}, expected {expected}")]
    Field {
        /// Name in the standard.
        field: &'static str,
        /// The value.
        found: String,
        /// The values allowed.
        expected: &'static str,
    },
    /// The voxel type is not a real number.
    #[error(
        "`datatype` is {0}, expected an integer or floating-point type (complex and colour images cannot be aligned)"
    )]
    Datatype(i16),
    /// The size in bytes does not fit the address space.
    #[error("`dim` {0:?} describes more bytes than can be addressed")]
    TooLarge(Vec<usize>),
    /// The nifti crate could not parse it.
    #[error("cannot parse the header: {0}")]
    Parse(String),
}

/// A header that passed all checks.
#[derive(Clone, Debug)]
pub struct Header {
    /// NIfTI version, 1 or 2.
    pub version: u8,
    /// Whether the file is big-endian.
    pub big_endian: bool,
    /// Sizes of all dimensions, at least three, trailing ones of size 1 removed down to three.
    pub dims: Vec<usize>,
    /// Stored voxel type.
    pub datatype: Datatype,
    /// Value = slope·stored + inter; 1 and 0 where the file has no valid scaling.
    pub slope: f64,
    /// See `slope`.
    pub inter: f64,
    /// Byte at which the voxels start.
    pub vox_offset: u64,
    /// Grid in mm, RAS+.
    pub grid: Grid,
    /// Which affine was taken, and which ones the file offers.
    pub affine: AffineChoice,
    /// What a user should know about the header.
    pub warnings: Vec<String>,
    /// All fields, native byte order. For NIfTI-2 files, converted to NIfTI-1.
    pub raw: NiftiHeader,
}

/// Bytes needed to parse any header.
pub(super) const LONGEST: usize = 540;

impl Header {
    /// Parses the first bytes of a file, at least 348 (NIfTI-1) or 540 (NIfTI-2) of them.
    ///
    /// # Errors
    /// [`HeaderError`] naming the field that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let size: [u8; 4] = bytes
            .get(..4)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(HeaderError::HeaderSize { found: 0 })?;
        match (i32::from_le_bytes(size), i32::from_be_bytes(size)) {
            (348, _) => Self::parse_1(bytes, false),
            (_, 348) => Self::parse_1(bytes, true),
            (540, _) => Self::parse_2(bytes, false),
            (_, 540) => Self::parse_2(bytes, true),
            (found, _) => Err(HeaderError::HeaderSize { found }),
        }
    }

    fn parse_1(bytes: &[u8], big_endian: bool) -> Result<Self, HeaderError> {
        let bytes = bytes.get(..348).ok_or(field(
            "file size",
            bytes.len(),
            "at least 348 bytes of header",
        ))?;
        if &bytes[344..348] != b"n+1\0" {
            let expected = if &bytes[344..348] == b"ni1\0" {
                "`n+1` (a pair of .hdr and .img files is not supported; convert it to .nii)"
            } else {
                "`n+1` (a single-file NIfTI)"
            };
            return Err(magic(&bytes[344..348], expected));
        }
        let raw = NiftiHeader::from_reader(bytes)
            .map_err(|error| HeaderError::Parse(error.to_string()))?;
        // The crate goes by dim[0], which may contradict sizeof_hdr.
        if (raw.endianness == Endianness::Big) != big_endian {
            let order = if big_endian {
                i16::from_be_bytes
            } else {
                i16::from_le_bytes
            };
            return Err(field("dim[0]", order([bytes[40], bytes[41]]), "1 to 7"));
        }
        let dim = raw.dim.map(|size| i64::from(size.cast_signed()));
        let vox_offset = f64::from(raw.vox_offset);
        Self::check(1, big_endian, dim, vox_offset, raw)
    }

    fn parse_2(bytes: &[u8], big_endian: bool) -> Result<Self, HeaderError> {
        let bytes = bytes.get(..540).ok_or(field(
            "file size",
            bytes.len(),
            "at least 540 bytes of header",
        ))?;
        if &bytes[4..8] != b"n+2\0" {
            return Err(magic(&bytes[4..8], "`n+2` (a single-file NIfTI-2)"));
        }
        if &bytes[8..12] != b"\r\n\x1a\n" {
            let expected = "`\\r\\n\\x1a\\n` after `n+2`: the file was copied as text";
            return Err(magic(&bytes[8..12], expected));
        }
        let f = Fields { bytes, big_endian };
        let dim = std::array::from_fn(|index| f.i64(16 + 8 * index));
        let srow = |start: usize| std::array::from_fn(|index| f.f64(start + 8 * index) as f32);
        let mut raw = NiftiHeader {
            datatype: f.i16(12),
            bitpix: f.i16(14),
            intent_p1: f.f64(80) as f32,
            intent_p2: f.f64(88) as f32,
            intent_p3: f.f64(96) as f32,
            pixdim: std::array::from_fn(|index| f.f64(104 + 8 * index) as f32),
            scl_slope: f.f64(176) as f32,
            scl_inter: f.f64(184) as f32,
            cal_max: f.f64(192) as f32,
            cal_min: f.f64(200) as f32,
            toffset: f.f64(216) as f32,
            descrip: bytes[240..320].to_vec(),
            qform_code: code(f.i32(344)),
            sform_code: code(f.i32(348)),
            quatern_b: f.f64(352) as f32,
            quatern_c: f.f64(360) as f32,
            quatern_d: f.f64(368) as f32,
            quatern_x: f.f64(376) as f32,
            quatern_y: f.f64(384) as f32,
            quatern_z: f.f64(392) as f32,
            srow_x: srow(400),
            srow_y: srow(432),
            srow_z: srow(464),
            xyzt_units: f.i32(500) as u8,
            intent_code: code(f.i32(504)),
            ..NiftiHeader::default()
        };
        raw.aux_file.copy_from_slice(&bytes[320..344]);
        raw.intent_name.copy_from_slice(&bytes[508..524]);
        let vox_offset = f.i64(168) as f64;
        Self::check(2, big_endian, dim, vox_offset, raw)
    }

    fn check(
        version: u8,
        big_endian: bool,
        dim: [i64; 8],
        vox_offset: f64,
        raw: NiftiHeader,
    ) -> Result<Self, HeaderError> {
        let dims = check_dims(dim)?;
        let datatype =
            Datatype::from_code(raw.datatype).ok_or(HeaderError::Datatype(raw.datatype))?;
        if i32::from(raw.bitpix) != 8 * datatype.size() as i32 {
            return Err(HeaderError::Field {
                field: "bitpix",
                found: raw.bitpix.to_string(),
                expected: "eight times the size of `datatype`",
            });
        }
        let first = if version == 1 { 352.0 } else { 544.0 };
        if !(vox_offset >= first && vox_offset.fract() == 0.0 && vox_offset < 1e15) {
            return Err(HeaderError::Field {
                field: "vox_offset",
                found: vox_offset.to_string(),
                expected: "a whole number behind the header (352 in NIfTI-1, 544 in NIfTI-2)",
            });
        }
        dims.iter()
            .try_fold(datatype.size(), |bytes, size| bytes.checked_mul(*size))
            .filter(|bytes| isize::try_from(*bytes).is_ok())
            .ok_or_else(|| HeaderError::TooLarge(dims.clone()))?;
        let (slope, inter) = scaling(&raw);
        let mut warnings = Vec::new();
        let (voxel_to_world, affine): (Affine, AffineChoice) =
            orientation::choose(&raw, [dims[0], dims[1], dims[2]], &mut warnings)?;
        Ok(Self {
            version,
            big_endian,
            grid: Grid {
                shape: [dims[0], dims[1], dims[2]],
                voxel_to_world,
            },
            dims,
            datatype,
            slope,
            inter,
            vox_offset: vox_offset as u64,
            affine,
            warnings,
            raw,
        })
    }

    /// Number of three-dimensional volumes in the file.
    pub fn frames(&self) -> usize {
        self.dims[3..].iter().product()
    }

    /// Bytes of all voxels.
    pub fn data_bytes(&self) -> u64 {
        // Checked against overflow when the header was parsed.
        self.dims.iter().product::<usize>() as u64 * self.datatype.size() as u64
    }

    /// The text of `descrip`.
    pub fn description(&self) -> String {
        let end = self.raw.descrip.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&self.raw.descrip[..end.unwrap_or(self.raw.descrip.len())])
            .into_owned()
    }
}

fn check_dims(dim: [i64; 8]) -> Result<Vec<usize>, HeaderError> {
    let rank = dim[0];
    if !(1..=7).contains(&rank) {
        return Err(field("dim[0]", rank, "1 to 7"));
    }
    let mut dims = Vec::with_capacity(7);
    for (index, size) in dim.iter().enumerate().skip(1).take(rank as usize) {
        const NAMES: [&str; 8] = [
            "dim[0]", "dim[1]", "dim[2]", "dim[3]", "dim[4]", "dim[5]", "dim[6]", "dim[7]",
        ];
        match usize::try_from(*size) {
            // The upper end is that of NIfTI-1, in which results are written.
            Ok(size) if (1..=32767).contains(&size) => dims.push(size),
            _ => return Err(field(NAMES[index], size, "1 to 32767")),
        }
    }
    while dims.len() > 3 && dims.last() == Some(&1) {
        dims.pop();
    }
    dims.resize(dims.len().max(3), 1);
    Ok(dims)
}

/// A code of NIfTI-2 in the narrower field of NIfTI-1. No code in use is that large.
fn code(value: i32) -> i16 {
    value.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// `scl_slope` 0 or not finite means that the values are not scaled.
fn scaling(raw: &NiftiHeader) -> (f64, f64) {
    let (slope, inter) = (f64::from(raw.scl_slope), f64::from(raw.scl_inter));
    if slope == 0.0 || !slope.is_finite() || !inter.is_finite() {
        (1.0, 0.0)
    } else {
        (slope, inter)
    }
}

fn field(name: &'static str, found: impl std::fmt::Display, expected: &'static str) -> HeaderError {
    HeaderError::Field {
        field: name,
        found: found.to_string(),
        expected,
    }
}

fn magic(found: &[u8], expected: &'static str) -> HeaderError {
    HeaderError::Magic {
        found: String::from_utf8_lossy(found).into_owned(),
        expected,
    }
}

/// Reads numbers at byte offsets; the caller has checked the length.
struct Fields<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        if self.big_endian {
            array.reverse();
        }
        array
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.array(at))
    }

    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.array(at))
    }

    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.array(at))
    }

    fn f64(&self, at: usize) -> f64 {
        f64::from_le_bytes(self.array(at))
    }
}
