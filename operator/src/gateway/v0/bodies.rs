//! What the two POSTs of the old interface ask for, and the requests that say the same.

use std::num::NonZero;

use alignment_api::{
    AlignmentSpec, Credentials, Depth, DepthMapArtifact, DepthMapOutput, DepthMapSpec, Destination,
    ImageService, Interpolation, Labels, Landmark, Output, OutputArtifact, OutputGrid, Patch,
    PatchImage, Placement, RegistrationParameters, RequestDocument, RequestSpec,
    SegmentationSource, ServiceImage, Source, Space, Violation, WebUrl,
};
use serde_json::{Map, Value};

use super::fields::{self, Violations};
use crate::gateway::requests::secret_name;

/// Most pairs, as in a request.
const MOST_LANDMARKS: usize = 1000;
/// Longest name of a pair.
const LONGEST_LANDMARK_NAME: usize = 100;
/// Longest name of an image in a request.
const LONGEST_IMAGE_NAME: usize = 100;
/// A request fails after so many seconds.
const DEADLINE_SECONDS: i64 = 21_600;

/// Body of `POST /v0/depth-map-computation/`.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthMapBody {
    /// The image service.
    pub base: WebUrl,
    /// The segmentation.
    pub segmentation: String,
}

/// Body of `POST /v0/alignment-computation/`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlignmentBody {
    /// The image service.
    pub base: WebUrl,
    /// The image to transform.
    pub image: String,
    /// Its depth.
    pub depth_map: String,
    /// Viewer space of the image → template, mm.
    pub matrix: [[f64; 4]; 4],
    /// Pairs of points: `source_point` in the template, `target_point` in the image.
    pub landmarks: Vec<Landmark>,
}

impl DepthMapBody {
    /// Reads a body.
    ///
    /// # Errors
    /// Every violation.
    pub fn read(body: &Value) -> Result<Self, Violations> {
        let fields = fields::object(body)?;
        let mut found = Violations::default();
        let base = fields::base_url(fields, "image_service_base_url", &mut found);
        let segmentation = fields::text(fields, "segmentation_name", &mut found);
        let (Some(base), Some(segmentation)) = (base, segmentation) else {
            return Err(found);
        };
        let body = Self { base, segmentation };
        check(&body.spec("check"), &mut found);
        if found.is_empty() {
            Ok(body)
        } else {
            Err(found)
        }
    }

    /// The request of this name.
    pub fn spec(&self, name: &str) -> RequestSpec {
        DepthMapSpec {
            segmentation: SegmentationSource {
                source: self.source(),
                labels: Labels::default(),
            },
            output: DepthMapOutput {
                destination: destination(&self.base),
                artifacts: vec![DepthMapArtifact::Depth],
                layer_count: NonZero::<u8>::MIN,
            },
            credentials: Some(credentials(name)),
            resources: None,
            active_deadline_seconds: DEADLINE_SECONDS,
            ttl_seconds_after_finished: None,
            suspend: false,
            cancel: false,
        }
        .into()
    }

    fn source(&self) -> Source {
        source(&self.base, &self.segmentation)
    }
}

impl AlignmentBody {
    /// Reads a body.
    ///
    /// # Errors
    /// Every violation.
    pub fn read(body: &Value) -> Result<Self, Violations> {
        let fields = fields::object(body)?;
        let mut found = Violations::default();
        let base = fields::base_url(fields, "image_service_base_url", &mut found);
        let image = fields::text(fields, "image_name", &mut found);
        let depth_map = fields::text(fields, "depth_map_name", &mut found);
        let matrix = matrix(fields, &mut found);
        let landmarks = landmarks(fields, &mut found);
        let (Some(base), Some(image), Some(depth_map), Some(matrix), Some(landmarks)) =
            (base, image, depth_map, matrix, landmarks)
        else {
            return Err(found);
        };
        let body = Self {
            base,
            image,
            depth_map,
            matrix,
            landmarks,
        };
        check(&body.spec("check"), &mut found);
        if found.is_empty() {
            Ok(body)
        } else {
            Err(found)
        }
    }

