//! The corpus: what is wrong or unusual about each file, and what the reader has to do with it.

mod accepted;
mod gzip;
mod refused;

/// What has to happen.
pub(crate) enum Expect {
    /// Read, with these scaled values (NaN equals NaN).
    Values(Vec<f64>),
    /// Read, with the values 0 to 23, the third voxel corner where [`crate::nifti_file`] puts it,
    /// and a warning that contains the text.
    Warned(&'static str),
    /// Refused; the message contains all of the texts: the field, what was found, what was expected.
    Refused(Vec<String>),
}

/// A file of the corpus.
pub(crate) struct Case {
    /// What is unusual.
    pub(crate) kind: &'static str,
    /// Byte order, version, compression.
    pub(crate) variant: String,
    /// The content.
    pub(crate) bytes: Vec<u8>,
    pub(crate) expect: Expect,
}

pub(crate) fn refused(parts: &[&str]) -> Expect {
    Expect::Refused(parts.iter().map(|part| (*part).to_owned()).collect())
}

/// Values of the volume that all files are made from.
pub(crate) fn counting() -> Vec<f64> {
    (0..24).map(f64::from).collect()
}

pub(crate) use gzip::zeros;

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = refused::cases();
    cases.extend(gzip::cases());
    cases.extend(accepted::cases());
    cases
}
