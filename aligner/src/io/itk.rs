//! Affine transforms as ITK text files, usable with `antsApplyTransforms -t`.
//!
//! ITK positions are LPS+: x and y of our RAS+ world positions negated.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::atomic::{self, WriteError, Written};
use crate::affine::Affine;

const SIGNATURE: &str = "#Insight Transform File V1.0";

/// Why an affine file was not read.
#[derive(Debug, thiserror::Error)]
pub enum AffineFileError {
    /// The system could not read it.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its content is not an affine transform.
    #[error("`{}`: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
}

/// RAS ↔ LPS; its own inverse.
fn flip() -> Affine {
    Affine::scaling([-1.0, -1.0, 1.0])
}

/// Writes a map of world positions (RAS mm) as an ITK affine (LPS mm) with centre 0.
///
/// # Errors
/// [`WriteError`] naming the file.
pub fn write_affine(path: &Path, affine: &Affine) -> Result<Written, WriteError> {
    let lps = flip().after(affine).after(&flip()).rows();
    let mut numbers: Vec<f64> = (0..3).flat_map(|row| lps[row][..3].to_vec()).collect();
    numbers.extend((0..3).map(|row| lps[row][3]));
    // Adding zero turns -0 into 0.
    let numbers: Vec<String> = numbers
        .iter()
        .map(|value| (value + 0.0).to_string())
        .collect();
    atomic::write(path, |out| {
        writeln!(
            out,
            "{SIGNATURE}\n#Transform 0\nTransform: AffineTransform_double_3_3"
        )?;
        writeln!(out, "Parameters: {}", numbers.join(" "))?;
        writeln!(out, "FixedParameters: 0 0 0")
    })
}

/// Reads an ITK affine text file into a map of world positions (RAS mm).
///
/// # Errors
/// [`AffineFileError`] naming the file and the line that is wrong.
pub fn read_affine(path: &Path) -> Result<Affine, AffineFileError> {
    if path.extension().is_some_and(|extension| extension == "mat") {
        return Err(AffineFileError::Content {
            path: path.to_owned(),
            problem: "is a binary ITK transform; convert it to text with `ConvertTransformFile 3 FILE.mat FILE.txt`".to_owned(),
        });
    }
    let text = fs::read_to_string(path).map_err(|source| AffineFileError::Io {
        path: path.to_owned(),
        source,
    })?;
    parse_affine(&text).map_err(|problem| AffineFileError::Content {
        path: path.to_owned(),
        problem,
    })
}

fn parse_affine(text: &str) -> Result<Affine, String> {
    if !text.starts_with(SIGNATURE) {
        return Err(format!("does not start with `{SIGNATURE}`"));
    }
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .map(str::trim)
    };
    let kind = value("Transform:").unwrap_or("nothing");
    let linear_kinds = ["AffineTransform", "MatrixOffsetTransformBase"];
    if !linear_kinds.iter().any(|name| kind.starts_with(name))
        || text.matches("\nTransform:").count() != 1
    {
        return Err(format!(
            "holds `{kind}`, expected one AffineTransform or MatrixOffsetTransformBase"
        ));
    }
    let numbers = |key: &str, count: usize| -> Result<Vec<f64>, String> {
        let line = value(key).ok_or_else(|| format!("has no line `{key}`"))?;
        let numbers: Vec<f64> = line
            .split_whitespace()
            .map(|word| {
                word.parse::<f64>()
                    .map_err(|_| format!("`{key}` has `{word}`, expected a number"))
            })
            .collect::<Result<_, _>>()?;
        if numbers.len() != count || numbers.iter().any(|number| !number.is_finite()) {
            return Err(format!(
                "`{key}` has {} numbers, expected {count} finite ones",
                numbers.len()
            ));
        }
        Ok(numbers)
    };
    let p = numbers("Parameters:", 12)?;
    let c = numbers("FixedParameters:", 3)?;
    // y = M (x - c) + c + t
    let linear: [[f64; 3]; 3] =
        std::array::from_fn(|row| std::array::from_fn(|column| p[3 * row + column]));
    let about_centre = Affine::from_parts(linear, [0.0; 3]).apply([c[0], c[1], c[2]]);
    let translation = std::array::from_fn(|row| p[9 + row] + c[row] - about_centre[row]);
    Ok(flip()
        .after(&Affine::from_parts(linear, translation))
        .after(&flip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affines_survive_the_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("affine.txt");
        let affine = Affine::from_parts(
            [[1.1, 0.2, -0.3], [0.0, 0.9, 0.1], [0.3, 0.0, 1.2]],
            [1.0, -2.0, 3.5],
        );
        write_affine(&path, &affine).unwrap();
        let back = read_affine(&path).unwrap();
        for (a, b) in affine
            .rows()
            .iter()
            .flatten()
            .zip(back.rows().iter().flatten())
        {
            assert!((a - b).abs() < 1e-12);
        }
    }

    #[test]
    fn the_centre_counts() {
        let text = format!(
            "{SIGNATURE}\n#Transform 0\nTransform: AffineTransform_double_3_3\nParameters: 2 0 0 0 2 0 0 0 2 0 0 0\nFixedParameters: -1 -1 1\n"
        );
        // Scaling by two about RAS (1, 1, 1).
        assert_eq!(
            parse_affine(&text).unwrap().apply([1.0, 1.0, 1.0]),
            [1.0, 1.0, 1.0]
        );
        assert_eq!(
            parse_affine(&text).unwrap().apply([2.0, 1.0, 1.0]),
            [3.0, 1.0, 1.0]
        );
    }

    #[test]
    fn other_transforms_are_refused_by_name() {
        let text = format!("{SIGNATURE}\nTransform: BSplineTransform_double_3_3\n");
        assert!(
            parse_affine(&text)
                .unwrap_err()
                .contains("BSplineTransform")
        );
        assert!(parse_affine("hello").unwrap_err().contains("Insight"));
    }
}
