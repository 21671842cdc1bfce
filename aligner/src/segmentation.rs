//! Reading a segmentation, whatever it is for.

use std::path::Path;

use alignment_api::Labels;

use crate::{
    depth::{self, Tissue},
    error::Error,
    inputs::Inputs,
    io::nifti::{self, Header},
    volume::Volume,
};

/// Its name in messages and in reports.
const ROLE: &str = "segmentation";

/// Reads its header alone.
///
/// # Errors
/// [`Error::Volume`] naming the file.
pub fn header(path: &Path) -> Result<Header, Error> {
    nifti::read_header(path).map_err(|source| Error::volume(ROLE, source))
}

/// Reads the tissue of each voxel, and notes the file.
///
/// # Errors
/// [`Error`] naming the file, or the labels that do not fit.
pub fn read(path: &Path, labels: &Labels, inputs: &mut Inputs) -> Result<Volume<Tissue>, Error> {
    let read = nifti::read_labels(path).map_err(|source| Error::volume(ROLE, source))?;
    inputs.add(ROLE, path, &read.header, &read.sha256);
    Ok(depth::tissues_from_labels(&read.volume, labels)?)
}

/// Number of grey voxels.
pub fn count_grey(tissues: &Volume<Tissue>) -> usize {
    let tissues = tissues.values().iter();
    tissues.filter(|tissue| **tissue == Tissue::Grey).count()
}

/// Number of grey voxels in a file, which is not kept.
///
/// # Errors
/// [`Error::Volume`] naming the file.
pub fn scan_grey(path: &Path, labels: &Labels) -> Result<usize, Error> {
    let mut count = 0;
    let is_grey = |value: f64| {
        let mut grey = labels.grey.iter();
        grey.any(|label| f64::from(*label) == value.round())
    };
    nifti::scan(path, |value| count += usize::from(is_grey(value)))
        .map_err(|source| Error::volume(ROLE, source))?;
    Ok(count)
}
