//! Request documents, YAML and JSON.

use aligner::{
    job::{self, Mounts},
    work::Work,
};
use fastrand::Rng;

use crate::{MEMORY, Reached};

const ALIGNMENT: &str = "apiVersion: voluba.ebrains.eu/v1alpha1
kind: AlignmentRequest
metadata: {name: a}
spec:
  template: t
  patch:
    images: [{name: i, source: {volume: {claimName: c, path: i.nii.gz}}, interpolation: linear}]
    depth: {segmentation: {source: {volume: {claimName: c, path: s.nii}}, labels: {csf: [0], grey: [1, 2], white: [3]}}}
  placement: {space: viewer, matrix: [[1, 0, 0, 0.5], [0, 1, 0, -2], [0, 0, 1, 3e1], [0, 0, 0, 1]]}
  landmarks: [{name: l, template: [1, 2, 3], patch: [4, 5, 6], weight: 2, active: true}]
  registration: {preset: fast}
  output: {destination: {volume: {claimName: c, path: o}}, grids: [patch], artifacts: [images, report]}
";

const DEPTH_MAP: &str = "apiVersion: voluba.ebrains.eu/v1alpha1
kind: DepthMapRequest
metadata: {name: a, uid: 0a1b2c3d-0000}
spec:
  segmentation: {source: {volume: {claimName: c, path: s.nii}}, labels: {csf: [0], grey: [1, 2], white: [3]}}
  output: {destination: {volume: {claimName: c, path: o}}, artifacts: [depth, layers, report], layerCount: 8}
  activeDeadlineSeconds: 60
";

/// What YAML and JSON are made of, and what has broken parsers and validators before.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ", ",
    "\n",
    "  ",
    "- ",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "|\n",
    ">-\n",
    "\"",
    "'",
    "# ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "null",
    "~",
    "true",
    "no",
    "0x1F",
    "0o7",
    ".nan",
    ".inf",
    "-.inf",
    "1e400",
    "1e308",
    "-0",
    "99999999999999999999",
    "-1",
    "1.5",
    "2001-01-01",
    "\u{feff}",
    "\u{0}",
    "\u{7f}",
    "\u{202e}",
    "ä",
    "🧠",
    "\\u0000",
    "../",
    "/",
    "a/../../b",
    "patch",
    "template",
    "name: ",
    "matrix: ",
    "landmarks: ",
    "segmentation: ",
    "map: ",
    "volume: ",
    "levels: ",
    "{shrinkFactor: 0, iterations: 4294967296}",
    "hard",
    "suspend: yes",
    "cancel: yes",
    "{csf: [], grey: [0], white: [0]}",
];

/// Most memory that a document of its length may take: values, and what YAML's own tree costs.
const BYTES_PER_BYTE: usize = 4096;

pub(crate) fn request(random: &mut Rng) -> Reached {
    let seed = if random.u8(..4) == 0 {
        DEPTH_MAP
    } else {
        ALIGNMENT
    };
    let mut text = seed.to_owned();
    for _ in 0..random.u8(..5) {
        mutate(&mut text, random);
    }
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let parsed = job::parse_request(&text);
    let taken = MEMORY.peak_usage() - before;
    assert!(
        taken < (1 << 20) + BYTES_PER_BYTE * text.len(),
        "{taken} bytes for {text}"
    );
    let Ok(document) = parsed else {
        return if parsed.is_err_and(|problem| problem.starts_with("is not YAML")) {
            Reached::Nothing
        } else {
            Reached::Inside
        };
    };
    let mounts = Mounts {
        claims: [("c".to_owned(), "/nowhere".into())].into(),
        templates: vec![("t".to_owned(), "/nowhere/t.nii".into())],
        ..Mounts::default()
    };
    let inside = |path: &std::path::Path| {
        path.starts_with("/nowhere") && !path.components().any(|part| part.as_os_str() == "..")
    };
    match Work::from_request(&document, &mounts) {
        Ok(Work::Alignment(job)) => {
            let matrix = job.placement.matrix.iter().flatten();
            assert!(matrix.clone().all(|value| value.is_finite()));
            assert!(inside(&job.folder) && job.images.iter().all(|image| inside(&image.path)));
            Reached::End
        }
        Ok(Work::DepthMap(job)) => {
            assert!(inside(&job.folder) && inside(&job.segmentation));
            Reached::End
        }
        Err(_) => Reached::Inside,
    }
}

fn mutate(text: &mut String, random: &mut Rng) {
    let mut place = || {
        let mut at = random.usize(..=text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (mut from, mut to) = (place(), place());
    if from > to {
        (from, to) = (to, from);
    }
    let piece = PIECES[random.usize(..PIECES.len())];
    match random.u8(..6) {
        0 => text.insert_str(from, piece),
        1 => {
            // Numbers and words are replaced where they stand.
            let end = text[from..]
                .find([',', ']', '}', '\n'])
                .map_or(text.len(), |length| from + length);
            text.replace_range(from..end, piece);
        }
        // Half of it stays: of less, nothing gets inside.
        2 if to > text.len() / 2 => text.truncate(to),
        3 if to - from < 40 => text.replace_range(from..to, ""),
        4 if to - from < 200 => {
            let copy = text[from..to].to_owned();
            text.insert_str(to, &copy);
        }
        _ => text.insert_str(from, &piece.repeat(random.usize(1..4))),
    }
}
