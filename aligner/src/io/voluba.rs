//! VoluBA's files: placements and landmark lists, in every form in which they occur.

mod write;

pub use write::{write_landmarks, write_placement};

use std::{fs, path::Path};

use alignment_api::{Landmark, Space};
use serde_json::Value;

use super::table::Table;
use crate::error::Error;

/// A placement read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacementFile {
    /// Patch → template, mm.
    pub matrix: [[f64; 4]; 4],
    /// The patch space that the file's format implies; `None` if the format does not say.
    pub space: Option<Space>,
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| document(path, &format!("cannot be read: {source}")))
}

fn document(path: &Path, problem: &str) -> Error {
    Error::Document {
        path: path.to_owned(),
        problem: problem.to_owned(),
    }
}

/// Reads a placement: a 4×4 (or 3×4) matrix as text or JSON, a v0 request body, or VoluBA's
/// transformMatrix.json of any version.
///
/// # Errors
/// [`Error::Document`] naming the file and what was expected.
pub fn read_placement(path: &Path) -> Result<PlacementFile, Error> {
    let text = read(path)?;
    let parsed = match serde_json::from_str::<Value>(&text) {
        Ok(value) => placement_from_json(&value),
        Err(error) if text.trim_start().starts_with(['[', '{']) => {
            Err(format!("is not JSON: {error}"))
        }
        Err(_) => matrix_from_text(&text).map(|matrix| PlacementFile {
            matrix,
            space: None,
        }),
    };
    parsed.map_err(|problem| document(path, &problem))
}

fn placement_from_json(value: &Value) -> Result<PlacementFile, String> {
    if value.is_array() {
        return Ok(PlacementFile {
            matrix: matrix_from_json(value)?,
            space: None,
        });
    }
    if let Some(matrix) = value.get("transformation_matrix") {
        return Ok(PlacementFile {
            matrix: matrix_from_json(matrix)?,
            space: Some(Space::Viewer),
        });
    }
    if let Some(matrix) = value.get("transformMatrixInNm") {
        let mut matrix = matrix_from_json(matrix)?;
        for row in matrix.iter_mut().take(3) {
            row[3] /= 1e6;
        }
        let version = value.get("version").and_then(|version| {
            version
                .as_f64()
                .or_else(|| version.as_str().and_then(|text| text.parse().ok()))
        });
        // From version 1 on, the file maps NIfTI physical space; before, viewer space.
        let space = if version.is_some_and(|version| version >= 1.0) {
            Space::Physical
        } else {
            Space::Viewer
        };
        return Ok(PlacementFile {
            matrix,
            space: Some(space),
        });
    }
    if let Some(matrix) = value.get("transform") {
        return Ok(PlacementFile {
            matrix: matrix_with_units(matrix, value.get("coordinateSpace"))?,
            // Its layers have no affine of their own.
            space: Some(Space::Viewer),
        });
    }
    Err("is JSON, but neither a matrix nor an object with `transformation_matrix`, `transformMatrixInNm` or `transform`".to_owned())
}

/// The form of version 1.02: 16 numbers, column by column, the translation in the units of
/// `coordinateSpace`.
fn matrix_with_units(matrix: &Value, units: Option<&Value>) -> Result<[[f64; 4]; 4], String> {
    let columns: [f64; 16] = serde_json::from_value(matrix.clone())
        .map_err(|error| format!("`transform` is no list of 16 numbers: {error}"))?;
    let mut rows = [[0.0; 4]; 4];
    for (index, value) in columns.into_iter().enumerate() {
        rows[index % 4][index / 4] = value;
    }
    for (row, axis) in rows.iter_mut().zip(["x", "y", "z"]) {
        let unit = units.and_then(|units| units.get(axis));
        row[3] *= unit
            .and_then(length_mm)
            .ok_or_else(|| format!("`coordinateSpace.{axis}` is no length such as [1, \"nm\"]"))?;
    }
    Ok(rows)
}

/// `[value, unit]` in mm.
fn length_mm(unit: &Value) -> Option<f64> {
    let (value, name): (f64, String) = serde_json::from_value(unit.clone()).ok()?;
    let mm = match name.as_str() {
        "km" => 1e6,
        "m" => 1e3,
        "cm" => 10.0,
        "mm" => 1.0,
        "um" | "µm" | "μm" => 1e-3,
        "nm" => 1e-6,
        "pm" => 1e-9,
        _ => return None,
    };
    Some(value * mm)
}

