//! Damaged, unusual and lying gzip streams.

use std::io::Write;

use flate2::{Compression, Crc, GzBuilder, write::DeflateEncoder};

use super::{Case, Expect, counting, refused};
use crate::nifti_file::{File, gzip};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |kind, variant: &str, bytes: Vec<u8>, expect| {
        cases.push(Case {
            kind,
            variant: variant.to_owned(),
            bytes,
            expect,
        });
    };
    let damaged = || refused(&["damaged gzip stream"]);
    for (variant, file) in [("v1", File::nifti1(false)), ("v2", File::nifti2(true))] {
        let plain = file.bytes();
        let good = gzip(&plain);
        let end = good.len();
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] ^= value;
            bytes
        };
        add("gzip: wrong CRC", variant, changed(end - 8, 1), damaged());
        add(
            "gzip: wrong length",
            variant,
            changed(end - 1, 0x80),
            damaged(),
        );
        add("gzip: unknown method", variant, changed(2, 1), damaged());
        add("gzip: reserved flags", variant, changed(3, 0xe0), damaged());
        add(
            "gzip: unknown block type",
            variant,
            changed(10, 0b110),
            damaged(),
        );
        let cut = || refused(&["ends too early"]);
        add("gzip: no trailer", variant, good[..end - 8].to_vec(), cut());
        add(
            "gzip: half of the trailer",
            variant,
            good[..end - 4].to_vec(),
            cut(),
        );
        add(
            "gzip: half of the file",
            variant,
            good[..end / 2].to_vec(),
            cut(),
        );
        add("gzip: two bytes", variant, good[..2].to_vec(), cut());
        add("gzip: header alone", variant, good[..10].to_vec(), cut());
        add(
            "gzip: text behind",
            variant,
            [&good[..], b"<!doctype html><html>"].concat(),
            damaged(),
        );
        add(
            "gzip: zeros behind",
            variant,
            [&good[..], &[0; 512]].concat(),
            damaged(),
        );
        let behind = |bytes: &[u8]| [&good[..], bytes].concat();
        add(
            "gzip: second file behind",
            variant,
            behind(&good),
            refused(&["goes on"]),
        );
        let mut second = gzip(&plain[400..]);
        let first = gzip(&plain[..400]);
        let length = second.len();
        second[length - 6] ^= 4;
        add(
            "gzip: last member damaged",
            variant,
            [&first[..], &second[..]].concat(),
            damaged(),
        );
        let short = &second[..length - 9];
        add(
            "gzip: last member cut",
            variant,
            [&first[..], short].concat(),
            cut(),
        );
        add(
            "gzip: last member missing",
            variant,
            gzip(&plain[..360]),
            refused(&[]),
        );
        add(
            "gzip: packed twice",
            variant,
            gzip(&good),
            refused(&["not a NIfTI file"]),
        );

        let accepted = || Expect::Values(counting());
        let pieces: Vec<u8> = plain.chunks(7).flat_map(gzip).collect();
        add("gzip: many members", variant, pieces, accepted());
        let empty = [
            gzip(&[]),
            first.clone(),
            gzip(&[]),
            gzip(&plain[400..]),
            gzip(&[]),
        ]
        .concat();
        add("gzip: empty members", variant, empty, accepted());
        let named = GzBuilder::new()
            .filename("x.nii")
            .comment("by hand")
            .extra(vec![b'R', b'A', 2, 0, 9, 9])
            .mtime(1_700_000_000)
            .operating_system(3);
        let mut encoder = named.write(Vec::new(), Compression::best());
        encoder.write_all(&plain).unwrap();
        add(
            "gzip: name, comment, extra field",
            variant,
            encoder.finish().unwrap(),
            accepted(),
        );
        for (level, name) in [(0, "stored"), (6, "level 6"), (9, "level 9")] {
            let mut encoder = GzBuilder::new().write(Vec::new(), Compression::new(level));
            encoder.write_all(&plain).unwrap();
            let variant = format!("{variant} {name}");
            add(
                "gzip: other levels",
                &variant,
                encoder.finish().unwrap(),
                accepted(),
            );
        }
        add(
            "gzip: CRC of its header",
            variant,
            with_header_crc(&plain, 0),
            accepted(),
        );
        add(
            "gzip: wrong CRC of its header",
            variant,
            with_header_crc(&plain, 1),
            damaged(),
        );
    }
    add(
        "gzip: nothing inside",
        "plain",
        gzip(&[]),
        refused(&["sizeof_hdr"]),
    );
    add(
        "gzip: surplus bomb of 200 MB",
        "plain",
        surplus_bomb(),
        refused(&["goes on"]),
    );
    add(
        "gzip: bomb in front of the voxels",
        "plain",
        gap_bomb(),
        refused(&["cut"]),
    );
    cases
}

/// A stream whose header has a checksum, `off` by so much.
fn with_header_crc(plain: &[u8], off: u16) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 2, 0, 0, 0, 0, 0, 255];
    let mut crc = Crc::new();
    crc.update(&bytes);
    bytes.extend((crc.sum() as u16 ^ off).to_le_bytes());
    let mut encoder = DeflateEncoder::new(bytes, Compression::fast());
    encoder.write_all(plain).unwrap();
    let mut bytes = encoder.finish().unwrap();
    let mut crc = Crc::new();
    crc.update(plain);
    bytes.extend(crc.sum().to_le_bytes());
    bytes.extend((plain.len() as u32).to_le_bytes());
    bytes
}

/// A good volume and 200 MB of zeros behind it, in 200 kB.
fn surplus_bomb() -> Vec<u8> {
    packed_zeros(&File::nifti1(false).bytes(), 200 << 20)
}

/// 64 MB of zeros between header and voxels, and then no voxels.
fn gap_bomb() -> Vec<u8> {
    let mut file = File::nifti1(false);
    file.f32(108, (64 << 20) as f32);
    packed_zeros(&file.header, (64 << 20) - 352)
}

/// A legal volume of zeros, unsigned bytes, compressed a thousandfold.
pub(crate) fn zeros(shape: [i16; 3]) -> Vec<u8> {
    let mut file = File::nifti1(false);
    file.i16(70, 2).i16(72, 8);
    for axis in 0..3 {
        file.i16(42 + 2 * axis, shape[axis]);
    }
    packed_zeros(
        &file.header,
        shape.iter().map(|size| *size as usize).product(),
    )
}

fn packed_zeros(start: &[u8], zeros: usize) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::fast());
    encoder.write_all(start).unwrap();
    let block = vec![0; 1 << 20];
    let mut left = zeros;
    while left > 0 {
        let part = left.min(block.len());
        encoder.write_all(&block[..part]).unwrap();
        left -= part;
    }
    encoder.finish().unwrap()
}
