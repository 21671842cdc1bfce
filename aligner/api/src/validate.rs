//! Validation of a request: every violation, each with its field path.
//!
//! The operator shows these sentences in a condition, `aligner validate` prints them: one text for
//! one mistake. What needs the data (does the file exist, do the volumes overlap) is checked later.

mod places;
mod registration;

use std::collections::HashSet;

use crate::document::unknown_kind;
use crate::{
    API_VERSION, AlignmentSpec, Depth, Labels, Landmark, OutputArtifact, Placement,
    RegistrationParameters, RequestDocument, RequestSpec, Resources,
};
use places::check_places;
use registration::check_registration;

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, for example `spec.placement.matrix[3]`.
    pub field: String,
    /// What was found and what was expected.
    pub message: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Translation beyond which a matrix is taken to be in nanometres by mistake, in mm.
const LARGEST_TRANSLATION_MM: f64 = 1e4;
/// Range of the determinant of a believable placement (volume ratio).
const DETERMINANT_RANGE: (f64, f64) = (1e-6, 1e6);

#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Violation {
            field: field.into(),
            message: message.into(),
        });
    }
}

/// Checks a whole document. An empty list means that it is valid.
pub fn validate(document: &RequestDocument) -> Vec<Violation> {
    let mut found = Violations::default();
    if document.api_version != API_VERSION {
        found.add(
            "apiVersion",
            format!("is `{}`, expected `{API_VERSION}`", document.api_version),
        );
    }
    if document.kind != document.spec.kind() {
        found
            .0
            .push(unknown_kind(&format!("is `{}`", document.kind)));
    }
    match &document.spec {
        RequestSpec::Alignment(spec) => check_patch(spec, &mut found),
        RequestSpec::DepthMap(spec) => {
            let field = "spec.segmentation.labels";
            check_labels(&spec.segmentation.labels, field, &mut found);
        }
    }
    check_places(&document.spec, &mut found);
    match &document.spec {
        RequestSpec::Alignment(spec) => check_work(spec, &mut found),
        RequestSpec::DepthMap(spec) => {
            let artifacts = &spec.output.artifacts;
            check_choices(&mut found, "spec.output.artifacts", artifacts);
        }
    }
    check_scheduling(&document.spec, &mut found);
    found.0
}

/// Checks the parts of a request that also come from a command line. Field paths are those of a
/// request.
pub fn validate_alignment(
    placement: &Placement,
    landmarks: &[Landmark],
    registration: &RegistrationParameters,
) -> Vec<Violation> {
    let mut found = Violations::default();
    check_placement(placement, &mut found);
    check_landmarks(landmarks, &mut found);
    check_registration(registration, &mut found);
    found.0
}

fn check_patch(spec: &AlignmentSpec, found: &mut Violations) {
    if let Some(template) = &spec.template
        && !is_dns_name(template, 63)
    {
        found.add(
            "spec.template",
            format!("`{template}` is not a lower-case name of at most 63 characters"),
        );
    }
    check_images(spec, found);
    if let Depth::Segmentation(segmentation) = &spec.patch.depth {
        let field = "spec.patch.depth.segmentation.labels";
        check_labels(&segmentation.labels, field, found);
    }
}

fn check_work(spec: &AlignmentSpec, found: &mut Violations) {
    check_placement(&spec.placement, found);
    check_landmarks(&spec.landmarks, found);
    check_registration(&spec.registration, found);
    check_choices(found, "spec.output.grids", &spec.output.grids);
    check_choices(found, "spec.output.artifacts", &spec.output.artifacts);
    check_maps(spec, found);
}

fn check_images(spec: &AlignmentSpec, found: &mut Violations) {
    let images = &spec.patch.images;
    if images.is_empty() || images.len() > 16 {
        found.add(
            "spec.patch.images",
            format!("has {} entries, expected 1 to 16", images.len()),
        );
    }
    let mut names = HashSet::new();
    for (index, image) in images.iter().enumerate() {
        let field = format!("spec.patch.images[{index}]");
        if !is_file_stem(&image.name) {
            found.add(
                format!("{field}.name"),
                format!(
                    "`{}` is not a name of 1 to 100 letters, digits, `-`, `_` and `.`",
                    image.name
                ),
            );
        } else if !names.insert(image.name.as_str()) {
            found.add(
                format!("{field}.name"),
                format!("`{}` is used twice", image.name),
            );
        }
    }
}

