//! Depth as simpler methods give it, for comparison.

use aligner::depth::Tissue;
use aligner::volume::Volume;

/// Equidistant depth: the share of the straight way to the pial surface, d(CSF) / (d(CSF) + d(white)),
/// with the Euclidean distance to the nearest voxel centre of a tissue less half a voxel.
///
/// 0 in CSF, 1 in white matter; for grids with cubic voxels.
pub(crate) fn equidistant(labels: &Volume<Tissue>) -> Volume<f32> {
    let [csf, white] = [Tissue::Csf, Tissue::White].map(|tissue| distances(labels, tissue));
    let mut depth = Volume::filled(labels.grid, 0.0);
    let ways = csf.iter().zip(&white);
    for (depth, (&to_csf, &to_white)) in depth.values_mut().iter_mut().zip(ways) {
        let [pial, white] = [to_csf, to_white].map(|squared| (squared.sqrt() - 0.5).max(0.0));
        *depth = (pial / (pial + white)) as f32;
    }
    depth
}

/// Squared distance of each voxel to the nearest one of a tissue, in voxels (Felzenszwalb and
/// Huttenlocher 2012, doi 10.4086/toc.2012.v008a019).
fn distances(labels: &Volume<Tissue>, tissue: Tissue) -> Vec<f64> {
    let values = labels.values().iter();
    let mut squared: Vec<f64> = values
        .map(|&value| if value == tissue { 0.0 } else { 1e12 })
        .collect();
    let [nx, ny, nz] = labels.grid.shape;
    for (stride, size) in [(1, nx), (nx, ny), (nx * ny, nz)] {
        for start in 0..squared.len() {
            if (start / stride).is_multiple_of(size) {
                let line: Vec<f64> = (0..size).map(|i| squared[start + i * stride]).collect();
                for (i, value) in lower_envelope(&line).into_iter().enumerate() {
                    squared[start + i * stride] = value;
                }
            }
        }
    }
    squared
}

/// min over j of (i − j)² + heights\[j\], for each i.
fn lower_envelope(heights: &[f64]) -> Vec<f64> {
    // Parabolas that count, each with the place from which on it is the lowest.
    let mut parabolas: Vec<(usize, f64)> = Vec::new();
    for (at, height) in heights.iter().enumerate() {
        let mut from = f64::NEG_INFINITY;
        while let Some(&(other, since)) = parabolas.last() {
            let (a, b) = (at as f64, other as f64);
            from = (height + a * a - heights[other] - b * b) / (2.0 * (a - b));
            if from > since {
                break;
            }
            parabolas.pop();
            from = f64::NEG_INFINITY;
        }
        parabolas.push((at, from));
    }
    let mut current = 0;
    (0..heights.len())
        .map(|i| {
            while current + 1 < parabolas.len() && parabolas[current + 1].1 <= i as f64 {
                current += 1;
            }
            let away = i as f64 - parabolas[current].0 as f64;
            away * away + heights[parabolas[current].0]
        })
        .collect()
}