    /// The request of this name.
    pub fn spec(&self, name: &str) -> RequestSpec {
        AlignmentSpec {
            template: None,
            patch: Patch {
                images: vec![PatchImage {
                    name: plain_name(&self.image),
                    source: source(&self.base, &self.image),
                    interpolation: Interpolation::Linear,
                }],
                depth: Depth::Map {
                    source: source(&self.base, &self.depth_map),
                },
            },
            placement: Placement {
                matrix: self.matrix,
                space: Space::Viewer,
            },
            landmarks: self.landmarks.clone(),
            registration: RegistrationParameters::default(),
            output: Output {
                destination: destination(&self.base),
                grids: vec![OutputGrid::Patch],
                artifacts: vec![OutputArtifact::Images],
                layer_count: NonZero::<u8>::MIN,
            },
            credentials: Some(credentials(name)),
            resources: None,
            active_deadline_seconds: DEADLINE_SECONDS,
            ttl_seconds_after_finished: None,
            suspend: false,
            cancel: false,
        }
        .into()
    }
}

fn source(base: &WebUrl, name: &str) -> Source {
    Source::ImageService(ServiceImage {
        base_url: base.request_text(),
        name: name.to_owned(),
    })
}

fn destination(base: &WebUrl) -> Destination {
    Destination::ImageService(ImageService {
        base_url: base.request_text(),
    })
}

fn credentials(name: &str) -> Credentials {
    Credentials {
        secret_name: secret_name(name),
    }
}

/// A name for files, out of one that may have any characters.
fn plain_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .take(LONGEST_IMAGE_NAME)
        .collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "image" } else { name }.to_owned()
}

/// Three or four rows; the last one may be left out, as it is always the same.
fn matrix(fields: &Map<String, Value>, found: &mut Violations) -> Option<[[f64; 4]; 4]> {
    const FIELD: &str = "transformation_matrix";
    let value = fields::required(fields, &[FIELD], found)?;
    let Some(rows) = value.as_array() else {
        found.add(&[FIELD], "Not a valid list.");
        return None;
    };
    if !(3..=4).contains(&rows.len()) {
        found.add(&[FIELD], "Length must be between 3 and 4.");
        return None;
    }
    let mut matrix = [[0.0; 4], [0.0; 4], [0.0; 4], [0.0, 0.0, 0.0, 1.0]];
    let mut whole = true;
    for (index, row) in rows.iter().enumerate() {
        let place = index.to_string();
        match fields::numbers(row, &[FIELD, &place], found) {
            Some(numbers) => matrix[index] = numbers,
            None => whole = false,
        }
    }
    whole.then_some(matrix)
}

fn landmarks(fields: &Map<String, Value>, found: &mut Violations) -> Option<Vec<Landmark>> {
    const FIELD: &str = "landmark_pairs";
    let value = fields::required(fields, &[FIELD], found)?;
    let Some(pairs) = value.as_array() else {
        found.add(&[FIELD], "Not a valid list.");
        return None;
    };
    if pairs.len() > MOST_LANDMARKS {
        found.add(
            &[FIELD],
            format!("Longer than maximum length {MOST_LANDMARKS}."),
        );
        return None;
    }
    let pairs: Vec<_> = pairs
        .iter()
        .enumerate()
        .map(|(index, pair)| landmark(pair, &[FIELD, &index.to_string()], found))
        .collect();
    pairs.into_iter().collect()
}

