//! Reading volumes: images as stored, scalars, labels, displacement fields.
//!
//! What every file has to pass is in `stream`; values are converted while they are read, so that
//! nothing is held twice.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    datatype::{Voxel, Voxels, with_datatype},
    header::{Header, HeaderError},
    stream::Stream,
};
use crate::{
    field::DisplacementField,
    grid::Grid,
    observer::{self, Interrupted},
    volume::Volume,
};

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there.
    #[error("`{}` does not exist", .0.display())]
    NotFound(PathBuf),
    /// It is a folder, a pipe, a device.
    #[error("`{}` is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The system could not read it.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The header is wrong.
    #[error("`{}`: {source}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
    /// The content does not fit the header, or cannot be used.
    #[error("`{}`: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// The voxels do not fit into the memory.
    #[error("`{}`: its voxels need {needed} bytes, more than the system gives", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
    },
    /// The process was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl ReadError {
    pub(super) fn content(path: &Path, problem: impl Into<String>) -> Self {
        Self::Content {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// Damaged data is the file's fault, everything else the system's.
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        if observer::is_interrupted(&source) {
            return Interrupted.into();
        }
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound(path.to_owned()),
            UnexpectedEof => Self::content(path, "the file ends too early"),
            InvalidData | InvalidInput => {
                Self::content(path, format!("damaged gzip stream: {source}"))
            }
            _ => Self::Io {
                path: path.to_owned(),
                source,
            },
        }
    }
}

/// A box of voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// First voxel.
    pub start: [usize; 3],
    /// Voxels along each axis.
    pub shape: [usize; 3],
}

impl Crop {
    /// The whole grid.
    pub fn whole(shape: [usize; 3]) -> Self {
        Self {
            start: [0; 3],
            shape,
        }
    }
}

/// A scalar volume with the header and the digest of its file.
#[derive(Debug)]
pub struct Scalar<T> {
    /// Values, scaled.
    pub volume: Volume<T>,
    /// The whole file's header.
    pub header: Header,
    /// SHA-256 of the file as stored, lower-case hexadecimal.
    pub sha256: String,
}

/// An image as stored: values before scaling, all frames one after the other.
#[derive(Debug)]
pub struct StoredImage {
    /// Stored values; frame f starts at `f · grid.voxels()`.
    pub voxels: Voxels,
    /// The file's header.
    pub header: Header,
    /// SHA-256 of the file as stored, lower-case hexadecimal.
    pub sha256: String,
}

/// Reads a header alone.
///
/// # Errors
/// [`ReadError`] naming the file and the field.
pub fn read_header(path: &Path) -> Result<Header, ReadError> {
    Ok(Stream::open(path)?.header)
}

/// Reads an image as stored, with all its frames.
///
/// # Errors
/// [`ReadError`] naming the file and what is wrong with it.
pub fn read_stored(path: &Path) -> Result<StoredImage, ReadError> {
    stored(Stream::open(path)?)
}

/// As [`read_stored`], from a source of `bytes` bytes that is no file; `name` is for messages.
///
/// # Errors
/// As [`read_stored`].
pub fn decode_stored(name: &Path, source: impl Read, bytes: u64) -> Result<StoredImage, ReadError> {
    stored(Stream::new(name, source, bytes)?)
}

fn stored(stream: Stream) -> Result<StoredImage, ReadError> {
    let header = stream.header.clone();
    let count = header.grid.voxels() * header.frames();
    let crop = Crop::whole(header.grid.shape);
    macro_rules! decoded {
        ($type:ty, $variant:ident) => {{
            let mut values = stream.reserve::<$type>(count)?;
            let sha256 = stream.rows(crop, |bytes| {
                values.extend(<$type>::decode_all(bytes, header.big_endian));
            })?;
            (Voxels::$variant(values), sha256)
        }};
    }
    let (voxels, sha256) = with_datatype!(header.datatype, decoded);
    Ok(StoredImage {
        voxels,
        header,
        sha256,
    })
}

/// Hands all stored values times slope plus intercept to a function, in the order of the file;
/// returns the SHA-256 of the file as stored.
fn scaled(stream: Stream, crop: Crop, mut take: impl FnMut(f64)) -> Result<String, ReadError> {
    let (slope, inter) = (stream.header.slope, stream.header.inter);
    let (datatype, big_endian) = (stream.header.datatype, stream.header.big_endian);
    let unscaled = slope == 1.0 && inter == 0.0;
    macro_rules! decoded {
        ($type:ty, $variant:ident) => {
            stream.rows(crop, |bytes| {
                let values = <$type>::decode_all(bytes, big_endian).map(Voxel::to_f64);
                if unscaled {
                    values.for_each(&mut take);
                } else {
                    values.for_each(|value| take(slope * value + inter));
                }
            })
        };
    }
    with_datatype!(datatype, decoded)
}

