//! Guarded reading of voxels.
//!
//! A file is read plane by plane and to its very end: the gzip checksums and lengths are verified,
//! missing and surplus bytes are errors. Memory is allocated only after the size that the header
//! claims was compared with the size of the file.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::{
    datatype::{Datatype, Voxel, Voxels},
    header::{Header, HeaderError, LONGEST},
};
use crate::{field::DisplacementField, grid::Grid, io::atomic::hex, volume::Volume, with_voxels};

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
}

impl ReadError {
    fn content(path: &Path, problem: impl Into<String>) -> Self {
        Self::Content {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// Damaged data is the file's fault, everything else the system's.
    fn from_io(path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
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
    let stream = Stream::open(path)?;
    let header = stream.header.clone();
    let crop = Crop::whole(header.grid.shape);
    let (voxels, sha256) = stream.voxels(crop)?;
    Ok(StoredImage {
        voxels,
        header,
        sha256,
    })
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
    let (voxels, sha256) = stream.voxels(crop)?;
    let (slope, inter) = (header.slope, header.inter);
    let values: Vec<f32> = match voxels {
        Voxels::F32(values) if slope == 1.0 && inter == 0.0 => values,
        other => {
            with_voxels!(other, values => values.iter().map(|v| (slope * v.to_f64() + inter) as f32).collect())
        }
    };
    let grid = header.grid.cropped(crop.start, crop.shape);
    let volume = Volume::from_vec(grid, values)
        .ok_or_else(|| ReadError::content(path, "wrong number of voxels"))?;
    Ok(Scalar {
        volume,
        header,
        sha256,
    })
}

/// Reads one volume of integer labels; scaled values must lie within 0.001 of an integer.
///
/// # Errors
/// As [`read_scalar`]; values that are no labels are counted in the message.
pub fn read_labels(path: &Path) -> Result<Scalar<i32>, ReadError> {
    let stored = read_stored(path)?;
    one_frame(path, &stored.header)?;
    let (slope, inter) = (stored.header.slope, stored.header.inter);
    let (mut wrong, mut example) = (0_usize, 0.0);
    let labels: Vec<i32> = with_voxels!(&stored.voxels, values => values.iter().map(|value| {
        let value = slope * value.to_f64() + inter;
        let label = value.round();
        if (value - label).abs() > 1e-3 || !(f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&label) {
            if wrong == 0 { example = value; }
            wrong += 1;
            return 0;
        }
        label as i32
    }).collect());
    if wrong > 0 {
        return Err(ReadError::content(
            path,
            format!(
                "{wrong} voxels are not integer labels (for example {example}): is this a segmentation?"
            ),
        ));
    }
    let volume = Volume::from_vec(stored.header.grid, labels)
        .ok_or_else(|| ReadError::content(path, "wrong number of voxels"))?;
    Ok(Scalar {
        volume,
        header: stored.header,
        sha256: stored.sha256,
    })
}

/// Reads an ITK displacement field (x, y, z, 1, 3), components LPS mm, into RAS mm.
///
/// # Errors
/// [`ReadError`]; a file of another shape is refused with the shape found.
pub fn read_vectors(path: &Path) -> Result<DisplacementField, ReadError> {
    let stored = read_stored(path)?;
    let header = &stored.header;
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
    let (slope, inter) = (header.slope, header.inter);
    let mut components = [const { Vec::new() }; 3];
    for (axis, component) in components.iter_mut().enumerate() {
        let sign = if axis < 2 { -1.0 } else { 1.0 };
        *component = with_voxels!(&stored.voxels, values => values[axis * n..(axis + 1) * n]
            .iter().map(|v| (sign * (slope * v.to_f64() + inter)) as f32).collect::<Vec<f32>>());
        if component.iter().any(|value| !value.is_finite()) {
            return Err(ReadError::content(
                path,
                "a displacement is not a finite number",
            ));
        }
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

/// An open file, its header read, positioned behind the header's bytes.
struct Stream {
    path: PathBuf,
    reader: Box<dyn Read>,
    digest: std::rc::Rc<std::cell::RefCell<Sha256>>,
    header: Header,
    /// Bytes taken from the reader so far.
    position: u64,
    file_bytes: u64,
    compressed: bool,
    /// Bytes read beyond a NIfTI-1 header while looking for a NIfTI-2 one.
    pending: Vec<u8>,
}

/// Deflate cannot expand a byte to more than this many.
const LARGEST_EXPANSION: u64 = 1032;

impl Stream {
    fn open(path: &Path) -> Result<Self, ReadError> {
        let fail = |source| ReadError::from_io(path, source);
        // Looked at before it is opened: opening a pipe would wait for a writer.
        let metadata = std::fs::metadata(path).map_err(fail)?;
        if !metadata.is_file() {
            return Err(ReadError::NotAFile(path.to_owned()));
        }
        let file = File::open(path).map_err(fail)?;
        let digest = std::rc::Rc::new(std::cell::RefCell::new(Sha256::new()));
        let mut raw = BufReader::with_capacity(
            1 << 18,
            Digesting {
                file,
                digest: digest.clone(),
            },
        );
        let start = raw.fill_buf().map_err(fail)?;
        if start.is_empty() {
            return Err(ReadError::content(path, "the file is empty"));
        }
        let compressed = start.starts_with(&[0x1f, 0x8b]);
        let mut reader: Box<dyn Read> = if compressed {
            Box::new(MultiGzDecoder::new(raw))
        } else {
            Box::new(raw)
        };
        let mut first = vec![0; LONGEST];
        let mut length = 0;
        while length < LONGEST {
            match reader.read(&mut first[length..]).map_err(fail)? {
                0 => break,
                count => length += count,
            }
        }
        first.truncate(length);
        let header = Header::parse(&first).map_err(|source| ReadError::Header {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            digest,
            header,
            position: 0,
            file_bytes: metadata.len(),
            compressed,
            pending: first,
        })
    }

    /// Fills a buffer from what was read ahead, then from the file.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        let ahead = self.pending.len().min(buffer.len());
        buffer[..ahead].copy_from_slice(&self.pending[..ahead]);
        self.pending.drain(..ahead);
        let mut done = ahead;
        while done < buffer.len() {
            let count = self
                .reader
                .read(&mut buffer[done..])
                .map_err(|source| ReadError::from_io(&self.path, source))?;
            if count == 0 {
                let expected = self.header.vox_offset + self.header.data_bytes();
                let found = self.position + done as u64;
                return Err(ReadError::content(
                    &self.path,
                    format!(
                        "the data ends after {found} bytes, expected {expected}: the file is cut"
                    ),
                ));
            }
            done += count;
        }
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn check_claim(&self) -> Result<(), ReadError> {
        let needed = self
            .header
            .vox_offset
            .saturating_add(self.header.data_bytes());
        let possible = if self.compressed {
            self.file_bytes.saturating_mul(LARGEST_EXPANSION)
        } else {
            self.file_bytes
        };
        if needed > possible {
            return Err(ReadError::content(
                &self.path,
                format!(
                    "the header describes {needed} bytes, but a file of {} bytes holds at most {possible}: the file is cut or its header is wrong",
                    self.file_bytes
                ),
            ));
        }
        Ok(())
    }

    /// Reads every frame's crop, then the rest of the file to its end.
    fn voxels(mut self, crop: Crop) -> Result<(Voxels, String), ReadError> {
        self.check_claim()?;
        let mut skip = self.header.vox_offset;
        let mut buffer = vec![0; 4096];
        while skip > 0 {
            let part = skip.min(buffer.len() as u64) as usize;
            self.fill(&mut buffer[..part])?;
            skip -= part as u64;
        }
        let voxels = match self.header.datatype {
            Datatype::U8 => Voxels::U8(self.planes(crop)?),
            Datatype::I8 => Voxels::I8(self.planes(crop)?),
            Datatype::U16 => Voxels::U16(self.planes(crop)?),
            Datatype::I16 => Voxels::I16(self.planes(crop)?),
            Datatype::U32 => Voxels::U32(self.planes(crop)?),
            Datatype::I32 => Voxels::I32(self.planes(crop)?),
            Datatype::U64 => Voxels::U64(self.planes(crop)?),
            Datatype::I64 => Voxels::I64(self.planes(crop)?),
            Datatype::F32 => Voxels::F32(self.planes(crop)?),
            Datatype::F64 => Voxels::F64(self.planes(crop)?),
        };
        self.finish()?;
        let sha256 = hex(&self.digest.borrow().clone().finalize());
        Ok((voxels, sha256))
    }

    /// Decodes z-plane by z-plane, keeping what lies in the crop.
    fn planes<T: Voxel>(&mut self, crop: Crop) -> Result<Vec<T>, ReadError> {
        let [nx, ny, nz] = self.header.grid.shape;
        let inside =
            (0..3).all(|a| crop.shape[a] > 0 && crop.start[a] + crop.shape[a] <= [nx, ny, nz][a]);
        if !inside {
            return Err(ReadError::content(
                &self.path,
                "the part asked for lies outside the volume",
            ));
        }
        let size = self.header.datatype.size();
        let big_endian = self.header.big_endian;
        let frames = self.header.frames();
        let mut plane = vec![0; nx * ny * size];
        let mut values = Vec::with_capacity(crop.shape.iter().product::<usize>() * frames);
        for _ in 0..frames {
            for z in 0..nz {
                self.fill(&mut plane)?;
                if !(crop.start[2]..crop.start[2] + crop.shape[2]).contains(&z) {
                    continue;
                }
                for y in crop.start[1]..crop.start[1] + crop.shape[1] {
                    let from = (y * nx + crop.start[0]) * size;
                    let row = &plane[from..from + crop.shape[0] * size];
                    values.extend(
                        row.chunks_exact(size)
                            .map(|bytes| T::decode(bytes, big_endian)),
                    );
                }
            }
        }
        Ok(values)
    }

    /// Nothing may follow the voxels; reading to the end verifies the gzip trailer.
    fn finish(&mut self) -> Result<(), ReadError> {
        let mut rest = [0; 4096];
        let surplus = self.pending.len()
            + self
                .reader
                .read(&mut rest)
                .map_err(|source| ReadError::from_io(&self.path, source))?;
        if surplus > 0 {
            return Err(ReadError::content(
                &self.path,
                format!(
                    "the file goes on after the {} bytes that its header describes",
                    self.position
                ),
            ));
        }
        Ok(())
    }
}

/// Hashes every byte that leaves the file.
struct Digesting {
    file: File,
    digest: std::rc::Rc<std::cell::RefCell<Sha256>>,
}

impl Read for Digesting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.digest.borrow_mut().update(&buffer[..count]);
        Ok(count)
    }
}
