//! The page's text: what a person wants to know first comes first.

use std::fmt::Write;

use alignment_api::{Quality, Report};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    PATCH, Plane, TEMPLATE,
    chart::{self, Histogram},
    picture::Picture,
    slice::Slice,
};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(super) fn document(report: &Report, planes: &[Plane], histogram: &Histogram) -> String {
    let name = report.request.as_deref().unwrap_or("alignment");
    let mut page = head(
        name,
        &format!(
            "to the template {}, by the aligner {}",
            report.template, report.aligner_version
        ),
    );
    warnings(&mut page, &report.warnings);
    pictures(&mut page, planes);
    figures(&mut page, report);
    charts(&mut page, report, planes, histogram);
    landmarks(&mut page, report);
    files(&mut page, report);
    parameters(&mut page, report);
    page.push_str(END);
    page
}

pub(super) const END: &str = "</body>\n</html>\n";

/// From the beginning to the title and a line below it.
pub(super) fn head(title: &str, subtitle: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n\
         <p class=\"soft\">{subtitle}</p>\n",
        title = escape(title),
        subtitle = escape(subtitle),
    )
}

pub(super) fn warnings(page: &mut String, warnings: &[String]) {
    if warnings.is_empty() {
        page.push_str("<p class=\"good\">No warnings.</p>\n");
        return;
    }
    page.push_str("<ul class=\"warnings\">\n");
    for warning in warnings {
        let _ = writeln!(page, "<li>{}</li>", escape(warning));
    }
    page.push_str("</ul>\n");
}

fn pictures(page: &mut String, planes: &[Plane]) {
    let [patch, template] = [PATCH, TEMPLATE].map(|[r, g, b]| format!("#{r:02x}{g:02x}{b:02x}"));
    let _ = write!(
        page,
        "<h2>Depth before and after</h2>\n\
         <p>The patch, with lines at its surfaces and in the middle of its cortex\
         <i class=\"key\" style=\"background:{patch}\"></i>patch\
         <i class=\"key\" style=\"background:{template}\"></i>template, carried onto the patch.\n\
         The nearer the lines, the better depth matches. On the checkerboard, tiles show the depth of the patch and\n\
         of the template in turn: bands that go on across the tiles match.</p>\n\
         <input type=\"radio\" name=\"show\" id=\"show-after\" checked><label for=\"show-after\">after</label>\n\
         <input type=\"radio\" name=\"show\" id=\"show-before\"><label for=\"show-before\">before (placement alone)</label>\n\
         <input type=\"radio\" name=\"show\" id=\"show-tiles\"><label for=\"show-tiles\">checkerboard, after</label>\n\
         <div class=\"planes\">\n"
    );
    planes.iter().for_each(|plane| page.push_str(&plane.depths));
    page.push_str("</div>\n");
}

/// The pictures of a plane that are shown by turns.
pub(super) fn depths(slice: &Slice, after: &Picture, before: &Picture, tiles: &Picture) -> String {
    let caption = caption(slice);
    let views = image(after, "after", &format!("{caption}, after"))
        + &image(before, "before", &format!("{caption}, before"))
        + &image(tiles, "tiles", &format!("{caption}, both depths in tiles"));
    view(slice, &views)
}

/// The change of volume in a plane.
pub(super) fn jacobian(slice: &Slice, picture: &Picture) -> String {
    let caption = format!("Jacobian, {}", slice.name());
    let image = image(picture, "jacobian", &caption);
    format!("<figure>{image}<figcaption>{caption}</figcaption></figure>\n")
}

pub(super) fn caption(slice: &Slice) -> String {
    format!("{}, {}", slice.name(), slice.place())
}

/// Pictures of a plane with the letters of its ends.
pub(super) fn view(slice: &Slice, images: &str) -> String {
    let [left, right, bottom, top] = slice.ends();
    format!(
        "<figure><div class=\"view\">{images}<span class=\"l\">{left}</span><span class=\"r\">{right}</span>\
         <span class=\"b\">{bottom}</span><span class=\"t\">{top}</span></div>\
         <figcaption>{}</figcaption></figure>\n",
        caption(slice)
    )
}