/// Hands all scaled values of a file to a function, frame by frame, without holding them.
///
/// # Errors
/// [`ReadError`] naming the file and what is wrong with it.
pub fn scan(path: &Path, take: impl FnMut(f64)) -> Result<Header, ReadError> {
    let stream = Stream::open(path)?;
    let header = stream.header.clone();
    scaled(stream, Crop::whole(header.grid.shape), take)?;
    Ok(header)
}

/// Reads one volume as scaled `f32` values.
///
/// # Errors
/// [`ReadError`] naming the file and what is wrong with it; more than one frame is an error.
pub fn read_scalar(path: &Path) -> Result<Scalar<f32>, ReadError> {
    read_cropped(path, |header| Crop::whole(header.grid.shape))
}

/// Reads the part of one volume that a function of the header chooses; never holds more.
///
/// # Errors
/// As [`read_scalar`]. The crop must lie within the volume.
pub fn read_cropped(
    path: &Path,
    crop: impl FnOnce(&Header) -> Crop,
) -> Result<Scalar<f32>, ReadError> {
    let stream = Stream::open(path)?;
    let header = stream.header.clone();
    one_frame(path, &header)?;
    let crop = crop(&header);
    let mut values = stream.reserve(crop.shape.iter().product())?;
    let sha256 = scaled(stream, crop, |value| values.push(value as f32))?;
    scalar(path, header, crop, values, sha256)
}

/// Reads one volume of integer labels; scaled values must lie within 0.001 of an integer.
///
/// # Errors
/// As [`read_scalar`]; values that are no labels are counted in the message.
pub fn read_labels(path: &Path) -> Result<Scalar<i32>, ReadError> {
    let stream = Stream::open(path)?;
    let header = stream.header.clone();
    one_frame(path, &header)?;
    let crop = Crop::whole(header.grid.shape);
    let mut labels = stream.reserve(header.grid.voxels())?;
    let (mut wrong, mut example) = (0_usize, 0.0);
    let sha256 = scaled(stream, crop, |value| {
        let label = value.round();
        let range = f64::from(i32::MIN)..=f64::from(i32::MAX);
        let good = (value - label).abs() <= 1e-3 && range.contains(&label);
        if !good {
            if wrong == 0 {
                example = value;
            }
            wrong += 1;
        }
        labels.push(if good { label as i32 } else { 0 });
    })?;
    if wrong > 0 {
        return Err(ReadError::content(
            path,
            format!(
                "{wrong} voxels are not integer labels (for example {example}): is this a segmentation?"
            ),
        ));
    }
    scalar(path, header, crop, labels, sha256)
}

fn scalar<T: Copy>(
    path: &Path,
    header: Header,
    crop: Crop,
    values: Vec<T>,
    sha256: String,
) -> Result<Scalar<T>, ReadError> {
    let grid = header.grid.cropped(crop.start, crop.shape);
    let volume = Volume::from_vec(grid, values)
        .ok_or_else(|| ReadError::content(path, "wrong number of voxels"))?;
    Ok(Scalar {
        volume,
        header,
        sha256,
    })
}

/// Reads an ITK displacement field (x, y, z, 1, 3), components LPS mm, into RAS mm.
///
/// # Errors
/// [`ReadError`]; a file of another shape is refused with the shape found.
pub fn read_vectors(path: &Path) -> Result<DisplacementField, ReadError> {
    let stream = Stream::open(path)?;
    let header = &stream.header;
    let grid: Grid = header.grid;
    if header.dims.len() != 5 || header.dims[3] != 1 || header.dims[4] != 3 {
        return Err(ReadError::content(
            path,
            format!(
                "`dim` is {:?}, expected (x, y, z, 1, 3): an ITK displacement field",
                header.dims
            ),
        ));
    }
    let n = grid.voxels();
    let mut components = [stream.reserve(n)?, stream.reserve(n)?, stream.reserve(n)?];
    let (mut axis, mut finite) = (0, true);
    scaled(stream, Crop::whole(grid.shape), |value| {
        if components[axis].len() == n {
            axis += 1;
        }
        let value = if axis < 2 { -value } else { value } as f32;
        finite &= value.is_finite();
        components[axis].push(value);
    })?;
    if !finite {
        return Err(ReadError::content(
            path,
            "a displacement is not a finite number",
        ));
    }
    Ok(DisplacementField { grid, components })
}

fn one_frame(path: &Path, header: &Header) -> Result<(), ReadError> {
    if header.frames() == 1 {
        return Ok(());
    }
    Err(ReadError::content(
        path,
        format!(
            "`dim` is {:?}, expected one three-dimensional volume",
            header.dims
        ),
    ))
}
