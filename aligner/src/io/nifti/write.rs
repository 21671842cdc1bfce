//! Writing volumes: NIfTI-1, little-endian, deterministic gzip, atomic.

use std::{
    io::{self, Write},
    path::Path,
};

use flate2::{Compression, GzBuilder};
use nifti::NiftiHeader;

use super::{
    datatype::{Datatype, Voxel, Voxels},
    header::Header,
    orientation::to_quaternion,
};
use crate::{
    affine::Affine,
    field::DisplacementField,
    grid::Grid,
    io::atomic::{self, WriteError, Written},
    observer, with_voxels,
};

/// Intent of a displacement field that ITK reads as vectors.
const INTENT_VECTOR: i16 = 1007;
/// Unit code of millimetres in `xyzt_units`.
const UNIT_MM: u8 = 2;
/// Bits of the time unit in `xyzt_units`.
const TIME_UNIT_MASK: u8 = 0x38;
/// Unit code of seconds.
const UNIT_SECONDS: u8 = 8;

/// Header of a depth map or another scalar map: float32, `cal_min` 0, `cal_max` 1, as
/// highres-cortex writes it (intent 1001, NIFTI_INTENT_ESTIMATE).
pub fn scalar_header(description: &str, intent_name: &str) -> NiftiHeader {
    let mut raw = NiftiHeader {
        intent_code: 1001,
        cal_min: 0.0,
        cal_max: 1.0,
        xyzt_units: UNIT_SECONDS,
        ..NiftiHeader::default()
    };
    raw.descrip = text::<80>(description).to_vec();
    raw.intent_name = text(intent_name);
    raw
}

/// Header of a map of lengths in mm: float32, intent 1001 (NIFTI_INTENT_ESTIMATE), shown from 0 to
/// `most`.
pub fn length_header(description: &str, intent_name: &str, most: f32) -> NiftiHeader {
    let mut raw = scalar_header(description, intent_name);
    raw.cal_max = most;
    raw
}

/// Header of labels from 0 to `most`: intent 1002 (NIFTI_INTENT_LABEL).
pub fn label_header(description: &str, intent_name: &str, most: u8) -> NiftiHeader {
    let mut raw = scalar_header(description, intent_name);
    raw.intent_code = 1002;
    raw.cal_max = f32::from(most);
    raw
}

/// Header of a displacement field.
pub fn vector_header(description: &str) -> NiftiHeader {
    let mut raw = NiftiHeader {
        intent_code: INTENT_VECTOR,
        xyzt_units: UNIT_SECONDS,
        ..NiftiHeader::default()
    };
    raw.descrip = text::<80>(description).to_vec();
    raw
}

/// Text in a fixed field, cut so that a zero byte remains.
fn text<const N: usize>(value: &str) -> [u8; N] {
    let mut field = [0; N];
    let length = value.len().min(N - 1);
    field[..length].copy_from_slice(&value.as_bytes()[..length]);
    field
}

/// Writes a scalar float volume.
///
/// # Errors
/// [`WriteError`] naming the file.
pub fn write_scalar(
    path: &Path,
    grid: &Grid,
    values: &[f32],
    raw: NiftiHeader,
) -> Result<Written, WriteError> {
    let raw = complete(raw, grid, &grid.shape, Datatype::F32);
    write_file(path, &raw, |out| encode(out, values))
}

/// Writes a volume of labels, unsigned bytes.
///
/// # Errors
/// [`WriteError`] naming the file.
pub fn write_labels(
    path: &Path,
    grid: &Grid,
    values: &[u8],
    raw: NiftiHeader,
) -> Result<Written, WriteError> {
    let raw = complete(raw, grid, &grid.shape, Datatype::U8);
    write_file(path, &raw, |out| encode(out, values))
}

