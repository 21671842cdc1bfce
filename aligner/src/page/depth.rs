//! The page of a depth map alone: the segmentation with lines of equal depth, where depth is known, and
//! how thick the cortex is.

use std::fmt::Write;

use alignment_api::InputFile;

use super::{
    SIDE, centre, chart, interpolator,
    picture::Picture,
    sections::{END, caption, escape, head, image, view, warnings},
    slice::Slice,
};
use crate::{depth::Tissue, maps::Maps, volume::Volume};

/// Depths of the lines, and their colours: blue at the pial surface to red at the white matter.
const LINES: [(f32, [u8; 3]); 5] = [
    (0.02, [0, 114, 255]),
    (0.25, [0, 190, 190]),
    (0.5, [240, 228, 66]),
    (0.75, [240, 150, 30]),
    (0.98, [230, 50, 40]),
];
/// Grey of each tissue.
const SHADES: [f32; 3] = [0.0, 0.45, 0.8];

/// What the page shows.
pub struct DepthSubject<'a> {
    /// The file of the segmentation.
    pub file: &'a InputFile,
    /// Its tissues.
    pub tissues: &'a Volume<Tissue>,
    /// What was computed from them.
    pub maps: &'a Maps,
    /// What a person should know.
    pub warnings: &'a [String],
}

/// One plane, as text for the page: the segmentation with the lines of depth, and the validity.
struct Plane {
    lines: String,
    validity: String,
}

/// Draws and writes the page.
pub fn render_depth(subject: &DepthSubject) -> String {
    let depth = &subject.maps.depth;
    let planes: Vec<Plane> = Slice::three(&depth.grid, centre(depth), SIDE)
        .into_iter()
        .map(|slice| draw(&slice, subject))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let mut page = head(
        &format!("Cortical depth of {}", subject.file.name),
        &format!("0 at the pial surface, 1 at the white matter, by the aligner {version}"),
    );
    warnings(&mut page, subject.warnings);
    figures(&mut page, subject);
    page.push_str("<h2>Depth</h2>\n<p>The segmentation with lines of equal depth:");
    for (level, [r, g, b]) in LINES {
        let _ = write!(
            page,
            "<i class=\"key\" style=\"background:#{r:02x}{g:02x}{b:02x}\"></i>{level}"
        );
    }
    page.push_str(
        ".\nWhere they meet without white matter or CSF between them, a surface is missing.</p>\n",
    );
    pictures(&mut page, &planes, |plane| &plane.lines);
    page.push_str(
        "<h2>Validity</h2>\n<p>How much of each value is known: green all of it, red nothing. Near the \
         border of the image the rest of a column is missing.</p>\n",
    );
    pictures(&mut page, &planes, |plane| &plane.validity);
    let _ = write!(
        page,
        "<h2>Thickness</h2>\n<div class=\"charts\"><div><p>Over the cortex, where it is known.</p>{}</div></div>\n\
         <p class=\"soft\">SHA-256 of the segmentation: <code>{}</code></p>\n{END}",
        chart::bars(&chart::thickness(&subject.maps.lengths_mm)),
        escape(&subject.file.sha256),
    );
    page
}

fn draw(slice: &Slice, subject: &DepthSubject) -> Plane {
    let (tissues, maps) = (subject.tissues, subject.maps);
    let (tissue, validity) = (tissue_finder(tissues), interpolator(&maps.validity));
    let known = slice.sample(|point| match tissue(point) {
        Some(Tissue::Grey) => validity(point),
        _ => f32::NAN,
    });
    let figure = |picture: Picture, what| {
        let words = format!("{what}, {}", caption(slice));
        view(slice, &image(&picture, what, &words))
    };
    Plane {
        validity: figure(
            Picture::coloured(slice.size(), &known, validity_colour),
            "validity",
        ),
        lines: figure(lined(slice, tissues, &maps.depth), "depth"),
    }
}

