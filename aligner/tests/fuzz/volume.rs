//! Headers, plain volumes and gzip streams.

use std::{io::Read, io::Write, path::Path};

use aligner::{
    io::nifti::{self, Header, HeaderError, ReadError, StoredImage},
    with_voxels,
};
use fastrand::Rng;
use flate2::{Compression, Crc, GzBuilder};

use crate::{MEMORY, Reached, mutate};

/// Buffers of a reader, whatever it reads.
const BUFFERS: usize = 1 << 20;

pub(crate) fn header(random: &mut Rng) -> Reached {
    let mut file = mutate::valid(random);
    mutate::fields(&mut file, random);
    let mut bytes = file.header;
    if random.u8(..4) == 0 {
        mutate::bytes(&mut bytes, random);
    }
    match Header::parse(&bytes) {
        Err(HeaderError::HeaderSize { .. } | HeaderError::Magic { .. }) => Reached::Nothing,
        Err(_) => Reached::Inside,
        Ok(header) => {
            check(&header);
            Reached::End
        }
    }
}

/// What holds for every header that was accepted.
fn check(header: &Header) {
    let affine = header.grid.voxel_to_world;
    assert!(
        affine
            .rows()
            .iter()
            .flatten()
            .all(|value| value.is_finite())
    );
    assert!(affine.inverse().is_some());
    assert!(header.grid.spacing().iter().all(|size| *size > 0.0));
    assert!(header.dims.iter().all(|size| (1..=32767).contains(size)));
    assert!(header.slope.is_finite() && header.slope != 0.0 && header.inter.is_finite());
    assert!(header.vox_offset >= 352);
}

pub(crate) fn plain(random: &mut Rng) -> Reached {
    let mut file = mutate::valid(random);
    mutate::fields(&mut file, random);
    let mut bytes = file.bytes();
    for _ in 0..random.u8(..3) {
        mutate::bytes(&mut bytes, random);
    }
    let read = bounded(&bytes, bytes.len());
    if let Ok(image) = &read {
        check_image(image, &bytes);
        if random.u8(..8) == 0 {
            check_round_trip(image);
        }
    }
    reached(&read)
}

/// Reads, and asserts that memory stays within the buffers and what the file can hold.
fn bounded(bytes: &[u8], content: usize) -> Result<StoredImage, ReadError> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let read = decode(bytes);
    let taken = MEMORY.peak_usage() - before;
    assert!(
        taken <= BUFFERS + content,
        "{taken} bytes for {} bytes",
        bytes.len()
    );
    read
}

fn decode(bytes: &[u8]) -> Result<StoredImage, ReadError> {
    nifti::decode_stored(Path::new("fuzz.nii"), bytes, bytes.len() as u64)
}

fn reached(read: &Result<StoredImage, ReadError>) -> Reached {
    match read {
        Ok(_) => Reached::End,
        Err(ReadError::Header { .. }) => Reached::Nothing,
        Err(_) => Reached::Inside,
    }
}

/// The voxels are the bytes from `vox_offset` on, no more and no fewer; decoded here another way.
fn check_image(image: &StoredImage, bytes: &[u8]) {
    let header = &image.header;
    check(header);
    let data = &bytes[header.vox_offset as usize..];
    assert_eq!(data.len() as u64, header.data_bytes());
    let size = header.datatype.size();
    let mut encoded = Vec::with_capacity(data.len());
    with_voxels!(&image.voxels, values => {
        use aligner::io::nifti::Voxel;
        values.iter().for_each(|value| value.encode(&mut encoded));
    });
    let same = encoded
        .chunks_exact(size)
        .zip(data.chunks_exact(size))
        .all(|(ours, stored)| {
            if header.big_endian {
                ours.iter().eq(stored.iter().rev())
            } else {
                ours == stored
            }
        });
    assert!(same && encoded.len() == data.len());
}

/// What was accepted can be written, and reads as the same.
fn check_round_trip(image: &StoredImage) {
    let (header, mut file) = (&image.header, Vec::new());
    nifti::encode_stored(&mut file, &header.grid, &image.voxels, header).unwrap();
    let again = decode(&file).unwrap();
    assert_eq!(again.header.dims, image.header.dims);
    let bytes = |image: &StoredImage| {
        let mut bytes = Vec::new();
        with_voxels!(&image.voxels, values => {
            use aligner::io::nifti::Voxel;
            values.iter().for_each(|value| value.encode(&mut bytes));
        });
        bytes
    };
    assert!(bytes(&again) == bytes(image));
}

pub(crate) fn compressed(random: &mut Rng) -> Reached {
    let mut file = mutate::valid(random);
    if random.bool() {
        mutate::fields(&mut file, random);
    }
    let mut content = file.bytes();
    if random.u8(..4) == 0 {
        mutate::bytes(&mut content, random);
    }
    let mut stream = pack(&content, random);
    for _ in 0..random.u8(..3) {
        // The middle of a stream is damaged more often than its header of ten bytes.
        let kept = if stream.len() > 20 && random.u8(..4) > 0 {
            10
        } else {
            0
        };
        let mut damaged = stream.split_off(kept);
        mutate::bytes(&mut damaged, random);
        stream.extend(damaged);
    }
    let claim = stream.len() * 1032;
    let read = bounded(&stream, claim);
    let mut unpacked = Vec::new();
    let whole = flate2::read::MultiGzDecoder::new(&stream[..])
        .take(claim as u64)
        .read_to_end(&mut unpacked)
        .is_ok();
    match &read {
        Ok(image) => {
            assert!(whole, "a damaged stream was accepted");
            check_image(image, &unpacked);
        }
        // What is refused as a stream is refused as the file inside it, or is damaged.
        Err(error) if whole && stream.starts_with(&[0x1f, 0x8b]) => {
            assert!(decode(&unpacked).is_err(), "refused: {error}");
        }
        Err(_) => {}
    }
    reached(&read)
}

/// One to three members, each with its own level.
fn pack(content: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut rest = content;
    for member in 0..random.u8(1..4) {
        let (part, left) = rest.split_at(if member == 2 {
            rest.len()
        } else {
            random.usize(..=rest.len())
        });
        rest = left;
        stream = member_of(stream, part, random);
    }
    if rest.is_empty() {
        stream
    } else {
        member_of(stream, rest, random)
    }
}

fn member_of(mut stream: Vec<u8>, part: &[u8], random: &mut Rng) -> Vec<u8> {
    if random.u8(..8) > 0 {
        stored_member(&mut stream, part);
        return stream;
    }
    // Levels above 1 cost ten times as much and make the same kinds of blocks.
    let level = if random.u8(..8) == 0 { 6 } else { 1 };
    let mut encoder = GzBuilder::new().write(stream, Compression::new(level));
    encoder.write_all(part).unwrap();
    encoder.finish().unwrap()
}

/// A member whose blocks are not compressed: made without an encoder, whose tables would take nearly
/// all of the time.
fn stored_member(stream: &mut Vec<u8>, part: &[u8]) {
    stream.extend([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    let mut blocks = part.chunks(u16::MAX.into()).peekable();
    if blocks.peek().is_none() {
        stream.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let mut check = Crc::new();
    check.update(part);
    stream.extend(check.sum().to_le_bytes());
    stream.extend((part.len() as u32).to_le_bytes());
}