fn matrix_from_json(value: &Value) -> Result<[[f64; 4]; 4], String> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone())
        .map_err(|error| format!("the matrix is no list of rows of numbers: {error}"))?;
    matrix_from_rows(&rows)
}

fn matrix_from_text(text: &str) -> Result<[[f64; 4]; 4], String> {
    let rows = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""))
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            line.split([' ', '\t', ','])
                .filter(|word| !word.is_empty())
                .map(|word| {
                    word.parse()
                        .map_err(|_| format!("`{word}` is not a number"))
                })
                .collect::<Result<Vec<f64>, _>>()
        })
        .collect::<Result<Vec<_>, _>>()?;
    matrix_from_rows(&rows)
}

fn matrix_from_rows(rows: &[Vec<f64>]) -> Result<[[f64; 4]; 4], String> {
    if !(3..=4).contains(&rows.len()) || rows.iter().any(|row| row.len() != 4) {
        let shape: Vec<usize> = rows.iter().map(Vec::len).collect();
        return Err(format!(
            "the matrix has rows of {shape:?} numbers, expected 4 rows of 4"
        ));
    }
    let mut matrix = [[0.0, 0.0, 0.0, 1.0]; 4];
    matrix[3] = [0.0, 0.0, 0.0, 1.0];
    for (to, from) in matrix.iter_mut().zip(rows) {
        to.copy_from_slice(from);
    }
    Ok(matrix)
}

/// Landmarks read from a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LandmarkFile {
    /// The pairs, mm.
    pub pairs: Vec<Landmark>,
    /// The patch space that the file's format implies; `None` if the format does not say.
    pub space: Option<Space>,
}

/// Reads landmarks: a v0 request body, VoluBA's landmark-pairs.json, the list of its predecessor, or
/// CSV with the columns `template_x … patch_z` and optionally `name`, `active`, `weight`. Positions
/// in mm.
///
/// # Errors
/// [`Error::Document`] naming the file and what was expected.
pub fn read_landmarks(path: &Path) -> Result<LandmarkFile, Error> {
    if crate::io::has_ending(path, "csv") {
        let pairs = landmarks_from_table(&Table::read(path)?)?;
        return Ok(LandmarkFile { pairs, space: None });
    }
    let value: Value = serde_json::from_str(&read(path)?)
        .map_err(|error| document(path, &format!("is not JSON: {error}")))?;
    // VoluBA picks landmarks in the viewer, whatever the matrix beside them maps.
    let pairs = landmarks_from_json(&value).map_err(|problem| document(path, &problem))?;
    Ok(LandmarkFile {
        pairs,
        space: Some(Space::Viewer),
    })
}