/// Checks a mapping of labels to tissues, as it stands on a command line.
pub fn validate_labels(labels: &Labels) -> Vec<Violation> {
    let mut found = Violations::default();
    check_labels(labels, "labels", &mut found);
    found.0
}

fn check_labels(labels: &Labels, field: &str, found: &mut Violations) {
    let mut seen = HashSet::new();
    for (name, values) in [
        ("csf", &labels.csf),
        ("grey", &labels.grey),
        ("white", &labels.white),
    ] {
        if values.is_empty() || values.len() > 64 {
            found.add(
                format!("{field}.{name}"),
                format!("has {} values, expected 1 to 64", values.len()),
            );
        }
        for value in values {
            if !seen.insert(*value) {
                found.add(
                    format!("{field}.{name}"),
                    format!("value {value} is named twice"),
                );
            }
        }
    }
}

fn check_placement(placement: &Placement, found: &mut Violations) {
    let matrix = &placement.matrix;
    let field = "spec.placement.matrix";
    if matrix.iter().flatten().any(|value| !value.is_finite()) {
        found.add(field, "has an entry that is not a finite number");
        return;
    }
    if matrix[3] != [0.0, 0.0, 0.0, 1.0] {
        let transposed = matrix.iter().map(|row| row[3]).eq([0.0, 0.0, 0.0, 1.0]);
        let hint = if transposed {
            "; the last column is: is the matrix transposed?"
        } else {
            ""
        };
        found.add(
            format!("{field}[3]"),
            format!("is {:?}, expected [0, 0, 0, 1]{hint}", matrix[3]),
        );
        return;
    }
    let determinant = determinant3(matrix);
    let (smallest, largest) = DETERMINANT_RANGE;
    if !(smallest..=largest).contains(&determinant.abs()) {
        found.add(
            field,
            format!(
                "is singular or far from it: its determinant is {determinant:e}, expected a \
                 magnitude from {smallest:e} to {largest:e}"
            ),
        );
    }
    let translation = (0..3).map(|row| matrix[row][3].abs()).fold(0.0, f64::max);
    if translation > LARGEST_TRANSLATION_MM {
        found.add(
            field,
            format!(
                "translates by {translation:e} mm, more than {LARGEST_TRANSLATION_MM:e}: is it in \
                 nanometres? Expected millimetres"
            ),
        );
    }
}

/// Determinant of the upper left 3×3 part of a homogeneous matrix.
pub fn determinant3(m: &[[f64; 4]; 4]) -> f64 {
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
}

fn check_landmarks(landmarks: &[Landmark], found: &mut Violations) {
    if landmarks.len() > 1000 {
        found.add(
            "spec.landmarks",
            format!("has {} entries, expected at most 1000", landmarks.len()),
        );
    }
    for (index, landmark) in landmarks.iter().enumerate() {
        let field = format!("spec.landmarks[{index}]");
        for (name, point) in [("template", landmark.template), ("patch", landmark.patch)] {
            if point
                .iter()
                .any(|value| !value.is_finite() || value.abs() > LARGEST_TRANSLATION_MM)
            {
                found.add(
                    format!("{field}.{name}"),
                    format!("{point:?} is not a position in millimetres"),
                );
            }
        }
        if let Some(name) = &landmark.name
            && name.chars().count() > 100
        {
            found.add(format!("{field}.name"), "is longer than 100 characters");
        }
        if !(0.001..=1000.0).contains(&landmark.weight) {
            found.add(
                format!("{field}.weight"),
                format!("is {}, expected 0.001 to 1000", landmark.weight),
            );
        }
    }
}

fn check_range<T: Copy + PartialOrd + std::fmt::Display>(
    found: &mut Violations,
    field: &str,
    value: T,
    low: T,
    high: T,
) {
    // Written so that NaN is a violation, too.
    let inside = value >= low && value <= high;
    if !inside {
        found.add(field, format!("is {value}, expected {low} to {high}"));
    }
}

/// Thickness and layers are by-products of computing depth.
fn check_maps(spec: &AlignmentSpec, found: &mut Violations) {
    if matches!(spec.patch.depth, Depth::Segmentation(_)) {
        return;
    }
    for (artifact, name) in [
        (OutputArtifact::Thickness, "thickness"),
        (OutputArtifact::Layers, "layers"),
    ] {
        if spec.output.artifacts.contains(&artifact) {
            found.add(
                "spec.output.artifacts",
                format!(
                    "names `{name}`, but spec.patch.depth is a map, expected a segmentation to \
                     compute it from"
                ),
            );
        }
    }
}

