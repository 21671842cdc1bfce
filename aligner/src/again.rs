//! The command that gives a result again.
//!
//! A report holds no places of the machine that it was made on: words in capitals stand for them.

use std::{collections::BTreeSet, fmt::Write};

use alignment_api::{Destination, RequestDocument, Source, WebUrl};
use clap::ValueEnum;

use crate::{
    cli::{RegisterArgs, SpaceArg},
    net::{address::Reach, policy::Policy},
};

/// Where a request's files lie, by what the command line calls them.
#[derive(Debug, Default)]
struct Places {
    claims: BTreeSet<String>,
    urls: BTreeSet<String>,
}

impl Places {
    fn of(document: &RequestDocument) -> Self {
        let mut places = Self::default();
        for (_, source) in document.spec.sources() {
            match source {
                Source::Volume(file) => places.claims.insert(file.claim_name.clone()),
                Source::ImageService(image) => places.urls.insert(image.base_url.clone()),
                Source::Http(file) => places.urls.insert(file.url.clone()),
            };
        }
        match document.spec.destination() {
            Destination::Volume(folder) => places.claims.insert(folder.claim_name.clone()),
            Destination::ImageService(service) => places.urls.insert(service.base_url.clone()),
        };
        places
    }
}

/// The command for a request; an alignment's template has a name here.
pub(crate) fn request(
    document: &RequestDocument,
    template: Option<&str>,
    policy: &Policy,
) -> String {
    let mut command = "aligner run REQUEST".to_owned();
    // Writing to a String cannot fail, here and below.
    if let Some(template) = template {
        let _ = write!(command, " --template {template}=FILE");
    }
    let places = Places::of(document);
    for claim in &places.claims {
        let _ = write!(command, " --claim {claim}=FOLDER");
    }
    let urls = places.urls.iter().filter_map(|url| WebUrl::parse(url).ok());
    let origins: BTreeSet<String> = urls
        .map(|url| match policy.check(&url) {
            Ok(Reach::Private) => format!(" --allow-private-origin {}", url.origin()),
            _ => format!(" --allow-origin {}", url.origin()),
        })
        .collect();
    command.extend(origins);
    if document.spec.credentials().is_some() {
        command.push_str(" --token-file FILE");
    }
    command
}

/// The command for a registration without a request.
pub(crate) fn registration(args: &RegisterArgs) -> String {
    let mut command = "aligner register --fixed FILE --moving FILE --placement FILE".to_owned();
    let name = |space: SpaceArg| space.to_possible_value();
    if let Some(space) = args.space.and_then(name) {
        let _ = write!(command, " --space {}", space.get_name());
    }
    if args.landmarks.is_some() {
        command.push_str(" --landmarks FILE");
    }
    if let Some(space) = args.landmark_space.and_then(name) {
        let _ = write!(command, " --landmark-space {}", space.get_name());
    }
    if let Some(mode) = args.landmark_mode.to_possible_value() {
        let _ = write!(command, " --landmark-mode {}", mode.get_name());
    }
    if let Some(uncertainty) = args.landmark_uncertainty {
        let _ = write!(command, " --landmark-uncertainty {uncertainty}");
    }
    if let Some(preset) = args.preset.to_possible_value() {
        let _ = write!(command, " --preset {}", preset.get_name());
    }
    command + " --output FOLDER"
}

#[cfg(test)]
mod tests {
    use alignment_api::Origin;
    use clap::Parser;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        job,
    };

    fn document(image: &str, destination: &str) -> RequestDocument {
        job::parse_request(&format!(
            "apiVersion: voluba.ebrains.eu/v1alpha1
kind: AlignmentRequest
spec:
  patch:
    images: [{{name: i, source: {image}}}]
    depth: {{map: {{source: {{volume: {{claimName: patches, path: d.nii}}}}}}}}
  placement: {{matrix: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}}
  credentials: {{secretName: token}}
  output: {{destination: {destination}}}
"
        ))
        .unwrap()
    }

    /// The command is one that the program takes.
    fn parsed(command: &str) -> Cli {
        Cli::try_parse_from(command.split(' ')).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    #[test]
    fn a_request_is_run_with_each_of_its_places_once_and_no_word_of_a_query() {
        let document = document(
            "{http: {url: 'https://a.example/i.nii?signature=1', sha256: ''}}",
            "{imageService: {baseUrl: 'http://b.local:8080/x'}}",
        );
        let origin = |text: &str| Origin::parse(text).unwrap();
        let policy = Policy::new(
            &[origin("https://a.example")],
            &[origin("http://b.local:8080")],
        );
        let command = request(&document, Some("t"), &policy);
        assert_eq!(
            command,
            "aligner run REQUEST --template t=FILE --claim patches=FOLDER \
             --allow-origin https://a.example --allow-private-origin http://b.local:8080 \
             --token-file FILE"
        );
        parsed(&command);
    }

    #[test]
    fn a_registration_is_run_with_its_options() {
        for options in [
            "--landmark-mode soft --preset standard",
            "--space physical --landmarks FILE --landmark-space viewer --landmark-mode hard \
             --landmark-uncertainty 0.4 --preset fast",
        ] {
            let command = format!(
                "aligner register --fixed FILE --moving FILE --placement FILE {options} \
                 --output FOLDER"
            );
            let Command::Register(args) = parsed(&command).command else {
                panic!("{command}");
            };
            assert_eq!(registration(&args), command);
        }
    }
}
