//! `aligner convert`: a placement, or landmarks, in another format or for another patch space.

use std::path::Path;

use alignment_api::Space;

use crate::{
    affine::Affine,
    cli::ConvertArgs,
    error::Error,
    io::{has_ending, itk, nifti, voluba},
    placement,
};

pub(super) fn convert(args: &ConvertArgs) -> Result<(), Error> {
    match (&args.placement, &args.landmarks) {
        (Some(path), _) => convert_placement(args, path),
        (None, Some(path)) => convert_landmarks(args, path),
        (None, None) => Err(Error::Usage(
            "give a placement (--placement) or landmarks (--landmarks)".to_owned(),
        )),
    }
}

fn convert_placement(args: &ConvertArgs, path: &Path) -> Result<(), Error> {
    let file = voluba::read_placement(path)?;
    let from = given(args, file.space);
    let is_itk = has_ending(&args.output, "tfm");
    let told = (is_itk || has_ending(&args.output, "json")).then_some(Space::Physical);
    let to = wanted(args, told.unwrap_or(from));
    let back = between(args, to, from)?;
    let matrix = Affine::from_rows(file.matrix).after(&back);
    if is_itk && to != Space::Physical {
        return Err(Error::Usage(
            "an ITK file (.tfm) maps physical space: leave --to-space out".to_owned(),
        ));
    }
    if is_itk {
        itk::write_affine(&args.output, &matrix)?;
    } else {
        voluba::write_placement(&args.output, &matrix.rows(), to)?;
    }
    Ok(())
}

fn convert_landmarks(args: &ConvertArgs, path: &Path) -> Result<(), Error> {
    let file = voluba::read_landmarks(path)?;
    let from = given(args, file.space);
    let told = has_ending(&args.output, "json").then_some(Space::Viewer);
    let to = wanted(args, told.unwrap_or(from));
    let map = between(args, from, to)?;
    let mut pairs = file.pairs;
    for pair in &mut pairs {
        pair.patch = map.apply(pair.patch);
    }
    voluba::write_landmarks(&args.output, &pairs, to)?;
    Ok(())
}

fn given(args: &ConvertArgs, file: Option<Space>) -> Space {
    args.space.map(Space::from).or(file).unwrap_or_default()
}

fn wanted(args: &ConvertArgs, otherwise: Space) -> Space {
    args.to_space.map_or(otherwise, Space::from)
}

/// The map from one space of the patch to another.
fn between(args: &ConvertArgs, from: Space, to: Space) -> Result<Affine, Error> {
    if from == to {
        return Ok(Affine::IDENTITY);
    }
    let path = args.patch.as_deref().ok_or_else(|| {
        Error::Usage(format!(
            "between {from:?} and {to:?} space: add --patch FILE, a volume of the patch, for its header"
        ))
    })?;
    let header = nifti::read_header(path).map_err(|source| Error::volume("patch", source))?;
    let to_physical =
        placement::physical_to_space(&header.grid, from).and_then(|map| map.inverse());
    placement::physical_to_space(&header.grid, to)
        .zip(to_physical)
        .map(|(then, first)| then.after(&first))
        .ok_or_else(|| Error::Geometry("the patch's affine is singular".to_owned()))
}
