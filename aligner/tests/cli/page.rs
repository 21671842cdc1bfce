//! The report for a person.

use std::fs;

use alignment_api::{ArtifactKind, ExitCode};

use crate::{assert_exit, report, run_changed, sha256};

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

    // Three planes before and after, and the Jacobian in each.
    assert_eq!(page.matches("src=\"data:image/png;base64,iVBOR").count(), 9);
    assert_eq!(page.matches("src=").count(), 9);
    assert_eq!(page.matches("<svg").count(), 2);
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
