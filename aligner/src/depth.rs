//! Equivolumetric cortical depth from a segmentation.
//!
//! Cortical layers keep their share of the *volume* of a column, not of its thickness, where the
//! cortex folds (Bok 1929; Waehnert et al. 2014, doi 10.1016/j.neuroimage.2013.03.078). Depth is
//! the share of a column's volume that lies on the pial side of a point, with columns along the
//! streamlines of a harmonic function L (Leprince et al. 2015, doi 10.1109/ISBI.2015.7163940):
//!
//! 1. `components` takes out grey matter that lacks a pial or a white side;
//! 2. `boundary` places the two surfaces between voxel centres, `strays` are labels on the wrong side of them,
//!    `sheet` numbers grey voxels;
//! 3. `laplace` is ΔL = 0, L = 0 on the pial and 1 on the white surface; `faces` says how the sheet goes on
//!    beyond the image. `solver` solves it: `relax` sweeps over the voxels, `multigrid` corrects from
//!    coarser grids, `mixing` learns from the last cycles;
//! 4. `transport` integrates the column volume W from either side, ∇L·∇W = 1, by the differences of
//!    `upwind`; `upstream` says in which order, `deep` knows the voxels that need no look at surfaces;
//! 5. `columns` takes depth = W(pial) / (W(pial) + W(white)), and how much of it is known;
//! 6. `findings` says what a user should know.
//!
//! `layers` cuts a finished map into layers of equal volume.
//!
//! Reading files and choosing what depth is used for is left to others.

mod boundary;
mod coarsen;
mod columns;
mod components;
mod deep;
mod error;
mod faces;
mod findings;
mod laplace;
mod layers;
mod mixing;
mod multigrid;
mod relax;
mod sheet;
mod solver;
mod strays;
mod tissue;
mod transport;
mod upstream;
mod upwind;

use boundary::Surfaces;
use columns::{Columns, EXPOSED, Point};
use faces::Shares;
use findings::Facts;
use laplace::{Harmonic, Laplacian};
use multigrid::Hierarchy;
use rayon::prelude::*;
use sheet::{MOST_GREY, Sheet, mean_thickness_mm};
use solver::{Solver, Stop};

pub use error::{DepthError, LabelCounts};
pub use layers::layers;
pub use tissue::{Tissue, tissues_from_labels};

use crate::observer::{self, Interrupted, Observer, Step};
use crate::volume::Volume;

/// Cortical depth on the grid of the segmentation.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthMap {
    /// Share of the cortical column's volume on the pial side: 0 at the pial surface, 1 at the
    /// white one. Exactly 0 in CSF and 1 in white matter; never NaN. Without unit.
    pub depth: Volume<f32>,
    /// How much of a depth value is known, 0..1; 1 outside of grey matter.
    ///
    /// The product of two shares. First, following the streamlines from a voxel to either surface,
    /// the share that ends on a real surface and not on a face of the image; the smaller one of the
    /// two directions, since depth needs both. Second, the share of L that the surfaces determine:
    /// of random walks from the voxel, those that meet a surface before they leave the image. 0
    /// where depth is a stand-in: the Laplace value where no streamline arrives, 0.5 in grey matter
    /// without two sides.
    pub validity: Volume<f32>,
    /// Median length of the streamlines in mm over grey voxels with validity of at least ½; 0 if
    /// there are none.
    pub median_thickness_mm: f64,
    /// What a user should know, in plain words with counts.
    pub warnings: Vec<String>,
    /// Grey voxels with two sides: their flat index, x fastest, and the length of their streamlines in
    /// mm.
    columns: Vec<(u32, f32)>,
}

impl DepthMap {
    /// Length of the streamline through each voxel in mm: the local thickness of the cortex, on the grid
    /// of `depth`.
    ///
    /// 0 outside of grey matter, and where no streamline reaches both surfaces; never NaN. At faces of
    /// the image, where columns are cut, it counts on a flat sheet beyond.
    pub fn thickness_mm(&self) -> Volume<f32> {
        let mut thickness = Volume::filled(self.depth.grid, 0.0);
        let values = thickness.values_mut();
        for &(voxel, mm) in &self.columns {
            values[voxel as usize] = mm;
        }
        thickness
    }

    /// The same lengths in any order, those that are known alone.
    pub fn lengths_mm(&self) -> Vec<f32> {
        let lengths = self.columns.iter().map(|(_, mm)| *mm);
        lengths.filter(|mm| *mm > 0.0).collect()
    }
}

/// Relaxation ends when no value of L is off by more than this, as far as the last changes tell. The
/// error is larger in the depth where columns turn sharply.
const CONVERGED: Stop = Stop {
    error: 2e-7,
    cycles: 500,
    first: 1,
};