/// A list of choices: at least one, none twice.
fn check_choices<T: PartialEq + std::fmt::Debug>(found: &mut Violations, field: &str, list: &[T]) {
    if list.is_empty() {
        found.add(field, "is empty, expected at least one entry");
    }
    if list
        .iter()
        .enumerate()
        .any(|(index, item)| list[..index].contains(item))
    {
        found.add(field, format!("names an entry twice: {list:?}"));
    }
}

fn check_scheduling(spec: &RequestSpec, found: &mut Violations) {
    check_range(
        found,
        "spec.activeDeadlineSeconds",
        spec.active_deadline_seconds(),
        1,
        604_800,
    );
    if let Some(ttl) = spec.ttl_seconds_after_finished() {
        check_range(found, "spec.ttlSecondsAfterFinished", ttl, 0, 31_536_000);
    }
    if let Some(Resources { memory, cpu }) = spec.resources() {
        let suffixes = ["Ki", "Mi", "Gi", "Ti", "k", "M", "G", "T"];
        if let Some(value) = memory
            && !is_quantity(value, &suffixes)
        {
            found.add(
                "spec.resources.memory",
                format!("`{value}` is not a quantity such as `4Gi`"),
            );
        }
        if let Some(value) = cpu
            && !is_quantity(value, &["m"])
        {
            found.add(
                "spec.resources.cpu",
                format!("`{value}` is not a quantity such as `2` or `1500m`"),
            );
        }
    }
}

fn is_quantity(value: &str, suffixes: &[&str]) -> bool {
    let digits = suffixes
        .iter()
        .find_map(|suffix| value.strip_suffix(suffix))
        .unwrap_or(value);
    value.len() <= 20
        && digits.starts_with(|c: char| ('1'..='9').contains(&c))
        && digits.chars().all(|c| c.is_ascii_digit())
}

fn is_dns_name(name: &str, longest: usize) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !name.is_empty()
        && name.len() <= longest
        && name.starts_with(edge)
        && name.ends_with(edge)
        && name.chars().all(|c| edge(c) || c == '-' || c == '.')
}