fn landmark(pair: &Value, place: &[&str], found: &mut Violations) -> Option<Landmark> {
    let Some(fields) = pair.as_object() else {
        found.add(&[place, &["_schema"]].concat(), "Expected a JSON object.");
        return None;
    };
    let mut point = |name: &str| {
        let place = [place, &[name]].concat();
        let value = fields::required(fields, &place, found)?;
        fields::numbers(value, &place, found)
    };
    let (template, patch) = (point("source_point"), point("target_point"));
    let active = match fields.get("active") {
        None => Some(true),
        Some(value) => fields::boolean(value),
    };
    if active.is_none() {
        found.add(&[place, &["active"]].concat(), "Not a valid boolean.");
    }
    let name = match fields.get("name") {
        None => Some(None),
        Some(value) => value.as_str().map(|name| Some(short(name))),
    };
    if name.is_none() {
        found.add(&[place, &["name"]].concat(), "Not a valid string.");
    }
    Some(Landmark {
        template: template?,
        patch: patch?,
        name: name?,
        active: active?,
        weight: 1.0,
    })
}

/// Names of pairs stand in reports only.
fn short(name: &str) -> String {
    name.chars().take(LONGEST_LANDMARK_NAME).collect()
}

/// The rules of a request, told by the names of the old fields.
fn check(spec: &RequestSpec, found: &mut Violations) {
    let document = RequestDocument {
        api_version: alignment_api::API_VERSION.to_owned(),
        kind: spec.kind().to_owned(),
        metadata: alignment_api::Metadata::default(),
        spec: spec.clone(),
    };
    for Violation { field, message } in alignment_api::validate(&document) {
        let place = old_place(&field);
        let place: Vec<&str> = place.iter().map(String::as_str).collect();
        found.add(&place, format!("{message}."));
    }
}

