//! Pictures out of the lines that a pod tells at its end.
//!
//! Hostile input, like all that a pod says: names, sizes and the beginning of each file are checked,
//! and what does not fit is left out. Nothing here fails.

use std::collections::BTreeMap;

use alignment_api::{
    CurvePoint, LONGEST_LINE, MOST_CURVE_POINTS, MOST_PICTURE_BYTES, MOST_PICTURE_SIDE,
    PICTURES_SCHEMA, PictureContent, PictureLine,
};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Most lines that are put together: twice what an aligner needs.
const MOST_LINES: usize = 40;
/// What a PNG file begins with: its signature, and the length and name of its first part.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

/// The pictures of a result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pictures {
    /// PNG files by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Course of the registration; empty for a depth map.
    pub curve: Vec<CurvePoint>,
}

impl Pictures {
    /// Of these files those that are pictures, by their names and by how they begin.
    pub fn new(mut files: BTreeMap<String, Vec<u8>>, curve: Vec<CurvePoint>) -> Self {
        files.retain(|name, file| is_name(name) && is_small_png(file));
        Self { files, curve }
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.curve.is_empty()
    }
}

/// One line, read.
enum Part {
    Picture { name: String, bytes: Vec<u8> },
    Curve(Vec<CurvePoint>),
}

/// The lines of one pod, until all of them have come.
#[derive(Default)]
pub struct Collection {
    parts: BTreeMap<usize, Part>,
    bytes: usize,
    finished: bool,
}

impl Collection {
    /// Whether the pictures have been given out.
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes in a line of the log. The last one that was missing gives the pictures, once.
    pub fn take(&mut self, line: &[u8]) -> Option<Pictures> {
        if self.finished {
            return None;
        }
        let PictureLine {
            line,
            lines,
            content,
            ..
        } = read(line)?;
        if lines > MOST_LINES || line >= lines || self.parts.contains_key(&line) {
            return None;
        }
        let part = part(content)?;
        if let Part::Picture { bytes, .. } = &part {
            self.bytes = (self.bytes + bytes.len() <= MOST_PICTURE_BYTES)
                .then_some(self.bytes + bytes.len())?;
        }
        self.parts.insert(line, part);
        if self.parts.len() < lines {
            return None;
        }
        self.finished = true;
        let pictures = join(std::mem::take(&mut self.parts));
        (!pictures.is_empty()).then_some(pictures)
    }
}

fn read(line: &[u8]) -> Option<PictureLine> {
    if line.len() > LONGEST_LINE || line.first() != Some(&b'{') {
        return None;
    }
    let line: PictureLine = serde_json::from_slice(line).ok()?;
    (line.schema == PICTURES_SCHEMA).then_some(line)
}

fn part(content: PictureContent) -> Option<Part> {
    match content {
        PictureContent::Picture { name, base64 } => {
            let bytes = STANDARD.decode(base64).ok()?;
            is_name(&name).then_some(Part::Picture { name, bytes })
        }
        PictureContent::Curve(points) => {
            let usable = |point: &CurvePoint| {
                point.level <= 15 && point.iteration <= 100_000 && point.metric.is_finite()
            };
            let fits = points.len() <= MOST_CURVE_POINTS && points.iter().all(usable);
            fits.then_some(Part::Curve(points))
        }
    }
}

/// `before-N.png`, `after-N.png` or `depth-N.png`, for the planes 0 to 2.
fn is_name(name: &str) -> bool {
    let parts = name
        .strip_suffix(".png")
        .and_then(|name| name.split_once('-'));
    parts.is_some_and(|(what, plane)| {
        ["before", "after", "depth"].contains(&what) && ["0", "1", "2"].contains(&plane)
    })
}

fn join(parts: BTreeMap<usize, Part>) -> Pictures {
    let (mut files, mut curve) = (BTreeMap::<String, Vec<u8>>::new(), Vec::new());
    for part in parts.into_values() {
        match part {
            Part::Picture { name, bytes } => files.entry(name).or_default().extend(bytes),
            Part::Curve(points) => curve = points,
        }
    }
    Pictures::new(files, curve)
}

