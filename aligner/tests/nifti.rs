//! Reading and writing NIfTI files: every voxel type, both byte orders, both versions, and files
//! that must be refused by name.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken expectation fails the test"
)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use aligner::{
    affine::Affine,
    field::DisplacementField,
    grid::Grid,
    io::nifti::{self, Crop, Datatype, Voxels},
};
use flate2::{Compression, write::GzEncoder};

/// Builds the bytes of a NIfTI file from fields by name, so that each can be made wrong.
#[derive(Clone)]
struct File {
    big_endian: bool,
    header: Vec<u8>,
    data: Vec<u8>,
}

impl File {
    /// A 3 × 4 × 2 volume of int16 values 0, 1, 2 …, voxel size 0.5 mm, units mm.
    fn nifti1(big_endian: bool) -> Self {
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
    fn nifti2(big_endian: bool) -> Self {
        let mut file = Self {
            header: vec![0; 544],
            ..Self::nifti1(big_endian)
        };
        file.i32(0, 540);
        file.header[4..8].copy_from_slice(b"n+2\0");
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

    fn put(&mut self, at: usize, little: &[u8]) -> &mut Self {
        let mut bytes = little.to_vec();
        if self.big_endian {
            bytes.reverse();
        }
        self.header[at..at + bytes.len()].copy_from_slice(&bytes);
        self
    }

    fn i16(&mut self, at: usize, value: i16) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    fn i32(&mut self, at: usize, value: i32) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    fn i64(&mut self, at: usize, value: i64) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    fn f32(&mut self, at: usize, value: f32) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    fn f64(&mut self, at: usize, value: f64) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        [self.header.clone(), self.data.clone()].concat()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn read(path: &Path) -> Result<Vec<f32>, String> {
    nifti::read_scalar(path)
        .map(|read| read.volume.values().to_vec())
        .map_err(|error| error.to_string())
}

fn counting() -> Vec<f32> {
    (0_u8..24).map(f32::from).collect()
}

/// The message that a changed file is refused with.
fn refusal(change: impl FnOnce(&mut File)) -> String {
    let mut file = File::nifti1(false);
    change(&mut file);
    let folder = Folder::new();
    let message = read(&folder.put("a.nii", &file.bytes())).unwrap_err();
    assert!(message.contains("a.nii"), "{message}");
    message
}

#[test]
fn both_versions_byte_orders_and_compressions_give_the_same_volume() {
    let folder = Folder::new();
    for file in [
        File::nifti1(false),
        File::nifti1(true),
        File::nifti2(false),
        File::nifti2(true),
    ] {
        for bytes in [file.bytes(), gzip(&file.bytes())] {
            // The content decides, not the name.
            let path = folder.put("a.nii", &bytes);
            assert_eq!(read(&path).unwrap(), counting());
            let grid = nifti::read_header(&path).unwrap().grid;
            assert_eq!(grid.shape, [3, 4, 2]);
            assert_eq!(
                grid.voxel_to_world.apply([1.0, 0.0, 1.0]),
                [10.5, 20.0, 30.5]
            );
        }
    }
}

#[test]
fn every_real_type_is_read_in_both_byte_orders() {
    let folder = Folder::new();
    macro_rules! check {
        ($($type:ty => $code:expr),*) => {$(
            for big_endian in [false, true] {
                let mut file = File::nifti1(big_endian);
                file.i16(70, $code).i16(72, 8 * size_of::<$type>() as i16);
                file.data.clear();
                for value in 0_u8..24 {
                    let value = <$type>::from(value as i8 as $type);
                    file.data.extend(if big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
                }
                assert_eq!(read(&folder.put("a.nii", &file.bytes())).unwrap(), counting(), stringify!($type));
            }
        )*};
    }
    check!(u8 => 2, i8 => 256, u16 => 512, i16 => 4, u32 => 768, i32 => 8, u64 => 1280, i64 => 1024, f32 => 16, f64 => 64);
}

#[test]
fn scaling_is_applied_unless_the_slope_is_zero_or_not_finite() {
    let folder = Folder::new();
    let at_two = |slope: f32, inter: f32| {
        let mut file = File::nifti1(false);
        file.f32(112, slope).f32(116, inter);
        read(&folder.put("a.nii", &file.bytes())).unwrap()[2]
    };
    assert_eq!(at_two(0.5, 10.0), 11.0);
    assert_eq!(at_two(0.0, 10.0), 2.0);
    assert_eq!(at_two(f32::NAN, 10.0), 2.0);
}

#[test]
fn voxels_start_where_vox_offset_says() {
    let folder = Folder::new();
    let mut file = File::nifti1(false);
    file.f32(108, 416.0);
    file.header.resize(416, 0xAA);
    assert_eq!(
        read(&folder.put("a.nii", &file.bytes())).unwrap(),
        counting()
    );
}

#[test]
fn two_gzip_members_are_one_stream() {
    let folder = Folder::new();
    let bytes = File::nifti1(false).bytes();
    let members = [gzip(&bytes[..370]), gzip(&bytes[370..])].concat();
    assert_eq!(read(&folder.put("a.nii.gz", &members)).unwrap(), counting());
}

#[test]
fn a_compressed_file_cut_anywhere_is_refused() {
    let folder = Folder::new();
    let bytes = gzip(&File::nifti1(false).bytes());
    for length in 0..bytes.len() {
        let result = read(&folder.put("a.nii.gz", &bytes[..length]));
        assert!(
            result.is_err(),
            "accepted {length} of {} bytes",
            bytes.len()
        );
    }
}

#[test]
fn a_flipped_bit_never_gives_other_voxels() {
    let folder = Folder::new();
    let bytes = gzip(&File::nifti1(false).bytes());
    for position in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[position / 8] ^= 1 << (position % 8);
        // Bits of the gzip header (time, name flags) may be harmless; the volume must not change.
        if let Ok(values) = read(&folder.put("a.nii.gz", &damaged)) {
            assert_eq!(values, counting(), "bit {position}");
        }
    }
}

#[test]
fn wrong_headers_are_refused_by_field() {
    assert!(
        refusal(|f| {
            f.i32(0, 349);
        })
        .contains("sizeof_hdr")
    );
    assert!(refusal(|f| f.header[344..348].copy_from_slice(b"ni1\0")).contains(".hdr and .img"));
    assert!(refusal(|f| f.header[344..348].copy_from_slice(b"abcd")).contains("magic"));
    assert!(
        refusal(|f| {
            f.i16(40, 9);
        })
        .contains("dim[0]")
    );
    assert!(
        refusal(|f| {
            f.i16(44, -8);
        })
        .contains("dim[2]")
    );
    assert!(
        refusal(|f| {
            f.i16(44, 0);
        })
        .contains("dim[2]")
    );
    assert!(
        refusal(|f| {
            f.i16(70, 128);
        })
        .contains("`datatype` is 128")
    );
    assert!(
        refusal(|f| {
            f.i16(70, 32).i16(72, 64);
        })
        .contains("complex")
    );
    assert!(
        refusal(|f| {
            f.i16(72, 32);
        })
        .contains("bitpix")
    );
    for offset in [0.0, 100.0, -1.0, 352.5, f32::NAN, f32::INFINITY] {
        assert!(
            refusal(|f| {
                f.f32(108, offset);
            })
            .contains("vox_offset"),
            "{offset}"
        );
    }
    assert!(
        refusal(|f| {
            f.f32(280, f32::NAN);
        })
        .contains("srow_x")
    );
    assert!(
        refusal(|f| {
            f.f32(280, 0.0);
        })
        .contains("determinant")
    );
}

#[test]
fn data_must_be_exactly_as_long_as_the_header_says() {
    assert!(
        refusal(|f| {
            f.data.pop();
        })
        .contains("cut")
    );
    assert!(refusal(|f| f.data.push(0)).contains("goes on"));
    assert!(
        refusal(|f| {
            f.i16(42, 32767).i16(44, 32767).i16(46, 32767);
        })
        .contains("holds at most")
    );
    assert!(
        refusal(|f| {
            f.i16(40, 7);
            for k in 1..8 {
                f.i16(40 + 2 * k, 32767);
            }
        })
        .contains("can be addressed")
    );
}

#[test]
fn a_small_compressed_file_cannot_claim_a_large_volume() {
    let folder = Folder::new();
    let mut file = File::nifti1(false);
    file.i16(42, 2000).i16(44, 2000).i16(46, 2000);
    let message = read(&folder.put("a.nii.gz", &gzip(&file.bytes()))).unwrap_err();
    assert!(message.contains("holds at most"), "{message}");
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let folder = Folder::new();
    assert!(
        read(folder.0.path())
            .unwrap_err()
            .contains("not a regular file")
    );
    let fifo = folder.0.path().join("fifo.nii");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    assert!(read(&fifo).unwrap_err().contains("not a regular file"));
    assert!(
        read(&folder.0.path().join("none.nii"))
            .unwrap_err()
            .contains("does not exist")
    );
    assert!(
        read(&folder.put("empty.nii", b""))
            .unwrap_err()
            .contains("empty")
    );
    assert!(
        read(&folder.put("page.nii", b"<!doctype html><html>"))
            .unwrap_err()
            .contains("not a NIfTI file")
    );
}

#[test]
fn a_crop_is_the_part_of_the_whole() {
    let folder = Folder::new();
    let path = folder.put("a.nii.gz", &gzip(&File::nifti1(false).bytes()));
    let crop = Crop {
        start: [1, 2, 1],
        shape: [2, 2, 1],
    };
    let read = nifti::read_cropped(&path, |_| crop).unwrap();
    assert_eq!(read.volume.values(), [19.0, 20.0, 22.0, 23.0]);
    assert_eq!(
        read.volume.grid.voxel_to_world.apply([0.0; 3]),
        [10.5, 21.0, 30.5]
    );
}

#[test]
fn type_scaling_and_descriptive_fields_survive_reading_and_writing() {
    let folder = Folder::new();
    let mut file = File::nifti1(false);
    file.f32(112, 0.25)
        .f32(116, -1.0)
        .f32(124, 7.0)
        .f32(128, -3.0);
    file.header[148..153].copy_from_slice(b"stain");
    file.header[328..332].copy_from_slice(b"hOc1");
    let image = nifti::read_stored(&folder.put("a.nii", &file.bytes())).unwrap();
    assert!(matches!(&image.voxels, Voxels::I16(values) if values[23] == 23));
    let path = folder.0.path().join("b.nii.gz");
    nifti::write_stored(&path, &image.header.grid, &image.voxels, &image.header).unwrap();
    let back = nifti::read_stored(&path).unwrap();
    assert_eq!(back.voxels, image.voxels);
    assert_eq!(back.header.datatype, Datatype::I16);
    assert_eq!((back.header.slope, back.header.inter), (0.25, -1.0));
    assert_eq!(
        (back.header.raw.cal_max, back.header.raw.cal_min),
        (7.0, -3.0)
    );
    assert_eq!(back.header.description(), "stain");
    assert_eq!(&back.header.raw.intent_name[..4], b"hOc1");
    assert!(back.header.grid.difference_vox(&image.header.grid) < 1e-6);
}

#[test]
fn a_series_keeps_its_time_unit_and_repetition_time() {
    let folder = Folder::new();
    let mut file = File::nifti1(false);
    // 3 × 4 × 1 voxels at two times, 2000 ms apart, lengths in micrometres.
    file.i16(40, 4).i16(46, 1).i16(48, 2).f32(92, 2000.0);
    file.header[123] = 3 | 16;
    let image = nifti::read_stored(&folder.put("a.nii", &file.bytes())).unwrap();
    let path = folder.0.path().join("b.nii");
    nifti::write_stored(&path, &image.header.grid, &image.voxels, &image.header).unwrap();
    let back = nifti::read_header(&path).unwrap();
    assert_eq!(back.raw.xyzt_units, 2 | 16);
    assert_eq!(back.raw.pixdim[4], 2000.0);
    assert_eq!(back.frames(), 2);
    assert!((back.grid.spacing()[0] - 0.0005).abs() < 1e-9);
}

#[test]
fn writing_twice_gives_the_same_bytes() {
    let folder = Folder::new();
    let grid = Grid {
        shape: [5, 6, 7],
        voxel_to_world: Affine::scaling([-0.5, 0.6, 0.7]),
    };
    let values: Vec<f32> = (0..210_u16).map(|value| f32::from(value).sqrt()).collect();
    let write = |name: &str| {
        let path = folder.0.path().join(name);
        let written =
            nifti::write_scalar(&path, &grid, &values, nifti::scalar_header("d", "i")).unwrap();
        (fs::read(path).unwrap(), written)
    };
    assert_eq!(write("a.nii.gz"), write("b.nii.gz"));
}

#[test]
fn displacement_fields_are_lps_on_the_disk_and_ras_in_memory() {
    let folder = Folder::new();
    let grid = Grid {
        shape: [2, 3, 4],
        voxel_to_world: Affine::scaling([0.5; 3]),
    };
    let field = DisplacementField {
        grid,
        components: [vec![1.0; 24], vec![2.0; 24], vec![3.0; 24]],
    };
    let path = folder.0.path().join("w.nii");
    nifti::write_vectors(&path, &field, nifti::vector_header("w")).unwrap();
    assert_eq!(nifti::read_vectors(&path).unwrap(), field);
    let stored = nifti::read_stored(&path).unwrap();
    assert_eq!(stored.header.dims, [2, 3, 4, 1, 3]);
    assert_eq!(stored.header.raw.intent_code, 1007);
    let Voxels::F32(values) = stored.voxels else {
        panic!("type changed")
    };
    assert_eq!((values[0], values[24], values[48]), (-1.0, -2.0, 3.0));
    let message = nifti::read_vectors(&folder.put("a.nii", &File::nifti1(false).bytes()))
        .unwrap_err()
        .to_string();
    assert!(message.contains("expected (x, y, z, 1, 3)"), "{message}");
}

#[test]
fn labels_must_be_integers() {
    let folder = Folder::new();
    let mut file = File::nifti1(false);
    file.f32(112, 0.5);
    let message = nifti::read_labels(&folder.put("a.nii", &file.bytes()))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("12 voxels are not integer labels"),
        "{message}"
    );
    file.f32(112, 100.0);
    let read = nifti::read_labels(&folder.put("a.nii", &file.bytes())).unwrap();
    assert_eq!(read.volume.values()[2], 200);
}
