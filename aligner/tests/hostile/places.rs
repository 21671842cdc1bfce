//! What may lie where a volume is expected, beside a file; and volumes that are legal, but of no use.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use alignment_api::ExitCode;

use crate::nifti_file::File;

/// Checks every place; returns how many there are.
pub(crate) fn check(folder: &Path, failures: &mut Vec<String>) -> usize {
    let results = [no_files(folder), volumes_of_no_use(folder), links(folder)].concat();
    let count = results.len();
    failures.extend(results.into_iter().filter_map(Result::err));
    count
}

/// Runs the program and compares exit code and message.
fn expect(kind: &str, command: &mut Command, code: ExitCode, parts: &[&str]) -> Result<(), String> {
    let start = Instant::now();
    let Output {
        status,
        stderr,
        stdout,
    } = command.output().unwrap();
    let said = String::from_utf8_lossy(&[stderr, stdout].concat()).into_owned();
    if start.elapsed() > Duration::from_secs(5) {
        return Err(format!("{kind}: took {:?}", start.elapsed()));
    }
    if status.code() != Some(i32::from(code.code())) {
        return Err(format!("{kind}: ended with {status:?}: {said}"));
    }
    match parts.iter().find(|part| !said.contains(**part)) {
        Some(part) => Err(format!("{kind}: said {said}, expected `{part}`")),
        None => Ok(()),
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_aligner"))
}

fn inspect(path: &Path) -> Command {
    let mut command = program();
    command.arg("inspect").arg(path);
    command
}

fn no_files(folder: &Path) -> Vec<Result<(), String>> {
    let at = |name: &str| folder.join(name);
    fs::create_dir(at("folder.nii")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(at("fifo.nii"))
            .status()
            .unwrap()
            .success()
    );
    let _listener = UnixListener::bind(at("socket.nii")).unwrap();
    symlink("/dev/zero", at("zero.nii")).unwrap();
    symlink("/dev/null", at("null.nii")).unwrap();
    symlink(at("fifo.nii"), at("link-to-fifo.nii")).unwrap();
    let mut results: Vec<_> = ["folder", "fifo", "socket", "zero", "null", "link-to-fifo"]
        .iter()
        .map(|name| {
            let path = at(&format!("{name}.nii"));
            expect(
                name,
                &mut inspect(&path),
                ExitCode::InvalidImage,
                &["not a regular file"],
            )
        })
        .collect();
    symlink(at("nowhere"), at("dangling.nii")).unwrap();
    symlink(at("loop.nii"), at("loop.nii")).unwrap();
    for name in ["dangling", "none"] {
        let path = at(&format!("{name}.nii"));
        results.push(expect(
            name,
            &mut inspect(&path),
            ExitCode::ImageNotFound,
            &["does not exist"],
        ));
    }
    let path = at("loop.nii");
    results.push(expect(
        "link to itself",
        &mut inspect(&path),
        ExitCode::IoError,
        &["loop.nii"],
    ));
    let path = at(&"n".repeat(300));
    results.push(expect(
        "name of 300 bytes",
        &mut inspect(&path),
        ExitCode::IoError,
        &["too long"],
    ));
    // A neighbour that a magic of `ni1` would make other readers open.
    let mut pair = File::nifti1(false);
    pair.header[344..348].copy_from_slice(b"ni1\0");
    fs::write(at("decoy.nii"), pair.bytes()).unwrap();
    fs::write(at("decoy.img"), vec![1; 48]).unwrap();
    let path = at("decoy.nii");
    results.push(expect(
        "decoy",
        &mut inspect(&path),
        ExitCode::InvalidImage,
        &["magic", "ni1"],
    ));
    results
}

fn links(folder: &Path) -> Vec<Result<(), String>> {
    fs::write(folder.join("real.nii"), File::nifti1(false).bytes()).unwrap();
    symlink(folder.join("real.nii"), folder.join("link.nii")).unwrap();
    let command = &mut inspect(&folder.join("link.nii"));
    let good = expect("link to a volume", command, ExitCode::Success, &["0 to 23"]);
    vec![good, link_out_of_a_claim(folder)]
}

/// A link that leaves the claim's folder is refused, whatever it leads to.
fn link_out_of_a_claim(folder: &Path) -> Result<(), String> {
    let claim = folder.join("claim");
    fs::create_dir(&claim).unwrap();
    symlink(folder.join("real.nii"), claim.join("out.nii")).unwrap();
    let source = r"{volume: {claimName: c, path: out.nii}}";
    let request = folder.join("request.yaml");
    let text = format!(
        "apiVersion: voluba.ebrains.eu/v1alpha1\nkind: AlignmentRequest\nmetadata: {{name: link}}\nspec:\n  patch:\n    images: [{{name: a, source: {source}}}]\n    depth: {{map: {{source: {source}}}}}\n  placement: {{matrix: [[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}}\n  output: {{destination: {{volume: {{claimName: c, path: o}}}}}}\n"
    );
    fs::write(&request, text).unwrap();
    let mut command = program();
    command.arg("run").arg(&request);
    command.arg("--claim").arg(format!("c={}", claim.display()));
    command
        .arg("--template")
        .arg(format!("t={}", folder.join("real.nii").display()));
    expect(
        "link out of a claim",
        &mut command,
        ExitCode::InvalidRequest,
        &["out.nii", "leaves the claim"],
    )
}

const SIDE: usize = 20;

/// A float volume of values by voxel, voxel size 0.5 mm.
fn volume(path: PathBuf, value: impl Fn(usize, usize, usize) -> f32) -> PathBuf {
    let mut file = File::nifti1(false);
    for axis in 0..3 {
        file.i16(42 + 2 * axis, SIDE as i16);
    }
    file.i16(70, 16).i16(72, 32);
    file.data.clear();
    for z in 0..SIDE {
        for y in 0..SIDE {
            for x in 0..SIDE {
                file.data.extend(value(x, y, z).to_le_bytes());
            }
        }
    }
    fs::write(&path, file.bytes()).unwrap();
    path
}

/// Legal volumes and placements that cannot be aligned: refused for what they are.
fn volumes_of_no_use(folder: &Path) -> Vec<Result<(), String>> {
    let slope = |z: usize| ((z as f32 - 5.0) / 10.0).clamp(0.0, 1.0);
    let good = volume(folder.join("good.nii"), |_, _, z| slope(z));
    let one =
        |name: &str, value: fn(usize) -> f32| volume(folder.join(name), move |_, _, z| value(z));
    let identity = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n";
    let register = |fixed: &Path, moving: &Path, matrix: &str| {
        let placement = folder.join("placement.txt");
        fs::write(&placement, matrix).unwrap();
        let mut command = program();
        command.args([
            "register", "--quiet", "--space", "physical", "--preset", "fast",
        ]);
        command
            .arg("--fixed")
            .arg(fixed)
            .arg("--moving")
            .arg(moving);
        command.arg("--placement").arg(&placement);
        command.arg("--output").arg(folder.join("registered"));
        command
    };
    let patch = |kind: &str, bad: PathBuf, code, parts: &[&str]| {
        expect(kind, &mut register(&bad, &good, identity), code, parts)
    };
    let template = |kind: &str, bad: PathBuf, code, parts: &[&str]| {
        expect(kind, &mut register(&good, &bad, identity), code, parts)
    };
    let placed = |kind: &str, matrix: &str, code, parts: &[&str]| {
        expect(kind, &mut register(&good, &good, matrix), code, parts)
    };
    let depth = |kind: &str, bad: PathBuf, parts: &[&str]| {
        let mut command = program();
        command.arg("depth").arg(bad).args(["--quiet", "-o"]);
        command.arg(folder.join("depth.nii.gz"));
        expect(kind, &mut command, ExitCode::InvalidImage, parts)
    };
    let image = ExitCode::InvalidImage;
    let results = vec![
        expect(
            "the good one",
            &mut register(&good, &good, identity),
            ExitCode::Success,
            &[],
        ),
        patch(
            "constant depth",
            one("zero.nii.gz", |_| 0.5),
            image,
            &["patch depth", "constant"],
        ),
        patch(
            "depth of NaN",
            one("nan.nii", |_| f32::NAN),
            image,
            &["8000 voxels are not finite"],
        ),
        patch(
            "one infinite depth",
            one("inf.nii", |z| if z == 3 { f32::INFINITY } else { 0.0 }),
            image,
            &["400 voxels are not finite"],
        ),
        patch(
            "an image for a depth",
            one("big.nii", |z| 100.0 * z as f32),
            image,
            &["from 0 to 1900", "0 (pial) to 1 (white)"],
        ),
        template(
            "constant template",
            one("flat.nii", |_| 1.0),
            ExitCode::AlignmentFailed,
            &["template depth is constant"],
        ),
        template(
            "template of NaN",
            one("nan-t.nii", |_| f32::NAN),
            ExitCode::TemplateUnavailable,
            &["template", "not finite"],
        ),
        placed(
            "singular matrix",
            "1 0 0 0\n0 1 0 0\n1 1 0 0\n0 0 0 1\n",
            ExitCode::InvalidRequest,
            &["matrix"],
        ),
        placed(
            "matrix of 1e30",
            "1e30 0 0 0\n0 1e30 0 0\n0 0 1e30 0\n0 0 0 1\n",
            ExitCode::InvalidRequest,
            &["matrix"],
        ),
        placed(
            "matrix with NaN",
            "nan 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n",
            ExitCode::InvalidRequest,
            &["matrix"],
        ),
        placed(
            "far away",
            "1 0 0 1000\n0 1 0 0\n0 0 1 0\n0 0 0 1\n",
            ExitCode::AlignmentFailed,
            &["outside the template"],
        ),
        placed(
            "nanometres",
            "1 0 0 5e6\n0 1 0 5e6\n0 0 1 5e6\n0 0 0 1\n",
            ExitCode::InvalidRequest,
            &["matrix", "nanometres"],
        ),
        depth(
            "depth map for a segmentation",
            good.clone(),
            &["not integer labels"],
        ),
        depth(
            "labels that nobody named",
            one("labels.nii", |z| z as f32),
            &["segmentation"],
        ),
        depth("grey alone", one("grey.nii", |_| 100.0), &["segmentation"]),
        depth("outside alone", one("csf.nii", |_| 0.0), &["segmentation"]),
        depth(
            "labels of NaN",
            one("nan-l.nii", |_| f32::NAN),
            &["8000 voxels are not integer labels"],
        ),
    ];
    results
}
