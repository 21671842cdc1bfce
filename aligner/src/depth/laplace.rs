//! The harmonic function between the two surfaces: 0 on the pial, 1 on the white one.
//!
//! Finite differences with the true distance to a surface on each grid edge (Shortley & Weller
//! 1938), relaxed by red-black SOR. All distances are in mm.

use rayon::prelude::*;

use super::sheet::{End, Link, Links, Sheet, all_grey};
use crate::observer::Interrupted;

/// Called after each sweep with its number (from 1) and the largest change that it still saw.
pub(super) type Tick<'a> = dyn FnMut(u32, f64) -> Result<(), Interrupted> + 'a;

/// When to stop sweeping.
#[derive(Clone, Copy)]
pub(super) struct Stop {
    /// Largest change that counts as converged.
    pub(super) change: f64,
    /// Sweeps at most.
    pub(super) sweeps: u32,
}

/// Where a solver starts.
pub(super) struct Guess {
    /// One value per grey voxel.
    pub(super) values: Vec<f64>,
    /// Half period in mm of the slowest error: about the largest thickness of the sheet. Only the
    /// speed depends on it, and the solver corrects it if it is too small.
    pub(super) wave_mm: f64,
}

impl Guess {
    /// The same value everywhere on a sheet of this typical thickness.
    pub(super) fn constant(value: f64, sheet: &Sheet, thickness_mm: f64) -> Self {
        Self {
            values: vec![value; sheet.len()],
            wave_mm: thickness_mm,
        }
    }
}

/// Largest spectral radius of the Jacobi iteration that is believed.
const SLOWEST: f64 = 0.9999;

/// Voxels that one task updates; sums are taken over these blocks, for any number of threads.
const BLOCK: usize = 8192;

/// Sweeps between two looks at the rate of convergence.
const PERIOD: u32 = 12;

/// The equation at each grey voxel.
pub(super) struct Laplacian<'a> {
    sheet: &'a Sheet,
    boundary: Boundary,
    /// 1 / spacing².
    weight: [f64; 3],
    /// 1 / sum of the weights of a voxel with six grey neighbours.
    inside: f64,
}

/// What holds on the surfaces and on the faces of the image.
#[derive(Clone, Copy)]
enum Boundary {
    /// 0 on the pial and 1 on the white surface. On a face nothing is known: of the weight of each
    /// axis only this share is kept where the image ends on it.
    Depth([f64; 3]),
    /// 0 on both surfaces, 1 one voxel beyond a face.
    Exposure,
}

impl<'a> Laplacian<'a> {
    /// The equation for the harmonic function from 0 (pial) to 1 (white).
    ///
    /// `thickness_mm` is typical for the sheet; it sets the condition at faces of the image.
    ///
    /// At a face nothing is known beyond. Zero flux (share 1) bends the level sets until they meet
    /// the face at a right angle; dropping the axis (share 0, linear continuation) is unstable for
    /// a sheet that runs along the face. The share in between goes with spacing / thickness, so
    /// that the condition in mm does not depend on the resolution.
    pub(super) fn of_depth(sheet: &'a Sheet, thickness_mm: f64) -> Self {
        let share = |spacing: f64| (2.0 * spacing / thickness_mm).clamp(0.05, 1.0);
        Self::new(sheet, Boundary::Depth(sheet.spacing.map(share)))
    }

    /// The equation for the harmonic measure of the faces of the image: the share of random walks
    /// from a voxel that leave through a face before they meet a surface. It bounds how much of the
    /// harmonic function depends on what lies beyond, and falls off like exp(−π·distance/thickness)
    /// from a face.
    pub(super) fn of_exposure(sheet: &'a Sheet) -> Self {
        Self::new(sheet, Boundary::Exposure)
    }

    fn new(sheet: &'a Sheet, boundary: Boundary) -> Self {
        let weight = sheet.spacing.map(|spacing| 1.0 / (spacing * spacing));
        Self {
            sheet,
            boundary,
            inside: 0.5 / weight.iter().sum::<f64>(),
            weight,
        }
    }

