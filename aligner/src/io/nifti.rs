//! NIfTI volumes: guarded reading, exact writing.
//!
//! The header types come from the `nifti` crate; the voxel path is our own, because a wrong or cut
//! file must become an error and never a plausible volume.

mod datatype;
mod header;
mod orientation;
mod read;
mod stream;
mod write;

pub use datatype::{Datatype, Voxel, Voxels};
pub use header::{Header, HeaderError};
pub use orientation::AffineChoice;
pub use read::{
    Crop, ReadError, Scalar, StoredImage, decode_stored, read_cropped, read_header, read_labels,
    read_scalar, read_stored, read_vectors, scan,
};
pub use write::{
    encode_stored, label_header, length_header, scalar_header, vector_header, write_labels,
    write_scalar, write_stored, write_vectors,
};