/// Whether a file begins as a PNG does, and says that it is small: a picture of a few bytes can
/// fill the memory of whoever looks at it.
fn is_small_png(file: &[u8]) -> bool {
    let Some(([width, height], _)) = file
        .strip_prefix(PNG)
        .map(<[u8]>::as_chunks::<4>)
        .and_then(|(sides, _)| sides.split_first_chunk::<2>())
    else {
        return false;
    };
    [width, height]
        .into_iter()
        .all(|side| (1..=MOST_PICTURE_SIDE).contains(&u32::from_be_bytes(*side)))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What a PNG file of this size begins with, and some more.
    pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
        let sides = [width.to_be_bytes(), height.to_be_bytes()];
        [PNG, sides.as_flattened(), &[8, 2, 0, 0, 0]].concat()
    }

    fn line(number: usize, lines: usize, key: &str, content: &Value) -> Vec<u8> {
        let mut line = json!({"schema": PICTURES_SCHEMA, "line": number, "lines": lines});
        line[key] = content.clone();
        line.to_string().into_bytes()
    }

    fn picture(number: usize, lines: usize, name: &str, bytes: &[u8]) -> Vec<u8> {
        let content = json!({"name": name, "base64": STANDARD.encode(bytes)});
        line(number, lines, "picture", &content)
    }

    fn curve(number: usize, lines: usize, points: usize) -> Vec<u8> {
        let point = json!({"level": 0, "iteration": 1, "metric": 0.5});
        line(number, lines, "curve", &vec![point; points].into())
    }

    fn names(pictures: Option<&Pictures>) -> Vec<&str> {
        let files = pictures.iter().flat_map(|pictures| pictures.files.keys());
        files.map(String::as_str).collect()
    }

    #[test]
    fn lines_give_the_pictures_once_in_whatever_order_and_however_often_they_come() {
        let file = png(256, 100);
        let (start, end) = file.split_at(10);
        let mut collection = Collection::default();
        for line in [
            picture(2, 4, "after-2.png", end),
            picture(0, 4, "before-0.png", &png(1, 1)),
            picture(0, 4, "before-0.png", &png(1, 1)),
            b"a line of something else".to_vec(),
            curve(3, 4, 2),
        ] {
            assert_eq!(collection.take(&line), None);
        }
        let last = picture(1, 4, "after-2.png", start);
        let pictures = collection.take(&last).unwrap();
        assert_eq!(names(Some(&pictures)), ["after-2.png", "before-0.png"]);
        assert_eq!(pictures.files["after-2.png"], file);
        assert_eq!(pictures.curve.len(), 2);
        assert!(collection.is_finished());
        assert_eq!(collection.take(&last), None);
    }

    #[test]
    fn names_and_files_of_another_kind_are_left_out() {
        let kept = picture(0, 2, "depth-1.png", &png(9, 9));
        let cases = [
            ("depth-0.png", png(257, 1)),
            ("depth-0.png", png(1, 0)),
            ("depth-0.png", png(9, 9)[..20].to_vec()),
            ("depth-0.png", b"<html>".to_vec()),
            ("depth-0.png", Vec::new()),
        ];
        for (name, bytes) in cases {
            let mut collection = Collection::default();
            assert_eq!(collection.take(&kept), None);
            let pictures = collection.take(&picture(1, 2, name, &bytes));
            assert_eq!(names(pictures.as_ref()), ["depth-1.png"], "{bytes:?}");
        }
        for name in [
            "depth-3.png",
            "depth-00.png",
            "../depth-0.png",
            "depth.png",
            "curve.json",
            "",
        ] {
            let mut collection = Collection::default();
            let taken = collection.take(&picture(0, 1, name, &png(9, 9)));
            assert_eq!(taken, None, "{name}");
        }
    }

    #[test]
    fn what_a_pod_tells_takes_a_bounded_amount_of_memory() {
        let mut collection = Collection::default();
        for number in 0..MOST_LINES {
            let bytes = [7; 12_000];
            assert_eq!(
                collection.take(&picture(number, MOST_LINES, "after-0.png", &bytes)),
                None
            );
        }
        assert!(collection.bytes <= MOST_PICTURE_BYTES);
        assert_eq!(collection.parts.len(), MOST_PICTURE_BYTES / 12_000);
        for line in [
            picture(0, MOST_LINES + 1, "after-0.png", &png(9, 9)),
            picture(0, usize::MAX, "after-0.png", &png(9, 9)),
            picture(1, 1, "after-0.png", &png(9, 9)),
            picture(0, 1, "after-0.png", &vec![0; LONGEST_LINE]),
            curve(0, 1, MOST_CURVE_POINTS + 1),
            line(
                0,
                1,
                "picture",
                &json!({"name": "after-0.png", "base64": "?"}),
            ),
            line(
                0,
                1,
                "curve",
                &json!([{"level": 16, "iteration": 1, "metric": 0.5}]),
            ),
            line(0, 1, "novelty", &json!(1)),
            br#"{"line":0,"lines":1,"curve":[]}"#.to_vec(),
        ] {
            let mut collection = Collection::default();
            let text = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
            assert_eq!(collection.take(&line), None, "{text}");
            assert!(collection.parts.is_empty(), "{text}");
        }
    }
}
