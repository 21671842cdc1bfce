//! A small request out of the bundled example: a cube of the patch, and the template around it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aligner::{
    affine::Affine,
    grid::Grid,
    io::nifti::{self, Voxels},
    placement,
};
use alignment_api::{Placement, RequestDocument, Space};

/// First voxel and size of the cube in the example's patch.
const START: [usize; 3] = [20, 20, 18];
const SIDE: [usize; 3] = [34, 36, 32];

pub(crate) fn make(folder: &Path) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let data = examples.join("data");
    let grid = cut(
        &data.join("patch_image.nii.gz"),
        &folder.join("image.nii.gz"),
    );
    cut(
        &data.join("patch_segmentation.nii.gz"),
        &folder.join("segmentation.nii.gz"),
    );
    fs::copy(
        data.join("template_depth.nii.gz"),
        folder.join("template.nii.gz"),
    )
    .unwrap();
    let matrix = patch_to_template(&examples.join("request.yaml"), &grid).rows();
    let source = |name: &str| format!("{{volume: {{claimName: patches, path: {name}.nii.gz}}}}");
    let text = format!(
        "apiVersion: voluba.ebrains.eu/v1alpha1\nkind: AlignmentRequest\nmetadata: {{name: small}}\nspec:\n  patch:\n    images: [{{name: patch, source: {}}}]\n    depth: {{segmentation: {{source: {}}}}}\n  placement: {{space: physical, matrix: {matrix:?}}}\n  output:\n    destination: {{volume: {{claimName: results, path: small}}}}\n    grids: [patch, template]\n",
        source("image"),
        source("segmentation"),
    );
    fs::write(folder.join("small.yaml"), text).unwrap();
}

/// Writes the cube; returns the grid of the whole.
fn cut(from: &Path, to: &Path) -> Grid {
    let image = nifti::read_stored(from).unwrap();
    let whole = image.header.grid;
    let voxels = match &image.voxels {
        Voxels::U8(values) => Voxels::U8(cube(values, whole.shape)),
        Voxels::U16(values) => Voxels::U16(cube(values, whole.shape)),
        Voxels::I16(values) => Voxels::I16(cube(values, whole.shape)),
        _ => panic!("the example has other types now"),
    };
    nifti::write_stored(to, &whole.cropped(START, SIDE), &voxels, &image.header).unwrap();
    whole
}

fn cube<T: Copy>(values: &[T], shape: [usize; 3]) -> Vec<T> {
    let mut cube = Vec::new();
    for z in START[2]..START[2] + SIDE[2] {
        for y in START[1]..START[1] + SIDE[1] {
            let row = (z * shape[1] + y) * shape[0] + START[0];
            cube.extend(&values[row..row + SIDE[0]]);
        }
    }
    cube
}

/// The example's placement between the physical spaces.
fn patch_to_template(request: &Path, grid: &Grid) -> Affine {
    let RequestDocument { spec, .. } = aligner::job::read_request(request).unwrap();
    let spec = spec.alignment().unwrap();
    let Placement { space, .. } = spec.placement;
    assert_eq!(space, Space::Viewer);
    placement::patch_to_template(grid, &spec.placement).unwrap()
}

/// Writes a volume of zeros, unsigned bytes.
pub(crate) fn zeros(path: &Path, shape: [usize; 3]) -> PathBuf {
    let grid = Grid {
        shape,
        voxel_to_world: Affine::scaling([0.1; 3]),
    };
    let values = vec![0; grid.voxels()];
    nifti::write_labels(path, &grid, &values, nifti::label_header("zeros", "", 1)).unwrap();
    path.to_owned()
}
