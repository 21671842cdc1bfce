//! The only modules that touch files: reading and writing volumes, transforms, point lists.

pub mod atomic;
pub mod itk;
pub mod nifti;
pub mod table;
pub mod voluba;
