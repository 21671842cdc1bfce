//! Where inputs come from and where results go: claims, web servers, image services.

use crate::{Destination, HttpFile, OutputArtifact, RequestSpec, Source, VolumeFile, WebUrl};

use super::{Violations, is_dns_name};

/// Checks every source, the destination, and that they fit the credentials.
pub(super) fn check_places(spec: &RequestSpec, found: &mut Violations) {
    let mut services = Vec::new();
    for (field, source) in spec.sources() {
        match source {
            Source::Volume(file) => check_file(file, &format!("{field}.volume"), found),
            Source::Http(file) => check_http(file, &format!("{field}.http"), found),
            Source::ImageService(image) => {
                let field = format!("{field}.imageService");
                services.extend(check_base_url(&image.base_url, &field, found));
                check_image_name(&image.name, &format!("{field}.name"), found);
            }
        }
    }
    let field = "spec.output.destination";
    match spec.destination() {
        Destination::Volume(folder) => {
            let field = format!("{field}.volume");
            check_claim(&folder.claim_name, &field, found);
            check_relative_path(&folder.path, &format!("{field}.path"), found);
        }
        Destination::ImageService(service) => {
            let field = format!("{field}.imageService");
            services.extend(check_base_url(&service.base_url, &field, found));
            check_artifacts(spec, found);
        }
    }
    check_one_origin(&services, found);
    check_credentials(spec, found);
}

fn check_file(file: &VolumeFile, field: &str, found: &mut Violations) {
    check_claim(&file.claim_name, field, found);
    if file.path.is_empty() || file.path.ends_with('/') {
        found.add(format!("{field}.path"), "does not name a file");
    } else {
        check_relative_path(&file.path, &format!("{field}.path"), found);
    }
}

fn check_claim(name: &str, field: &str, found: &mut Violations) {
    if !is_dns_name(name, 253) {
        found.add(
            format!("{field}.claimName"),
            format!("`{name}` is not the name of a persistent volume claim"),
        );
    }
}

fn check_relative_path(path: &str, field: &str, found: &mut Violations) {
    if path.len() > 1024 {
        found.add(field, "is longer than 1024 bytes");
    }
    if path.starts_with('/') {
        found.add(
            field,
            format!("`{path}` is absolute, expected a path below the claim"),
        );
    }
    if path.split('/').any(|part| part == "..") {
        found.add(field, format!("`{path}` contains `..`"));
    }
    if path.contains('\\') || path.chars().any(char::is_control) {
        found.add(field, "contains a backslash or a control character");
    }
}

fn check_http(file: &HttpFile, field: &str, found: &mut Violations) {
    match WebUrl::parse(&file.url) {
        Err(problem) => found.add(format!("{field}.url"), problem),
        Ok(url) if url.file_name().is_empty() => {
            found.add(format!("{field}.url"), "does not name a file");
        }
        Ok(_) => {}
    }
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if file.sha256.len() != 64 || !file.sha256.chars().all(hex) {
        found.add(
            format!("{field}.sha256"),
            "is not 64 lower-case hexadecimal digits",
        );
    }
}

/// The field and what it names, if that is a URL.
fn check_base_url(text: &str, field: &str, found: &mut Violations) -> Option<(String, WebUrl)> {
    let field = format!("{field}.baseUrl");
    match WebUrl::parse(text) {
        Ok(url) if !url.has_query() => return Some((field, url)),
        Ok(_) => found.add(field, "has a query, expected the base of an image service"),
        Err(problem) => found.add(field, problem),
    }
    None
}

