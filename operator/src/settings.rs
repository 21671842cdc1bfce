//! What an installation decides: image, templates, limits. Read once at the start, never from a
//! request.

use std::path::Path;

use alignment_api::Origin;
use serde::Deserialize;

use crate::quantity::{Cpu, Memory};

/// A template that the installation offers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The name that a request uses.
    pub name: String,
    /// The template's depth map, relative to the root of the static-data claim.
    pub path: String,
    /// SHA-256 of that file, lower-case hexadecimal. The aligner compares it with what it reads.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Used by requests that name no template; at most one.
    #[serde(default)]
    pub default: bool,
}

/// A list of templates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplatesError {
    /// The file cannot be read.
    #[error("templates file {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is no list of templates.
    #[error("templates file {path}: {source}")]
    Malformed {
        /// The file.
        path: String,
        /// The cause.
        source: serde_yaml_ng::Error,
    },
    /// Two templates have the same name.
    #[error("template `{0}` is listed twice")]
    Duplicate(String),
    /// More than one template is the default.
    #[error("templates `{0}` and `{1}` are both the default, expected at most one")]
    TwoDefaults(String, String),
    /// The digest is none.
    #[error("template `{name}`: sha256 `{sha256}` is not 64 lower-case hexadecimal digits")]
    Digest {
        /// The template.
        name: String,
        /// What stands there.
        sha256: String,
    },
    /// The path leaves the claim.
    #[error("template `{name}`: path `{path}` is not a file below the root of the claim")]
    Path {
        /// The template.
        name: String,
        /// Its path.
        path: String,
    },
}

/// The templates that an installation offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Templates(Vec<Template>);

impl Default for Templates {
    /// BigBrain, where the static data of this project puts it.
    fn default() -> Self {
        Self(vec![Template {
            name: "bigbrain".to_owned(),
            path: "bigbrain/depth.nii.gz".to_owned(),
            sha256: None,
            default: true,
        }])
    }
}

impl Templates {
    /// Reads a YAML or JSON file.
    ///
    /// # Errors
    /// If the file cannot be read, is no list of templates, or the list contradicts itself.
    pub fn read(path: &Path) -> Result<Self, TemplatesError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| TemplatesError::Unreadable {
            path: name.clone(),
            source,
        })?;
        let list = serde_yaml_ng::from_str(&text)
            .map_err(|source| TemplatesError::Malformed { path: name, source })?;
        Self::new(list)
    }

    /// Checks a list.
    ///
    /// # Errors
    /// If the list contradicts itself or a path leaves the claim.
    pub fn new(list: Vec<Template>) -> Result<Self, TemplatesError> {
        for (index, template) in list.iter().enumerate() {
            let earlier = &list[..index];
            if earlier.iter().any(|other| other.name == template.name) {
                return Err(TemplatesError::Duplicate(template.name.clone()));
            }
            if let Some(other) = earlier
                .iter()
                .find(|other| other.default && template.default)
            {
                return Err(TemplatesError::TwoDefaults(
                    other.name.clone(),
                    template.name.clone(),
                ));
            }
            if !is_relative(&template.path) {
                return Err(TemplatesError::Path {
                    name: template.name.clone(),
                    path: template.path.clone(),
                });
            }
            if let Some(sha256) = template.sha256.as_ref().filter(|text| !is_sha256(text)) {
                return Err(TemplatesError::Digest {
                    name: template.name.clone(),
                    sha256: sha256.clone(),
                });
            }
        }
        Ok(Self(list))
    }

    /// The named template, or the default if no name is given.
    pub fn find(&self, name: Option<&str>) -> Option<&Template> {
        self.0.iter().find(|template| match name {
            Some(name) => template.name == name,
            None => template.default,
        })
    }

    /// Names on offer, for messages.
    pub fn names(&self) -> String {
        if self.0.is_empty() {
            return "none".to_owned();
        }
        let names: Vec<_> = self.0.iter().map(|t| t.name.as_str()).collect();
        names.join(", ")
    }
}

/// Whether a path names a file below whatever it is joined to.
pub(crate) fn is_relative(path: &str) -> bool {
    let parts = || path.split('/');
    !path.is_empty() && !path.contains('=') && parts().all(|part| !["", ".", ".."].contains(&part))
}