pub(super) fn image(picture: &Picture, class: &str, text: &str) -> String {
    let [width, height] = picture.size();
    format!(
        "<img class=\"{class}\" width=\"{width}\" height=\"{height}\" alt=\"{text}\" src=\"data:image/png;base64,{}\">",
        STANDARD.encode(picture.png())
    )
}

/// A figure, how it is, and what it means.
struct Figure {
    name: &'static str,
    value: String,
    good: bool,
    meaning: &'static str,
}

fn figures(page: &mut String, report: &Report) {
    page.push_str("<h2>Quality</h2>\n<table>\n");
    let voxel_mm = patch_voxel_mm(report);
    for figure in rate(&report.quality, report.depth.median_thickness_mm, voxel_mm) {
        let (class, word) = if figure.good {
            ("good", "good")
        } else {
            ("look", "look closer")
        };
        let _ = writeln!(
            page,
            "<tr><th>{}</th><td class=\"number\">{}</td><td class=\"{class}\">{word}</td><td class=\"soft\">{}</td></tr>",
            figure.name, figure.value, figure.meaning
        );
    }
    page.push_str("</table>\n");
}

/// Smallest voxel size of the grid on which the fields lie.
fn patch_voxel_mm(report: &Report) -> f64 {
    let depth = |role: &str| role == "segmentation" || role == "depthMap";
    let patch = report.inputs.iter().find(|input| depth(&input.role));
    patch.map_or(f64::INFINITY, |input| {
        input
            .voxel_size_mm
            .into_iter()
            .fold(f64::INFINITY, f64::min)
    })
}

/// The figures with the limits of the manual's table.
fn rate(quality: &Quality, thickness_mm: Option<f64>, voxel_mm: f64) -> Vec<Figure> {
    let folds = quality.folded_cells + quality.inverse_folded_cells;
    let mut figures = vec![
        Figure {
            name: "Overlap",
            value: format!("{:.1} %", 100.0 * quality.overlap),
            good: quality.overlap >= 0.5,
            meaning: "share of the patch's cortex that lies in the template",
        },
        Figure {
            name: "Depth residual",
            value: format!(
                "{:.4} → {:.4}",
                quality.depth_residual_before, quality.depth_residual_after
            ),
            good: quality.depth_residual_after < quality.depth_residual_before,
            meaning: "root mean square difference of the two depths over the cortex, 0 to 1",
        },
    ];
    if let (Some(before), Some(after)) = (
        quality.landmark_mean_before_mm,
        quality.landmark_mean_after_mm,
    ) {
        figures.push(Figure {
            name: "Landmarks",
            value: format!("{before:.3} → {after:.3} mm"),
            good: after <= before,
            meaning: "mean distance of the active pairs, in the template",
        });
    }
    figures.extend([
        Figure {
            name: "Displacement",
            value: format!(
                "{:.3} mm, at most {:.3} mm",
                quality.displacement_mean_mm, quality.displacement_max_mm
            ),
            good: thickness_mm.is_none_or(|mm| quality.displacement_mean_mm < 0.5 * mm),
            meaning: "non-linear part: mean over the cortex, largest of the patch; good below half the thickness of the cortex",
        },
        Figure {
            name: "Jacobian",
            value: format!("{:.2} to {:.2}", quality.jacobian_min, quality.jacobian_max),
            good: quality.jacobian_min > 0.25 && quality.jacobian_max < 4.0,
            meaning: "smallest and largest local change of volume",
        },
        Figure {
            name: "Folded cells",
            value: folds.to_string(),
            good: folds == 0,
            meaning: "places where the map turns space inside out, forward and inverse",
        },
        Figure {
            name: "Inverse",
            value: format!(
                "{:.1e} mm, at most {:.1e} mm",
                quality.inverse_consistency_mean_mm, quality.inverse_consistency_max_mm
            ),
            good: quality.inverse_consistency_max_mm < voxel_mm,
            meaning: "how far forward after inverse misses the start; good below a voxel",
        },
    ]);
    figures
}

