//! The bytes of a NIfTI file, guarded: from the header to the very end of the file.
//!
//! Gzip checksums and lengths are verified, missing and surplus bytes are errors. Memory is taken only
//! after the size that the header claims was compared with the size of the file, and nothing but
//! what the caller keeps grows with the volume. A signal stops the reading between two pieces.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::{
    header::{Header, LONGEST},
    read::{Crop, ReadError},
};
use crate::{io::atomic::hex, observer};

/// Deflate cannot expand a byte to more than this many.
const LARGEST_EXPANSION: u64 = 1032;
/// Bytes that are taken from the file at once.
const FILE_BUFFER: usize = 1 << 18;
/// Bytes of voxels that are decoded at once, unless one row is longer.
const PIECE: usize = 1 << 16;

/// An open file, its header read.
pub(super) struct Stream<'a> {
    path: PathBuf,
    reader: Box<dyn Read + 'a>,
    digest: Rc<RefCell<Sha256>>,
    pub(super) header: Header,
    /// Bytes handed out so far, after decompression.
    position: u64,
    stored_bytes: u64,
    compressed: bool,
    /// What was read to parse the header and not handed out yet.
    ahead: Vec<u8>,
}

/// Opens a regular file. A pipe or a device that takes its place cannot make the program wait.
fn open(path: &Path) -> Result<(File, u64), ReadError> {
    let fail = |source| ReadError::from_io(path, source);
    // Looked at before it is opened, too: opening a device may do something to it.
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(ReadError::NotAFile(path.to_owned()));
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile(path.to_owned()));
    }
    Ok((file, metadata.len()))
}

impl<'a> Stream<'a> {
    pub(super) fn open(path: &Path) -> Result<Self, ReadError> {
        let (file, bytes) = open(path)?;
        Self::new(path, file, bytes)
    }