fn landmarks_from_table(table: &Table) -> Result<Vec<Landmark>, Error> {
    let template = table.points(["template_x", "template_y", "template_z"])?;
    let patch = table.points(["patch_x", "patch_y", "patch_z"])?;
    let column = |name| table.column(name).ok();
    let (name, active, weight) = (column("name"), column("active"), column("weight"));
    let mut pairs = Vec::with_capacity(template.len());
    for (index, (template, patch)) in template.into_iter().zip(patch).enumerate() {
        let cell = |column: usize| table.rows[index][column].as_str();
        let mut pair = landmark(template, patch, name.map(|column| cell(column).to_owned()));
        if let Some(column) = active {
            pair.active = match cell(column).to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "" => true,
                "false" | "0" | "no" => false,
                _ => return Err(table.wrong_cell(index, column, "true or false").into()),
            };
        }
        if let Some(column) = weight {
            pair.weight = cell(column)
                .parse()
                .map_err(|_| table.wrong_cell(index, column, "a number"))?;
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

fn landmark(template: [f64; 3], patch: [f64; 3], name: Option<String>) -> Landmark {
    Landmark {
        template,
        patch,
        name,
        active: true,
        weight: 1.0,
    }
}

fn landmarks_from_json(value: &Value) -> Result<Vec<Landmark>, String> {
    // A bare list is what landmark-reg wrote, where "source" is the incoming image.
    let bare = value.as_array();
    let pairs = bare
        .or_else(|| value.get("landmark_pairs")?.as_array())
        .ok_or("has no list `landmark_pairs`")?;
    let lists = value
        .get("reference_landmarks")
        .zip(value.get("incoming_landmarks"));
    pairs
        .iter()
        .enumerate()
        .map(|(index, pair)| {
            let (template, patch) = match lists {
                Some((reference, incoming)) => (
                    by_id(reference, pair.get("refId"), index)?,
                    by_id(incoming, pair.get("incId"), index)?,
                ),
                None if bare.is_some() => (
                    point(pair.get("target_point"), index)?,
                    point(pair.get("source_point"), index)?,
                ),
                // In v0, "source" is the template and "target" the incoming image.
                None => (
                    point(pair.get("source_point"), index)?,
                    point(pair.get("target_point"), index)?,
                ),
            };
            let name = pair.get("name").and_then(Value::as_str).map(str::to_owned);
            let mut landmark = landmark(template, patch, name);
            landmark.active = pair.get("active").and_then(Value::as_bool).unwrap_or(true);
            Ok(landmark)
        })
        .collect()
}

fn by_id(list: &Value, id: Option<&Value>, index: usize) -> Result<[f64; 3], String> {
    let entry = list
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| id.is_some() && entry.get("id") == id);
    point(entry.and_then(|entry| entry.get("coord")), index)
}

fn point(value: Option<&Value>, index: usize) -> Result<[f64; 3], String> {
    value
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .ok_or_else(|| format!("landmark_pairs[{index}] has no position of three numbers"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn exported_matrices_lose_their_nanometres_and_say_their_space() {
        let rows = json!([[1, 0, 0, 5e6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]);
        let old = placement_from_json(&json!({"transformMatrixInNm": rows})).unwrap();
        assert_eq!((old.matrix[0][3], old.space), (5.0, Some(Space::Viewer)));
        let new =
            placement_from_json(&json!({"version": 1.01, "transformMatrixInNm": rows})).unwrap();
        assert_eq!(new.space, Some(Space::Physical));
        // Column by column; x in µm, y in 10 nm, z in m.
        let latest = json!({
            "version": "1.02",
            "transform": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5000, 2e6, 0.25, 1],
            "coordinateSpace": {"x": [1, "um"], "y": [10, "nm"], "z": [1, "m"]},
        });
        let read = placement_from_json(&latest).unwrap();
        let translation = [0, 1, 2].map(|row| (read.matrix[row][3] * 1e6).round() / 1e6);
        assert_eq!(
            (translation, read.space),
            ([5.0, 20.0, 250.0], Some(Space::Viewer))
        );
        let unit = json!({"transform": vec![0; 16], "coordinateSpace": {"x": [1, "inch"]}});
        assert!(
            placement_from_json(&unit)
                .unwrap_err()
                .contains("coordinateSpace.x")
        );
        let body =
            placement_from_json(&json!({"transformation_matrix": [[1,0,0,5],[0,1,0,0],[0,0,1,0]]}))
                .unwrap();
        assert_eq!((body.matrix[0][3], body.space), (5.0, Some(Space::Viewer)));
    }

    #[test]
    fn text_matrices_may_have_comments_and_commas() {
        let matrix = matrix_from_text("# mm\n1 0 0 2.5\n0,1,0,0\n\n0\t0 1 0\n0 0 0 1\n").unwrap();
        assert_eq!(matrix[0][3], 2.5);
        assert!(
            matrix_from_text("1 0 0\n")
                .unwrap_err()
                .contains("expected 4 rows")
        );
        assert!(matrix_from_text("1 0 a 0\n").unwrap_err().contains("`a`"));
    }

    #[test]
    fn all_landmark_formats_agree_on_the_roles() {
        let v0 = json!({"landmark_pairs": [{"source_point": [1, 2, 3], "target_point": [4, 5, 6], "active": false}]});
        let file = json!({
            "reference_landmarks": [{"id": "r", "coord": [1, 2, 3]}],
            "incoming_landmarks": [{"id": "i", "coord": [4, 5, 6]}],
            "landmark_pairs": [{"refId": "r", "incId": "i", "active": false}],
        });
        let old = json!([{"source_point": [4, 5, 6], "target_point": [1, 2, 3], "active": false}]);
        let found = landmarks_from_json(&v0).unwrap();
        assert_eq!(found, landmarks_from_json(&old).unwrap());
        assert_eq!(found, landmarks_from_json(&file).unwrap());
        assert_eq!(
            (found[0].template, found[0].patch),
            ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
        );
        assert!(!found[0].active);
        let broken = json!({"landmark_pairs": [{"source_point": [1, 2]}]});
        assert!(
            landmarks_from_json(&broken)
                .unwrap_err()
                .contains("landmark_pairs[0]")
        );
    }
}
