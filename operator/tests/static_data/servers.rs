//! Servers that do not behave.

use std::fs;
use std::time::Duration;

use crate::scene::{Scene, Wanted, code, serve, text};
use crate::server::{Habits, Server};

const SIZE: u64 = 3 << 20;

/// A scene in which the first half lies there already, from an earlier run.
fn half() -> (Scene, Server, Wanted) {
    let scene = Scene::new();
    let file = scene.file("source", 1, SIZE);
    let server = serve(&file);
    let wanted = scene.want(&format!("{}/depth.nii.gz", server.origin()), &file);
    leave_half(&scene, &wanted, &fs::read(file).unwrap());
    (scene, server, wanted)
}

fn leave_half(scene: &Scene, wanted: &Wanted, content: &[u8]) {
    let partial = scene.partial(wanted);
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &content[..content.len() / 2]).unwrap();
    fs::write(partial.with_extension("note"), "\"1\"").unwrap();
}

/// Name, what the server does, and the most bytes that it sends.
type Case = (&'static str, fn(&mut Habits), u64);

#[test]
fn whatever_a_server_makes_of_ranges_the_file_is_whole() {
    let cases: [Case; 6] = [
        ("good", |_| {}, SIZE / 2),
        ("ignores ranges", |habits| habits.ranges = false, SIZE),
        (
            "has another version of the same bytes",
            |habits| habits.etag = "\"2\"".into(),
            SIZE,
        ),
        (
            "names no version",
            |habits| habits.etag.clear(),
            SIZE / 2 + SIZE,
        ),
        (
            "serves parts of any version",
            |habits| habits.heedless = true,
            SIZE / 2,
        ),
        (
            "tells no length",
            |habits| habits.no_length = true,
            SIZE / 2,
        ),
    ];
    for (name, habit, expected) in cases {
        let (scene, server, wanted) = half();
        server.behave(habit);
        let output = scene.load(&wanted, &server, &[]);
        assert_eq!(code(&output), 0, "{name}: {}", text(&output));
        scene.assert_loaded(&wanted);
        let sent = server.journal().sent;
        // Without a version, a condition holds for none: the whole file comes, in place of a part.
        assert!(
            sent <= expected,
            "{name}: {sent} bytes were sent, expected {expected}"
        );
    }
}

#[test]
fn parts_that_do_not_fit_are_thrown_away_and_the_file_is_fetched_in_one_piece() {
    let (scene, server, wanted) = half();
    let partial = scene.partial(&wanted);
    let size = fs::metadata(&partial).unwrap().len();
    fs::write(&partial, vec![0; size as usize]).unwrap();
    server.behave(|habits| habits.heedless = true);
    let output = scene.load(&wanted, &server, &[]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    scene.assert_loaded(&wanted);
    assert_eq!(
        server.journal().ranges,
        [format!("bytes={size}-"), String::new()]
    );
}

#[test]
fn a_connection_that_breaks_again_and_again_is_taken_up_each_time() {
    let scene = Scene::new();
    let file = scene.file("source", 1, SIZE);
    let server = serve(&file);
    server.behave(|habits| habits.cut = Some(SIZE / 5 + 1));
    let wanted = scene.want(&format!("{}/x", server.origin()), &file);
    let output = scene.load(&wanted, &server, &[]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    scene.assert_loaded(&wanted);
    let journal = server.journal();
    assert_eq!((journal.ranges.len(), journal.sent), (5, SIZE));
}

#[test]
fn a_server_that_lies_about_the_length_is_found_out() {
    // Too long, and too short: neither is the file, and no byte of it is waited for.
    for (lie, found) in [(1_000, SIZE + 1_000), (-1_000, SIZE - 1_000)] {
        let (scene, server, wanted) = half();
        fs::remove_file(scene.partial(&wanted)).unwrap();
        server.behave(|habits| habits.lie = lie);
        let output = scene.load(&wanted, &server, &[]);
        let message = text(&output);
        assert_eq!(code(&output), 65, "{message}");
        assert!(
            message.contains(&format!("has {found} bytes, expected {SIZE}")),
            "{message}"
        );
        scene.assert_nothing_visible();
    }
}

#[test]
fn a_file_that_is_longer_than_it_should_be_is_not_read_to_its_end() {
    let scene = Scene::new();
    let (file, long) = (
        scene.file("source", 1, SIZE),
        scene.file("long", 1, 40 * SIZE),
    );
    let server = serve(&long);
    server.behave(|habits| {
        habits.no_length = true;
        habits.pause = Duration::from_micros(500);
    });
    let wanted = scene.want(&format!("{}/x", server.origin()), &file);
    let output = scene.load(&wanted, &server, &[]);
    let message = text(&output);
    assert_eq!(code(&output), 65, "{message}");
    assert!(
        message.contains(&format!("has more bytes, expected {SIZE}")),
        "{message}"
    );
    assert!(server.journal().sent < 20 * SIZE);
    scene.assert_nothing_visible();
}

#[test]
fn redirects_lead_only_where_the_administrator_allows() {
    let scene = Scene::new();
    let file = scene.file("source", 1, SIZE);
    let (store, portal) = (serve(&file), serve(&file));
    portal.behave(|habits| habits.redirect = Some(format!("{}/signed?key=1", store.origin())));
    let wanted = scene.want(&format!("{}/x", portal.origin()), &file);
    let output = scene.load(&wanted, &portal, &[]);
    let message = text(&output);
    assert_eq!(code(&output), 77, "{message}");
    assert!(
        message.contains(&format!("--allow-private-origin {}", store.origin())),
        "{message}"
    );
    assert!(!message.contains("key=1"), "{message}");
    assert_eq!(store.journal().sent, 0);
    let allowed = scene.load(
        &wanted,
        &portal,
        &["--allow-private-origin", &store.origin()],
    );
    assert_eq!(code(&allowed), 0, "{}", text(&allowed));
    scene.assert_loaded(&wanted);
    // In circles: not for ever.
    let other = scene.file("other", 2, SIZE);
    let next = scene.want(&format!("{}/y", portal.origin()), &other);
    store.behave(|habits| habits.redirect = Some(format!("{}/x", portal.origin())));
    let output = scene.load(&next, &portal, &["--allow-private-origin", &store.origin()]);
    assert_eq!(code(&output), 77, "{}", text(&output));
    assert!(
        text(&output).contains("redirects more than"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_private_address_must_be_allowed() {
    let (scene, server, wanted) = half();
    let mut command = crate::scene::program();
    command
        .args(["static-data", "load"])
        .arg(scene.root())
        .arg("--manifest")
        .arg(&wanted.manifest);
    let output = command.output().unwrap();
    assert_eq!(code(&output), 77, "{}", text(&output));
    assert!(
        text(&output).contains("private address"),
        "{}",
        text(&output)
    );
    assert_eq!(server.journal().ranges.len(), 0);
}
