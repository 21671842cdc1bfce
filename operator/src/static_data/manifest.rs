//! What should be on the volume. Pure, but for reading the file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use alignment_api::{Origin, WebUrl};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::Error;
use crate::settings::{is_relative, is_sha256};

/// Longest path of a file, as in the chart.
const LONGEST_PATH: usize = 1024;
/// Files of one version.
const MOST_FILES: usize = 1000;
/// Name of the manifest within a version.
pub const MANIFEST: &str = "MANIFEST.json";

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A web server.
    Url(WebUrl),
    /// A file that this process can read.
    File(PathBuf),
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Below the version's folder; `/` between folders.
    pub path: String,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Size.
    pub bytes: u64,
}

/// A file to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is.
    pub entry: Entry,
    /// Where it comes from.
    pub source: Source,
}

/// All files of a version, sorted by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    files: Vec<Wanted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    files: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    path: String,
    source: String,
    sha256: String,
    bytes: u64,
}

impl Manifest {
    /// Reads a YAML or JSON file.
    ///
    /// # Errors
    /// [`Error::Manifest`] with everything that is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Manifest {
            path: path.to_owned(),
            problem,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| wrong(format!("cannot be read: {error}")))?;
        Self::parse(&text).map_err(wrong)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Document =
            serde_path_to_error::deserialize(serde_yaml_ng::Deserializer::from_str(text))
                .map_err(|error| error.to_string())?;
        let (mut files, mut problems) = (Vec::new(), Vec::new());
        for (index, line) in document.files.into_iter().enumerate() {
            match line.check() {
                Ok(file) => files.push(file),
                Err(problem) => problems.push(format!("files[{index}].{problem}")),
            }
        }
        problems.extend(conflicts(&files));
        if files.is_empty() && problems.is_empty() {
            problems.push("files: is empty, expected at least one".to_owned());
        }
        if files.len() > MOST_FILES {
            problems.push(format!(
                "files: {} of them, expected at most {MOST_FILES}",
                files.len()
            ));
        }
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        files.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
        Ok(Self { files })
    }

    /// The files, sorted by path.
    pub fn files(&self) -> &[Wanted] {
        &self.files
    }

    /// The files without their sources, sorted by path.
    pub fn entries(&self) -> Vec<Entry> {
        self.files.iter().map(|file| file.entry.clone()).collect()
    }

    /// Name of this version.
    pub fn version(&self) -> String {
        version(&self.entries())
    }

    /// Origins of all URLs, each once.
    pub fn origins(&self) -> Vec<Origin> {
        let urls = self.files.iter().filter_map(|file| match &file.source {
            Source::Url(url) => Some(url.origin().clone()),
            Source::File(_) => None,
        });
        urls.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// SHA-256 of one line for each file, `<sha256>  <path>`, sorted by path.
pub fn version(entries: &[Entry]) -> String {
    let mut lines: Vec<_> = entries
        .iter()
        .map(|entry| (&entry.path, &entry.sha256))
        .collect();
    lines.sort();
    let mut hash = Sha256::new();
    for (path, sha256) in lines {
        hash.update(format!("{sha256}  {path}\n"));
    }
    transfer::hex(&hash.finalize())
}

impl Line {
    fn check(self) -> Result<Wanted, String> {
        check_path(&self.path).map_err(|problem| format!("path: `{}` {problem}", self.path))?;
        if !is_sha256(&self.sha256) {
            return Err(format!(
                "sha256: `{}` is not 64 lower-case hexadecimal digits, as `sha256sum` prints",
                self.sha256
            ));
        }
        if self.bytes == 0 {
            return Err("bytes: is 0, expected the size of the file".to_owned());
        }
        let source = if self.source.contains("://") {
            let url = WebUrl::parse(&self.source);
            // The text is not repeated: a query may hold a signature.
            Source::Url(url.map_err(|problem| format!("source: the URL {problem}"))?)
        } else if self.source.starts_with('/') {
            Source::File(self.source.into())
        } else {
            return Err(format!(
                "source: `{}` is neither a URL nor an absolute path",
                self.source
            ));
        };
        Ok(Wanted {
            entry: Entry {
                path: self.path,
                sha256: self.sha256,
                bytes: self.bytes,
            },
            source,
        })
    }
}

fn check_path(path: &str) -> Result<(), String> {
    if !is_relative(path) || path.chars().any(|c| c.is_control() || c == '\\') {
        return Err("is not a plain path below the root".to_owned());
    }
    if path.len() > LONGEST_PATH {
        return Err(format!("has more than {LONGEST_PATH} bytes"));
    }
    if path.split('/').next() == Some(MANIFEST) {
        return Err("is the name of the manifest".to_owned());
    }
    Ok(())
}

/// A path that is there twice, or that is a file here and a folder there.
fn conflicts(files: &[Wanted]) -> Vec<String> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.entry.path.as_str()).collect();
    let mut problems = Vec::new();
    if paths.len() < files.len() {
        problems.push("files: a path is there twice".to_owned());
    }
    for path in &paths {
        let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        if let Some(folder) = folders.find(|folder| paths.contains(folder)) {
            problems.push(format!(
                "files: `{folder}` is a file, and the folder of `{path}`"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str, source: &str) -> String {
        format!(
            "- {{path: '{path}', source: '{source}', sha256: {}, bytes: 3}}\n",
            "a".repeat(64)
        )
    }

    #[test]
    fn a_version_is_what_sha256sum_prints_whatever_the_order_and_the_sources() {
        let one =
            Manifest::parse(&format!("files:\n{}{}", line("b/d", "/x"), line("a", "/y"))).unwrap();
        let two = Manifest::parse(&format!(
            "files:\n{}{}",
            line("a", "https://h.example/y?sig=1"),
            line("b/d", "http://h.example:81/x")
        ))
        .unwrap();
        assert_eq!(one.version(), two.version());
        // printf '%064d  a\n%064d  b/d\n' 0 0 | tr 0 a | sha256sum
        assert_eq!(
            one.version(),
            "127d6204b9933b7e69535631498ad9cd5301c1e682a180c024f459eb2bd8c9e0"
        );
        let origins: Vec<_> = two.origins().iter().map(ToString::to_string).collect();
        assert_eq!(origins, ["http://h.example:81", "https://h.example"]);
        assert!(one.origins().is_empty());
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        for (text, expected) in [
            ("files: []", "files: is empty"),
            ("files: [{path: a}]", "missing field"),
            ("file: []", "unknown field `file`"),
            (
                &format!("files:\n{}", line("../a", "/x")),
                "files[0].path: `../a`",
            ),
            (
                &format!("files:\n{}", line("MANIFEST.json", "/x")),
                "the name of the manifest",
            ),
            (
                &format!("files:\n{}", line("a", "x")),
                "neither a URL nor an absolute path",
            ),
            (
                &format!("files:\n{}", line("a", "ftp://h/x")),
                "does not begin with `https://`",
            ),
            (
                &format!("files:\n{}{}", line("a", "/x"), line("a", "/x")),
                "twice",
            ),
            (
                &format!("files:\n{}{}", line("a", "/x"), line("a/b", "/x")),
                "`a` is a file, and the folder of `a/b`",
            ),
            (
                "files: [{path: a, source: /x, sha256: ABC, bytes: 3}]",
                "64 lower-case",
            ),
        ] {
            let problem = Manifest::parse(text).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
        let both = format!("files:\n{}{}", line("/a", "/x"), line("b", "x"));
        let problem = Manifest::parse(&both).unwrap_err();
        assert!(
            problem.contains("files[0]") && problem.contains("files[1]"),
            "{problem}"
        );
        let secret = format!("files:\n{}", line("a", "https://h.example/<?sig=hidden"));
        assert!(!Manifest::parse(&secret).unwrap_err().contains("hidden"));
    }
}
