//! From the body of a call to a request: the document that `kubectl apply` and the aligner read, less
//! what only those may say who have rights in the cluster. Pure.

use alignment_api::{
    API_VERSION, Credentials, Destination, RequestDocument, RequestSpec, Source, Violation, WebUrl,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::gateway::requests::secret_name;

/// Longest name that is shown.
const LONGEST_NAME: usize = 100;

/// What a call asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The name that its author gave it.
    pub name: Option<String>,
    /// What to do.
    pub spec: RequestSpec,
    /// The image service, if it has one, with the path of its field: the same for all inputs and the
    /// result.
    pub service: Option<(String, WebUrl)>,
    /// Names of images of the service that are read, with the paths of their fields.
    pub images: Vec<(String, String)>,
    /// Of the body, whatever the order of its fields.
    pub fingerprint: String,
}

impl Asked {
    /// Reads a body.
    ///
    /// # Errors
    /// Every violation.
    pub fn read(body: &Value) -> Result<Self, Vec<Violation>> {
        let mut whole = body.clone();
        if let Some(object) = whole.as_object_mut() {
            let version = object.entry("apiVersion");
            version.or_insert_with(|| API_VERSION.into());
        }
        let mut document = RequestDocument::read(&whole).map_err(|violation| vec![violation])?;
        let names_secret = document.spec.credentials().is_some();
        // As it will be, once it has a name.
        give_credentials(&mut document.spec, "given");
        let mut found = alignment_api::validate(&document);
        let name = document.metadata.name.clone();
        if name.as_ref().is_some_and(|name| {
            name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control)
        }) {
            let message =
                format!("is longer than {LONGEST_NAME} characters, or has control characters");
            found.push(violation("metadata.name", message));
        }
        if names_secret {
            found.push(violation(
                "spec.credentials",
                "names a Secret of the cluster: over HTTP, the token goes in a header",
            ));
        }
        let mut service = None;
        let mut note = |field: String, base: &str| {
            if let Ok(base) = WebUrl::parse(base) {
                service.get_or_insert((field, base));
            }
        };
        let mut images = Vec::new();
        for (field, source) in document.spec.sources() {
            match source {
                Source::Volume(_) => found.push(volume(&field)),
                Source::ImageService(image) => {
                    note(format!("{field}.imageService.baseUrl"), &image.base_url);
                    images.push((format!("{field}.imageService.name"), image.name.clone()));
                }
                Source::Http(_) => {}
            }
        }
        match document.spec.destination() {
            Destination::Volume(_) => found.push(volume("spec.output.destination")),
            Destination::ImageService(to) => {
                let field = "spec.output.destination.imageService.baseUrl";
                note(field.to_owned(), &to.base_url);
            }
        }
        if !found.is_empty() {
            return Err(found);
        }
        Ok(Self {
            name,
            service,
            images,
            fingerprint: fingerprint(&document),
            spec: document.spec,
        })
    }

    /// The spec of the request of this name.
    pub fn spec(&self, name: &str) -> RequestSpec {
        let mut spec = self.spec.clone();
        give_credentials(&mut spec, name);
        spec
    }
}

/// Names the Secret that the gateway makes, if an image service is to be asked.
fn give_credentials(spec: &mut RequestSpec, name: &str) {
    let sources = spec.sources();
    let mut sources = sources.iter().map(|(_, source)| source);
    let asks = matches!(spec.destination(), Destination::ImageService(_))
        || sources.any(|source| matches!(source, Source::ImageService(_)));
    let given = asks.then(|| Credentials {
        secret_name: secret_name(name),
    });
    match spec {
        RequestSpec::Alignment(spec) => spec.credentials = given,
        RequestSpec::DepthMap(spec) => spec.credentials = given,
    }
}

/// A violation of a field.
pub fn violation(field: impl Into<String>, message: impl Into<String>) -> Violation {
    Violation {
        field: field.into(),
        message: message.into(),
    }
}

/// The gateway's rights are wider than a caller's: a claim is not the caller's to name.
fn volume(field: &str) -> Violation {
    violation(
        format!("{field}.volume"),
        "names a claim of the cluster: over HTTP, inputs and results lie at an image service or a web server",
    )
}

/// Of what was read, so that neither the order of fields nor a default that is written out counts.
fn fingerprint(document: &RequestDocument) -> String {
    let name = document.metadata.name.as_deref().unwrap_or_default();
    let text = serde_json::to_string(&(&document.kind, name, &document.spec)).unwrap_or_default();
    transfer::hex(&Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn body() -> Value {
        json!({
            "kind": "DepthMapRequest",
            "metadata": {"name": "hoc1 left"},
            "spec": {
                "segmentation": {"source": {"imageService":
                    {"baseUrl": "https://images.example.org/chumni", "name": "seg"}}},
                "output": {"artifacts": ["depth"], "destination": {"imageService":
                    {"baseUrl": "https://images.example.org/chumni"}}},
            },
        })
    }

    fn fields(body: &Value) -> Vec<String> {
        let found = Asked::read(body).unwrap_err();
        found.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn the_document_of_kubectl_is_read() {
        let asked = Asked::read(&body()).unwrap();
        assert_eq!(asked.name.as_deref(), Some("hoc1 left"));
        assert_eq!(
            asked.images,
            [(
                "spec.segmentation.source.imageService.name".to_owned(),
                "seg".to_owned()
            )]
        );
        let spec = asked.spec("x");
        assert_eq!(spec.credentials().unwrap().secret_name, "voluba-gateway-x");
    }

    #[test]
    fn what_only_the_cluster_may_say_is_refused_where_it_stands() {
        let mut claims = body();
        claims["spec"]["segmentation"]["source"] =
            json!({"volume": {"claimName": "secrets", "path": "x.nii"}});
        claims["spec"]["output"]["destination"] = json!({"volume": {"claimName": "results"}});
        claims["spec"]["credentials"] = json!({"secretName": "other"});
        assert_eq!(
            fields(&claims),
            [
                "spec.credentials",
                "spec.segmentation.source.volume",
                "spec.output.destination.volume"
            ]
        );
        let mut long = body();
        long["metadata"]["name"] = json!("x".repeat(101));
        assert_eq!(fields(&long), ["metadata.name"]);
        for (pointer, field) in [("kind", "kind"), ("spec", "")] {
            let mut wrong = body();
            wrong.as_object_mut().unwrap().remove(pointer);
            assert!(fields(&wrong)[0].starts_with(field), "{pointer}");
        }
        assert_eq!(fields(&json!([])), ["kind"]);
    }

    #[test]
    fn the_same_request_has_the_same_fingerprint() {
        let one = Asked::read(&body()).unwrap();
        let mut same = body();
        same["apiVersion"] = json!(API_VERSION);
        same["spec"]["suspend"] = json!(false);
        assert_eq!(Asked::read(&same).unwrap().fingerprint, one.fingerprint);
        let mut other = body();
        other["spec"]["segmentation"]["source"]["imageService"]["name"] = json!("seg2");
        assert_ne!(Asked::read(&other).unwrap().fingerprint, one.fingerprint);
    }
}