    /// Relaxes a guess (one value per grey voxel) until nothing changes; the values end within
    /// 0..1.
    pub(super) fn solve(
        &self,
        guess: Guess,
        stop: Stop,
        tick: &mut Tick<'_>,
    ) -> Result<Guess, Interrupted> {
        let Guess {
            mut values,
            wave_mm,
        } = guess;
        let mut omega = self.relaxation(wave_mm);
        let mut before = f64::NAN;
        for sweep in 1..=stop.sweeps {
            let seen = self.sweep(&mut values, omega);
            tick(sweep, seen.largest)?;
            if seen.largest < stop.change {
                break;
            }
            if sweep % PERIOD == 0 {
                let rate = libm::pow(seen.squares / before, 0.5 / f64::from(PERIOD));
                omega = better_relaxation(omega, rate);
                before = seen.squares;
            }
        }
        for value in &mut values {
            *value = value.clamp(0.0, 1.0);
        }
        let wave_mm = wave_mm.max(self.wave_mm(omega));
        Ok(Guess { values, wave_mm })
    }

    /// Relaxation factor that is best if the slowest error is a wave with this half period (Young
    /// 1954).
    fn relaxation(&self, wave_mm: f64) -> f64 {
        let wave = std::f64::consts::PI / wave_mm;
        let jacobi = (1.0 - 0.5 * wave * wave / self.axes()).clamp(0.0, SLOWEST);
        2.0 / (1.0 + (1.0 - jacobi * jacobi).sqrt())
    }

    /// The inverse of [`Self::relaxation`].
    fn wave_mm(&self, omega: f64) -> f64 {
        let root = 2.0 / omega - 1.0;
        let jacobi = (1.0 - root * root).max(0.0).sqrt().min(SLOWEST);
        std::f64::consts::PI / (2.0 * (1.0 - jacobi) * self.axes()).sqrt()
    }

    fn axes(&self) -> f64 {
        (0..3)
            .filter(|&axis| self.sheet.shape[axis] > 1)
            .map(|axis| self.weight[axis])
            .sum()
    }

    fn sweep(&self, values: &mut [f64], omega: f64) -> Seen {
        let red = self.sheet.red;
        let (red_links, black_links) = self.sheet.links.split_at(red);
        let (red_values, black_values) = values.split_at_mut(red);
        let first = self.sweep_colour(red_values, red_links, (black_values, red), omega);
        let second = self.sweep_colour(black_values, black_links, (red_values, 0), omega);
        first.and(&second)
    }

    /// Updates one colour; `other` holds the values of the other one and the number of its first.
    fn sweep_colour(
        &self,
        values: &mut [f64],
        links: &[Links],
        other: (&[f64], usize),
        omega: f64,
    ) -> Seen {
        let blocks: Vec<Seen> = values
            .par_chunks_mut(BLOCK)
            .zip(links.par_chunks(BLOCK))
            .map(|(values, links)| {
                let mut seen = Seen::default();
                for (value, links) in values.iter_mut().zip(links) {
                    let mean = self.mean(links, |number| other.0[number - other.1]);
                    let change = mean.unwrap_or(*value) - *value;
                    *value += omega * change;
                    seen.add(change);
                }
                seen
            })
            .collect();
        blocks.iter().fold(Seen::default(), Seen::and)
    }

    /// The value that the neighbours ask for; `None` if there are none.
    #[inline]
    fn mean(&self, links: &Links, read: impl Fn(usize) -> f64) -> Option<f64> {
        let (mut sum, mut weights) = (0.0, 0.0);
        if all_grey(links) {
            for axis in 0..3 {
                let [low, high] = [links[2 * axis], links[2 * axis + 1]];
                sum += self.weight[axis] * (read(low.number()) + read(high.number()));
            }
            return Some(sum * self.inside);
        }
        for axis in 0..3 {
            let pair = [links[2 * axis], links[2 * axis + 1]];
            let (ends, share) = self.boundary.apply(pair, axis, &read);
            let span: f64 = ends.iter().map(|end| end.map_or(1.0, |(_, d)| d)).sum();
            for (value, distance) in ends.into_iter().flatten() {
                let weight = 2.0 * self.weight[axis] * share / (span * distance);
                sum += weight * value;
                weights += weight;
            }
        }
        (weights > 0.0).then(|| sum / weights)
    }
}

impl Boundary {
    /// Value and distance in spacings at both ends of an axis, and the share of its weight.
    #[inline]
    fn apply(
        self,
        pair: [Link; 2],
        axis: usize,
        read: impl Fn(usize) -> f64,
    ) -> ([Option<(f64, f64)>; 2], f64) {
        let ends = pair.map(|link| look(link, &read));
        match self {
            Self::Depth(_) if ends[0].is_some() && ends[1].is_some() => (ends, 1.0),
            Self::Depth(face) => (ends, face[axis]),
            // Along an axis with one voxel nothing can leave.
            Self::Exposure if pair == [Link::OUTSIDE; 2] => ([None; 2], 1.0),
            Self::Exposure => {
                let exposed = |link: Link| match link.end() {
                    End::Grey(number) => (read(number), 1.0),
                    End::Surface { distance, .. } => (0.0, distance),
                    End::Outside => (1.0, 1.0),
                };
                (pair.map(|link| Some(exposed(link))), 1.0)
            }
        }
    }
}

