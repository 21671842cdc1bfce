//! The harmonic function between the two surfaces: 0 on the pial, 1 on the white one.
//!
//! Finite differences with the true distance to a surface on each grid edge (Shortley & Weller
//! 1938), solved by red-black relaxation with corrections from the coarser grids of `multigrid`. All distances are in mm.

use rayon::prelude::*;

use super::coarsen::{Arm, Arms, Cells, for_each_block};
use super::multigrid::Multigrid;
use super::sheet::{End, Link, Links, Sheet, all_grey};
use crate::observer::Interrupted;

/// Called after each cycle with its number (from 1) and the largest change that it still saw.
pub(super) type Tick<'a> = dyn FnMut(u32, f64) -> Result<(), Interrupted> + 'a;

/// When to stop.
#[derive(Clone, Copy)]
pub(super) struct Stop {
    /// Largest change in a sweep that counts as converged.
    pub(super) change: f64,
    /// Cycles at most.
    pub(super) cycles: u32,
}

/// Voxels that one task updates; the same for any number of threads.
const BLOCK: usize = 8192;

/// Sweeps between two corrections.
const SWEEPS: u32 = 2;

/// Least number of cycles after which corrections are judged.
const PROBATION: u32 = 6;

/// Relaxation factor where corrections do not help.
const OVER: f64 = 1.8;

/// A value of the harmonic function, 0..1, in half the memory of an `f64` and as precise near 1 as
/// near 0: depth must not depend on which side is which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Harmonic(u32);

impl Harmonic {
    const ONE: f64 = 2_147_483_648.0;

    pub(super) fn new(value: f64) -> Self {
        Self((value * Self::ONE) as u32)
    }

