//! A view of the results in the template, as a link that Neuroglancer opens.
//!
//! Form of the state: Neuroglancer's own (`source.transform`: the linear part without unit, the
//! translation in units of `outputDimensions`, here nm). A layer's own coordinates are voxel index
//! times voxel size, 0 at the corner of the first voxel: the space `viewer` of a placement.

use std::fmt::Write;

use alignment_api::Space;
use serde_json::{Value, json};

use crate::{affine::Affine, grid::Grid, placement};

/// Any Neuroglancer opens the state behind `#!`; this is the one that its authors run.
const VIEWER: &str = "https://neuroglancer-demo.appspot.com/#!";
/// Longest link in bytes: it has to share a termination message with the rest of the result.
const LONGEST_LINK: usize = 2048;

/// A volume that is shown.
pub struct Layer {
    /// Its name.
    pub name: String,
    /// `precomputed://…`.
    pub source: String,
    /// Whether its values are labels.
    pub labels: bool,
    /// Viewer space of the volume → template physical space, mm.
    pub to_template: Affine,
}

/// Viewer space of a grid → template physical space, mm; `None` if the grid's affine is singular.
pub fn to_template(grid: &Grid, physical_to_template: &Affine) -> Option<Affine> {
    let to_physical = placement::physical_to_space(grid, Space::Viewer)?.inverse()?;
    Some(physical_to_template.after(&to_physical))
}

/// A link to as many of the layers as fit, the first ones; the view is centred on `centre_mm` of the
/// template. None without layers.
pub fn link(layers: &[Layer], centre_mm: [f64; 3]) -> Option<String> {
    (1..=layers.len()).rev().find_map(|count| {
        let text = format!("{VIEWER}{}", encoded(&state(&layers[..count], centre_mm)));
        (text.len() <= LONGEST_LINK).then_some(text)
    })
}

fn state(layers: &[Layer], centre_mm: [f64; 3]) -> Value {
    let nanometres = json!({"x": [1e-9, "m"], "y": [1e-9, "m"], "z": [1e-9, "m"]});
    let layer = |layer: &Layer| {
        let mut matrix = layer.to_template.rows();
        matrix.iter_mut().for_each(|row| row[3] = nm(row[3]));
        json!({
            "type": if layer.labels { "segmentation" } else { "image" },
            "name": layer.name,
            "source": {
                "url": layer.source,
                "transform": {"matrix": matrix[..3].to_vec(), "outputDimensions": nanometres},
            },
        })
    };
    json!({
        "dimensions": nanometres,
        "position": centre_mm.map(nm),
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        "layout": "4panel",
    })
}

/// Whole nanometres: less is below every voxel.
fn nm(mm: f64) -> f64 {
    (mm * 1e6).round()
}

/// JSON as part of a URL.
fn encoded(state: &Value) -> String {
    let mut text = String::new();
    for byte in state.to_string().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:,/!'()".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str) -> Layer {
        // Voxels of 0.5 mm, the first axis to the left.
        let grid = Grid {
            shape: [4, 4, 4],
            voxel_to_world: Affine::from_rows([
                [-0.5, 0.0, 0.0, 10.0],
                [0.0, 0.5, 0.0, 0.0],
                [0.0, 0.0, 0.5, 0.0],
                [0.0; 4],
            ]),
        };
        let shift = Affine::translation([0.0, 0.0, 7.0]);
        Layer {
            name: name.to_owned(),
            source: "precomputed://https://a.example/nifti/0a/x".to_owned(),
            labels: false,
            to_template: to_template(&grid, &shift).unwrap(),
        }
    }

    #[test]
    fn the_state_places_the_corner_of_the_first_voxel() {
        let state = state(&[layer("a")], [1.0, 2.0, 3.0]);
        let transform = &state["layers"][0]["source"]["transform"];
        // The centre of voxel (0, 0, 0) is at (10, 0, 0), its corner half a voxel before it.
        assert_eq!(
            transform["matrix"],
            json!([
                [-1.0, 0.0, 0.0, 10_250_000.0],
                [0.0, 1.0, 0.0, -250_000.0],
                [0.0, 0.0, 1.0, 6_750_000.0]
            ])
        );
        assert_eq!(transform["outputDimensions"]["y"], json!([1e-9, "m"]));
        assert_eq!(state["position"], json!([1e6, 2e6, 3e6]));
    }

    #[test]
    fn a_link_holds_the_first_layers_and_no_odd_characters() {
        let one = link(&[layer("ä \"quoted\"")], [0.0; 3]).unwrap();
        assert!(
            one.starts_with(VIEWER) && !one.contains(['"', ' ', '{', '[']),
            "{one}"
        );
        let many: Vec<Layer> = (0..20).map(|index| layer(&format!("n{index}"))).collect();
        let link = link(&many, [0.0; 3]).unwrap();
        assert!(link.len() <= LONGEST_LINK && link.contains("n1") && !link.contains("n19"));
        assert_eq!(super::link(&[], [0.0; 3]), None);
    }
}
