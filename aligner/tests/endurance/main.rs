//! Runs that are killed, asked to stop, or meet a full disk, at random moments: no file under a final
//! name is ever less than whole, and the next run gives the bytes of an undisturbed one.
//!
//! `VOLUBA_KILLS` and `VOLUBA_DISK_STEPS` say how many runs (`make soak SUITE=data`: a hundred).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a broken expectation fails the test, and figures are printed"
)]

mod disk;
mod kills;
mod leftovers;
mod small;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A number from the environment.
pub(crate) fn setting(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Content of every file in a folder, hidden ones too.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect()
}

/// Every file under a final name is one of the undisturbed run, whole.
pub(crate) fn assert_whole(folder: &Path, clean: &BTreeMap<String, Vec<u8>>, when: &str) {
    for (name, bytes) in files(folder) {
        if name.starts_with('.') && name.ends_with(".partial") {
            continue;
        }
        let expected = clean.get(&name);
        assert!(expected.is_some(), "{when}: `{name}` is not a result");
        assert!(expected == Some(&bytes), "{when}: `{name}` is not whole");
    }
}

/// A folder, and a request of some 40,000 voxels in it that takes all kinds of outputs.
pub(crate) struct Small {
    pub(crate) folder: tempfile::TempDir,
    /// What an undisturbed run writes.
    pub(crate) clean: BTreeMap<String, Vec<u8>>,
}

impl Small {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        small::make(folder.path());
        let mut small = Self {
            folder,
            clean: BTreeMap::new(),
        };
        let results = small.results("clean");
        let output = small.command(&results).output().unwrap();
        assert_success(&output);
        small.clean = files(&results.join("small"));
        assert_eq!(small.clean.len(), 10, "{:?}", small.clean.keys());
        small
    }

    /// A folder for results.
    pub(crate) fn results(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// The program with its arguments.
    pub(crate) fn words(&self, results: &Path) -> Vec<String> {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        vec![
            env!("CARGO_BIN_EXE_aligner").to_owned(),
            "run".to_owned(),
            at("small.yaml"),
            "--claim".to_owned(),
            format!("patches={}", at("")),
            "--claim".to_owned(),
            format!("results={}", results.display()),
            "--template".to_owned(),
            format!("template={}", at("template.nii.gz")),
            "--progress".to_owned(),
            "json".to_owned(),
            "--termination-message".to_owned(),
            at("message.json"),
        ]
    }

    /// A run into a folder.
    pub(crate) fn command(&self, results: &Path) -> Command {
        let words = self.words(results);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// Runs undisturbed and asserts that the folder then holds exactly the clean files.
    pub(crate) fn assert_rerun_is_clean(&self, results: &Path, when: &str) {
        assert_success(&self.command(results).output().unwrap());
        let found = files(&results.join("small"));
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            self.clean.keys().collect::<Vec<_>>(),
            "{when}"
        );
        for (name, bytes) in &found {
            assert!(
                self.clean[name] == *bytes,
                "{when}: `{name}` differs after the rerun"
            );
        }
    }
}

pub(crate) fn assert_success(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
}
