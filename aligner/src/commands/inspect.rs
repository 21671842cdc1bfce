//! `aligner inspect`: what a header says, and how tools will read it.

use std::{io::Write, path::Path};

use crate::{
    affine::Affine,
    cli::InspectArgs,
    error::Error,
    grid::Grid,
    io::nifti::{self, Header, ReadError},
};

pub(super) fn inspect(args: &InspectArgs, out: &mut dyn Write) -> Result<(), Error> {
    let mut first_error = None;
    for path in &args.files {
        let mut range = Range {
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            not_finite: 0,
        };
        match nifti::scan(path, |value| range.add(value)) {
            Ok(header) => {
                // Standard output may be closed early (`| head`).
                let _ = describe(path, &header, &range, out);
            }
            Err(ReadError::Interrupted(interrupted)) => return Err(interrupted.into()),
            Err(source) => {
                let _ = writeln!(out, "{}: {}\n", path.display(), source);
                first_error.get_or_insert(Error::volume("volume", source));
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

struct Range {
    low: f64,
    high: f64,
    not_finite: usize,
}

impl Range {
    fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.low = self.low.min(value);
            self.high = self.high.max(value);
        } else {
            self.not_finite += 1;
        }
    }
}

fn describe(
    path: &Path,
    header: &Header,
    range: &Range,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let order = if header.big_endian {
        "big-endian"
    } else {
        "little-endian"
    };
    writeln!(out, "{}", path.display())?;
    writeln!(
        out,
        "  format       NIfTI-{}, {order}, {}",
        header.version,
        header.datatype.name()
    )?;
    writeln!(out, "  dimensions   {:?}", header.dims)?;
    writeln!(out, "  voxel size   {:.6?} mm", header.grid.spacing())?;
    writeln!(
        out,
        "  values       {} to {} (stored value × {} + {})",
        range.low as f32, range.high as f32, header.slope as f32, header.inter as f32
    )?;
    if range.not_finite > 0 {
        writeln!(
            out,
            "               {} voxels are not finite numbers",
            range.not_finite
        )?;
    }
    writeln!(out, "  description  {:?}", header.description())?;
    let raw = &header.raw;
    writeln!(
        out,
        "  qform_code   {}    sform_code {}",
        raw.qform_code, raw.sform_code
    )?;
    let placed = header.affine.sform.is_some() || header.affine.qform.is_some();
    let who = if placed {
        "here and by nibabel"
    } else {
        "here"
    };
    writeln!(out, "  affine used {who}: {}", header.affine.taken)?;
    matrix(&header.grid.voxel_to_world, out)?;
    if let Some((name, affine)) = itk_reading(header) {
        writeln!(out, "  affine used by ITK and ANTs: {name}")?;
        let theirs = Grid {
            shape: header.grid.shape,
            voxel_to_world: affine,
        };
        if header.grid.difference_vox(&theirs) > 1e-3 {
            matrix(&affine, out)?;
        }
    }
    for warning in &header.warnings {
        writeln!(out, "  warning      {warning}")?;
    }
    writeln!(out)
}

/// ITK's choice: the sform only if there is no qform, or if the sform's code is 1. `None` where the
/// file has neither.
fn itk_reading(header: &Header) -> Option<(&'static str, Affine)> {
    let choice = &header.affine;
    match (choice.qform, choice.sform) {
        (Some(_), Some(sform)) if header.raw.sform_code == 1 => Some(("sform", sform)),
        (Some(qform), _) => Some(("qform", qform)),
        (None, sform) => sform.map(|sform| ("sform", sform)),
    }
}

fn matrix(affine: &Affine, out: &mut dyn Write) -> std::io::Result<()> {
    for row in &affine.rows()[..3] {
        writeln!(
            out,
            "    {:>12.6} {:>12.6} {:>12.6} {:>12.6}",
            row[0], row[1], row[2], row[3]
        )?;
    }
    Ok(())
}