    /// `stored_bytes`: length of the source. `path` is for messages.
    pub(super) fn new(
        path: &Path,
        source: impl Read + 'a,
        stored_bytes: u64,
    ) -> Result<Self, ReadError> {
        let fail = |source| ReadError::from_io(path, source);
        let digest = Rc::new(RefCell::new(Sha256::new()));
        let source = Digesting {
            source,
            digest: digest.clone(),
        };
        let mut raw = BufReader::with_capacity(FILE_BUFFER, source);
        let start = raw.fill_buf().map_err(fail)?;
        if start.is_empty() {
            return Err(ReadError::content(path, "the file is empty"));
        }
        let compressed = start.starts_with(&[0x1f, 0x8b]);
        let mut reader: Box<dyn Read + 'a> = if compressed {
            Box::new(MultiGzDecoder::new(raw))
        } else {
            Box::new(raw)
        };
        let mut ahead = Vec::with_capacity(LONGEST);
        let longest = LONGEST as u64;
        (&mut reader)
            .take(longest)
            .read_to_end(&mut ahead)
            .map_err(fail)?;
        let header = Header::parse(&ahead).map_err(|source| ReadError::Header {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            digest,
            header,
            position: 0,
            stored_bytes,
            compressed,
            ahead,
        })
    }

    /// Hands the rows of voxels that lie in the crop to `take`, one or several at once, in the order
    /// of the file and never across two planes; then reads to the end. Returns the SHA-256 of the
    /// file as stored.
    ///
    /// `take` may rely on [`Self::reserve`]d memory only if that came first.
    pub(super) fn rows(
        mut self,
        crop: Crop,
        mut take: impl FnMut(&[u8]),
    ) -> Result<String, ReadError> {
        self.check_claim()?;
        self.check_crop(crop)?;
        let mut buffer = Vec::new();
        self.skip(self.header.vox_offset, &mut buffer)?;
        let [nx, ny, nz] = self.header.grid.shape;
        let size = self.header.datatype.size();
        let row = nx * size;
        let rows_at_once = (PIECE / row).max(1);
        let [in_y, in_z] = [1, 2].map(|axis| crop.start[axis]..crop.start[axis] + crop.shape[axis]);
        let in_row = crop.start[0] * size..(crop.start[0] + crop.shape[0]) * size;
        for _ in 0..self.header.frames() {
            for z in 0..nz {
                if !in_z.contains(&z) {
                    self.skip((row * ny) as u64, &mut buffer)?;
                    continue;
                }
                self.skip((row * in_y.start) as u64, &mut buffer)?;
                let mut y = in_y.start;
                while y < in_y.end {
                    let rows = rows_at_once.min(in_y.end - y);
                    buffer.resize(rows * row, 0);
                    self.fill(&mut buffer)?;
                    if in_row.len() == row {
                        take(&buffer);
                    } else {
                        buffer
                            .chunks_exact(row)
                            .for_each(|row| take(&row[in_row.clone()]));
                    }
                    y += rows;
                }
                self.skip((row * (ny - in_y.end)) as u64, &mut buffer)?;
            }
        }
        self.finish()?;
        let digest = self.digest.borrow().clone();
        Ok(hex(&digest.finalize()))
    }

    /// Empty memory for `count` values, once the header's claim has been checked.
    pub(super) fn reserve<T>(&self, count: usize) -> Result<Vec<T>, ReadError> {
        self.check_claim()?;
        let mut values = Vec::new();
        values
            .try_reserve_exact(count)
            .map_err(|_| ReadError::Memory {
                path: self.path.clone(),
                needed: count as u64 * size_of::<T>() as u64,
            })?;
        Ok(values)
    }

    fn skip(&mut self, bytes: u64, buffer: &mut Vec<u8>) -> Result<(), ReadError> {
        let mut left = bytes;
        while left > 0 {
            let part = left.min(PIECE as u64);
            buffer.resize(part as usize, 0);
            self.fill(buffer)?;
            left -= part;
        }
        Ok(())
    }

    /// Fills a buffer from what was read ahead, then from the file.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        let fail = |source| ReadError::from_io(&self.path, source);
        observer::check_io().map_err(fail)?;
        let mut done = self.ahead.len().min(buffer.len());
        buffer[..done].copy_from_slice(&self.ahead[..done]);
        self.ahead.drain(..done);
        while done < buffer.len() {
            let count = self.reader.read(&mut buffer[done..]).map_err(fail)?;
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
            self.stored_bytes.saturating_mul(LARGEST_EXPANSION)
        } else {
            self.stored_bytes
        };
        if needed > possible {
            return Err(ReadError::content(
                &self.path,
                format!(
                    "the header describes {needed} bytes, but a file of {} bytes holds at most {possible}: the file is cut or its header is wrong",
                    self.stored_bytes
                ),
            ));
        }
        Ok(())
    }

    fn check_crop(&self, crop: Crop) -> Result<(), ReadError> {
        let shape = self.header.grid.shape;
        let inside = (0..3).all(|axis| {
            crop.shape[axis] > 0
                && crop.start[axis]
                    .checked_add(crop.shape[axis])
                    .is_some_and(|end| end <= shape[axis])
        });
        if inside {
            return Ok(());
        }
        Err(ReadError::content(
            &self.path,
            format!("the part asked for, {crop:?}, lies outside the volume of {shape:?} voxels"),
        ))
    }

    /// Nothing may follow the voxels; reading to the end verifies the gzip trailer.
    fn finish(&mut self) -> Result<(), ReadError> {
        let mut rest = [0; 512];
        let surplus = self.ahead.len()
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

/// Hashes every byte that leaves the file, and stops on request.
struct Digesting<R> {
    source: R,
    digest: Rc<RefCell<Sha256>>,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        observer::check_io()?;
        let count = self.source.read(buffer)?;
        self.digest.borrow_mut().update(&buffer[..count]);
        Ok(count)
    }
}
