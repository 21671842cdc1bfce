//! Small charts as SVG: the residual over the iterations, and the distribution of the Jacobian.

use std::fmt::Write;

use crate::volume::Volume;
use alignment_api::LevelReport;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 200.0;
/// Room for the numbers at the left, and for the words below.
const LEFT: f64 = 46.0;
const BELOW: f64 = 30.0;
/// Bins of the histogram, from a quarter of the volume to four times as much.
const BINS: usize = 32;
const OCTAVES: f64 = 2.0;

/// Number of cortex voxels by log₂ of the Jacobian determinant; the outermost bins hold what lies
/// beyond.
pub(super) struct Histogram([u64; BINS]);

/// Counts every voxel of the cortex.
pub(super) fn histogram(jacobian: &Volume<f32>, depth: &Volume<f32>) -> Histogram {
    let mut bins = [0; BINS];
    for (determinant, depth) in jacobian.values().iter().zip(depth.values()) {
        if *depth > 0.0 && *depth < 1.0 {
            bins[bin(f64::from(*determinant))] += 1;
        }
    }
    Histogram(bins)
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
    let total = histogram.0.iter().sum::<u64>().max(1) as f64;
    let shares = histogram.0.map(|count| 100.0 * count as f64 / total);
    let top = shares.iter().copied().fold(0.0, f64::max) * 1.05;
    let width = (WIDTH - LEFT) / BINS as f64;
    let mut body = axis("change of volume", top, |value| format!("{value:.0} %"));
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
    for (place, label) in [(0, "1/4"), (8, "1/2"), (16, "1"), (24, "2"), (32, "4")] {
        let _ = write!(
            body,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            LEFT + f64::from(place) * width,
            HEIGHT - BELOW + 14.0
        );
    }
    svg("Distribution of the Jacobian determinant", &body)
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