/// Enough to see at which angle the sheet meets the faces of the image, whatever the order of the axes.
const ROUGH: Stop = Stop {
    error: 3e-6,
    cycles: 100,
    first: 2,
};

/// Validity needs only two digits.
const EXPOSURE: Stop = Stop {
    error: 2e-3,
    cycles: 100,
    first: 2,
};

/// Computes cortical depth for each voxel of a segmentation.
///
/// Sub-voxel surfaces make the error fall with resolution: on strongly curved shells it is about
/// 0.011 and 0.0034 (mean) for a cortex of 8 and 16 voxels. Voxel sizes may differ between axes. An
/// axis with one voxel is left out.
///
/// The result is the same for any number of threads.
///
/// # Errors
/// [`DepthError`] if a tissue is missing, more than half of the grey matter lacks a side, the grid
/// has no usable voxel size, or the observer asks to stop.
pub fn compute(labels: &Volume<Tissue>, observer: &dyn Observer) -> Result<DepthMap, DepthError> {
    // Inside the pool: from outside, each of the many small steps on coarse grids would wait for a
    // thread to wake up.
    rayon::scope(|_| compute_in_pool(labels, observer))
}

fn compute_in_pool(
    labels: &Volume<Tissue>,
    observer: &dyn Observer,
) -> Result<DepthMap, DepthError> {
    let shape = labels.grid.shape;
    let spacing = usable_spacing(labels)?;
    let mut state: Vec<u8> = labels.values().iter().map(|&tissue| tissue as u8).collect();
    let grey = check_tissues(&state)?;
    let one_sided = split_off_one_sided(&mut state, shape, grey)?;
    progress(observer, 0.0, None)?;
    let bare_faces = findings::count_bare_faces(&state, shape);
    let mean_mm = mean_thickness_mm(&state, shape, spacing);
    let Surfaces { crossings, strays } = boundary::find(&mut state, shape, spacing, mean_mm);
    let sheet = Sheet::build(&state, shape, spacing, mean_mm, &crossings);
    drop((state, crossings));
    let Solved {
        harmonic,
        exposure,
        error,
    } = solve(&sheet, observer)?;
    progress(observer, SOLVED, None)?;
    let columns = Columns::integrate(&sheet, harmonic, exposure);
    progress(observer, 0.95, None)?;
    let mut thickness_mm = columns.thickness_mm();
    let median_mm = median(&mut thickness_mm);
    let warnings = findings::warnings(&Facts {
        sheet: &sheet,
        one_sided,
        bare_faces,
        strays: strays.len(),
        thickness_mm: &thickness_mm,
        median_mm,
        unreached: columns.unreached,
        level: columns.level,
        unsettled: (error >= CONVERGED.error).then_some(error),
    });
    // The compact arrays are freed before the images are made.
    drop(thickness_mm);
    let points = columns.points;
    let lent = strays::lend(&sheet, &points, &strays);
    let voxels = sheet.into_voxels();
    let image = |elsewhere: [f32; 3], value: fn(&Point) -> f32| {
        let mut image = labels.map(|tissue| elsewhere[tissue as usize]);
        let pixels = image.values_mut();
        for (&voxel, point) in voxels.iter().zip(&points) {
            pixels[voxel as usize] = value(point);
        }
        for stray in strays.iter().filter(|stray| !stray.is_grey) {
            pixels[stray.voxel as usize] = elsewhere[usize::from(stray.tissue)];
        }
        for (voxel, point) in &lent {
            pixels[*voxel as usize] = value(point);
        }
        image
    };
    // Grey matter without two sides has no point.
    let (depth, validity) = rayon::join(
        || image([0.0, 0.5, 1.0], |point| point.depth),
        || image([1.0, 0.0, 1.0], |point| point.validity),
    );
    let mut columns = Vec::with_capacity(voxels.len() + lent.len());
    let lengths = points.into_iter().map(|point| point.thickness_mm);
    columns.extend(voxels.into_iter().zip(lengths));
    columns.retain(|&(voxel, _)| labels.values()[voxel as usize] == Tissue::Grey);
    let lengths = lent
        .iter()
        .map(|(voxel, point)| (*voxel, point.thickness_mm));
    columns.extend(lengths);
    progress(observer, 1.0, None)?;
    Ok(DepthMap {
        depth,
        validity,
        median_thickness_mm: median_mm,
        warnings,
        columns,
    })
}

/// Share of the work that is done once L is known.
const SOLVED: f64 = 0.7;