fn is_file_stem(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    !name.is_empty()
        && name.len() <= 100
        && name.starts_with(edge)
        && name.ends_with(edge)
        && name
            .chars()
            .all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{DEPTH_MAP_KIND, DepthMapSpec, KIND};

    fn minimal() -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "a"},
            "spec": {
                "patch": {
                    "images": [{"name": "a", "source": {"volume": {"claimName": "in", "path": "a.nii.gz"}}}],
                    "depth": {"segmentation": {"source": {"volume": {"claimName": "in", "path": "s.nii.gz"}}}},
                },
                "placement": {"matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]},
                "output": {"destination": {"volume": {"claimName": "out"}}},
            }
        })
    }

    /// Sets the value at a JSON pointer, then returns what validation finds.
    pub(crate) fn with(changes: &[(&str, Value)]) -> Vec<String> {
        let mut document = minimal();
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = document.pointer_mut(parent).unwrap();
            match parent {
                Value::Array(items) => items[key.parse::<usize>().unwrap()] = value.clone(),
                other => other[key] = value.clone(),
            }
        }
        let document: RequestDocument<AlignmentSpec> = serde_json::from_value(document).unwrap();
        validate(&document.erase())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn the_minimal_request_is_valid_and_so_are_all_defaults() {
        assert_eq!(with(&[]), Vec::<String>::new());
    }

    fn depth_map(changes: &[(&str, Value)]) -> Vec<String> {
        let mut document = json!({
            "apiVersion": API_VERSION, "kind": DEPTH_MAP_KIND, "metadata": {"name": "a"},
            "spec": {
                "segmentation": {"source": {"volume": {"claimName": "in", "path": "s.nii.gz"}}},
                "output": {"destination": {"volume": {"claimName": "out"}}},
            }
        });
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        let document: RequestDocument<DepthMapSpec> = serde_json::from_value(document).unwrap();
        validate(&document.erase())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_depth_map_is_checked_by_the_same_rules() {
        assert_eq!(depth_map(&[]), Vec::<String>::new());
        let labels = json!({"csf": [0], "grey": [0], "white": [2]});
        let service = json!({"imageService": {"baseUrl": "https://images.example.org"}});
        let found = depth_map(&[
            ("/kind", json!(KIND)),
            ("/spec/segmentation/labels", labels),
            ("/spec/output/destination", service),
            ("/spec/activeDeadlineSeconds", json!(0)),
            ("/spec/resources", json!({"memory": "much"})),
        ]);
        for (found, expected) in found.iter().zip([
            "kind: is `AlignmentRequest`, expected",
            "spec.segmentation.labels.grey: value 0 is named twice",
            "spec.output.artifacts: an image service takes",
            "spec.credentials: is missing",
            "spec.activeDeadlineSeconds: is 0",
            "spec.resources.memory: `much`",
        ]) {
            assert!(found.starts_with(expected), "{found}");
        }
        assert_eq!(found.len(), 6, "{found:?}");
    }

    #[test]
    fn thickness_and_layers_need_a_segmentation() {
        let both = ("/spec/output/artifacts", json!(["thickness", "layers"]));
        assert_eq!(with(std::slice::from_ref(&both)), Vec::<String>::new());
        let map = json!({"map": {"source": {"volume": {"claimName": "in", "path": "d.nii.gz"}}}});
        let found = with(&[both, ("/spec/patch/depth", map)]);
        assert_eq!(found.len(), 2);
        assert!(
            found[0].starts_with("spec.output.artifacts: names `thickness`, but"),
            "{found:?}"
        );
    }

    #[test]
    fn the_number_of_layers_is_1_to_255_and_10_unless_said() {
        let output = |count: Value| {
            let destination = json!({"volume": {"claimName": "out"}});
            serde_json::from_value::<crate::Output>(
                json!({"destination": destination, "layerCount": count}),
            )
        };
        for wrong in [json!(0), json!(256), json!(2.5)] {
            assert!(output(wrong).is_err());
        }
        assert_eq!(output(json!(255)).unwrap().layer_count.get(), 255);
        let document: RequestDocument<AlignmentSpec> = serde_json::from_value(minimal()).unwrap();
        assert_eq!(document.spec.output.layer_count.get(), 10);
    }

    #[test]
    fn a_singular_matrix_is_named() {
        let found = with(&[("/spec/placement/matrix/2", json!([0, 1, 0, 0]))]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("spec.placement.matrix: is singular"),
            "{found:?}"
        );
    }

    #[test]
    fn a_transposed_matrix_is_recognised() {
        let transposed = json!([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 6, 7, 1]]);
        let found = with(&[("/spec/placement/matrix", transposed)]);
        assert!(found[0].contains("transposed"), "{found:?}");
    }

    #[test]
    fn nanometres_are_recognised() {
        let found = with(&[("/spec/placement/matrix/0", json!([1, 0, 0, 5.0e6]))]);
        assert!(found[0].contains("nanometres"), "{found:?}");
    }

    #[test]
    fn every_violation_is_reported_at_once() {
        let found = with(&[
            ("/spec/template", json!("Big Brain")),
            ("/spec/patch/images/0/name", json!("../a")),
            ("/spec/output/destination/volume/path", json!("/etc")),
            ("/spec/resources", json!({"memory": "lots"})),
            ("/spec/registration", json!({"stepTolerance": 5.0})),
        ]);
        let fields: Vec<_> = found.iter().map(|v| v.split(':').next().unwrap()).collect();
        assert_eq!(
            fields,
            [
                "spec.template",
                "spec.patch.images[0].name",
                "spec.output.destination.volume.path",
                "spec.registration.stepTolerance",
                "spec.resources.memory"
            ]
        );
    }

    #[test]
    fn paths_cannot_leave_the_claim() {
        for path in [
            "../x.nii",
            "a/../../x.nii",
            "/x.nii",
            "a\\x.nii",
            "a\u{0}.nii",
            "",
            "folder/",
        ] {
            let found = with(&[(
                "/spec/patch/depth/segmentation/source/volume/path",
                json!(path),
            )]);
            assert_eq!(found.len(), 1, "{path:?}: {found:?}");
        }
    }

    #[test]
    fn a_label_has_one_meaning() {
        let labels = json!({"csf": [0], "grey": [1, 2], "white": [2]});
        let found = with(&[("/spec/patch/depth/segmentation/labels", labels)]);
        assert_eq!(
            found,
            ["spec.patch.depth.segmentation.labels.white: value 2 is named twice"]
        );
    }

    #[test]
    fn unknown_fields_are_refused() {
        let mut document = minimal();
        document["spec"]["paddding"] = json!(1);
        let error = serde_json::from_value::<RequestDocument<AlignmentSpec>>(document).unwrap_err();
        assert!(error.to_string().contains("paddding"), "{error}");
    }
}
