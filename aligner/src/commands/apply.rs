//! `aligner apply`: images and points through chains of transforms.

use std::path::Path;

use crate::{
    affine::Affine,
    chain::{Chain, Link},
    cli::ApplyArgs,
    error::Error,
    field::DisplacementField,
    io::{itk, nifti, table::Table},
    observer::{self, Silent},
    resample,
};

/// A transform file that was read.
enum Transform {
    Affine(Affine),
    Field(DisplacementField),
}

pub(super) fn apply(args: &ApplyArgs) -> Result<(), Error> {
    let transforms = args
        .transform
        .iter()
        .map(|text| read_transform(text))
        .collect::<Result<Vec<_>, _>>()?;
    // As with antsApplyTransforms, positions of the output grid pass the first one given first.
    let chain = transforms
        .iter()
        .fold(Chain::default(), |chain, transform| {
            chain.then(match transform {
                Transform::Affine(affine) => Link::Affine(*affine),
                Transform::Field(field) => Link::Field(field),
            })
        });
    let chain = if args.invert {
        chain.inverse().ok_or_else(|| {
            Error::Geometry("an affine transform is singular and cannot be inverted".to_owned())
        })?
    } else {
        chain
    };
    match (&args.points, &args.input) {
        (Some(points), _) => map_points(points, &args.output, &chain),
        (None, Some(input)) => resample_image(args, input, &chain),
        (None, None) => Err(Error::Usage(
            "give an image (--input) or points (--points)".to_owned(),
        )),
    }
}

/// Reads `FILE`, or `[FILE,0]`, or `[FILE,1]` for the inverse of an affine.
fn read_transform(text: &str) -> Result<Transform, Error> {
    let (file, invert) = match text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inner) => match inner.rsplit_once(',') {
            Some((file, "0")) => (file, false),
            Some((file, "1")) => (file, true),
            _ => {
                return Err(Error::Usage(format!(
                    "`{text}` is not [FILE,0] or [FILE,1]"
                )));
            }
        },
        None => (text, false),
    };
    let path = Path::new(file);
    let name = file.to_ascii_lowercase();
    let is_volume = [".nii", ".nii.gz"]
        .iter()
        .any(|ending| name.ends_with(ending));
    match (is_volume, invert) {
        (true, true) => Err(Error::Usage(format!(
            "`{text}`: a displacement field is inverted with --invert, or use its inverse field"
        ))),
        (true, false) => {
            let field =
                nifti::read_vectors(path).map_err(|source| Error::volume("transform", source))?;
            Ok(Transform::Field(field))
        }
        (false, invert) => {
            let affine = itk::read_affine(path)?;
            let affine = if invert {
                affine.inverse()
            } else {
                Some(affine)
            };
            let singular =
                || Error::Geometry(format!("`{file}` is singular and cannot be inverted"));
            Ok(Transform::Affine(affine.ok_or_else(singular)?))
        }
    }
}

fn map_points(input: &Path, output: &Path, chain: &Chain) -> Result<(), Error> {
    const COLUMNS: [&str; 3] = ["x", "y", "z"];
    let mut table = Table::read(input)?;
    let points: Vec<[f64; 3]> = table
        .points(COLUMNS)?
        .into_iter()
        .map(|point| chain.apply(point))
        .collect();
    table.set_points(COLUMNS, &points)?;
    table.write(output)?;
    Ok(())
}

fn resample_image(args: &ApplyArgs, input: &Path, chain: &Chain) -> Result<(), Error> {
    let image = nifti::read_stored(input).map_err(|source| Error::volume("image", source))?;
    let grid = match &args.reference {
        Some(path) => {
            nifti::read_header(path)
                .map_err(|source| Error::volume("reference", source))?
                .grid
        }
        None => image.header.grid,
    };
    observer::check(&Silent)?;
    let voxels = resample::resample(
        &image.voxels,
        &image.header,
        &grid,
        chain,
        args.interpolation.into(),
        &Silent,
    )?;
    nifti::write_stored(&args.output, &grid, &voxels, &image.header)?;
    Ok(())
}
