//! The only modules that touch files: reading and writing volumes, transforms, point lists.

pub mod atomic;
pub mod itk;
pub mod nifti;
pub mod table;
pub mod voluba;

/// True if a file's name ends with `.ending`, in either case.
pub(crate) fn has_ending(path: &std::path::Path, ending: &str) -> bool {
    let extension = path.extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case(ending))
}
