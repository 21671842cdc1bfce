//! From the linear placement in one of three patch spaces to a map of physical space.
//!
//! With voxel index v (centre), voxel sizes S, affine A of the header, and M the requested matrix:
//!
//! | space | position of a voxel's centre | patch physical → template physical |
//! |---|---|---|
//! | `viewer` | n = S·(v + ½) | M · S · T(½) · A⁻¹ |
//! | `scaledVoxel` | n = S·v | M · S · A⁻¹ |
//! | `physical` | n = A·v | M |

use alignment_api::{Placement, Space};

use crate::{affine::Affine, grid::Grid};

/// Patch physical space (RAS mm) → the space that the request's positions are given in (mm).
///
/// `None` if the grid's affine is singular.
pub fn physical_to_space(grid: &Grid, space: Space) -> Option<Affine> {
    let half = match space {
        Space::Physical => return Some(Affine::IDENTITY),
        Space::Viewer => 0.5,
        Space::ScaledVoxel => 0.0,
    };
    let to_voxel = grid.voxel_to_world.inverse()?;
    let scale = Affine::scaling(grid.spacing());
    Some(
        scale
            .after(&Affine::translation([half; 3]))
            .after(&to_voxel),
    )
}

/// Patch physical space → template physical space (both RAS mm).
///
/// `None` if the grid's affine is singular.
pub fn patch_to_template(grid: &Grid, placement: &Placement) -> Option<Affine> {
    let to_space = physical_to_space(grid, placement.space)?;
    Some(Affine::from_rows(placement.matrix).after(&to_space))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Voxels of 0.4 × 0.5 × 0.6 mm, the x axis pointing left, an origin away from zero.
    fn grid() -> Grid {
        Grid {
            shape: [10, 11, 12],
            voxel_to_world: Affine::from_rows([
                [-0.4, 0.0, 0.0, 20.0],
                [0.0, 0.5, 0.0, -30.0],
                [0.0, 0.0, 0.6, 40.0],
                [0.0; 4],
            ]),
        }
    }

    fn place(space: Space) -> Affine {
        let mut matrix = Affine::IDENTITY.rows();
        matrix[0][3] = 100.0;
        patch_to_template(&grid(), &Placement { matrix, space }).unwrap()
    }

    /// Where the centre of voxel (3, 2, 1) lands.
    fn image(space: Space) -> [f64; 3] {
        place(space).apply(grid().voxel_to_world.apply([3.0, 2.0, 1.0]))
    }

    fn assert_close(found: [f64; 3], expected: [f64; 3]) {
        for axis in 0..3 {
            assert!(
                (found[axis] - expected[axis]).abs() < 1e-9,
                "{found:?} {expected:?}"
            );
        }
    }

    #[test]
    fn viewer_space_counts_from_the_corner_of_the_first_voxel() {
        assert_close(
            image(Space::Viewer),
            [100.0 + 3.5 * 0.4, 2.5 * 0.5, 1.5 * 0.6],
        );
    }

    #[test]
    fn scaled_voxel_space_counts_from_the_centre_of_the_first_voxel() {
        assert_close(
            image(Space::ScaledVoxel),
            [100.0 + 3.0 * 0.4, 2.0 * 0.5, 0.6],
        );
    }

    #[test]
    fn physical_space_is_that_of_the_header() {
        assert_close(
            image(Space::Physical),
            [100.0 + 20.0 - 3.0 * 0.4, -29.0, 40.6],
        );
    }
}