/// Whether a text is a SHA-256 in lower-case hexadecimal, as `sha256sum` prints.
pub(crate) fn is_sha256(text: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.len() == 64 && text.chars().all(hex)
}

/// Certificate authorities, as a key of a ConfigMap in the request's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// Name of the ConfigMap.
    pub config_map: String,
    /// Key of the PEM file.
    pub key: String,
}

/// Everything an installation decides about Jobs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of the aligner.
    pub aligner_image: String,
    /// `Always`, `IfNotPresent` or `Never`; the cluster's rule if absent.
    pub aligner_image_pull_policy: Option<String>,
    /// Secrets for pulling the image, in the request's namespace.
    pub image_pull_secrets: Vec<String>,
    /// Service account of aligner pods; no token of it is mounted.
    pub aligner_service_account: Option<String>,
    /// Claim with the templates, in the request's namespace.
    pub static_data_claim: String,
    /// Templates on offer.
    pub templates: Templates,
    /// Memory of a request that asks for none.
    pub default_memory: Memory,
    /// CPU of a request that asks for none.
    pub default_cpu: Cpu,
    /// Most memory that a pod may get.
    pub max_memory: Option<Memory>,
    /// Most CPU that a pod may get.
    pub max_cpu: Option<Cpu>,
    /// Origins on the public internet that a request may name.
    pub origins: Vec<Origin>,
    /// Origins that may have private addresses, such as services of the cluster.
    pub private_origins: Vec<Origin>,
    /// Authorities that a pod with a network trusts, in place of those in the aligner.
    pub authorities: Option<Authorities>,
    /// Scratch space of a pod with downloads or uploads.
    pub scratch_limit: Memory,
}

impl Settings {
    /// Settings for tests and for looking at a Job without an installation.
    pub fn with_image(image: &str) -> Self {
        Self {
            aligner_image: image.to_owned(),
            aligner_image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            aligner_service_account: None,
            static_data_claim: "voluba-static-data".to_owned(),
            templates: Templates::default(),
            default_memory: Memory::from_bytes(4 << 30),
            default_cpu: Cpu::from_millis(2000),
            max_memory: None,
            max_cpu: None,
            origins: Vec::new(),
            private_origins: Vec::new(),
            authorities: None,
            scratch_limit: Memory::from_bytes(20 << 30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(name: &str, path: &str, default: bool) -> Template {
        Template {
            name: name.into(),
            path: path.into(),
            sha256: None,
            default,
        }
    }

    #[test]
    fn a_request_without_a_template_gets_the_default() {
        let templates = Templates::new(vec![
            template("a", "a.nii", false),
            template("b", "b.nii", true),
        ])
        .unwrap();
        assert_eq!(templates.find(None).unwrap().name, "b");
        assert_eq!(templates.find(Some("a")).unwrap().path, "a.nii");
        assert!(templates.find(Some("c")).is_none());
        assert_eq!(templates.names(), "a, b");
    }

    #[test]
    fn contradictions_are_named() {
        let twice = vec![template("a", "a", false), template("a", "b", false)];
        assert!(
            Templates::new(twice)
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
        let defaults = vec![template("a", "a", true), template("b", "b", true)];
        assert!(
            Templates::new(defaults)
                .unwrap_err()
                .to_string()
                .contains("both")
        );
        let digest = Template {
            sha256: Some("ABC".to_owned()),
            ..template("a", "a", true)
        };
        let error = Templates::new(vec![digest]).unwrap_err().to_string();
        assert!(error.contains("`ABC` is not 64 lower-case"), "{error}");
        for path in ["", "/a", "../a", "a//b", "a/../b"] {
            assert!(
                Templates::new(vec![template("a", path, false)]).is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn a_file_may_be_yaml_or_json() {
        let folder = std::env::temp_dir().join(format!("templates-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in [
            ("t.yaml", "- {name: a, path: a/d.nii.gz, default: true}\n"),
            (
                "t.json",
                r#"[{"name": "a", "path": "a/d.nii.gz", "default": true}]"#,
            ),
        ] {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            let templates = Templates::read(&path).unwrap();
            assert_eq!(templates.find(None).unwrap().path, "a/d.nii.gz");
        }
        assert!(Templates::read(&folder.join("none")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
