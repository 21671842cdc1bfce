//! Kills at random points, and several runs at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::scene::{Scene, Wanted, code, digest, kill, program, serve, text};
use crate::server::Server;

const KILLS: u64 = 10;
/// A run is killed before it has a 128th of the file more than the random point.
const SHARE: u64 = 128;

fn bytes() -> u64 {
    let given = std::env::var("VOLUBA_STATIC_DATA_BYTES").ok();
    given.map_or(24 << 20, |text| text.parse().unwrap())
}

/// Starts a run and kills it when its file has grown to so many bytes, or later.
fn run_until(scene: &Scene, wanted: &Wanted, server: &Server, bytes: u64) -> u64 {
    let mut child = scene.loader(wanted, server, &[]).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(300);
    while scene.partial_bytes(wanted) < bytes {
        assert!(Instant::now() < end, "no progress to {bytes} bytes");
        assert_eq!(
            child.try_wait().unwrap(),
            None,
            "ended before {bytes} bytes"
        );
        thread::sleep(Duration::from_micros(200));
    }
    kill(child);
    scene.partial_bytes(wanted)
}

#[test]
fn killed_at_random_points_it_goes_on_and_shows_nothing_before_the_end() {
    let scene = Scene::new();
    let size = bytes();
    let file = scene.file("source", 1, size);
    let server = serve(&file);
    let wanted = scene.want(&format!("{}/depth.nii.gz", server.origin()), &file);
    let mut random = fastrand::Rng::with_seed(7);
    let mut points: Vec<u64> = (0..KILLS).map(|_| random.u64(1..size * 9 / 10)).collect();
    points.sort_unstable();
    let mut expected = vec![String::new()];
    let mut there = 0;
    for point in points {
        let point = point.max(there + 1);
        server.behave(|habits| habits.hold = Some(point + size / SHARE));
        there = run_until(&scene, &wanted, &server, point);
        scene.assert_nothing_visible();
        expected.push(format!("bytes={there}-"));
    }
    server.behave(|habits| habits.hold = None);
    let last = scene.load(&wanted, &server, &[]);
    assert_eq!(code(&last), 0, "{}", text(&last));
    scene.assert_loaded(&wanted);
    // Each run asks for what is not there yet, and for no byte more.
    let journal = server.journal();
    let resumed = journal
        .ranges
        .iter()
        .zip(&expected)
        .filter(|(asked, due)| asked == due);
    let resumed = resumed.count() as u64 - 1;
    let ok = if resumed == KILLS { "ok" } else { "short" };
    println!("figure static_data.resumed_after_kill {resumed} of_{KILLS} bar {KILLS} {ok}");
    println!("figure static_data.killed_file_size {size} bytes bar {size} ok");
    assert_eq!(journal.ranges, expected);
    assert!(
        journal.conditions[1..]
            .iter()
            .all(|condition| condition == "\"1\"")
    );
    // Nothing is left of the way there, and nothing is fetched again.
    let left: Vec<_> = fs::read_dir(scene.root().join(".loading"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let again = scene.load(&wanted, &server, &[]);
    assert!(text(&again).contains("0 files fetched"), "{}", text(&again));
    assert_eq!(server.journal().ranges.len(), 0);
}

#[test]
fn a_wrong_digest_is_never_visible_and_the_version_in_use_stays() {
    let scene = Scene::new();
    let size = bytes().min(64 << 20);
    let (old, new) = (scene.file("old", 1, size), scene.file("new", 2, size));
    let server = serve(&old);
    let url = format!("{}/depth.nii.gz", server.origin());
    let first = scene.want(&url, &old);
    assert_eq!(code(&scene.load(&first, &server, &[])), 0);
    let second = scene.want(&url, &new);
    let (done, mut seen, mut wrong) = (AtomicBool::new(false), 0, 0);
    thread::scope(|scope| {
        // As a pod would: through `current`, at every moment.
        let watcher = scope.spawn(|| {
            let (mut seen, mut wrong) = (0_u32, 0_u32);
            while !done.load(Ordering::Relaxed) {
                seen += 1;
                wrong += u32::from(digest(&scene.visible().unwrap()) != first.sha256);
            }
            (seen, wrong)
        });
        for _ in 0..10 {
            // The server has the old file still, of the right size.
            let output = scene.load(&second, &server, &[]);
            assert_eq!(code(&output), 65, "{}", text(&output));
            let message = text(&output);
            assert!(
                message.contains(&first.sha256) && message.contains(&second.sha256),
                "{message}"
            );
            assert_eq!(scene.versions(), std::slice::from_ref(&first.version));
        }
        done.store(true, Ordering::Relaxed);
        (seen, wrong) = watcher.join().unwrap();
    });
    let ok = if wrong == 0 { "ok" } else { "short" };
    println!("figure static_data.wrong_digest_visible {wrong} of_{seen}_looks bar 0 {ok}");
    assert_eq!(wrong, 0);
    scene.assert_loaded(&first);
}

#[test]
fn runs_at_once_do_not_hurt_each_other_and_fetch_once() {
    let scene = Scene::new();
    let file = scene.file("source", 1, 4 << 20);
    let server = serve(&file);
    server.behave(|habits| habits.pause = Duration::from_millis(2));
    let wanted = scene.want(&format!("{}/x", server.origin()), &file);
    let runs: Vec<_> = (0..4)
        .map(|_| scene.loader(&wanted, &server, &[]).spawn().unwrap())
        .collect();
    let outputs: Vec<_> = runs
        .into_iter()
        .map(|run| run.wait_with_output().unwrap())
        .collect();
    for output in &outputs {
        assert_eq!(code(output), 0, "{}", text(output));
    }
    assert_eq!(server.journal().ranges.len(), 1);
    assert!(
        outputs
            .iter()
            .any(|output| text(output).contains("waiting for its end"))
    );
    scene.assert_loaded(&wanted);
}

#[test]
fn a_signal_ends_it_within_seconds_and_the_next_run_goes_on() {
    let scene = Scene::new();
    let file = scene.file("source", 1, 4 << 20);
    let server = serve(&file);
    server.behave(|habits| habits.pause = Duration::from_millis(20));
    let wanted = scene.want(&format!("{}/x", server.origin()), &file);
    let child = scene.loader(&wanted, &server, &[]).spawn().unwrap();
    while scene.partial_bytes(&wanted) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let asked = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 75, "{}", text(&output));
    assert!(asked.elapsed() < Duration::from_secs(5));
    scene.assert_nothing_visible();
    server.behave(|habits| habits.pause = Duration::ZERO);
    server.journal();
    assert_eq!(code(&scene.load(&wanted, &server, &[])), 0);
    assert!(server.journal().ranges[0].starts_with("bytes="));
    scene.assert_loaded(&wanted);
}

fn writable_by_group(path: &Path) -> bool {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o020 != 0
}

/// OpenShift gives each namespace a user number of its own, in group 0.
#[test]
fn another_user_of_the_group_goes_on() {
    let scene = Scene::new();
    let file = scene.file("source", 1, 4 << 20);
    let server = serve(&file);
    server.behave(|habits| habits.pause = Duration::from_millis(5));
    let wanted = scene.want(&format!("{}/x", server.origin()), &file);
    for path in [scene.folder.path(), &scene.root()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o775)).unwrap();
    }
    // Only root can become others. Whoever runs this, the permissions are looked at.
    let others = rustix::process::getuid().is_root();
    let run = |user: &str| {
        let loader = scene.loader(&wanted, &server, &[]);
        let mut command = if others {
            let mut command = std::process::Command::new("setpriv");
            command.args([
                "--reuid",
                user,
                "--regid",
                "0",
                "--clear-groups",
                "--inh-caps=-all",
            ]);
            command.args(["--bounding-set=-all", "--no-new-privs"]);
            command.arg(loader.get_program()).args(loader.get_args());
            command
        } else {
            loader
        };
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let first = run("1000650000");
    while scene.partial_bytes(&wanted) < 1 << 20 {
        thread::sleep(Duration::from_millis(1));
    }
    kill(first);
    let partial = scene.partial(&wanted);
    for path in [
        &partial,
        &partial.with_extension("note"),
        &scene.root().join(".loading/lock"),
    ] {
        assert!(writable_by_group(path), "{}", path.display());
    }
    server.behave(|habits| habits.pause = Duration::ZERO);
    let output = run("1000980001").wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output));
    scene.assert_loaded(&wanted);
    for path in [
        "v",
        &format!("v/{}", wanted.version),
        &format!("v/{}/brain", wanted.version),
    ] {
        assert!(writable_by_group(&scene.root().join(path)), "{path}");
    }
    // A third one prunes what the others made.
    let other = scene.file("other", 2, 1000);
    let next = scene.want(other.to_str().unwrap(), &other);
    let mut loader = program();
    loader
        .args(["static-data", "load"])
        .arg(scene.root())
        .arg("--manifest")
        .arg(&next.manifest);
    let output = loader.args(["--keep-old", "0"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output));
    assert_eq!(scene.versions(), [next.version]);
}