fn progress(observer: &dyn Observer, fraction: f64, sweep: Option<u32>) -> Result<(), Interrupted> {
    observer.step(&Step {
        fraction,
        iteration: sweep,
        ..Step::default()
    });
    observer::check(observer)
}

fn usable_spacing(labels: &Volume<Tissue>) -> Result<[f64; 3], DepthError> {
    let spacing = labels.grid.spacing();
    for (axis, &spacing_mm) in spacing.iter().enumerate() {
        if !(spacing_mm.is_finite() && spacing_mm > 0.0) {
            return Err(DepthError::Spacing { axis, spacing_mm });
        }
    }
    let voxels = labels.grid.voxels();
    if voxels > u32::MAX as usize {
        return Err(DepthError::TooLarge {
            voxels,
            limit: u32::MAX as usize,
        });
    }
    Ok(spacing)
}

/// The number of grey voxels, if every tissue is there.
fn check_tissues(state: &[u8]) -> Result<usize, DepthError> {
    let mut counts = [0_usize; 3];
    for &value in state {
        counts[usize::from(value)] += 1;
    }
    let [csf, grey, white] = counts;
    if grey == 0 {
        return Err(DepthError::NoGrey { csf, white });
    }
    if white == 0 {
        return Err(DepthError::NoWhite { csf, grey });
    }
    if csf == 0 {
        return Err(DepthError::NoCsf { grey, white });
    }
    if grey > MOST_GREY {
        return Err(DepthError::TooLarge {
            voxels: grey,
            limit: MOST_GREY,
        });
    }
    Ok(grey)
}

fn split_off_one_sided(
    state: &mut [u8],
    shape: [usize; 3],
    grey: usize,
) -> Result<usize, DepthError> {
    let one_sided = components::mark_one_sided(state, shape);
    if 2 * one_sided > grey {
        return Err(DepthError::MostlyOneSided { one_sided, grey });
    }
    Ok(one_sided)
}

/// Solutions of the two Laplace equations at each grey voxel.
struct Solved {
    /// From 0 (pial) to 1 (white).
    harmonic: Vec<Harmonic>,
    /// Harmonic measure of the faces of the image, in units of 1 / [`EXPOSED`].
    exposure: Vec<u16>,
    /// About the largest error of `harmonic`.
    error: f64,
}

fn solve(sheet: &Sheet, observer: &dyn Observer) -> Result<Solved, Interrupted> {
    let hierarchy = Hierarchy::build(&sheet.cells());
    let shares = Shares::of_any_angle(sheet, sheet.thickness_mm);
    let mut depth = Laplacian::of_depth(sheet, shares);
    let mut solver = Solver::new(sheet, &hierarchy, &depth);
    let mut values = vec![0.5; sheet.len()];
    solver.solve(&mut values, ROUGH, &mut ticks(observer, [0.2, 0.45], ROUGH))?;
    if depth.judge_faces(&values) {
        solver.change(&depth, 1.0);
    }
    let mut tick = ticks(observer, [0.45, SOLVED], CONVERGED);
    let error = solver.solve(&mut values, CONVERGED, &mut tick)?;
    solver.change(&Laplacian::of_exposure(sheet), 0.0);
    // Where nothing is exposed, the solver makes room for L.
    let solver = (!solver.is_solved_by_zero()).then_some(solver);
    let harmonic = values.par_iter().copied().map(Harmonic::new).collect();
    values.fill(0.0);
    if let Some(mut solver) = solver {
        let mut late = |_, _| progress(observer, SOLVED, None);
        solver.solve(&mut values, EXPOSURE, &mut late)?;
    }
    let exposure = values
        .into_par_iter()
        .map(|value| (value * f64::from(EXPOSED)) as u16);
    Ok(Solved {
        harmonic,
        exposure: exposure.collect(),
        error,
    })
}

/// Reports each cycle of a solution that takes this share of the work.
fn ticks(
    observer: &dyn Observer,
    [from, to]: [f64; 2],
    stop: Stop,
) -> impl FnMut(u32, f64) -> Result<(), Interrupted> {
    // Errors shrink by a constant factor per cycle, mostly.
    let start = -libm::log(0.1);
    let whole = -libm::log(stop.error);
    let mut furthest = 0.0_f64;
    move |cycle, error| {
        let share = (-libm::log(error) - start) / (whole - start);
        furthest = furthest.max(share.min(1.0));
        progress(observer, from + (to - from) * furthest, Some(cycle))
    }
}

/// Median; for an even number of values the upper one of the middle. Reorders `values`.
fn median(values: &mut [f32]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    let (_, &mut value, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    f64::from(value)
}
