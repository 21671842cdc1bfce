//! Files of this machine: copies, older versions, damage, full volumes, files copied by hand.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::scene::{Scene, Wanted, code, program, serve, text};

fn load(scene: &Scene, wanted: &Wanted, options: &[&str]) -> std::process::Output {
    let mut command = program();
    command
        .args(["static-data", "load"])
        .arg(scene.root())
        .arg("--manifest")
        .arg(&wanted.manifest);
    command.args(options).output().unwrap()
}

fn copied(scene: &Scene, name: &str, seed: u64) -> Wanted {
    let file = scene.file(name, seed, 100_000);
    let wanted = scene.want(file.to_str().unwrap(), &file);
    let output = load(scene, &wanted, &[]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    scene.assert_loaded(&wanted);
    wanted
}

#[test]
fn a_local_file_is_copied_if_it_is_the_one() {
    let scene = Scene::new();
    let wanted = copied(&scene, "source", 1);
    let other = scene.file("other", 2, 100_000);
    let path = other.to_str().unwrap().to_owned();
    for (wrong, expected, exit) in [
        (
            scene.want_bytes(&path, &"0".repeat(64), 100_000),
            "has the SHA-256",
            65,
        ),
        (
            scene.want_bytes(&path, &"0".repeat(64), 99_999),
            "has 100000 bytes, expected 99999",
            65,
        ),
        (
            scene.want_bytes("/nowhere/a", &"0".repeat(64), 1),
            "does not exist",
            66,
        ),
        (
            scene.want_bytes("/proc", &"0".repeat(64), 1),
            "is not a regular file",
            66,
        ),
    ] {
        let output = load(&scene, &wrong, &[]);
        assert_eq!(code(&output), exit, "{}", text(&output));
        assert!(text(&output).contains(expected), "{}", text(&output));
        scene.assert_loaded(&wanted);
    }
}

#[test]
fn damage_is_found_and_mended() {
    let scene = Scene::new();
    let wanted = copied(&scene, "source", 1);
    let visible = scene.visible().unwrap();
    let mut content = fs::read(&visible).unwrap();
    content[50_000] ^= 1;
    fs::write(&visible, content).unwrap();
    fs::write(scene.root().join("current/brain/notes.txt"), "mine").unwrap();
    let output = scene.verify(&[]);
    let message = text(&output);
    assert_eq!(code(&output), 68, "{message}");
    let file = format!("v/{}/brain/depth.nii.gz: has the SHA-256", wanted.version);
    assert!(
        message.contains(&file) && message.contains("notes.txt: is not in"),
        "{message}"
    );
    let output = load(&scene, &wanted, &[]);
    assert!(
        text(&output).contains("1 files fetched"),
        "{}",
        text(&output)
    );
    fs::remove_file(scene.root().join("current/brain/notes.txt")).unwrap();
    scene.assert_loaded(&wanted);
}

#[test]
fn verify_names_what_is_missing() {
    let scene = Scene::new();
    let output = scene.verify(&[]);
    assert_eq!(code(&output), 68);
    assert!(
        text(&output).contains("nothing was loaded yet"),
        "{}",
        text(&output)
    );
    let wanted = copied(&scene, "source", 1);
    let other = scene.file("other", 2, 1000);
    let next = scene.want(other.to_str().unwrap(), &other);
    let output = scene.verify(&["--manifest", next.manifest.to_str().unwrap()]);
    assert_eq!(code(&output), 68);
    let expected = format!(
        "names the version {}, expected {}",
        wanted.version, next.version
    );
    assert!(text(&output).contains(&expected), "{}", text(&output));
    fs::remove_file(scene.visible().unwrap()).unwrap();
    let output = scene.verify(&[]);
    assert!(
        text(&output).contains("brain/depth.nii.gz: does not exist"),
        "{}",
        text(&output)
    );
}

#[test]
fn files_copied_by_hand_are_checked_in_place() {
    let scene = Scene::new();
    let file = scene.file("source", 1, 1000);
    let wanted = scene.want("/unused", &file);
    let manifest = wanted.manifest.to_str().unwrap();
    fs::create_dir(scene.root().join("brain")).unwrap();
    fs::copy(&file, scene.root().join("brain/depth.nii.gz")).unwrap();
    let output = scene.verify(&["--in-place", "--manifest", manifest]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    fs::write(scene.root().join("brain/depth.nii.gz"), "short").unwrap();
    let output = scene.verify(&["--in-place", "--manifest", manifest]);
    assert_eq!(code(&output), 68);
    assert!(
        text(&output).contains("has 5 bytes, expected 1000"),
        "{}",
        text(&output)
    );
}

#[test]
fn versions_share_files_are_kept_and_pruned_on_request() {
    let scene = Scene::new();
    let first = copied(&scene, "source", 1);
    let inode = fs::metadata(scene.visible().unwrap()).unwrap().ino();
    // The same file and one more: the first is not fetched again.
    let more = scene.file("more", 2, 1000);
    let mut text_of = fs::read_to_string(&first.manifest).unwrap();
    let sha256 = crate::scene::digest(&more);
    let more = more.display();
    text_of = text_of.replace("/source\n", "/gone\n")
        + &format!("- {{path: more, source: {more}, sha256: {sha256}, bytes: 1000}}\n");
    let manifest = scene.folder.path().join("both.yaml");
    fs::write(&manifest, text_of).unwrap();
    let both = Wanted {
        manifest,
        ..scene.want_bytes("/unused", &first.sha256, 1)
    };
    let output = load(&scene, &both, &[]);
    assert!(
        text(&output).contains("1 files fetched, 1 taken from an older"),
        "{}",
        text(&output)
    );
    assert_eq!(fs::metadata(scene.visible().unwrap()).unwrap().ino(), inode);
    assert_eq!(scene.versions().len(), 2);
    let third = copied(&scene, "third", 3);
    assert_eq!(scene.versions().len(), 3);
    let output = load(&scene, &third, &["--keep-old", "1"]);
    assert!(
        text(&output).contains("1 older versions removed"),
        "{}",
        text(&output)
    );
    assert!(!scene.versions().contains(&first.version));
    load(&scene, &third, &["--keep-old", "0"]);
    assert_eq!(scene.versions(), std::slice::from_ref(&third.version));
    scene.assert_loaded(&third);
}

#[test]
fn a_volume_that_is_too_small_is_told_beforehand() {
    let scene = Scene::new();
    let wanted = copied(&scene, "source", 1);
    let huge = scene.want_bytes("https://data.example/x", &"0".repeat(64), 1 << 60);
    let output = load(&scene, &huge, &[]);
    assert_eq!(code(&output), 74, "{}", text(&output));
    assert!(
        text(&output).contains(&format!("need {} bytes more", 1_u64 << 60)),
        "{}",
        text(&output)
    );
    scene.assert_loaded(&wanted);
}

#[test]
fn a_volume_that_fills_up_meanwhile_is_told_and_nothing_becomes_visible() {
    let scene = Scene::new();
    let file = scene.file("source", 1, 100_000);
    let server = serve(&file);
    for source in [
        format!("{}/x", server.origin()),
        file.to_str().unwrap().to_owned(),
    ] {
        let wanted = scene.want(&source, &file);
        let partial = scene.partial(&wanted);
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&partial);
        symlink("/dev/full", &partial).unwrap();
        let output = scene.load(&wanted, &server, &[]);
        assert_eq!(code(&output), 74, "{}", text(&output));
        assert!(
            text(&output).contains("enlarge the volume"),
            "{}",
            text(&output)
        );
        scene.assert_nothing_visible();
        fs::remove_file(&partial).unwrap();
    }
}

#[test]
fn a_manifest_that_makes_no_sense_changes_nothing() {
    let scene = Scene::new();
    let wanted = scene.want_bytes("ftp://h/x", &"0".repeat(64), 1);
    let output = load(&scene, &wanted, &[]);
    assert_eq!(code(&output), 64, "{}", text(&output));
    assert_eq!(fs::read_dir(scene.root()).unwrap().count(), 0);
}
