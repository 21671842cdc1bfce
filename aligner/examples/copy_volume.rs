//! Reads a volume as the pipeline does, and writes it again: `copy_volume IN [OUT]`.
//!
//! Without OUT it only reads. `dev/bench-files.sh` measures it beside nibabel.

use std::{env, path::PathBuf};

use aligner::{allocator, io::nifti};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    allocator::settle();
    let mut paths = env::args_os().skip(1).map(PathBuf::from);
    let from = paths.next().ok_or("usage: copy_volume IN [OUT]")?;
    match paths.next() {
        None => {
            nifti::read_scalar(&from)?;
        }
        Some(to) => {
            let image = nifti::read_stored(&from)?;
            nifti::write_stored(&to, &image.header.grid, &image.voxels, &image.header)?;
        }
    }
    Ok(())
}
