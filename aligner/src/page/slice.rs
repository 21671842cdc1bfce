//! Planes through a grid, turned as anatomists hang pictures.

use crate::grid::Grid;

/// Letters of the ends of the world axes.
const ENDS: [[char; 2]; 3] = [['L', 'R'], ['P', 'A'], ['I', 'S']];
const NAMES: [&str; 3] = ["sagittal", "coronal", "axial"];

/// One axis of a picture.
#[derive(Clone, Copy)]
struct Side {
    axis: usize,
    /// Whether the picture runs against the voxel index.
    reversed: bool,
    pixels: usize,
    /// Letters at its beginning and at its end.
    ends: [char; 2],
}

/// A plane of voxels as a picture: right or front to the right, top or front at the top.
pub(super) struct Slice {
    grid: Grid,
    /// Axis across the plane, and the voxel where it is cut.
    across: (usize, usize),
    columns: Side,
    rows: Side,
    /// Voxels per pixel along each axis.
    step: [f64; 3],
}

impl Slice {
    /// The three planes through a voxel, all of one scale; `pixels` along the longest side of the
    /// largest.
    pub(super) fn three(grid: &Grid, centre: [usize; 3], pixels: u32) -> [Self; 3] {
        let spacing = grid.spacing();
        let extent = |axis: usize| grid.shape[axis] as f64 * spacing[axis];
        let longest = (0..3).map(extent).fold(0.0, f64::max);
        let pixel = longest / f64::from(pixels);
        let step = spacing.map(|size| pixel / size);
        std::array::from_fn(|axis| {
            let side = |axis: usize| {
                let (world, sign) = direction(grid, axis);
                Side {
                    axis,
                    reversed: sign < 0.0,
                    pixels: ((extent(axis) / pixel).round() as usize).max(1),
                    ends: ENDS[world],
                }
            };
            let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
            // Upwards goes what points upwards most.
            let upright = |axis: usize| direction(grid, axis).0;
            let (a, b) = if upright(a) > upright(b) {
                (b, a)
            } else {
                (a, b)
            };
            Self {
                grid: *grid,
                across: (axis, centre[axis]),
                columns: side(a),
                rows: side(b),
                step,
            }
        })
    }

    /// Width and height in pixels.
    pub(super) fn size(&self) -> [usize; 2] {
        [self.columns.pixels, self.rows.pixels]
    }

    /// What the plane is called, by the world axis that it is closest to being across.
    pub(super) fn name(&self) -> &'static str {
        NAMES[direction(&self.grid, self.across.0).0]
    }

    /// Which voxels are shown: the axis, and the index along it.
    pub(super) fn place(&self) -> String {
        let (axis, index) = self.across;
        format!("{} = {index}", ['i', 'j', 'k'][axis])
    }

    /// Letters at the left, right, bottom and top.
    pub(super) fn ends(&self) -> [char; 4] {
        let [left, right] = self.columns.ends;
        let [bottom, top] = self.rows.ends;
        [left, right, bottom, top]
    }

    /// Values at the centres of all pixels, row by row from the top.
    pub(super) fn sample(&self, value: impl Fn([f64; 3]) -> f32) -> Vec<f32> {
        let along = |side: &Side, pixel: usize| {
            let pixel = if side.reversed {
                side.pixels - 1 - pixel
            } else {
                pixel
            };
            (pixel as f64 + 0.5) * self.step[side.axis] - 0.5
        };
        let mut values = Vec::with_capacity(self.columns.pixels * self.rows.pixels);
        let mut voxel = [0.0; 3];
        voxel[self.across.0] = self.across.1 as f64;
        for row in 0..self.rows.pixels {
            voxel[self.rows.axis] = along(&self.rows, self.rows.pixels - 1 - row);
            for column in 0..self.columns.pixels {
                voxel[self.columns.axis] = along(&self.columns, column);
                values.push(value(self.grid.voxel_to_world.apply(voxel)));
            }
        }
        values
    }
}

/// The world axis that a voxel axis is closest to, and the sign of its component.
fn direction(grid: &Grid, axis: usize) -> (usize, f64) {
    let rows = grid.voxel_to_world.rows();
    let largest = (0..3).max_by(|&a, &b| rows[a][axis].abs().total_cmp(&rows[b][axis].abs()));
    let world = largest.unwrap_or(axis);
    (world, rows[world][axis])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::affine::Affine;

    fn grid(linear: [[f64; 3]; 3]) -> Grid {
        Grid {
            shape: [10, 20, 40],
            voxel_to_world: Affine::from_parts(linear, [0.0; 3]),
        }
    }

    #[test]
    fn left_is_left_and_up_is_up_whatever_the_voxel_axes() {
        // i to the left, j downwards, k to the front.
        let turned = grid([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]);
        for (slice, name, ends) in Slice::three(&turned, [5, 10, 20], 360)
            .iter()
            .zip(["sagittal", "axial", "coronal"])
            .zip(["PAIS", "LRPA", "LRIS"])
            .map(|((slice, name), ends)| (slice, name, ends))
        {
            assert_eq!(slice.name(), name);
            assert_eq!(slice.ends().iter().collect::<String>(), ends);
            let world: Vec<usize> = ends
                .chars()
                .map(|end| ENDS.iter().position(|pair| pair.contains(&end)).unwrap())
                .collect();
            let across = slice.sample(|p| p[world[0]] as f32);
            let up = slice.sample(|p| p[world[2]] as f32);
            let [width, height] = slice.size();
            assert!(across[0] < across[width - 1]);
            assert!(up[0] > up[(height - 1) * width]);
        }
    }

    #[test]
    fn all_planes_have_the_scale_of_the_largest() {
        let planes = Slice::three(
            &grid([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
            [0; 3],
            360,
        );
        // 20 x 20 x 40 mm at 9 pixels per mm.
        assert_eq!(planes[0].size(), [180, 360]);
        assert_eq!(planes[2].size(), [180, 180]);
        // Pixel centres reach from half a pixel inside one face to half a pixel inside the other.
        let x = planes[2].sample(|p| p[0] as f32);
        assert!((x[0] + 1.0 - 0.5 / 9.0).abs() < 1e-5 && (x[179] - 19.0 + 0.5 / 9.0).abs() < 1e-5);
    }
}
