//! What a user should know about a segmentation and its depth map, in plain words.

use rayon::prelude::*;

use super::columns::LEVEL;
use super::components::{CSF, WHITE};
use super::sheet::{End, Link, Sheet};

/// Facts to judge.
pub(super) struct Facts<'a> {
    pub(super) sheet: &'a Sheet,
    /// Grey voxels in pieces without two sides.
    pub(super) one_sided: usize,
    /// Faces where CSF touches white matter.
    pub(super) bare_faces: usize,
    /// Voxels whose label contradicts their surroundings.
    pub(super) strays: usize,
    /// Local thickness in mm where it is known well, in any order.
    pub(super) thickness_mm: &'a [f32],
    /// Median of the thickness in mm; zero if none is known.
    pub(super) median_mm: f64,
    /// Grey voxels whose depth is the harmonic value, for want of a streamline.
    pub(super) unreached: usize,
    /// Grey voxels where the harmonic function hardly rises.
    pub(super) level: usize,
    /// About the largest error of the harmonic function, if the solver ran out of cycles.
    pub(super) unsettled: Option<f64>,
}

/// Share of the labels along the surfaces that contradict their surroundings from which it is worth a word.
/// Labels off by half a voxel have 13 to 25 %.
const NOISY_PERCENT: f64 = 10.0;

