//! Pictures of a result, for whoever cannot read its files: JSON lines on stdout at the end of a run.

use serde::{Deserialize, Serialize};

/// Value of [`PictureLine::schema`].
pub const PICTURES_SCHEMA: &str = "voluba.ebrains.eu/pictures/v1";
/// Most bytes that all PNG files of a run have together.
pub const MOST_PICTURE_BYTES: usize = 128 * 1024;
/// Most pixels along a side of a picture.
pub const MOST_PICTURE_SIDE: u32 = 256;
/// Most points of a curve.
pub const MOST_CURVE_POINTS: usize = 300;

/// One line of those that tell the pictures of a run. They are of use only together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PictureLine {
    /// Always [`PICTURES_SCHEMA`].
    #[serde(default)]
    pub schema: String,
    /// Number of the line, from 0.
    pub line: usize,
    /// Number of all lines.
    pub lines: usize,
    /// What it tells.
    #[serde(flatten)]
    pub content: PictureContent,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PictureContent {
    /// A PNG file, or a part of one: the next part is in the next line of the same name.
    Picture {
        /// `before-N.png`, `after-N.png` or `depth-N.png`; N is the plane, 0 to 2.
        name: String,
        /// The bytes, in Base64 with padding.
        base64: String,
    },
    /// The course of the registration.
    Curve(Vec<CurvePoint>),
}

/// An iteration of the registration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CurvePoint {
    /// Pyramid level, 0 = coarsest.
    pub level: u32,
    /// Iteration within the level, from 1.
    pub iteration: u32,
    /// Root mean square difference of depth over the cortex before it, 0 to 1.
    pub metric: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_may_hold_more() {
        for content in [
            PictureContent::Picture {
                name: "after-0.png".to_owned(),
                base64: "AAAA".to_owned(),
            },
            PictureContent::Curve(vec![CurvePoint {
                level: 0,
                iteration: 1,
                metric: 0.25,
            }]),
        ] {
            let line = PictureLine {
                schema: PICTURES_SCHEMA.to_owned(),
                line: 0,
                lines: 2,
                content,
            };
            let mut value = serde_json::to_value(&line).unwrap();
            value["novelty"] = 1.into();
            let read: PictureLine = serde_json::from_value(value).unwrap();
            assert_eq!(read, line);
        }
    }
}
