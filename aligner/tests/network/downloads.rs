//! Downloads (A3 to A11 of the fault matrix): whole, or not at all, with the code for it.

use std::{fs, time::Duration, time::Instant};

use aligner::net::limits::Clock;
use alignment_api::ExitCode;
use fake_image_service::{Call, Fault, Habits};

use crate::{REPLY, Scene, TOKEN, plain_volume, sha256, volume};

#[test]
fn a_file_comes_as_it_is_whatever_the_framing() {
    let scene = Scene::new();
    let bytes = volume(1);
    let url = scene.server.put_file("a%20b.nii.gz", bytes.clone());
    let url = url.replace("a%20b", "a%2520b");
    for fault in [
        None,
        Some(Fault::Chunks),
        Some(Fault::NoLength),
        Some(Fault::Encoded),
        Some(Fault::CalledEncoded),
        Some(Fault::Late(Duration::from_millis(100))),
    ] {
        if let Some(fault) = fault {
            scene.server.fail(Call::Download, 1, fault);
        }
        assert_eq!(scene.fetch_file(&url, &sha256(&bytes)).unwrap(), bytes);
    }
    // No token for a web server.
    let mut journal = scene.server.journal().into_iter();
    assert!(journal.all(|record| record.header("authorization").is_none()));
    let wrong = sha256(b"another");
    scene.assert_fails(scene.fetch_file(&url, &wrong), ExitCode::InvalidImage);
}

#[test]
fn a3_a_download_cut_at_any_byte_is_never_taken_for_whole() {
    let bytes = volume(1);
    let digest = sha256(&bytes);
    let (mut accepted, mut cuts) = (0, 0);
    for cut in 0..bytes.len() {
        for fault in [
            Fault::Cut(cut),
            Fault::CutChunks(cut),
            Fault::CutNoLength(cut),
        ] {
            let scene = Scene::new();
            scene.server.put(Some(TOKEN), "a.nii.gz", bytes.clone());
            scene.server.fail(Call::Download, 100, fault.clone());
            let result = scene.fetch_image("a");
            accepted += usize::from(result.is_ok());
            scene.assert_fails(result, ExitCode::ImageServiceUnavailable);
            assert!(scene.were_tried(Call::Download, 8));
            // Once only, and the next try brings it whole.
            let scene = Scene::new();
            let url = scene.server.put_file("a", bytes.clone());
            scene.server.fail(Call::Download, 1, fault.clone());
            match scene.fetch_file(&url, &digest) {
                Ok(found) => assert_eq!(found, bytes),
                // Without a length, the digest is all that tells.
                Err(error) => {
                    assert!(matches!(fault, Fault::CutNoLength(_)), "{error}");
                    assert_eq!(error.exit_code(), ExitCode::InvalidImage);
                }
            }
            cuts += 1;
        }
    }
    assert_eq!(accepted, 0);
    println!("figure download-cuts-accepted {accepted} of {cuts} bar 0 ok");
}

#[test]
fn a3_a_broken_download_goes_on_where_the_server_vouches_for_it() {
    let scene = Scene::new();
    let bytes = volume(1);
    scene.server.put(Some(TOKEN), "a.nii.gz", bytes.clone());
    scene.server.behave(Habits {
        ranges: true,
        ..Habits::default()
    });
    scene.server.fail(Call::Download, 3, Fault::Cut(40));
    assert_eq!(scene.fetch_image("a").unwrap(), bytes);
    let ranges: Vec<_> = scene
        .server
        .journal()
        .iter()
        .map(|record| record.header("range").map(str::to_owned))
        .collect();
    let expected = ["bytes=40-", "bytes=80-", "bytes=120-"].map(|range| Some(range.to_owned()));
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1..], expected);
    // Another file in between: begun anew.
    scene.server.fail(Call::Download, 1, Fault::Cut(40));
    let other = volume(2);
    let url = scene.server.put_file("b", other.clone());
    assert_eq!(scene.fetch_file(&url, &sha256(&other)).unwrap(), other);
}

#[test]
fn a4_a_refused_token_ends_it_at_once() {
    for status in [401, 403] {
        let scene = Scene::new();
        let fault = Fault::Answer(status, Vec::new(), REPLY.to_owned());
        scene.server.fail(Call::Any, 100, fault);
        scene.assert_fails(scene.fetch_image("a"), ExitCode::Unauthorized);
        assert_eq!(scene.tries(Call::Any), 1);
        scene.assert_token_is_kept();
    }
}

#[test]
fn a5_images_are_looked_for_in_their_three_forms() {
    let scene = Scene::new();
    scene.server.put(Some(TOKEN), "plain.nii", plain_volume(1));
    assert_eq!(scene.fetch_image("plain").unwrap(), plain_volume(1));
    assert_eq!(scene.tries(Call::Download), 2);
    scene.server.put(Some(TOKEN), "original.img", volume(2));
    // A name that only the third form finds.
    assert_eq!(scene.fetch_image("original.img").unwrap(), volume(2));
    let before = scene.tries(Call::Download);
    scene.assert_fails(scene.fetch_image("none"), ExitCode::ImageNotFound);
    assert_eq!(scene.tries(Call::Download), before + 3);
}