    #[inline]
    pub(super) fn value(self) -> f64 {
        f64::from(self.0) / Self::ONE
    }
}

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

    /// Solves from a constant until nothing changes; the values end within 0..1.
    ///
    /// Each cycle adds a correction from coarser grids and relaxes twice. Only black voxels need
    /// the correction, since red ones are then computed from them; and only red voxels have a
    /// residual, since black ones come last.
    pub(super) fn solve(
        &self,
        start: f64,
        stop: Stop,
        tick: &mut Tick<'_>,
    ) -> Result<Vec<f64>, Interrupted> {
        let red = self.sheet.red;
        let mut values = vec![start; self.sheet.len()];
        if self.is_solved_by(start) {
            return Ok(values);
        }
        let mut coarser = Multigrid::build(&self.cells(), |cell| self.arms(cell));
        let mut omega = 1.0;
        let mut best = f64::INFINITY;
        for cycle in 1..=stop.cycles {
            let mut change = 0.0;
            for _ in 0..SWEEPS {
                change = self.sweep(&mut values, omega);
            }
            tick(cycle, change)?;
            if change < stop.change {
                break;
            }
            if cycle > PROBATION && change > best {
                // Sweeps alone always converge.
                omega = OVER;
            }
            best = best.min(change);
            if omega == 1.0 {
                coarser.solve(red, |cell| self.residual(&values, cell));
                let black = values.split_at_mut(red).1;
                for_each_block(black, red, |cell, value| {
                    *value += f64::from(coarser.correction(cell));
                });
            }
        }
        for value in &mut values {
            *value = value.clamp(0.0, 1.0);
        }
        Ok(values)
    }

    /// True if no voxel asks for another value than this one.
    fn is_solved_by(&self, value: f64) -> bool {
        self.sheet.links.par_iter().all(|links| {
            let mean = if all_grey(links) {
                None
            } else {
                self.mean(links, |_| value)
            };
            mean.is_none_or(|mean| mean == value)
        })
    }

    fn cells(&self) -> Cells<'_> {
        Cells {
            shape: self.sheet.shape,
            spacing: self.sheet.spacing,
            at: &self.sheet.voxel,
        }
    }

    fn residual(&self, values: &[f64], cell: usize) -> f32 {
        let links = &self.sheet.links[cell];
        let (sum, weights) = self.balance(links, |number| values[number]);
        ((sum - weights * values[cell]) * self.volume(links)) as f32
    }

    /// Share of a voxel for which its equation speaks: with it, weights are the same both ways.
    fn volume(&self, links: &Links) -> f64 {
        if all_grey(links) {
            return 1.0;
        }
        let (mut even, mut uneven) = (0.0, 0.0);
        for axis in 0..3 {
            let (ends, span) = self.ends(links, axis);
            let half = if ends[0].is_some() && ends[1].is_some() {
                0.5 * span
            } else {
                1.0
            };
            for (weight, _) in ends.into_iter().flatten() {
                even += half * weight;
                uneven += weight;
            }
        }
        if uneven > 0.0 { even / uneven } else { 1.0 }
    }

    /// The ties of a grey voxel, as [`Multigrid`] wants them.
    fn arms(&self, cell: usize) -> Arms {
        let links = &self.sheet.links[cell];
        let volume = self.volume(links);
        let mut arms = [Arm::Outside(0.0); 6];
        for axis in 0..3 {
            let (ends, _) = self.ends(links, axis);
            for (side, end) in ends.into_iter().enumerate() {
                let Some((weight, distance)) = end else {
                    continue;
                };
                let weight = (volume * weight) as f32;
                arms[2 * axis + side] = match links[2 * axis + side].end() {
                    End::Grey(number) => Arm::Cell(number as u32, weight),
                    End::Outside => Arm::Outside(weight),
                    End::Surface { .. } => Arm::Fixed(weight, distance as f32),
                };
            }
        }
        (arms, 0.0)
    }

    /// Weight and distance at both ends of an axis, and the distance between them.
    fn ends(&self, links: &Links, axis: usize) -> ([Option<(f64, f64)>; 2], f64) {
        let pair = [links[2 * axis], links[2 * axis + 1]];
        let (ends, share) = self.boundary.apply(pair, axis, |_| 0.0);
        let span: f64 = ends.iter().map(|end| end.map_or(1.0, |(_, d)| d)).sum();
        let weight = |distance| 2.0 * self.weight[axis] * share / (span * distance);
        (ends.map(|end| end.map(|(_, d)| (weight(d), d))), span)
    }

    /// Updates all voxels; returns the largest change.
    fn sweep(&self, values: &mut [f64], omega: f64) -> f64 {
        let red = self.sheet.red;
        let (red_links, black_links) = self.sheet.links.split_at(red);
        let (red_values, black_values) = values.split_at_mut(red);
        let first = self.sweep_colour(red_values, red_links, (black_values, red), omega);
        let second = self.sweep_colour(black_values, black_links, (red_values, 0), omega);
        first.max(second)
    }

    /// Updates one colour; `other` holds the values of the other one and the number of its first.
    fn sweep_colour(
        &self,
        values: &mut [f64],
        links: &[Links],
        other: (&[f64], usize),
        omega: f64,
    ) -> f64 {
        values
            .par_chunks_mut(BLOCK)
            .zip(links.par_chunks(BLOCK))
            .map(|(values, links)| {
                let mut largest = 0.0_f64;
                for (value, links) in values.iter_mut().zip(links) {
                    let mean = self.mean(links, |number| other.0[number - other.1]);
                    let change = mean.unwrap_or(*value) - *value;
                    *value += omega * change;
                    largest = largest.max(change.abs());
                }
                largest
            })
            .reduce(|| 0.0, f64::max)
    }

    /// The value that the neighbours ask for; `None` if there are none.
    #[inline]
    fn mean(&self, links: &Links, read: impl Fn(usize) -> f64) -> Option<f64> {
        if all_grey(links) {
            return Some(self.balance(links, read).0 * self.inside);
        }
        let (sum, weights) = self.balance(links, read);
        (weights > 0.0).then(|| sum / weights)
    }

    /// Weighted sum of the neighbours' values, and of the weights.
    #[inline]
    fn balance(&self, links: &Links, read: impl Fn(usize) -> f64) -> (f64, f64) {
        let (mut sum, mut weights) = (0.0, 0.0);
        if all_grey(links) {
            for axis in 0..3 {
                let [low, high] = [links[2 * axis], links[2 * axis + 1]];
                sum += self.weight[axis] * (read(low.number()) + read(high.number()));
            }
            return (sum, 1.0 / self.inside);
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
        (sum, weights)
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
pub(super) fn gradient(sheet: &Sheet, values: &[Harmonic], number: usize) -> [f64; 3] {
    let links = &sheet.links[number];
    let read = |other: usize| values[other].value();
    if all_grey(links) {
        return std::array::from_fn(|axis| {
            let [low, high] = [links[2 * axis], links[2 * axis + 1]];
            (read(high.number()) - read(low.number())) / (2.0 * sheet.spacing[axis])
        });
    }
    let here = read(number);
    std::array::from_fn(|axis| {
        let [low, high] = [links[2 * axis], links[2 * axis + 1]].map(|link| look(link, read));
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
            cycles: 50,
        };
        let mut last = 0;
        let values = Laplacian::of_depth(&sheet, 5.0)
            .solve(0.5, stop, &mut |cycle, _| {
                last = cycle;
                Ok(())
            })
            .unwrap();
        assert!(last < 25, "{last} cycles");
        let values: Vec<Harmonic> = values.into_iter().map(Harmonic::new).collect();
        for (number, &value) in values.iter().enumerate() {
            let value = value.value();
            let expected = (sheet.position(number)[0] as f64 - 2.5) / 10.0;
            assert!((value - expected).abs() < 1e-4);
            let slope = gradient(&sheet, &values, number);
            assert!((slope[0] - 0.2).abs() < 1e-3 && slope[1].abs() < 1e-6);
        }
    }
}
