//! Tells the pictures of a result that lies with an image service: in a pod, nobody else could see
//! them.
//!
//! They come after everything is stored. Whatever goes wrong with them is no failure of the run.

use std::panic::{self, AssertUnwindSafe};

use alignment_api::{
    CurvePoint, LONGEST_LINE, LevelReport, MOST_CURVE_POINTS, PICTURES_SCHEMA, PictureContent,
    PictureLine,
};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{observer, page::NamedPicture, progress::Reporter, summary};

/// Bytes of a picture in one line: in Base64 they leave room for the rest of it.
const BYTES_A_LINE: usize = (LONGEST_LINE - 256) / 4 * 3;

/// Draws pictures and tells them and the course of the registration, if progress is told in lines and
/// nobody waits for the end.
pub fn tell(reporter: &Reporter, levels: &[LevelReport], draw: impl FnOnce() -> Vec<NamedPicture>) {
    if !reporter.writes_lines() || observer::check(reporter).is_err() {
        return;
    }
    match panic::catch_unwind(AssertUnwindSafe(draw)) {
        Ok(pictures) => {
            for line in lines(&pictures, curve(levels)) {
                reporter.say(&line);
            }
        }
        Err(_) => summary::warn("the result is complete, but no pictures of it could be made"),
    }
}

fn lines(pictures: &[NamedPicture], curve: Vec<CurvePoint>) -> Vec<PictureLine> {
    let mut contents = Vec::new();
    if !curve.is_empty() {
        contents.push(PictureContent::Curve(curve));
    }
    for NamedPicture { name, png } in pictures {
        contents.extend(
            png.chunks(BYTES_A_LINE)
                .map(|part| PictureContent::Picture {
                    name: name.clone(),
                    base64: STANDARD.encode(part),
                }),
        );
    }
    let lines = contents.len();
    let numbered = contents.into_iter().enumerate();
    numbered
        .map(|(line, content)| PictureLine {
            schema: PICTURES_SCHEMA.to_owned(),
            line,
            lines,
            content,
        })
        .collect()
}

/// The residuals of all levels; of too many, points at equal distances, the first among them.
fn curve(levels: &[LevelReport]) -> Vec<CurvePoint> {
    let all: usize = levels.iter().map(|level| level.residuals.len()).sum();
    let step = all.div_ceil(MOST_CURVE_POINTS).max(1);
    let points = levels.iter().zip(0..).flat_map(|(level, number)| {
        let residuals = level.residuals.iter().zip(1..);
        residuals.map(move |(residual, iteration)| CurvePoint {
            level: number,
            iteration,
            // As many digits as a chart shows.
            metric: (residual * 1e6).round() / 1e6,
        })
    });
    points.step_by(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(residuals: usize) -> LevelReport {
        LevelReport {
            shrink_factor: 1,
            residuals: (0..residuals).map(|i| 1.0 / (i + 3) as f64).collect(),
            steps_mm: Vec::new(),
        }
    }

    #[test]
    fn the_curve_counts_levels_and_iterations() {
        let told: Vec<_> = curve(&[level(2), level(1)])
            .iter()
            .map(|point| (point.level, point.iteration, point.metric))
            .collect();
        assert_eq!(told, [(0, 1, 0.333_333), (0, 2, 0.25), (1, 1, 0.333_333)]);
    }

    #[test]
    fn however_much_there_is_to_tell_each_line_can_be_read() {
        let levels = [level(100_000), level(70_001)];
        let picture = NamedPicture {
            name: "before-0.png".to_owned(),
            png: (0..=255).cycle().take(2 * BYTES_A_LINE + 1).collect(),
        };
        let lines = lines(&[picture], curve(&levels));
        assert_eq!(lines.len(), 4);
        for line in &lines {
            let text = serde_json::to_string(line).unwrap();
            assert!(text.len() <= LONGEST_LINE, "{}", text.len());
        }
        let PictureContent::Curve(points) = &lines[0].content else {
            panic!("{:?}", lines[0]);
        };
        assert!(points.len() <= MOST_CURVE_POINTS && points.len() > MOST_CURVE_POINTS / 2);
        assert_eq!(points[0].iteration, 1);
    }
}