/// Writes a displacement field as ITK reads it: (x, y, z, 1, 3), intent 1007, LPS mm.
///
/// # Errors
/// [`WriteError`] naming the file.
pub fn write_vectors(
    path: &Path,
    field: &DisplacementField,
    raw: NiftiHeader,
) -> Result<Written, WriteError> {
    let [nx, ny, nz] = field.grid.shape;
    let raw = complete(raw, &field.grid, &[nx, ny, nz, 1, 3], Datatype::F32);
    write_file(path, &raw, |out| {
        let [x, y, z] = &field.components;
        for component in [x, y] {
            // RAS to LPS.
            encode_as(out, component, |value| 0.0 - value)?;
        }
        encode(out, z)
    })
}

/// Writes stored values on a grid, keeping type, scaling and descriptive fields of the header that
/// they came from.
///
/// # Errors
/// [`WriteError`] naming the file.
pub fn write_stored(
    path: &Path,
    grid: &Grid,
    voxels: &Voxels,
    header: &Header,
) -> Result<Written, WriteError> {
    write_file(
        path,
        &stored_header(grid, header),
        |out| with_voxels!(voxels, values => encode(out, values)),
    )
}

/// As [`write_stored`], uncompressed, to what is no file.
///
/// # Errors
/// Those of `out`, and sizes that a header cannot hold.
pub fn encode_stored(
    out: &mut dyn Write,
    grid: &Grid,
    voxels: &Voxels,
    header: &Header,
) -> io::Result<()> {
    header_bytes(out, &stored_header(grid, header))?;
    with_voxels!(voxels, values => encode(out, values))
}

fn stored_header(grid: &Grid, header: &Header) -> NiftiHeader {
    let mut dims = grid.shape.to_vec();
    dims.extend(&header.dims[3..]);
    let mut raw = complete(header.raw.clone(), grid, &dims, header.datatype);
    (raw.scl_slope, raw.scl_inter) = (header.slope as f32, header.inter as f32);
    raw
}

/// Fills in everything that follows from grid and type.
fn complete(mut raw: NiftiHeader, grid: &Grid, dims: &[usize], datatype: Datatype) -> NiftiHeader {
    raw.dim = [1; 8];
    raw.dim[0] = dims.len() as u16;
    for (field, size) in raw.dim[1..].iter_mut().zip(dims) {
        *field = *size as u16;
    }
    raw.datatype = datatype.code();
    raw.bitpix = 8 * datatype.size() as i16;
    raw.vox_offset = 352.0;
    (raw.scl_slope, raw.scl_inter) = (1.0, 0.0);
    // The length unit is ours; the time unit of a series stays.
    raw.xyzt_units = UNIT_MM | (raw.xyzt_units & TIME_UNIT_MASK);
    set_affine(&mut raw, &grid.voxel_to_world, grid.spacing());
    raw
}

/// Writes the affine into both forms; with shear, which a quaternion cannot hold, into the sform.
fn set_affine(raw: &mut NiftiHeader, affine: &Affine, spacing: [f64; 3]) {
    let rows = affine.rows();
    let code = raw.sform_code.max(raw.qform_code).max(1);
    raw.sform_code = code;
    (raw.srow_x, raw.srow_y, raw.srow_z) = (
        rows[0].map(|v| v as f32),
        rows[1].map(|v| v as f32),
        rows[2].map(|v| v as f32),
    );
    for axis in 0..3 {
        raw.pixdim[axis + 1] = spacing[axis] as f32;
    }
    raw.pixdim[0] = 1.0;
    match to_quaternion(affine) {
        Some((q, qfac, _)) => {
            raw.qform_code = code;
            raw.pixdim[0] = qfac as f32;
            (raw.quatern_b, raw.quatern_c, raw.quatern_d) = (q[0] as f32, q[1] as f32, q[2] as f32);
            (raw.quatern_x, raw.quatern_y, raw.quatern_z) =
                (rows[0][3] as f32, rows[1][3] as f32, rows[2][3] as f32);
        }
        None => raw.qform_code = 0,
    }
}

