//! Uploads (A6, A12 to A14 of the fault matrix): each image is there once, or the run says why not.

use std::{fs, sync::Arc, thread, time::Duration};

use aligner::{
    net::{error::NetError, image_service::Volume},
    observer::Silent,
};
use alignment_api::ExitCode;
use fake_image_service::{Call, Fault, Habits};

use crate::{REPLY, Scene, TOKEN, plain_volume, volume};

const NAME: &str = "nmda-transformed-0a1b2c3d";

impl Scene {
    fn store(&self, seed: u8) -> Result<String, NetError> {
        self.store_from(&format!("result-{seed}"), seed)
    }

    fn store_from(&self, file: &str, seed: u8) -> Result<String, NetError> {
        let file = self.folder.path().join(file);
        fs::write(&file, volume(seed)).unwrap();
        let result = Volume {
            file: &file,
            name: NAME,
            labels: true,
        };
        self.service().store(&result, &self.network, &Silent)
    }

    #[track_caller]
    fn assert_stored_once(&self, seed: u8) {
        let images = self.server.images();
        assert_eq!(images.len(), 1);
        let aligned =
            images[0].bytes == volume(seed) || images[0].bytes.len() != volume(seed).len();
        assert!(aligned, "another image");
        assert_eq!(self.server.uploads(), 1);
        self.assert_token_is_kept();
    }
}

#[test]
fn a_result_is_looked_for_announced_and_sent_once() {
    let scene = Scene::new();
    assert_eq!(scene.store(1).unwrap(), NAME);
    scene.assert_stored_once(1);
    let image = &scene.server.images()[0];
    assert_eq!(image.file_name, format!("{NAME}.nii.gz"));
    assert!(image.segmentation);
    let calls: Vec<_> = scene
        .server
        .journal()
        .iter()
        .map(|record| {
            format!(
                "{} {}",
                record.method,
                record.path.rsplit('/').next().unwrap()
            )
        })
        .collect();
    assert_eq!(calls, ["GET list", "POST preflight", "POST upload"]);
    for record in scene.server.journal() {
        assert_eq!(
            record.header("authorization"),
            Some(format!("Bearer {TOKEN}").as_str())
        );
    }
}

#[test]
fn a6_a_taken_name_is_success_if_it_is_the_same_image() {
    for habits in [
        Habits::default(),
        Habits {
            recompress: true,
            ..Habits::default()
        },
        Habits {
            blind_preflight: true,
            list_delay: 100,
            ..Habits::default()
        },
        Habits {
            odd_entries: true,
            ..Habits::default()
        },
    ] {
        let scene = Scene::new();
        scene.server.behave(habits.clone());
        assert_eq!(scene.store(1).unwrap(), NAME);
        assert_eq!(scene.store(1).unwrap(), NAME, "{habits:?}");
        assert_eq!(scene.server.uploads(), 1);
        // The same name for another image is not.
        scene.assert_fails(scene.store(2), ExitCode::UploadRefused);
        assert_eq!(scene.server.images().len(), 1);
    }
    // What is stored uncompressed is compared all the same.
    let scene = Scene::new();
    scene
        .server
        .put(Some(TOKEN), &format!("{NAME}.nii"), plain_volume(1));
    assert_eq!(scene.store(1).unwrap(), NAME);
    assert_eq!(scene.server.uploads(), 0);
}

#[test]
fn a_service_that_renames_is_believed_and_not_sent_a_second_one() {
    let scene = Scene::new();
    scene.server.behave(Habits {
        rename: Some("-1".to_owned()),
        ..Habits::default()
    });
    let name = format!("{NAME}-1");
    assert_eq!(scene.store(1).unwrap(), name);
    assert_eq!(scene.store(1).unwrap(), name);
    assert_eq!(scene.server.uploads(), 1);
}

#[test]
fn a7_an_upload_is_tried_again_but_not_for_ever() {
    for call in [Call::List, Call::Preflight, Call::Upload] {
        for fault in [Fault::status(503), Fault::status(429), Fault::Vanish] {
            let scene = Scene::new();
            scene.server.fail(call, 3, fault.clone());
            assert_eq!(scene.store(1).unwrap(), NAME, "{call:?} {fault:?}");
            scene.assert_stored_once(1);
            let scene = Scene::new();
            scene.server.fail(call, 1000, fault.clone());
            scene.assert_fails(scene.store(1), ExitCode::ImageServiceUnavailable);
            assert!(scene.were_tried(call, 8), "{call:?} {fault:?}");
            assert!(scene.server.images().is_empty());
        }
    }
}

