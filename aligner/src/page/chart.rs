//! Small charts as SVG: the residual over the iterations, and distributions.

use std::fmt::Write;

use crate::volume::Volume;
use alignment_api::LevelReport;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 200.0;
/// Room for the numbers at the left, and for the words below.
const LEFT: f64 = 46.0;
const BELOW: f64 = 30.0;
/// Bins of a histogram.
const BINS: usize = 32;
/// That of the Jacobian reaches from a quarter of the volume to four times as much.
const OCTAVES: f64 = 2.0;

/// Number of voxels by a value; the outermost bins hold what lies beyond.
pub(super) struct Histogram {
    counts: [u64; BINS],
    title: &'static str,
    axis: &'static str,
    /// Words below the borders of bins.
    labels: Vec<(usize, String)>,
}

/// Every voxel of the cortex by log₂ of the Jacobian determinant.
pub(super) fn histogram(jacobian: &Volume<f32>, depth: &Volume<f32>) -> Histogram {
    let mut bins = [0; BINS];
    for (determinant, depth) in jacobian.values().iter().zip(depth.values()) {
        if *depth > 0.0 && *depth < 1.0 {
            bins[bin(f64::from(*determinant))] += 1;
        }
    }
    let labels = [(0, "1/4"), (8, "1/2"), (16, "1"), (24, "2"), (32, "4")];
    Histogram {
        counts: bins,
        title: "Distribution of the Jacobian determinant",
        axis: "change of volume",
        labels: labels
            .map(|(place, label)| (place, label.to_owned()))
            .into(),
    }
}

/// Lengths in mm.
pub(super) fn thickness(lengths_mm: &[f32]) -> Histogram {
    // A round number of mm that all lie below.
    let top = f64::from(lengths_mm.iter().copied().fold(0.1, f32::max));
    let step = 10_f64.powf((top / 4.0).log10().ceil()) / 2.0;
    let quarter = (top / 4.0 / step).ceil() * step;
    let mut counts = [0; BINS];
    for mm in lengths_mm {
        let position = f64::from(*mm) / (4.0 * quarter) * BINS as f64;
        counts[(position as usize).min(BINS - 1)] += 1;
    }
    let label = |part: usize| (part * BINS / 4, format!("{}", quarter * part as f64));
    Histogram {
        counts,
        title: "Distribution of the thickness",
        axis: "thickness, mm",
        labels: (0..=4).map(label).collect(),
    }
}

fn bin(determinant: f64) -> usize {
    let octaves = determinant.max(1e-6).log2();
    let position = (octaves + OCTAVES) / (2.0 * OCTAVES) * BINS as f64;
    (position.max(0.0) as usize).min(BINS - 1)
}

/// The depth residual before each iteration, level by level.
pub(super) fn residuals(levels: &[LevelReport]) -> String {
    let all = || levels.iter().flat_map(|level| &level.residuals);
    let count = all().count();
    let top = all().copied().fold(0.0, f64::max) * 1.05;
    let x = |index: usize| LEFT + (WIDTH - LEFT) * (index as f64 + 0.5) / count.max(1) as f64;
    let y = |value: f64| (HEIGHT - BELOW) * (1.0 - value / top.max(1e-9));
    let mut body = axis("iteration", top, |value| format!("{value:.3}"));
    let mut index = 0;
    for level in levels {
        let start = index;
        let mut points = String::new();
        for value in &level.residuals {
            let _ = write!(points, "{:.1},{:.1} ", x(index), y(*value));
            index += 1;
        }
        let middle = 0.5 * (x(start) + x(index.saturating_sub(1).max(start)));
        let _ = write!(
            body,
            "<polyline class=\"curve\" points=\"{}\"/>\
             <text x=\"{middle:.1}\" y=\"12\" text-anchor=\"middle\">1/{}</text>",
            points.trim_end(),
            level.shrink_factor
        );
        if start > 0 {
            let border = 0.5 * (x(start - 1) + x(start));
            let _ = write!(
                body,
                "<line class=\"grid\" x1=\"{border:.1}\" x2=\"{border:.1}\" y1=\"0\" y2=\"{}\"/>",
                HEIGHT - BELOW
            );
        }
    }
    svg(
        "Root mean square depth difference over the iterations",
        &body,
    )
}

/// The histogram as bars.
pub(super) fn bars(histogram: &Histogram) -> String {
    let total = histogram.counts.iter().sum::<u64>().max(1) as f64;
    let shares = histogram.counts.map(|count| 100.0 * count as f64 / total);
    let top = shares.iter().copied().fold(0.0, f64::max) * 1.05;
    let width = (WIDTH - LEFT) / BINS as f64;
    let mut body = axis(histogram.axis, top, |value| format!("{value:.0} %"));
    for (i, share) in shares.iter().enumerate() {
        let height = (HEIGHT - BELOW) * share / top.max(1e-9);
        let _ = write!(
            body,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
            LEFT + i as f64 * width,
            HEIGHT - BELOW - height,
            width - 1.0
        );
    }
    for (place, label) in &histogram.labels {
        let _ = write!(
            body,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            LEFT + *place as f64 * width,
            HEIGHT - BELOW + 14.0
        );
    }
    svg(histogram.title, &body)
}

/// Baseline, highest value and the name of the horizontal axis.
fn axis(name: &str, top: f64, label: impl Fn(f64) -> String) -> String {
    let base = HEIGHT - BELOW;
    format!(
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{base}\" y2=\"{base}\"/>\
         <line class=\"axis\" x1=\"{LEFT}\" x2=\"{LEFT}\" y1=\"0\" y2=\"{base}\"/>\
         <text x=\"{}\" y=\"10\" text-anchor=\"end\">{}</text>\
         <text x=\"{}\" y=\"{base}\" text-anchor=\"end\">0</text>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
        LEFT - 4.0,
        label(top),
        LEFT - 4.0,
        0.5 * (LEFT + WIDTH),
        HEIGHT - 2.0
    )
}

fn svg(title: &str, body: &str) -> String {
    format!(
        "<svg role=\"img\" viewBox=\"-2 -4 {} {}\"><title>{title}</title>{body}</svg>",
        WIDTH + 14.0,
        HEIGHT + 8.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_octaves_and_hold_everything() {
        assert_eq!(bin(1.0), BINS / 2);
        assert_eq!(bin(0.5), BINS / 4);
        assert_eq!(
            [bin(-1.0), bin(0.0), bin(1e9), bin(f64::NAN)],
            [0, 0, BINS - 1, 0]
        );
    }

    #[test]
    fn the_thickest_voxel_is_in_the_chart() {
        for top in [0.01, 0.3, 2.7, 3.0, 40.0] {
            let found = thickness(&[top / 2.0, top, top]);
            assert_eq!(found.counts.iter().sum::<u64>(), 3);
            assert!(found.counts[BINS / 2..].iter().any(|count| *count >= 2) || top < 0.1);
            assert_eq!(found.labels.len(), 5);
        }
    }

    #[test]
    fn every_iteration_is_a_point_of_the_curve() {
        let level = |shrink_factor, residuals: &[f64]| LevelReport {
            shrink_factor,
            residuals: residuals.to_vec(),
            steps_mm: vec![0.1; residuals.len()],
        };
        let chart = residuals(&[level(4, &[0.2, 0.1]), level(2, &[0.05]), level(1, &[])]);
        assert_eq!(chart.matches("<polyline").count(), 3);
        assert_eq!(chart.matches(',').count(), 3);
        assert!(!chart.contains("NaN") && !residuals(&[]).contains("NaN"));
    }
}