/// The segmentation with the lines of depth.
pub(super) fn lined(slice: &Slice, tissues: &Volume<Tissue>, depth: &Volume<f32>) -> Picture {
    let tissue = tissue_finder(tissues);
    let shade = |point| match tissue(point) {
        Some(Tissue::Csf) => SHADES[0],
        Some(Tissue::Grey) => SHADES[1],
        Some(Tissue::White) => SHADES[2],
        None => f32::NAN,
    };
    let mut picture = Picture::coloured(slice.size(), &slice.sample(shade), |shade| {
        [(255.0 * shade) as u8; 3]
    });
    let depth = slice.sample(interpolator(depth));
    for (level, colour) in LINES {
        picture.lines(&depth, &[level], colour);
    }
    picture
}

/// The tissue at a world position; `None` outside the grid.
fn tissue_finder(tissues: &Volume<Tissue>) -> impl Fn([f64; 3]) -> Option<Tissue> {
    let to_voxel = tissues.grid.voxel_to_world.inverse();
    let [nx, ny, _] = tissues.grid.shape;
    move |point| {
        let at =
            to_voxel.map(|to_voxel| to_voxel.apply(point).map(|v| v.round().max(0.0) as usize));
        let index = at.map(|[x, y, z]| x + nx * (y + ny * z));
        index.and_then(|index| tissues.values().get(index).copied())
    }
}

/// Red at 0, yellow at a half, green at 1.
fn validity_colour(validity: f32) -> [u8; 3] {
    let share = validity.clamp(0.0, 1.0);
    let rise = |from: f32, to: f32, t: f32| (from + (to - from) * t.clamp(0.0, 1.0)) as u8;
    if share < 0.5 {
        let t = 2.0 * share;
        [
            rise(200.0, 240.0, t),
            rise(30.0, 220.0, t),
            rise(40.0, 60.0, t),
        ]
    } else {
        let t = 2.0 * share - 1.0;
        [
            rise(240.0, 40.0, t),
            rise(220.0, 150.0, t),
            rise(60.0, 70.0, t),
        ]
    }
}

fn pictures(page: &mut String, planes: &[Plane], figure: fn(&Plane) -> &str) {
    page.push_str("<div class=\"planes\">\n");
    planes.iter().for_each(|plane| page.push_str(figure(plane)));
    page.push_str("</div>\n");
}

fn figures(page: &mut String, subject: &DepthSubject) {
    let [x, y, z] = subject.tissues.grid.shape;
    let size = subject.tissues.grid.spacing().map(|mm| format!("{mm:.4}"));
    let grey = |tissue: &&Tissue| **tissue == Tissue::Grey;
    let cortex = subject.tissues.values().iter().filter(grey).count();
    let pairs = subject
        .tissues
        .values()
        .iter()
        .zip(subject.maps.validity.values());
    let well = pairs
        .filter(|(tissue, validity)| grey(tissue) && **validity >= 0.5)
        .count();
    let rows = [
        (
            "Voxels",
            format!("{x} × {y} × {z} of {} mm", size.join(" × ")),
        ),
        ("Cortex", format!("{cortex} voxels")),
        (
            "Known depth",
            format!(
                "{:.1} % of the cortex has a validity of 0.5 or more",
                100.0 * well as f64 / cortex.max(1) as f64
            ),
        ),
        (
            "Thickness",
            format!("{:.2} mm (median)", subject.maps.median_thickness_mm),
        ),
    ];
    page.push_str("<table class=\"narrow\">\n");
    for (name, value) in rows {
        let _ = writeln!(page, "<tr><th>{name}</th><td>{value}</td></tr>");
    }
    page.push_str("</table>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_green_and_what_is_not_is_red() {
        let ([r0, g0, _], [r1, g1, _]) = (validity_colour(0.0), validity_colour(1.0));
        assert!(r0 > g0 && g1 > r1);
        // No jump in the middle.
        let pair = validity_colour(0.5)
            .into_iter()
            .zip(validity_colour(0.499_999));
        assert!(pair.into_iter().all(|(a, b)| a.abs_diff(b) <= 1));
    }
}
