//! Which files a run reads, and which it writes: its inputs survive it, and an earlier run's results
//! are told from its own.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// What a run reads and writes.
pub struct Footprint<'a> {
    /// Schema of its report: the kind of the request.
    pub schema: &'static str,
    /// Name of the request.
    pub request: Option<&'a str>,
    /// Folder for the outputs.
    pub folder: &'a Path,
    /// Names of all files that it writes there.
    pub planned: Vec<String>,
    /// The files that it reads, links resolved.
    pub inputs: Vec<PathBuf>,
}

impl Footprint<'_> {
    /// Refuses a run whose results would replace one of its inputs.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the file.
    pub fn check_inputs_survive(&self) -> Result<(), Error> {
        match self.planned.iter().find(|name| self.replaces_input(name)) {
            None => Ok(()),
            Some(name) => Err(Error::Usage(format!(
                "the result `{name}` would replace an input of the same name: choose another destination"
            ))),
        }
    }

    /// Whether a name in the folder is one of the inputs.
    pub fn replaces_input(&self, name: &str) -> bool {
        let path = self.folder.join(name).canonicalize();
        path.is_ok_and(|path| self.inputs.contains(&path))
    }
}

/// The paths of inputs, links resolved; those that are missing are left out.
pub fn resolved<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<PathBuf> {
    let paths = paths.into_iter();
    paths.filter_map(|path| path.canonicalize().ok()).collect()
}