/// One sentence for each fact that harms the depth map.
pub(super) fn warnings(facts: &Facts<'_>) -> Vec<String> {
    [
        missing_axes(facts),
        one_sided(facts),
        anisotropy(facts),
        noisy(facts),
        thin(facts),
        implausible(facts),
        doubled(facts),
        level(facts),
        near_faces(facts),
        unreached(facts),
        bare(facts),
        unsettled(facts),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Number of voxel faces between CSF and white matter.
pub(super) fn count_bare_faces(state: &[u8], shape: [usize; 3]) -> usize {
    let [nx, ny, nz] = shape;
    let row = |y: usize, z: usize| &state[nx * (y + ny * z)..][..nx];
    let between = |one: &[u8], other: &[u8]| {
        let pairs = one.iter().zip(other);
        pairs
            .filter(|&(&a, &b)| (a, b) == (CSF, WHITE) || (a, b) == (WHITE, CSF))
            .count()
    };
    let in_row = |index: usize| {
        let (y, z) = (index % ny, index / ny);
        let here = row(y, z);
        let mut count = between(&here[1..], here);
        if y + 1 < ny {
            count += between(here, row(y + 1, z));
        }
        if z + 1 < nz {
            count += between(here, row(y, z + 1));
        }
        count
    };
    (0..ny * nz).into_par_iter().map(in_row).sum()
}

fn used_axes(sheet: &Sheet) -> impl Iterator<Item = usize> {
    (0..3).filter(|&axis| sheet.shape[axis] > 1)
}

fn extremes_mm(sheet: &Sheet) -> (f64, f64) {
    used_axes(sheet)
        .map(|axis| sheet.spacing[axis])
        .fold((f64::INFINITY, 0.0), |(low, high), spacing| {
            (low.min(spacing), high.max(spacing))
        })
}

fn missing_axes(facts: &Facts<'_>) -> Option<String> {
    let missing = (0..3).filter(|&axis| facts.sheet.shape[axis] == 1).count();
    (missing > 0).then(|| {
        format!(
            "the segmentation has one voxel along {missing} of 3 axes: depth is computed within \
             the remaining ones, as if the cortex went on unchanged"
        )
    })
}

fn one_sided(facts: &Facts<'_>) -> Option<String> {
    let count = facts.one_sided;
    (count > 0).then(|| {
        format!(
            "{count} grey voxels lie in pieces that do not touch both CSF and white matter: their \
             depth is unknown (0.5, validity 0)"
        )
    })
}

fn anisotropy(facts: &Facts<'_>) -> Option<String> {
    let (finest, coarsest) = extremes_mm(facts.sheet);
    (coarsest > 5.0 * finest).then(|| {
        format!(
            "voxels are {:.1} times longer than wide ({coarsest} mm and {finest} mm): depth is \
             less accurate above 5",
            coarsest / finest
        )
    })
}

/// Labels against their surroundings, as a share of the voxels along the surfaces.
fn noisy(facts: &Facts<'_>) -> Option<String> {
    let is_surface = |link: &Link| matches!(link.end(), End::Surface { .. });
    let rim = facts.sheet.rim();
    let along = rim
        .filter(|(_, links)| links.iter().any(is_surface))
        .count();
    let percent = 100.0 * facts.strays as f64 / along.max(1) as f64;
    (percent >= NOISY_PERCENT).then(|| {
        format!(
            "{} voxels along the surfaces of the cortex ({percent:.0} %) are labelled against their \
             surroundings: the segmentation is noisy, they count to the tissue around them",
            facts.strays
        )
    })
}

fn thin(facts: &Facts<'_>) -> Option<String> {
    let (_, coarsest) = extremes_mm(facts.sheet);
    let voxels = facts.median_mm / coarsest;
    (facts.median_mm > 0.0 && voxels < 4.0).then(|| {
        format!(
            "the cortex is only {voxels:.1} voxels thick (median): below 4, the error of depth \
             exceeds 0.035; a finer segmentation would help"
        )
    })
}

fn implausible(facts: &Facts<'_>) -> Option<String> {
    let median = facts.median_mm;
    (median > 0.0 && !(0.2..=10.0).contains(&median)).then(|| {
        format!(
            "the median thickness of the cortex is {median:.3} mm, outside of 0.2 to 10 mm: check \
             the voxel size of the segmentation"
        )
    })
}

fn doubled(facts: &Facts<'_>) -> Option<String> {
    let limit = 2.0 * facts.median_mm as f32;
    let count = facts.thickness_mm.iter().filter(|&&mm| mm > limit).count();
    (100 * count > facts.thickness_mm.len()).then(|| {
        format!(
            "{count} grey voxels lie where the cortex is more than twice as thick as the median \
             of {:.2} mm: facing banks of a sulcus may touch without CSF between them",
            facts.median_mm
        )
    })
}

fn level(facts: &Facts<'_>) -> Option<String> {
    let count = facts.level;
    let thickness_mm = facts.sheet.thickness_mm;
    (100 * count > facts.sheet.len()).then(|| {
        format!(
            "{count} grey voxels lie where the Laplace function rises by less than {LEVEL} over the \
             mean thickness of {thickness_mm:.2} mm: a surface between two banks may be missing, or \
             grey matter may bridge a sulcus"
        )
    })
}

/// Grey voxels less than the median thickness away from a face of the image.
fn near_faces(facts: &Facts<'_>) -> Option<String> {
    let sheet = facts.sheet;
    let near = (0..sheet.len())
        .into_par_iter()
        .filter(|&number| {
            let at = sheet.position(number);
            used_axes(sheet).any(|axis| {
                let voxels = at[axis].min(sheet.shape[axis] - 1 - at[axis]) as f64 + 0.5;
                voxels * sheet.spacing[axis] < facts.median_mm
            })
        })
        .count();
    let percent = 100.0 * near as f64 / sheet.len().max(1) as f64;
    let ends_at_face = |direction: usize, link: &Link| {
        sheet.shape[direction / 2] > 1 && link.end() == End::Outside
    };
    let cut = sheet.rim().any(|(_, links)| {
        links
            .iter()
            .enumerate()
            .any(|(direction, link)| ends_at_face(direction, link))
    });
    (cut && percent >= 1.0).then(|| {
        format!(
            "{percent:.0} % of the grey voxels lie within one cortical thickness of a face of the \
             image, where depth is less certain: see the validity map"
        )
    })
}

fn unreached(facts: &Facts<'_>) -> Option<String> {
    let count = facts.unreached;
    (count > 0).then(|| {
        format!(
            "{count} grey voxels are not reached from both surfaces: their depth is the Laplace \
             value, with validity 0"
        )
    })
}

fn bare(facts: &Facts<'_>) -> Option<String> {
    let count = facts.bare_faces;
    (count > 0).then(|| {
        format!("CSF touches white matter at {count} voxel faces: depth steps from 0 to 1 there")
    })
}

fn unsettled(facts: &Facts<'_>) -> Option<String> {
    let error = facts.unsettled?;
    Some(format!(
        "the Laplace solver stopped before it converged: values may still be off by {error:.1e}"
    ))
}
