//! What a report says about the files that were read.

use std::path::Path;

use alignment_api::InputFile;

use crate::io::{atomic::file_name, nifti::Header};

/// Files that were read, and what a person should know about them.
#[derive(Default)]
pub struct Inputs {
    /// Digests and shapes.
    pub files: Vec<InputFile>,
    /// In plain words.
    pub warnings: Vec<String>,
}

impl Inputs {
    /// Notes a file.
    pub fn add(&mut self, role: &str, path: &Path, header: &Header, sha256: &str) {
        let name = file_name(path);
        let warnings = header.warnings.iter();
        self.warnings
            .extend(warnings.map(|warning| format!("{name}: {warning}")));
        self.files.push(InputFile {
            role: role.to_owned(),
            name,
            sha256: sha256.to_owned(),
            shape: header.grid.shape,
            voxel_size_mm: header.grid.spacing(),
        });
    }
}