fn charts(page: &mut String, report: &Report, planes: &[Plane], histogram: &Histogram) {
    let _ = write!(
        page,
        "<h2>Course and deformation</h2>\n<div class=\"charts\">\n\
         <div><p>Depth difference before each iteration, from the coarsest level to the finest.</p>{}</div>\n\
         <div><p>Change of volume over the cortex.</p>{}</div>\n</div>\n\
         <p>Where space shrinks (blue) and grows (red); full colour at half and at twice the volume.</p>\n\
         <div class=\"planes\">\n",
        chart::residuals(&report.levels),
        chart::bars(histogram),
    );
    planes
        .iter()
        .for_each(|plane| page.push_str(&plane.jacobian));
    page.push_str("</div>\n");
}

fn landmarks(page: &mut String, report: &Report) {
    if report.landmarks.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Landmarks</h2>\n<table class=\"narrow\">\n<tr><th>Pair</th><th class=\"number\">Before, mm</th><th class=\"number\">After, mm</th><th class=\"number\">Weight left</th></tr>\n",
    );
    for pair in &report.landmarks {
        let weight = match pair.effective_weight {
            Some(weight) if pair.active => format!("{weight:.2}"),
            _ => "not used".to_owned(),
        };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"number\">{:.3}</td><td class=\"number\">{:.3}</td><td class=\"number\">{weight}</td></tr>",
            escape(&pair.name),
            pair.before_mm,
            pair.after_mm
        );
    }
    page.push_str("</table>\n");
}

fn files(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Files</h2>\n<table>\n<tr><th>Read</th><th>File</th><th>Voxels</th><th>Voxel size, mm</th><th>SHA-256</th></tr>\n",
    );
    for input in &report.inputs {
        let [x, y, z] = input.shape;
        let size = input.voxel_size_mm.map(|mm| format!("{mm:.4}")).join(" × ");
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{x} × {y} × {z}</td><td>{size}</td><td><code>{}</code></td></tr>",
            escape(&input.role),
            escape(&input.name),
            escape(&input.sha256)
        );
    }
    page.push_str("</table>\n<table>\n<tr><th>Written</th><th class=\"number\">Bytes</th><th>SHA-256</th></tr>\n");
    for artifact in &report.artifacts {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"number\">{}</td><td><code>{}</code></td></tr>",
            escape(&artifact.name),
            artifact.bytes,
            escape(&artifact.sha256)
        );
    }
    page.push_str("</table>\n");
}

fn parameters(page: &mut String, report: &Report) {
    let matrix: String = report
        .patch_to_template
        .iter()
        .map(|row| {
            row.map(|value| format!("{value:>14.6}"))
                .concat()
                .trim_end()
                .to_owned()
                + "\n"
        })
        .collect();
    let parameters = serde_json::to_string_pretty(&report.registration).unwrap_or_default();
    let _ = write!(
        page,
        "<h2>To do it again</h2>\n\
         <p>The same files, and the same request if there was one, give the same bytes with the aligner {}:\n\
         <code>{}</code></p>\n\
         <details><summary>Placement, patch to template, physical space (RAS, mm)</summary><pre>{matrix}</pre></details>\n\
         <details><summary>Parameters</summary><pre>{}</pre></details>\n",
        escape(&report.aligner_version),
        escape(&report.command),
        escape(&parameters),
    );
}

/// Text of any origin as the text of an element or of a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(
            escape("<img src=x onerror='a(\"&\")'>"),
            "&lt;img src=x onerror=&#39;a(&quot;&amp;&quot;)&#39;&gt;"
        );
    }

    #[test]
    fn limits_are_those_of_the_manual() {
        let mut quality = Quality {
            overlap: 1.0,
            depth_residual_before: 0.1,
            depth_residual_after: 0.05,
            jacobian_min: 0.7,
            jacobian_max: 1.5,
            displacement_mean_mm: 0.5,
            ..Quality::default()
        };
        assert!(
            rate(&quality, Some(2.5), 0.4)
                .iter()
                .all(|figure| figure.good)
        );
        quality.displacement_mean_mm = 1.3;
        quality.overlap = 0.4;
        quality.inverse_consistency_max_mm = 0.5;
        quality.landmark_mean_before_mm = Some(0.1);
        quality.landmark_mean_after_mm = Some(0.2);
        let poor: Vec<_> = rate(&quality, Some(2.5), 0.4)
            .into_iter()
            .filter(|figure| !figure.good)
            .map(|figure| figure.name)
            .collect();
        assert_eq!(poor, ["Overlap", "Landmarks", "Displacement", "Inverse"]);
    }
}
