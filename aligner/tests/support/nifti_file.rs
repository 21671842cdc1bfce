//! NIfTI files built field by field, so that each field can be made wrong.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

/// Builds the bytes of a NIfTI file from fields by name, so that each can be made wrong.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) big_endian: bool,
    pub(crate) header: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl File {
    /// A 3 × 4 × 2 volume of int16 values 0, 1, 2 …, voxel size 0.5 mm, units mm.
    pub(crate) fn nifti1(big_endian: bool) -> Self {
        let mut file = Self {
            big_endian,
            header: vec![0; 352],
            data: Vec::new(),
        };
        file.i32(0, 348);
        for (index, size) in [3, 3, 4, 2, 1, 1, 1, 1].into_iter().enumerate() {
            file.i16(40 + 2 * index, size);
        }
        file.i16(70, 4).i16(72, 16);
        for (index, size) in [1.0, 0.5, 0.5, 0.5].into_iter().enumerate() {
            file.f32(76 + 4 * index, size);
        }
        file.f32(108, 352.0).f32(112, 1.0);
        file.header[123] = 2;
        file.i16(254, 1);
        for (row, at) in [280, 296, 312].into_iter().enumerate() {
            file.f32(at + 4 * row, 0.5)
                .f32(at + 12, 10.0 * (row as f32 + 1.0));
        }
        file.header[344..348].copy_from_slice(b"n+1\0");
        for value in 0..24_i16 {
            let bytes = if big_endian {
                value.to_be_bytes()
            } else {
                value.to_le_bytes()
            };
            file.data.extend(bytes);
        }
        file
    }

    /// The same volume as NIfTI-2.
    pub(crate) fn nifti2(big_endian: bool) -> Self {
        let mut file = Self {
            header: vec![0; 544],
            ..Self::nifti1(big_endian)
        };
        file.i32(0, 540);
        file.header[4..12].copy_from_slice(b"n+2\0\r\n\x1a\n");
        file.i16(12, 4).i16(14, 16);
        for (index, size) in [3, 3, 4, 2, 1, 1, 1, 1].into_iter().enumerate() {
            file.i64(16 + 8 * index, size);
        }
        for (index, size) in [1.0, 0.5, 0.5, 0.5].into_iter().enumerate() {
            file.f64(104 + 8 * index, size);
        }
        file.i64(168, 544).f64(176, 1.0).i32(348, 1).i32(500, 2);
        for (row, at) in [400, 432, 464].into_iter().enumerate() {
            file.f64(at + 8 * row, 0.5)
                .f64(at + 24, 10.0 * (row as f64 + 1.0));
        }
        file
    }

    pub(crate) fn put(&mut self, at: usize, little: &[u8]) -> &mut Self {
        let mut bytes = little.to_vec();
        if self.big_endian {
            bytes.reverse();
        }
        self.header[at..at + bytes.len()].copy_from_slice(&bytes);
        self
    }

    pub(crate) fn i16(&mut self, at: usize, value: i16) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn i32(&mut self, at: usize, value: i32) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn i64(&mut self, at: usize, value: i64) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn f32(&mut self, at: usize, value: f32) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn f64(&mut self, at: usize, value: f64) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.header.clone(), self.data.clone()].concat()
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
