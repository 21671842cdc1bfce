//! The inverse of a displacement field on its own grid.

use rayon::prelude::*;

use crate::interpolate::Locator;

/// Most fixed-point steps per voxel.
const MOST_STEPS: usize = 20;
/// A step shorter than this many voxels ends the search.
const CLOSE_ENOUGH: f32 = 1e-4;

/// Improves `inverse`, in place, until forward(inverse(x)) = x: v(x) ← −u(x + v(x)).
///
/// Both fields are in voxels of the same grid. The fixed point exists where |∇u| < 1 (Chen et al.
/// 2008, "A simple fixed-point approach to invert a deformation field"); starting from the
/// exponential of the negative velocity, only the interpolation error is left to remove.
pub(super) fn refine_inverse(
    forward: &[Vec<f32>; 3],
    inverse: &mut [Vec<f32>; 3],
    shape: [usize; 3],
) {
    let [nx, ny, _] = shape;
    let locator = Locator::new(shape);
    let [inverse_x, inverse_y, inverse_z] = inverse;
    inverse_x
        .par_chunks_mut(nx)
        .zip(inverse_y.par_chunks_mut(nx))
        .zip(inverse_z.par_chunks_mut(nx))
        .enumerate()
        .with_min_len(16)
        .for_each(|(row, ((out_x, out_y), out_z))| {
            let (y, z) = ((row % ny) as f32, (row / ny) as f32);
            for i in 0..nx {
                let start = [i as f32, y, z];
                let mut v = [out_x[i], out_y[i], out_z[i]];
                for _ in 0..MOST_STEPS {
                    let cell = locator.cell(std::array::from_fn(|a| start[a] + v[a]));
                    let next: [f32; 3] = std::array::from_fn(|a| -cell.value(&forward[a]));
                    let moved = (0..3).map(|a| (next[a] - v[a]).abs()).fold(0.0, f32::max);
                    v = next;
                    if moved < CLOSE_ENOUGH {
                        break;
                    }
                }
                [out_x[i], out_y[i], out_z[i]] = v;
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shear_is_inverted() {
        let shape = [12, 10, 8];
        let mut forward = [vec![0.0_f32; 960], vec![0.0; 960], vec![0.0; 960]];
        for i in 0..960 {
            forward[0][i] = 0.2 * ((i / 12 % 10) as f32 - 4.5);
            forward[2][i] = 0.1;
        }
        let mut inverse = [vec![0.0_f32; 960], vec![0.0; 960], vec![0.0; 960]];
        refine_inverse(&forward, &mut inverse, shape);
        for i in 0..960 {
            let expected = -0.2 * ((i / 12 % 10) as f32 - 4.5);
            assert!((inverse[0][i] - expected).abs() < 1e-4);
            assert!((inverse[2][i] + 0.1).abs() < 1e-6);
        }
    }
}