/// Where in an old body a field of a request comes from.
fn old_place(field: &str) -> Vec<String> {
    let one = |name: &str| vec![name.to_owned()];
    if field.starts_with("spec.placement") {
        return one("transformation_matrix");
    }
    if let Some((index, part)) = field
        .strip_prefix("spec.landmarks[")
        .and_then(|rest| rest.split_once("]."))
    {
        let part = match part {
            "template" => "source_point",
            "patch" => "target_point",
            part => part,
        };
        return ["landmark_pairs", index, part].map(str::to_owned).into();
    }
    if field.ends_with(".baseUrl") {
        return one("image_service_base_url");
    }
    for (start, name) in [
        ("spec.segmentation", "segmentation_name"),
        ("spec.patch.images", "image_name"),
        ("spec.patch.depth", "depth_map_name"),
        ("spec.landmarks", "landmark_pairs"),
    ] {
        if field.starts_with(start) {
            return one(name);
        }
    }
    one("_schema")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body() -> Value {
        json!({
            "image_service_base_url": "https://images.example.org/chumni",
            "image_name": "Größe 1", "depth_map_name": "s-equivolumetric-depth",
            "transformation_matrix": [[1, 0, 0, "5"], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
            "landmark_pairs": [
                {"source_point": [1, 2, 3], "target_point": [4, 5, "6"], "colour": "#fff"},
                {"source_point": [1, 2, 3], "target_point": [4, 5, 6], "active": "no", "name": "b"},
            ],
            "unknown": 1,
        })
    }

    fn with(changes: &[(&str, Value)]) -> Value {
        let mut body = body();
        for (name, value) in changes {
            body[*name] = value.clone();
        }
        body
    }

    fn problems(changes: &[(&str, Value)]) -> Value {
        AlignmentBody::read(&with(changes)).unwrap_err().into_json()
    }

    #[test]
    fn an_alignment_becomes_the_request_that_says_the_same() {
        let body = AlignmentBody::read(&body()).unwrap();
        let RequestSpec::Alignment(spec) = body.spec("x") else {
            panic!("no alignment");
        };
        assert_eq!(spec.placement.space, Space::Viewer);
        assert_eq!(spec.placement.matrix[0], [1.0, 0.0, 0.0, 5.0]);
        let [first, second] = &spec.landmarks[..] else {
            panic!("two pairs");
        };
        // The old names were never explained: source is the template.
        assert_eq!(
            (first.template, first.patch),
            ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
        );
        assert!(first.active && !second.active);
        assert_eq!(second.name.as_deref(), Some("b"));
        assert_eq!(spec.patch.images[0].name, "Gr__e_1");
        let source = source(&body.base, "Größe 1");
        assert_eq!(spec.patch.images[0].source, source);
        assert_eq!(spec.output.artifacts, [OutputArtifact::Images]);
        assert_eq!(spec.credentials.unwrap().secret_name, "voluba-gateway-x");
    }

    #[test]
    fn a_matrix_of_three_rows_is_completed_and_a_useless_one_refused() {
        let three = json!([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]);
        let read = AlignmentBody::read(&with(&[("transformation_matrix", three)])).unwrap();
        assert_eq!(read.matrix[3], [0.0, 0.0, 0.0, 1.0]);
        for (matrix, expected) in [
            (
                json!([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]),
                "is singular",
            ),
            (
                json!([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2]]),
                "expected [0, 0, 0, 1]",
            ),
            (
                json!([[1, 0, 0, 5e6], [0, 1, 0, 0], [0, 0, 1, 0]]),
                "nanometres",
            ),
            (json!([[1, 0, 0, 0]]), "between 3 and 4"),
            (json!("x"), "Not a valid list"),
        ] {
            let found = problems(&[("transformation_matrix", matrix.clone())]);
            let text = found["transformation_matrix"][0].as_str().unwrap();
            assert!(text.contains(expected), "{matrix}: {text}");
        }
        let found = problems(&[("transformation_matrix", json!([[1, 0, 0, "x"], [0, 1], 3]))]);
        assert_eq!(
            found["transformation_matrix"]["0"]["3"][0],
            "Not a valid number."
        );
        assert_eq!(found["transformation_matrix"]["1"][0], "Length must be 4.");
        assert_eq!(found["transformation_matrix"]["2"][0], "Not a valid list.");
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let found = AlignmentBody::read(&json!({})).unwrap_err().into_json();
        assert_eq!(found.as_object().unwrap().len(), 5);
        let found = DepthMapBody::read(&json!({"segmentation_name": null})).unwrap_err();
        assert_eq!(
            found.into_json(),
            json!({"image_service_base_url": ["Missing data for required field."],
                "segmentation_name": ["Field may not be null."]})
        );
        let found = DepthMapBody::read(&json!([])).unwrap_err().into_json();
        assert!(found["_schema"].is_array());
    }

    #[test]
    fn pairs_are_checked_one_by_one() {
        let pair = json!({"source_point": [1, 2], "active": "maybe", "name": 3});
        let found = problems(&[("landmark_pairs", json!([pair, 5]))]);
        let first = &found["landmark_pairs"]["0"];
        assert_eq!(first["source_point"][0], "Length must be 3.");
        assert_eq!(first["target_point"][0], "Missing data for required field.");
        assert_eq!(first["active"][0], "Not a valid boolean.");
        assert_eq!(first["name"][0], "Not a valid string.");
        assert!(found["landmark_pairs"]["1"]["_schema"].is_array());
        let far = json!([{"source_point": [1e6, 0, 0], "target_point": [0, 0, 0]}]);
        let found = problems(&[("landmark_pairs", far)]);
        assert!(
            found["landmark_pairs"]["0"]["source_point"].is_array(),
            "{found}"
        );
        let many = vec![json!({"source_point": [0, 0, 0], "target_point": [0, 0, 0]}); 1001];
        let found = problems(&[("landmark_pairs", json!(many))]);
        assert_eq!(
            found["landmark_pairs"][0],
            "Longer than maximum length 1000."
        );
    }

    #[test]
    fn names_that_no_image_can_have_are_told_by_their_old_field() {
        let found = problems(&[("image_name", json!("a/b")), ("depth_map_name", json!(""))]);
        assert!(
            found["image_name"].is_array() && found["depth_map_name"].is_array(),
            "{found}"
        );
        let plain = [
            ("片", "image"),
            ("-a-", "a"),
            ("a b", "a_b"),
            ("..", "image"),
        ];
        for (name, expected) in plain {
            assert_eq!(plain_name(name), expected);
        }
    }
}
