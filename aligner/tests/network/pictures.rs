//! What a run tells of a result that goes to an image service.

use std::{collections::BTreeMap, process::Output};

use alignment_api::{
    CurvePoint, ExitCode, LONGEST_LINE, MOST_CURVE_POINTS, MOST_PICTURE_BYTES, MOST_PICTURE_SIDE,
    PICTURES_SCHEMA, PictureContent, PictureLine,
};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::program::{Run, depth_map};

/// What was told, put together.
#[derive(Debug, Default)]
struct Told {
    files: BTreeMap<String, Vec<u8>>,
    curve: Vec<CurvePoint>,
}

impl Told {
    /// The lines come last, one by one.
    #[track_caller]
    fn of(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let mut lines: Vec<PictureLine> = Vec::new();
        for line in text.lines() {
            assert!(line.len() <= LONGEST_LINE, "{} bytes", line.len());
            if line.contains(PICTURES_SCHEMA) {
                lines.push(serde_json::from_str(line).unwrap());
            } else {
                assert!(lines.is_empty(), "after the pictures: {line}");
            }
        }
        let mut told = Self::default();
        for (number, line) in lines.iter().enumerate() {
            assert_eq!((line.line, line.lines), (number, lines.len()));
            match &line.content {
                PictureContent::Picture { name, base64 } => {
                    let file = told.files.entry(name.clone()).or_default();
                    file.extend(STANDARD.decode(base64).unwrap());
                }
                PictureContent::Curve(points) => told.curve.extend(points),
            }
        }
        told
    }

    /// Width, height and pixels of a file.
    fn decoded(&self, name: &str) -> (u32, u32, Vec<u8>) {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(&self.files[name]));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[track_caller]
    fn assert_files(&self, expected: &[&str]) {
        let names: Vec<&str> = self.files.keys().map(String::as_str).collect();
        assert_eq!(names, expected);
        let bytes: usize = self.files.values().map(Vec::len).sum();
        assert!(bytes <= MOST_PICTURE_BYTES, "{bytes}");
        let longest = names.iter().map(|name| {
            let (width, height, pixels) = self.decoded(name);
            let first = &pixels[..3];
            let one_colour = pixels.chunks_exact(3).all(|pixel| pixel == first);
            assert!(!one_colour, "{name} shows nothing");
            width.max(height)
        });
        // The example is small: nothing had to be scaled down.
        assert_eq!(longest.max(), Some(MOST_PICTURE_SIDE));
    }
}

#[test]
fn an_alignment_tells_its_planes_before_and_after_and_its_course() {
    let run = Run::new();
    let output = run.run();
    run.assert_ends(&output, ExitCode::Success);
    let told = Told::of(&output);
    told.assert_files(&[
        "after-0.png",
        "after-1.png",
        "after-2.png",
        "before-0.png",
        "before-1.png",
        "before-2.png",
    ]);
    for plane in 0..3 {
        let (width, height, before) = told.decoded(&format!("before-{plane}.png"));
        let (after_width, after_height, after) = told.decoded(&format!("after-{plane}.png"));
        assert_eq!((width, height), (after_width, after_height));
        assert_ne!(before, after, "plane {plane}");
    }
    let curve = &told.curve;
    assert!(!curve.is_empty() && curve.len() <= MOST_CURVE_POINTS);
    assert!(curve.is_sorted_by_key(|point| (point.level, point.iteration)));
    let (first, last) = (curve[0], curve[curve.len() - 1]);
    assert_eq!((first.level, first.iteration), (0, 1));
    assert!(last.metric < first.metric, "{first:?} {last:?}");
}

#[test]
fn a_depth_map_tells_its_planes() {
    let mut run = Run::new();
    let base = run.server.base();
    let source = format!("{{imageService: {{baseUrl: \"{base}\", name: patch_segmentation}}}}");
    let destination = format!("{{imageService: {{baseUrl: \"{base}\"}}}}");
    let credentials = "  credentials: {secretName: my-token}\n";
    run.text = depth_map(&source, &destination, ", artifacts: [depth]") + credentials;
    let output = run.run();
    run.assert_ends(&output, ExitCode::Success);
    let told = Told::of(&output);
    told.assert_files(&["depth-0.png", "depth-1.png", "depth-2.png"]);
    assert_eq!(told.curve, []);
    // On a claim lies a page: nothing is told of it.
    run.text = depth_map(&source, "{volume: {claimName: results}}", "") + credentials;
    let output = run.run();
    run.assert_ends(&output, ExitCode::Success);
    let told = Told::of(&output);
    assert!(told.files.is_empty(), "{:?}", told.files.keys());
}

#[test]
fn whoever_wants_no_lines_gets_none() {
    let run = Run::new();
    let output = run.command().args(["--progress", "none"]).output().unwrap();
    run.assert_ends(&output, ExitCode::Success);
    assert_eq!(Told::of(&output).files.len(), 0);
}
