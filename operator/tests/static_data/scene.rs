//! A volume, a file to load, and the program.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::server::{Habits, Server};

pub(crate) struct Scene {
    pub(crate) folder: TempDir,
}

/// A manifest with one file.
pub(crate) struct Wanted {
    pub(crate) manifest: PathBuf,
    pub(crate) sha256: String,
    pub(crate) version: String,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        Self { folder }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A file of noise, the same for the same seed.
    pub(crate) fn file(&self, name: &str, seed: u64, bytes: u64) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut file = fs::File::create(&path).unwrap();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut left = bytes as usize;
        let mut piece = vec![0; 1 << 20];
        while left > 0 {
            let count = left.min(piece.len());
            random.fill(&mut piece[..count]);
            file.write_all(&piece[..count]).unwrap();
            left -= count;
        }
        path
    }

    /// A manifest that wants `content` from `source`.
    pub(crate) fn want(&self, source: &str, content: &Path) -> Wanted {
        let (sha256, bytes) = (digest(content), fs::metadata(content).unwrap().len());
        self.want_bytes(source, &sha256, bytes)
    }

    pub(crate) fn want_bytes(&self, source: &str, sha256: &str, bytes: u64) -> Wanted {
        let text = format!(
            "files:\n- path: brain/depth.nii.gz\n  source: {source}\n  sha256: {sha256}\n  bytes: {bytes}\n"
        );
        let name = format!("{}.yaml", hex(&Sha256::digest(&text)));
        let manifest = self.folder.path().join(name);
        fs::write(&manifest, text).unwrap();
        let line = format!("{sha256}  brain/depth.nii.gz\n");
        Wanted {
            manifest,
            sha256: sha256.to_owned(),
            version: hex(&Sha256::digest(line)),
        }
    }

    pub(crate) fn loader(&self, wanted: &Wanted, server: &Server, options: &[&str]) -> Command {
        let mut command = program();
        command.args(["static-data", "load"]).arg(self.root());
        command.arg("--manifest").arg(&wanted.manifest);
        command.args(["--allow-private-origin", &server.origin()]);
        command.args(options);
        command
    }

    pub(crate) fn load(&self, wanted: &Wanted, server: &Server, options: &[&str]) -> Output {
        self.loader(wanted, server, options).output().unwrap()
    }

    pub(crate) fn verify(&self, options: &[&str]) -> Output {
        let mut command = program();
        command.args(["static-data", "verify"]).arg(self.root());
        command.args(options).output().unwrap()
    }

    pub(crate) fn partial(&self, wanted: &Wanted) -> PathBuf {
        let name = format!(".loading/{}.part", wanted.sha256);
        self.root().join(name)
    }

    pub(crate) fn partial_bytes(&self, wanted: &Wanted) -> u64 {
        fs::metadata(self.partial(wanted)).map_or(0, |metadata| metadata.len())
    }

    /// What a pod sees of the file.
    pub(crate) fn visible(&self) -> Option<PathBuf> {
        let path = self.root().join("current/brain/depth.nii.gz");
        path.exists().then_some(path)
    }

    pub(crate) fn versions(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root().join("v")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Exactly this version is in use, and it is whole.
    pub(crate) fn assert_loaded(&self, wanted: &Wanted) {
        assert_eq!(digest(&self.visible().unwrap()), wanted.sha256);
        let target = fs::read_link(self.root().join("current")).unwrap();
        assert_eq!(target, Path::new("v").join(&wanted.version));
        let verified = self.verify(&["--manifest", wanted.manifest.to_str().unwrap()]);
        assert!(verified.status.success(), "{}", text(&verified));
    }

    /// Nothing is visible, and nothing that is half done looks complete.
    pub(crate) fn assert_nothing_visible(&self) {
        assert_eq!(self.visible(), None);
        assert_eq!(self.versions(), Vec::<String>::new());
    }
}

pub(crate) fn serve(file: &Path) -> Server {
    Server::start(Habits::good(file))
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn text(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(error)
    )
}

pub(crate) fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

pub(crate) fn digest(path: &Path) -> String {
    transfer::file_digest(path).unwrap()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    transfer::hex(bytes)
}
