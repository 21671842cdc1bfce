//! Reading and writing NIfTI files: every voxel type, both byte orders, both versions, and files
//! that must be refused by name.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a broken expectation fails the test"
)]

#[path = "support/nifti_file.rs"]
mod nifti_file;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use aligner::{
    affine::Affine,
    field::DisplacementField,
    grid::Grid,
    io::nifti::{self, Crop, Datatype, Voxels},
};
use nifti_file::{File, gzip};

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

/// Small compressed files: both versions, one and two members, and one that we wrote.
fn compressed_files(folder: &Folder) -> Vec<(&'static str, Vec<u8>)> {
    let plain = File::nifti1(false).bytes();
    let image = nifti::read_stored(&folder.put("a.nii", &plain)).unwrap();
    let ours = folder.0.path().join("ours.nii.gz");
    nifti::write_stored(&ours, &image.header.grid, &image.voxels, &image.header).unwrap();
    let two = [gzip(&plain[..370]), gzip(&plain[370..])].concat();
    vec![
        ("version 1", gzip(&plain)),
        ("version 2, big-endian", gzip(&File::nifti2(true).bytes())),
        ("two members", two),
        ("written by us", fs::read(ours).unwrap()),
    ]
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = Folder::new();
    let mut files = compressed_files(&folder);
    files.push(("plain", File::nifti1(false).bytes()));
    let (mut cuts, mut refused) = (0, 0);
    for (name, bytes) in &files {
        for length in 0..bytes.len() {
            cuts += 1;
            let result = read(&folder.put("a.nii.gz", &bytes[..length]));
            assert!(
                result.is_err(),
                "{name}: accepted {length} of {}",
                bytes.len()
            );
            refused += 1;
        }
    }
    println!("figure cuts-detected {refused} of {cuts} bar {cuts} ok");
}

/// Bits of a gzip header say when, by which system and how hard it was compressed, and whether it may
/// be text: no reader looks at them, and no checksum covers them. Some bits of a deflate stream do
/// not matter, either: padding, or which of two equal pieces is repeated. Such flips are accepted:
/// the content is the same byte by byte, and the digest in the report tells the files apart.
#[test]
fn every_flipped_bit_is_detected_or_leaves_the_content_as_it_was() {
    let folder = Folder::new();
    let (mut flips, mut detected, mut in_header, mut in_stream) = (0, 0, 0, 0);
    for (name, bytes) in compressed_files(&folder) {
        let good = nifti::read_stored(&folder.put("a.nii.gz", &bytes)).unwrap();
        let content = unpacked(&bytes);
        for position in 0..bytes.len() * 8 {
            flips += 1;
            let mut damaged = bytes.clone();
            damaged[position / 8] ^= 1 << (position % 8);
            let Ok(read) = nifti::read_stored(&folder.put("a.nii.gz", &damaged)) else {
                detected += 1;
                continue;
            };
            assert!(
                unpacked(&damaged) == content,
                "{name}: bit {position} was accepted"
            );
            assert_eq!(read.voxels, good.voxels);
            assert_ne!(read.sha256, good.sha256);
            if position < 80 {
                in_header += 1;
            } else {
                in_stream += 1;
            }
        }
    }
    // Of each header 49 bits: the text mark, four bytes of time, one of effort, one of system.
    assert_eq!(in_header, 4 * 49);
    println!(
        "figure bit-flips-detected-or-same {} of {flips} bar {flips} ok ({detected} refused; content the same: {in_header} in gzip headers, {in_stream} elsewhere)",
        detected + in_header + in_stream
    );
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .read_to_end(&mut content)
        .unwrap();
    content
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
        .contains("voxel sizes")
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
