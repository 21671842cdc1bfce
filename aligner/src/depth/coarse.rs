//! A first guess of the harmonic function, from the same problem on a coarser grid.

use rayon::prelude::*;

use super::components::{CSF, GREY, WHITE};
use super::laplace::{Guess, Laplacian, Stop, Tick};
use super::sheet::{Sheet, position};
use crate::observer::Interrupted;

/// A sheet that is fewer voxels thick than this starts from a constant.
const THINNEST: f64 = 6.0;

/// The guess feeds the fine solver, which has to repair the boundary anyway.
const STOP: Stop = Stop {
    change: 1e-4,
    sweeps: 200,
};

/// A start value for each grey voxel of the sheet, 0..1, and the slowest error met.
///
/// `state` is the image that the sheet was built from, `thickness_mm` typical for the sheet.
pub(super) fn first_guess(
    sheet: &Sheet,
    state: &[u8],
    thickness_mm: f64,
    tick: &mut Tick<'_>,
) -> Result<Guess, Interrupted> {
    let step = steps(sheet);
    let finest = (0..3)
        .filter(|&axis| step[axis] > 1)
        .map(|axis| sheet.spacing[axis])
        .fold(f64::INFINITY, f64::min);
    if thickness_mm < THINNEST * finest {
        return Ok(Guess::constant(0.5, sheet, thickness_mm));
    }
    let shape = std::array::from_fn(|axis| sheet.shape[axis].div_ceil(step[axis]));
    let spacing = std::array::from_fn(|axis| sheet.spacing[axis] * step[axis] as f64);
    let coarse_state = reduce(state, sheet.shape, shape, step);
    let coarse = Sheet::build(&coarse_state, shape, spacing);
    let guess = first_guess(&coarse, &coarse_state, thickness_mm, tick)?;
    let solved = Laplacian::of_depth(&coarse, thickness_mm).solve(guess, STOP, tick)?;
    let mut dense: Vec<f32> = coarse_state.iter().map(|&value| plateau(value)).collect();
    for (&voxel, value) in coarse.voxel.iter().zip(solved.values) {
        dense[voxel as usize] = value as f32;
    }
    let at = |number| interpolate(&dense, shape, step, sheet.position(number));
    Ok(Guess {
        values: (0..sheet.len()).into_par_iter().map(at).collect(),
        wave_mm: solved.wave_mm,
    })
}

/// Voxels to merge along each axis: two on the finer ones, so that coarse voxels become cubes.
fn steps(sheet: &Sheet) -> [usize; 3] {
    let finest = (0..3)
        .filter(|&axis| sheet.shape[axis] > 1)
        .map(|axis| sheet.spacing[axis])
        .fold(f64::INFINITY, f64::min);
    std::array::from_fn(|axis| {
        let merge = sheet.shape[axis] > 1 && sheet.spacing[axis] < 1.5 * finest;
        if merge { 2 } else { 1 }
    })
}

fn plateau(state: u8) -> f32 {
    match state {
        CSF => 0.0,
        WHITE => 1.0,
        _ => 0.5,
    }
}

/// The most frequent tissue of each coarse voxel; grey if it is undecided, to keep the sheet whole.
fn reduce(state: &[u8], fine: [usize; 3], coarse: [usize; 3], step: [usize; 3]) -> Vec<u8> {
    (0..coarse.iter().product())
        .map(|flat| {
            let first = position(coarse, flat);
            let mut counts = [0; 4];
            for child in 0..step.iter().product() {
                let within = position(step, child);
                let at: [usize; 3] = std::array::from_fn(|axis| {
                    (first[axis] * step[axis] + within[axis]).min(fine[axis] - 1)
                });
                counts[usize::from(state[at[0] + fine[0] * (at[1] + fine[1] * at[2])])] += 1;
            }
            let [csf, grey, white, _] = counts;
            if csf > grey && csf > white {
                CSF
            } else if white > grey && white > csf {
                WHITE
            } else {
                GREY
            }
        })
        .collect()
}

/// Linear interpolation of a coarse array at a fine voxel, constant beyond the outermost centres.
fn interpolate(dense: &[f32], shape: [usize; 3], step: [usize; 3], fine: [usize; 3]) -> f64 {
    let mut low = [0; 3];
    let mut fraction = [0.0; 3];
    for axis in 0..3 {
        let size = step[axis] as f64;
        let at = (fine[axis] as f64 + 0.5) / size - 0.5;
        let at = at.clamp(0.0, shape[axis] as f64 - 1.0);
        low[axis] = (at as usize).min(shape[axis].saturating_sub(2));
        fraction[axis] = at - low[axis] as f64;
    }
    let mut sum = 0.0;
    for corner in 0..8 {
        let mut weight = 1.0;
        let mut at = low;
        for axis in 0..3 {
            if corner >> axis & 1 == 1 {
                weight *= fraction[axis];
                at[axis] = (low[axis] + 1).min(shape[axis] - 1);
            } else {
                weight *= 1.0 - fraction[axis];
            }
        }
        sum += weight * f64::from(dense[at[0] + shape[0] * (at[1] + shape[1] * at[2])]);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_function_is_interpolated_exactly() {
        let (shape, step) = ([6, 5, 4], [2, 2, 1]);
        let value = |at: [f64; 3]| 0.3 * at[0] - 0.2 * at[1] + 0.5 * at[2];
        let dense: Vec<f32> = (0..120)
            .map(|flat| value(position(shape, flat).map(|index| index as f64)) as f32)
            .collect();
        // Fine voxel 5 lies at coarse index 2.25, fine voxel 2 at 0.75.
        let found = interpolate(&dense, shape, step, [5, 2, 3]);
        assert!((found - value([2.25, 0.75, 3.0])).abs() < 1e-6);
    }

    #[test]
    fn ties_stay_grey_and_odd_sizes_repeat_the_last_voxel() {
        let state = [CSF, GREY, WHITE, WHITE, CSF];
        let found = reduce(&state, [5, 1, 1], [3, 1, 1], [2, 1, 1]);
        assert_eq!(found, [GREY, WHITE, CSF]);
    }
}
