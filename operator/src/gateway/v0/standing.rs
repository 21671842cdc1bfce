//! Where a request stands, as the old interface tells it. Pure.

use alignment_api::{ArtifactKind, Destination, Stage};
use serde_json::{Value, json};

use crate::crd::{AlignmentResult, Phase};
use crate::request::{Kind, Request};

/// What an unknown identifier gets, while its request may be on its way.
pub fn pending() -> Value {
    json!({"finished": false, "message": "PENDING"})
}

/// What an unknown identifier gets after that.
pub fn unknown() -> Value {
    failure(
        "UnknownRequest",
        "there is no computation of this identifier, or it is over long ago",
    )
}

fn failure(reason: &str, message: &str) -> Value {
    json!({"finished": true, "error": true, "message": format!("FAILURE ({reason}: {message})")})
}

/// Where a request stands.
pub fn of(request: &Request) -> Value {
    let status = request.status.as_ref();
    match request.phase() {
        None | Some(Phase::Pending | Phase::Suspended) => pending(),
        Some(Phase::Running) => {
            let stage = status.and_then(|status| status.progress.as_ref());
            let stage = stage.map_or(Stage::Load, |progress| progress.stage);
            let stage = old_stage(request.kind(), stage);
            json!({"finished": false, "message": format!("PROGRESS ({stage})")})
        }
        Some(Phase::Failed) => match status.and_then(|status| status.failure.as_ref()) {
            Some(why) => failure(&why.reason, &why.message),
            None => failure("Unknown", "the computation failed"),
        },
        Some(Phase::Cancelled) => failure("Cancelled", "the request was cancelled"),
        Some(Phase::Succeeded) => {
            let result = status.and_then(|status| status.result.as_ref());
            match result.and_then(|result| results(request, result)) {
                Some(results) => {
                    json!({"finished": true, "message": "SUCCESS (success)", "results": results})
                }
                None => failure(
                    "ReportLost",
                    "the result is in the image service, but the report with its name was lost",
                ),
            }
        }
    }
}

/// The words of the old service, which clients show as they are.
const fn old_stage(kind: Kind, stage: Stage) -> &'static str {
    match (kind, stage) {
        (Kind::DepthMap, Stage::Load) => "downloading segmentation",
        (Kind::DepthMap, Stage::Write) => "uploading the depth map",
        (Kind::DepthMap, _) => "computing the depth map",
        (Kind::Alignment, Stage::Load) => "downloading image",
        (Kind::Alignment, Stage::Depth | Stage::Register) => "computing alignment",
        (Kind::Alignment, Stage::Resample | Stage::Quality) => "resampling the image",
        (Kind::Alignment, Stage::Write) => "uploading the resampled image",
    }
}

fn results(request: &Request, result: &AlignmentResult) -> Option<Value> {
    let Destination::ImageService(service) = request.spec.destination() else {
        return None;
    };
    let base = format!("{}/", service.base_url.trim_end_matches('/'));
    let summary = result.summary.as_ref()?;
    let of_kind = |kind| {
        summary
            .artifacts
            .iter()
            .find(|artifact| artifact.kind == kind)
    };
    Some(match request.kind() {
        Kind::DepthMap => {
            let depth = of_kind(ArtifactKind::Depth)?;
            json!({
                "image_service_base_url": base,
                "depth_map_name": depth.name,
                "depth_map_neuroglancer_url": depth.neuroglancer_url,
            })
        }
        Kind::Alignment => {
            let image = of_kind(ArtifactKind::Image)?;
            json!({
                "image_service_base_url": base,
                "transformed_image_name": image.name,
                "transformed_image_neuroglancer_url": image.neuroglancer_url,
                "transformation_matrix": result.transformation_matrix,
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::tests::{depth_map, with};

    fn service() -> (&'static str, Value) {
        let to = json!({"imageService": {"baseUrl": "https://images.example.org/chumni"}});
        ("/spec/output/destination", to)
    }

    #[test]
    fn before_the_end_the_stage_is_told_in_the_old_words() {
        for (status, expected) in [
            (json!({}), "PENDING"),
            (json!({"phase": "Pending"}), "PENDING"),
            (json!({"phase": "Suspended"}), "PENDING"),
            (
                json!({"phase": "Running"}),
                "PROGRESS (downloading segmentation)",
            ),
            (
                json!({"phase": "Running", "progress": {"stage": "depth", "percent": 9}}),
                "PROGRESS (computing the depth map)",
            ),
        ] {
            let found = of(&depth_map(&[("/status", status)]));
            assert_eq!(found, json!({"finished": false, "message": expected}));
        }
        let register = json!({"phase": "Running", "progress": {"stage": "register", "percent": 9}});
        let found = of(&with(&[("/status", register)]));
        assert_eq!(found["message"], "PROGRESS (computing alignment)");
    }

    #[test]
    fn a_failure_has_a_reason() {
        let failure =
            json!({"reason": "ImageNotFound", "message": "no such image", "retryable": false});
        let found = of(&with(&[(
            "/status",
            json!({"phase": "Failed", "failure": failure}),
        )]));
        let expected = "FAILURE (ImageNotFound: no such image)";
        assert_eq!(
            found,
            json!({"finished": true, "error": true, "message": expected})
        );
    }

    #[test]
    fn what_was_cancelled_is_over_and_has_no_result() {
        let found = of(&with(&[("/status", json!({"phase": "Cancelled"}))]));
        let expected = "FAILURE (Cancelled: the request was cancelled)";
        assert_eq!(
            found,
            json!({"finished": true, "error": true, "message": expected})
        );
    }

    #[test]
    fn results_are_what_the_service_calls_them() {
        let artifact = |kind: &str| {
            json!({"name": "n", "kind": kind, "sha256": "", "bytes": 1,
                "neuroglancerUrl": "precomputed://https://images.example.org/chumni/nifti/x/n"})
        };
        let status = |kind: &str| {
            let result = json!({"artifacts": [artifact(kind)], "location": {},
                "transformationMatrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]});
            ("/status", json!({"phase": "Succeeded", "result": result}))
        };
        let found = of(&depth_map(&[service(), status("depth")]));
        assert_eq!(found["message"], "SUCCESS (success)");
        assert!(found.get("error").is_none());
        let results = &found["results"];
        assert_eq!(
            results["image_service_base_url"],
            "https://images.example.org/chumni/"
        );
        assert_eq!(results["depth_map_name"], "n");
        let url = results["depth_map_neuroglancer_url"].as_str().unwrap();
        assert!(url.starts_with("precomputed://"));
        let found = of(&with(&[service(), status("image")]));
        assert_eq!(found["results"]["transformed_image_name"], "n");
        assert_eq!(
            found["results"]["transformation_matrix"][3],
            json!([0.0, 0.0, 0.0, 1.0])
        );
        // Nothing to tell a name from.
        let found = of(&with(&[service(), status("depth")]));
        assert_eq!(found["error"], true);
    }
}