#[test]
fn names_of_every_kind_are_found() {
    let long = "x".repeat(220);
    for name in [
        "two words",
        "Größe",
        "片",
        "100%",
        "a:b",
        "a+b&c=d?e#f",
        "%2e%2e",
        &long,
    ] {
        let scene = Scene::new();
        let file = format!("{name}.nii.gz");
        scene.server.put(Some(TOKEN), &file, volume(3));
        assert_eq!(scene.fetch_image(name).unwrap(), volume(3), "{name}");
    }
}

#[test]
fn a7_busy_servers_are_asked_again_but_not_for_ever() {
    let wait = |seconds: &str| vec![("Retry-After".to_owned(), seconds.to_owned())];
    for status in [429, 500, 502, 503, 504] {
        let scene = Scene::new();
        scene.server.put(Some(TOKEN), "a.nii.gz", volume(1));
        let fault = Fault::Answer(status, wait("7"), REPLY.to_owned());
        scene.server.fail(Call::Download, 3, fault.clone());
        let before = scene.clock.now();
        assert_eq!(scene.fetch_image("a").unwrap(), volume(1));
        assert!(scene.clock.now() >= before + Duration::from_secs(21));
        scene.server.fail(Call::Download, 100, fault);
        scene.assert_fails(scene.fetch_image("a"), ExitCode::ImageServiceUnavailable);
        assert!(scene.were_tried(Call::Download, 4 + 8));
    }
    // More than it has time for.
    let scene = Scene::new();
    scene.server.fail(
        Call::Any,
        100,
        Fault::Answer(503, wait("3600"), String::new()),
    );
    scene.assert_fails(scene.fetch_image("a"), ExitCode::ImageServiceUnavailable);
    assert_eq!(scene.tries(Call::Any), 1);
    // Nobody there at all.
    scene.server.fail(Call::Any, 100, Fault::Vanish);
    let scene = Scene::new();
    scene.server.fail(Call::Any, 100, Fault::Vanish);
    scene.assert_fails(scene.fetch_image("a"), ExitCode::ImageServiceUnavailable);
    assert!(scene.were_tried(Call::Any, 8));
}

#[test]
fn a8_who_is_too_slow_is_left() {
    for fault in [
        Fault::Trickle(Duration::from_millis(50)),
        Fault::Late(Duration::from_secs(20)),
        Fault::EndlessHead,
    ] {
        let scene = Scene::new();
        scene.server.put(Some(TOKEN), "a.nii.gz", volume(1));
        scene.server.fail(Call::Download, 100, fault.clone());
        let began = Instant::now();
        scene.assert_fails(scene.fetch_image("a"), ExitCode::ImageServiceUnavailable);
        // One window of 0.4 s stands for one of 60; twice that is less than 90 s to one.
        assert!(began.elapsed() < Duration::from_millis(1500), "{fault:?}");
        assert_eq!(scene.tries(Call::Download), 1, "{fault:?}");
    }
}

#[test]
fn a9_no_body_is_larger_than_the_limit() {
    let scene = Scene::new();
    let bytes = volume(1);
    let url = scene.server.put_file("a", bytes.clone());
    let digest = sha256(&bytes);
    let fail = |fault: Fault, expected: ExitCode, most: usize| {
        let before = scene.tries(Call::Download);
        scene.server.fail(Call::Download, most as u32, fault);
        scene.assert_fails(scene.fetch_file(&url, &digest), expected);
        assert_eq!(scene.tries(Call::Download) - before, most);
    };
    fail(Fault::Claim(1 << 50), ExitCode::InvalidImage, 1);
    fail(
        Fault::Claim(bytes.len() as u64 - 1),
        ExitCode::InvalidImage,
        1,
    );
    fail(
        Fault::Claim(bytes.len() as u64 + 1),
        ExitCode::ImageServiceUnavailable,
        8,
    );
    fail(Fault::EndlessBody, ExitCode::InvalidImage, 1);
    let written = fs::metadata(scene.target()).unwrap().len();
    assert!(written <= scene.network.limits.download_bytes);
}

#[test]
fn the_limit_holds_for_all_downloads_together() {
    let mut scene = Scene::new();
    let bytes = volume(1);
    let url = scene.server.put_file("a", bytes.clone());
    scene.network.limits.download_bytes = bytes.len() as u64 * 2 + 1;
    let digest = sha256(&bytes);
    assert!(scene.fetch_file(&url, &digest).is_ok());
    assert!(scene.fetch_file(&url, &digest).is_ok());
    scene.assert_fails(scene.fetch_file(&url, &digest), ExitCode::InvalidImage);
}

#[test]
fn a11_a_web_page_is_no_volume() {
    let html = Fault::Answer(
        200,
        vec![("Content-Type".to_owned(), "text/html".to_owned())],
        format!("<!doctype html><p>{REPLY}"),
    );
    let scene = Scene::new();
    scene.server.fail(Call::Any, 100, html);
    let result = scene.fetch_image("a");
    let message = result.as_ref().unwrap_err().to_string();
    assert!(
        message.contains("not a NIfTI file, but a web page"),
        "{message}"
    );
    scene.assert_fails(result, ExitCode::InvalidImage);
    assert_eq!(scene.tries(Call::Any), 1);
    // Nothing at all is none either.
    let scene = Scene::new();
    scene.server.fail(Call::Any, 100, Fault::status(200));
    scene.assert_fails(scene.fetch_image("a"), ExitCode::InvalidImage);
}