/// Value at the end of a link and its distance in spacings; `None` outside of the image.
#[inline]
fn look(link: Link, read: impl Fn(usize) -> f64) -> Option<(f64, f64)> {
    match link.end() {
        End::Grey(number) => Some((read(number), 1.0)),
        End::Surface { value, distance } => Some((value, distance)),
        End::Outside => None,
    }
}

/// Gradient of `values` at a grey voxel, in 1/mm along the voxel axes: three-point differences on
/// uneven distances, one-sided at faces of the image, zero along an axis with one voxel.
#[inline]
pub(super) fn gradient(sheet: &Sheet, values: &[f64], number: usize) -> [f64; 3] {
    let here = values[number];
    let links = &sheet.links[number];
    std::array::from_fn(|axis| {
        let [low, high] =
            [links[2 * axis], links[2 * axis + 1]].map(|link| look(link, |other| values[other]));
        let slope = match (low, high) {
            (None, None) => 0.0,
            (None, Some((value, distance))) => (value - here) / distance,
            (Some((value, distance)), None) => (here - value) / distance,
            (Some((below, to_low)), Some((above, to_high))) => {
                let (left, right) = ((here - below) / to_low, (above - here) / to_high);
                (right * to_low + left * to_high) / (to_low + to_high)
            }
        };
        slope / sheet.spacing[axis]
    })
}

/// Size of the changes in one sweep.
#[derive(Clone, Copy, Default)]
struct Seen {
    largest: f64,
    squares: f64,
}

impl Seen {
    fn add(&mut self, change: f64) {
        self.largest = self.largest.max(change.abs());
        self.squares += change * change;
    }

    fn and(self, other: &Self) -> Self {
        Self {
            largest: self.largest.max(other.largest),
            squares: self.squares + other.squares,
        }
    }
}

/// A larger factor if the changes shrink by `rate` per sweep, more slowly than `omega` could give.
///
/// Young's relation (λ + ω − 1)² = λ ω² μ² turns the rate λ into the spectral radius μ.
fn better_relaxation(omega: f64, rate: f64) -> f64 {
    let usable = rate < 1.0 && rate > omega - 1.0 + 0.01;
    if !usable {
        return omega;
    }
    let ratio = rate + omega - 1.0;
    let radius_squared = (ratio * ratio / (rate * omega * omega)).min(SLOWEST * SLOWEST);
    (2.0 / (1.0 + (1.0 - radius_squared).sqrt())).max(omega)
}

#[cfg(test)]
mod tests {
    use super::super::components::{CSF, GREY, WHITE};
    use super::*;

    #[test]
    fn between_two_planes_the_solution_is_linear() {
        let shape = [16, 4, 3];
        let state: Vec<u8> = (0..shape.iter().product())
            .map(|flat| match flat % 16 {
                0..3 => CSF,
                3..13 => GREY,
                _ => WHITE,
            })
            .collect();
        let sheet = Sheet::build(&state, shape, [0.5, 1.0, 1.0]);
        let stop = Stop {
            change: 1e-9,
            sweeps: 500,
        };
        let mut last = 0;
        let values = Laplacian::of_depth(&sheet, 5.0)
            .solve(Guess::constant(0.5, &sheet, 5.0), stop, &mut |sweep, _| {
                last = sweep;
                Ok(())
            })
            .unwrap()
            .values;
        assert!(last < 150, "{last} sweeps");
        for (number, value) in values.iter().enumerate() {
            let expected = (sheet.position(number)[0] as f64 - 2.5) / 10.0;
            assert!((value - expected).abs() < 1e-4);
            let slope = gradient(&sheet, &values, number);
            assert!((slope[0] - 0.2).abs() < 1e-3 && slope[1].abs() < 1e-6);
        }
    }

    #[test]
    fn the_relaxation_factor_only_grows_and_stays_below_two() {
        assert_eq!(better_relaxation(1.5, 0.4), 1.5);
        assert_eq!(better_relaxation(1.5, f64::NAN), 1.5);
        let better = better_relaxation(1.5, 0.9);
        assert!(better > 1.5 && better < 2.0);
    }
}