#[test]
fn what_the_service_does_not_take_is_refused() {
    for status in [400, 404, 413, 415, 422] {
        for call in [Call::Preflight, Call::Upload] {
            let scene = Scene::new();
            let fault = Fault::Answer(status, Vec::new(), REPLY.to_owned());
            scene.server.fail(call, 100, fault);
            scene.assert_fails(scene.store(1), ExitCode::UploadRefused);
            assert_eq!(scene.tries(call), 1);
        }
    }
    for call in [Call::List, Call::Preflight, Call::Upload] {
        let scene = Scene::new();
        let html = format!("<html>{REPLY}</html>");
        scene
            .server
            .fail(call, 1, Fault::Answer(200, Vec::new(), html));
        scene.assert_fails(scene.store(1), ExitCode::InvalidImage);
    }
}

#[test]
fn a12_an_answer_that_is_lost_does_not_store_a_second_image() {
    let lost = [
        Fault::VanishAfter,
        Fault::StatusAfter(502),
        Fault::StatusAfter(504),
        Fault::Cut(10),
    ];
    for fault in lost {
        for habits in [
            Habits::default(),
            // The list does not show it yet.
            Habits {
                list_delay: 2,
                ..Habits::default()
            },
            // It does not show it for so long that it is sent again, and refused.
            Habits {
                list_delay: 50,
                blind_preflight: true,
                ..Habits::default()
            },
            Habits {
                recompress: true,
                ..Habits::default()
            },
        ] {
            for times in [1, 3] {
                let scene = Scene::new();
                scene.server.behave(habits.clone());
                scene.server.fail(Call::Upload, times, fault.clone());
                assert_eq!(scene.store(1).unwrap(), NAME, "{fault:?} {habits:?}");
                scene.assert_stored_once(1);
            }
        }
    }
    // The same, but it renames: the list shows the new name.
    let scene = Scene::new();
    scene.server.behave(Habits {
        rename: Some("_2".to_owned()),
        ..Habits::default()
    });
    scene.server.fail(Call::Upload, 1, Fault::VanishAfter);
    assert_eq!(scene.store(1).unwrap(), format!("{NAME}_2"));
    assert_eq!(scene.server.uploads(), 1);
}

#[test]
fn a12_an_answer_that_is_late_ends_the_run_and_the_next_one_finds_the_image() {
    let scene = Scene::new();
    // As long as the window: given up, but stored.
    scene
        .server
        .fail(Call::Upload, 1, Fault::Late(Duration::from_secs(2)));
    scene.assert_fails(scene.store(1), ExitCode::ImageServiceUnavailable);
    assert_eq!(scene.store(1).unwrap(), NAME);
    scene.assert_stored_once(1);
}

#[test]
fn a13_two_pods_that_race_leave_one_image() {
    let races = 1000;
    let (mut images, mut uploads) = (0, 0);
    let mut scene = Arc::new(Scene::new());
    for race in 0..races {
        // Lists grow with what is stored.
        if race % 50 == 0 {
            images += scene.server.images().len();
            uploads += scene.server.uploads();
            let mut next = Scene::new();
            next.network.limits.window = Duration::from_secs(60);
            scene = Arc::new(next);
        }
        let name = format!("a-transformed-{race:08x}");
        let pods: Vec<_> = (0..2)
            .map(|pod| {
                let (scene, name) = (scene.clone(), name.clone());
                thread::spawn(move || {
                    let file = scene.folder.path().join(format!("race-{race}-{pod}"));
                    fs::write(&file, volume(race as u8)).unwrap();
                    let result = Volume {
                        file: &file,
                        name: &name,
                        labels: false,
                    };
                    scene.service().store(&result, &scene.network, &Silent)
                })
            })
            .collect();
        for pod in pods {
            assert_eq!(pod.join().unwrap().unwrap(), name);
        }
    }
    images += scene.server.images().len();
    uploads += scene.server.uploads();
    assert_eq!((images, uploads), (races, races as u32));
    println!("figure duplicate-uploads 0 of {races} races bar 0 ok");
}

#[test]
fn a14_a_token_that_ends_on_the_way_is_named_and_a_new_one_is_used() {
    let scene = Scene::new();
    scene.service().check(&scene.network, &Silent).unwrap();
    scene.server.revoke(TOKEN);
    scene.assert_fails(scene.store(1), ExitCode::Unauthorized);
    assert!(scene.server.images().is_empty());
    // Whoever mounts the file has replaced it.
    let renewed = "canary-renewed";
    scene.server.accept(renewed);
    fs::write(scene.folder.path().join("token"), renewed).unwrap();
    assert_eq!(scene.store(1).unwrap(), NAME);
    let last = scene.server.journal().pop().unwrap();
    assert_eq!(last.header("authorization"), Some("Bearer canary-renewed"));
    // No token, no call.
    fs::remove_file(scene.folder.path().join("token")).unwrap();
    let before = scene.tries(Call::Any);
    scene.assert_fails(scene.store(1), ExitCode::Unauthorized);
    assert_eq!(scene.tries(Call::Any), before);
}