/// The service's names may contain nearly everything; not what would name another place.
fn check_image_name(name: &str, field: &str, found: &mut Violations) {
    if name.is_empty() || name.len() > 255 {
        found.add(
            field,
            format!("has {} bytes, expected 1 to 255", name.len()),
        );
    }
    if name.contains(['/', '\\']) || name.chars().any(char::is_control) {
        found.add(
            field,
            "contains a slash, a backslash or a control character",
        );
    }
    if name == "." || name == ".." {
        found.add(field, format!("`{name}` is no name of an image"));
    }
    if let Some(stem) = [".nii", ".nii.gz"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
    {
        found.add(
            field,
            format!("ends like a file; the service names this image `{stem}`"),
        );
    }
}

/// What an image service cannot hold must not vanish without a word.
fn check_artifacts(spec: &RequestSpec, found: &mut Violations) {
    let fits = |artifact: OutputArtifact| {
        matches!(artifact, OutputArtifact::Images | OutputArtifact::Depth)
    };
    let all_fit = match spec {
        RequestSpec::Alignment(spec) => spec.output.artifacts.iter().all(|what| fits(*what)),
        RequestSpec::DepthMap(spec) => spec
            .output
            .artifacts
            .iter()
            .all(|what| fits((*what).into())),
    };
    if !all_fit {
        found.add(
            "spec.output.artifacts",
            "an image service takes `images` and `depth` only: name those of them that it shall \
             get (omitted means everything)",
        );
    }
}

/// There is one token, and it goes to one place.
fn check_one_origin(services: &[(String, WebUrl)], found: &mut Violations) {
    let Some((first, url)) = services.first() else {
        return;
    };
    for (field, other) in services {
        if other.origin() != url.origin() {
            found.add(
                field.clone(),
                format!(
                    "is at `{}`, but {first} at `{}`: a request speaks to one image service only",
                    other.origin(),
                    url.origin()
                ),
            );
        }
    }
}

fn check_credentials(spec: &RequestSpec, found: &mut Violations) {
    let mut sources = spec.sources().into_iter();
    let needed = matches!(spec.destination(), Destination::ImageService(_))
        || sources.any(|(_, source)| matches!(source, Source::ImageService(_)));
    match spec.credentials() {
        None if needed => found.add(
            "spec.credentials",
            "is missing: an image service is named, expected `secretName` of the Secret with its \
             token",
        ),
        Some(_) if !needed => found.add(
            "spec.credentials",
            "is of no use: no image service is named",
        ),
        Some(credentials) if !is_dns_name(&credentials.secret_name, 253) => found.add(
            "spec.credentials.secretName",
            format!("`{}` is not the name of a Secret", credentials.secret_name),
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::validate::tests::with;

    fn service(name: &str) -> Value {
        json!({"imageService": {"baseUrl": "https://images.example.org/chumni", "name": name}})
    }

    fn image(source: Value) -> (&'static str, Value) {
        ("/spec/patch/images/0/source", source)
    }

    fn credentials() -> (&'static str, Value) {
        ("/spec/credentials", json!({"secretName": "token"}))
    }

    #[test]
    fn images_of_a_service_and_files_of_a_web_server_are_sources() {
        let http = json!({"http": {"url": "https://data.example.org/a.nii.gz?x=1", "sha256": "0".repeat(64)}});
        assert_eq!(with(&[image(http)]), Vec::<String>::new());
        for name in ["hoc1", "Hoc1 Größe", "片 100%", "a:b", ".hidden", "a..b"] {
            assert_eq!(
                with(&[image(service(name)), credentials()]),
                Vec::<String>::new(),
                "{name}"
            );
        }
    }

    #[test]
    fn names_that_are_paths_or_files_are_refused() {
        for name in [
            "", "a/b", "a\\b", "a\nb", "a\0", "..", ".", "a.nii.gz", "a.nii",
        ] {
            let found = with(&[image(service(name)), credentials()]);
            assert_eq!(found.len(), 1, "{name:?}: {found:?}");
            assert!(found[0].contains("imageService.name"), "{found:?}");
        }
        let found = with(&[image(service(&"x".repeat(256))), credentials()]);
        assert!(
            found[0].contains("has 256 bytes, expected 1 to 255"),
            "{found:?}"
        );
    }

    #[test]
    fn what_a_url_and_a_digest_must_look_like_is_said_with_the_field() {
        let http = json!({"http": {"url": "https://me@data.example.org/a", "sha256": "ABC"}});
        assert_eq!(
            with(&[image(http)]),
            [
                "spec.patch.images[0].source.http.url: contains a user name, which is not allowed",
                "spec.patch.images[0].source.http.sha256: is not 64 lower-case hexadecimal digits",
            ]
        );
        let folder =
            json!({"http": {"url": "https://data.example.org/a/", "sha256": "0".repeat(64)}});
        assert_eq!(
            with(&[image(folder)]),
            ["spec.patch.images[0].source.http.url: does not name a file"]
        );
    }

    #[test]
    fn an_image_service_needs_credentials_and_nothing_else_does() {
        let found = with(&[image(service("a"))]);
        assert!(
            found[0].starts_with("spec.credentials: is missing"),
            "{found:?}"
        );
        let found = with(&[credentials()]);
        assert!(
            found[0].starts_with("spec.credentials: is of no use"),
            "{found:?}"
        );
        let odd = ("/spec/credentials", json!({"secretName": "../token"}));
        let found = with(&[image(service("a")), odd]);
        assert!(
            found[0].starts_with("spec.credentials.secretName"),
            "{found:?}"
        );
    }

    #[test]
    fn an_image_service_gets_what_it_can_hold() {
        let to = |artifacts: Value| {
            with(&[
                credentials(),
                (
                    "/spec/output",
                    json!({
                        "destination": {"imageService": {"baseUrl": "https://images.example.org"}},
                        "artifacts": artifacts,
                    }),
                ),
            ])
        };
        assert_eq!(to(json!(["images", "depth"])), Vec::<String>::new());
        let found = to(json!(["images", "report"]));
        assert!(
            found[0].starts_with("spec.output.artifacts: an image service"),
            "{found:?}"
        );
    }

    #[test]
    fn one_token_goes_to_one_place() {
        let found = with(&[
            image(service("a")),
            credentials(),
            (
                "/spec/patch/depth/segmentation/source",
                json!({"imageService": {"baseUrl": "https://other.example.org", "name": "s"}}),
            ),
        ]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("segmentation") && found[0].contains("one image service only"),
            "{found:?}"
        );
    }
}