fn write_file(
    path: &Path,
    raw: &NiftiHeader,
    data: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Written, WriteError> {
    let compressed = path.extension().is_some_and(|extension| extension == "gz");
    atomic::write(path, |out| {
        if compressed {
            // No name and no time in the gzip header: the same volume gives the same bytes.
            let mut gzip = GzBuilder::new().mtime(0).write(out, Compression::new(1));
            header_bytes(&mut gzip, raw)?;
            data(&mut gzip)?;
            gzip.finish().map(|_| ())
        } else {
            header_bytes(out, raw)?;
            data(out)
        }
    })
    .map_err(|error| error.of_at_most(uncompressed(raw)))
}

/// Bytes of header and voxels.
fn uncompressed(raw: &NiftiHeader) -> u64 {
    let dims = raw.dim[1..].iter().map(|size| u64::from(*size));
    352 + dims.product::<u64>() * raw.bitpix as u64 / 8
}

fn encode<T: Voxel>(out: &mut dyn Write, values: &[T]) -> io::Result<()> {
    encode_as(out, values, |value| value)
}

fn encode_as<T: Voxel>(
    out: &mut dyn Write,
    values: &[T],
    convert: impl Fn(T) -> T,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(8192 * size_of::<T>());
    for part in values.chunks(8192) {
        // Zeros compress to so little that the file behind would not notice a signal in time.
        observer::check_io()?;
        buffer.clear();
        part.iter()
            .for_each(|value| convert(*value).encode(&mut buffer));
        out.write_all(&buffer)?;
    }
    Ok(())
}

/// The 348 bytes of a NIfTI-1 header and the four of an empty extension list.
fn header_bytes(out: &mut dyn Write, raw: &NiftiHeader) -> io::Result<()> {
    if raw.dim[1..].iter().any(|size| *size == 0 || *size > 32767) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "`dim` is {:?}, expected sizes from 1 to 32767",
                &raw.dim[1..]
            ),
        ));
    }
    let mut b = Vec::with_capacity(352);
    b.extend(348_i32.to_le_bytes());
    b.extend([0; 35]);
    b.push(raw.dim_info);
    raw.dim.iter().for_each(|v| b.extend(v.to_le_bytes()));
    [raw.intent_p1, raw.intent_p2, raw.intent_p3]
        .iter()
        .for_each(|v| b.extend(v.to_le_bytes()));
    [raw.intent_code, raw.datatype, raw.bitpix, raw.slice_start]
        .iter()
        .for_each(|v| b.extend(v.to_le_bytes()));
    raw.pixdim.iter().for_each(|v| b.extend(v.to_le_bytes()));
    [raw.vox_offset, raw.scl_slope, raw.scl_inter]
        .iter()
        .for_each(|v| b.extend(v.to_le_bytes()));
    b.extend(raw.slice_end.to_le_bytes());
    b.extend([raw.slice_code, raw.xyzt_units]);
    [raw.cal_max, raw.cal_min, raw.slice_duration, raw.toffset]
        .iter()
        .for_each(|v| b.extend(v.to_le_bytes()));
    b.extend([0; 8]);
    let mut descrip = raw.descrip.clone();
    descrip.resize(80, 0);
    b.extend(&descrip);
    b.extend(&raw.aux_file);
    [raw.qform_code, raw.sform_code]
        .iter()
        .for_each(|v| b.extend(v.to_le_bytes()));
    [
        raw.quatern_b,
        raw.quatern_c,
        raw.quatern_d,
        raw.quatern_x,
        raw.quatern_y,
        raw.quatern_z,
    ]
    .iter()
    .for_each(|v| b.extend(v.to_le_bytes()));
    [raw.srow_x, raw.srow_y, raw.srow_z]
        .iter()
        .flatten()
        .for_each(|v| b.extend(v.to_le_bytes()));
    b.extend(&raw.intent_name);
    b.extend(b"n+1\0");
    b.extend([0; 4]);
    out.write_all(&b)
}
