//! The report for a person.

use std::fs;

use alignment_api::{ArtifactKind, ExitCode};

use crate::{assert_exit, call, data, report, run_changed, sha256};

/// So many pictures and charts, and nothing that a browser would fetch.
#[track_caller]
fn assert_self_contained(page: &str, pictures: usize, charts: usize) {
    let png = "src=\"data:image/png;base64,iVBOR";
    assert_eq!(page.matches(png).count(), pictures);
    assert_eq!(page.matches("src=").count(), pictures);
    assert_eq!(page.matches("<svg").count(), charts);
    for elsewhere in [
        "http:", "https:", "//", "href=", "url(", "@import", "<script",
    ] {
        // Base64 holds slashes of its own.
        let text: String = page
            .split("base64,")
            .enumerate()
            .map(|(i, part)| {
                if i == 0 {
                    part
                } else {
                    part.split_once('"').unwrap().1
                }
            })
            .collect();
        assert!(!text.contains(elsewhere), "{elsewhere}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn the_page_holds_its_pictures_and_nothing_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let name = "<b onclick='x()'>pair & co</b>";
    let (output, results) = run_changed(folder.path(), |text| {
        text.replace("{name: pair-1,", &format!("{{name: \"{name}\","))
    });
    assert_exit(&output, ExitCode::Success);
    let results = results.join("example");
    let page = fs::read_to_string(results.join("report.html")).unwrap();

    // Three planes before, after, and in tiles, and the Jacobian in each.
    assert_self_contained(&page, 12, 2);
    assert!(page.contains("&lt;b onclick=&#39;x()&#39;&gt;pair &amp; co&lt;/b&gt;"));
    assert!(!page.contains("<b onclick"));

    let report = report(&results);
    for (file, kind) in [
        ("report.html", ArtifactKind::Page),
        ("preview.png", ArtifactKind::Preview),
    ] {
        let artifact = report.artifacts.iter().find(|a| a.name == file).unwrap();
        assert_eq!(artifact.kind, kind);
        assert_eq!(
            artifact.sha256,
            sha256(&fs::read(results.join(file)).unwrap())
        );
    }
    for warning in &report.warnings {
        assert!(page.contains(warning.split(['&', '<', '>', '"', '\'']).next().unwrap()));
    }
    let command =
        "aligner run REQUEST --template example=FILE --claim patches=FOLDER --claim results=FOLDER";
    assert_eq!(report.command, command);
    assert!(page.contains(&format!("<code>{command}</code>")));
}

#[test]
fn depth_has_a_page_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (depth, page) = (path("depth.nii.gz"), path("depth.html"));
    let segmentation = data("patch_segmentation.nii.gz");
    let segmentation = segmentation.to_str().unwrap();
    let output = call(&["depth", segmentation, "-o", &depth, "--report", &page]);
    assert_exit(&output, ExitCode::Success);
    let page = fs::read_to_string(page).unwrap();
    // Three planes with lines, and the validity in each.
    assert_self_contained(&page, 6, 1);
    assert!(page.contains("Cortical depth of patch_segmentation.nii.gz"));
    assert!(page.contains(&sha256(&fs::read(segmentation).unwrap())));
    // What standard error says, the page says.
    let said = String::from_utf8(output.stderr).unwrap();
    let warnings: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("warning: "))
        .collect();
    assert!(!warnings.is_empty());
    for warning in warnings {
        assert!(page.contains(warning.split(['&', '<', '>', '"', '\'']).next().unwrap()));
    }
}

#[test]
fn without_the_report_there_is_no_page() {
    let folder = tempfile::tempdir().unwrap();
    let (output, results) = run_changed(folder.path(), |text| {
        text.replace("    grids: [patch, template]", "    artifacts: [warp]")
    });
    assert_exit(&output, ExitCode::Success);
    for file in ["report.html", "preview.png", "report.json"] {
        assert!(!results.join("example").join(file).exists(), "{file}");
    }
}
