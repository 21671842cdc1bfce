//! Placements and landmarks as VoluBA reads them, and as plain text.

use std::path::Path;

use alignment_api::{Landmark, Space};
use serde_json::json;

use crate::io::{
    atomic::{self, WriteError, Written},
    has_ending,
};

/// Writes a placement, patch → template in mm. As `.json`, VoluBA's transformMatrix.json, in nm:
/// version 1 for [`Space::Physical`], no version for [`Space::Viewer`], which is what importers go
/// by. Else four rows of text.
///
/// # Errors
/// [`WriteError`] naming the file; a space that the format cannot say.
pub fn write_placement(
    path: &Path,
    matrix: &[[f64; 4]; 4],
    space: Space,
) -> Result<Written, WriteError> {
    if !has_ending(path, "json") {
        return atomic::write(path, |out| {
            writeln!(out, "# patch ({space:?} space) to template, mm")?;
            (matrix.iter()).try_for_each(|[a, b, c, d]| writeln!(out, "{a} {b} {c} {d}"))
        });
    }
    let mut nanometres = *matrix;
    nanometres.iter_mut().take(3).for_each(|row| row[3] *= 1e6);
    // No `@type`: its two spellings are each refused by the importer of the other one.
    let mut file = json!({
        "incomingVolume": "patch",
        "referenceVolume": "template",
        "transformMatrixInNm": nanometres,
    });
    match space {
        Space::Physical => file["version"] = json!(1),
        Space::Viewer => {}
        Space::ScaledVoxel => return atomic::write(path, |_| Err(unsayable(space))),
    }
    write_json(path, &file)
}

/// Writes landmark pairs in mm. As `.json`, VoluBA's landmark-pairs.json, which is in
/// [`Space::Viewer`] and has no weights; else CSV.
///
/// # Errors
/// [`WriteError`] naming the file; a space that the format cannot say.
pub fn write_landmarks(
    path: &Path,
    pairs: &[Landmark],
    space: Space,
) -> Result<Written, WriteError> {
    let name = |(index, pair): (usize, &Landmark)| {
        let number = || format!("pair {}", index + 1);
        pair.name.clone().unwrap_or_else(number)
    };
    if !has_ending(path, "json") {
        return atomic::write(path, |out| {
            writeln!(
                out,
                "name,template_x,template_y,template_z,patch_x,patch_y,patch_z,active,weight"
            )?;
            for (index, pair) in pairs.iter().enumerate() {
                let ([a, b, c], [d, e, f]) = (pair.template, pair.patch);
                let name = name((index, pair)).replace([',', '\n', '\r', '"'], " ");
                let (active, weight) = (pair.active, pair.weight);
                writeln!(out, "{name},{a},{b},{c},{d},{e},{f},{active},{weight}")?;
            }
            Ok(())
        });
    }
    if space != Space::Viewer {
        return atomic::write(path, |_| Err(unsayable(space)));
    }
    let points = |position: fn(&Landmark) -> [f64; 3], prefix: &str| -> Vec<_> {
        let entry = |(index, pair): (usize, &Landmark)| {
            json!({
                "id": format!("{prefix}{index}"), "name": name((index, pair)),
                "active": true, "coord": position(pair),
            })
        };
        pairs.iter().enumerate().map(entry).collect()
    };
    let pair = |(index, pair): (usize, &Landmark)| {
        json!({
            "id": format!("p{index}"), "refId": format!("r{index}"), "incId": format!("i{index}"),
            "name": name((index, pair)), "active": pair.active, "color": "#fcdc00",
        })
    };
    let file = json!({
        "reference_volume": "template",
        "incoming_volume": "patch",
        "reference_landmarks": points(|pair| pair.template, "r"),
        "incoming_landmarks": points(|pair| pair.patch, "i"),
        "landmark_pairs": pairs.iter().enumerate().map(pair).collect::<Vec<_>>(),
    });
    write_json(path, &file)
}

fn unsayable(space: Space) -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidInput,
        format!("VoluBA's file cannot say that its positions are in {space:?} space"),
    )
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<Written, WriteError> {
    atomic::write(path, |out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

#[cfg(test)]
mod tests {
    use super::super::{read_landmarks, read_placement};
    use super::*;

    const MATRIX: [[f64; 4]; 4] = [
        [0.5, 0.0, 0.0, -3.25],
        [0.0, 1.0, 0.0, 81.5],
        [0.0, 0.0, 1.0, 16.0],
        [0.0, 0.0, 0.0, 1.0],
    ];

    #[test]
    fn placements_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        for (name, space, told) in [
            ("a.json", Space::Physical, true),
            ("b.json", Space::Viewer, true),
            ("c.txt", Space::ScaledVoxel, false),
        ] {
            let path = folder.path().join(name);
            write_placement(&path, &MATRIX, space).unwrap();
            let read = read_placement(&path).unwrap();
            assert_eq!(read.matrix, MATRIX, "{name}");
            assert_eq!(read.space, told.then_some(space), "{name}");
        }
        let refused = write_placement(&folder.path().join("d.json"), &MATRIX, Space::ScaledVoxel);
        assert!(refused.unwrap_err().to_string().contains("ScaledVoxel"));
        assert!(!folder.path().join("d.json").exists());
    }

    #[test]
    fn landmarks_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let pairs: Vec<Landmark> = (0..3)
            .map(|index| Landmark {
                name: Some(format!("n{index}")),
                template: [f64::from(index), 0.5, -1.0],
                patch: [2.0, f64::from(index), 3.25],
                active: index != 1,
                weight: 1.0,
            })
            .collect();
        for name in ["a.json", "b.csv"] {
            let path = folder.path().join(name);
            write_landmarks(&path, &pairs, Space::Viewer).unwrap();
            assert_eq!(read_landmarks(&path).unwrap().pairs, pairs, "{name}");
        }
        let refused = write_landmarks(&folder.path().join("c.json"), &pairs, Space::Physical);
        assert!(refused.unwrap_err().to_string().contains("Physical"));
    }
}
