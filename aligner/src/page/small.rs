//! Small pictures of a result, for whoever cannot read its files: few enough bytes for a log.

use alignment_api::{MOST_PICTURE_BYTES, MOST_PICTURE_SIDE};
use rayon::prelude::*;

use super::{Sampled, Subject, centre, depth, picture::Picture, slice::Slice};
use crate::{depth::Tissue, volume::Volume};

/// Pixels along the longest side, the best first. With the last, six pictures fit whatever they
/// show: they have at most a byte for each pixel.
const SIDES: [u32; 5] = [MOST_PICTURE_SIDE, 224, 192, 160, 128];

/// A PNG file and its name.
pub struct NamedPicture {
    /// `before-N.png`, `after-N.png` or `depth-N.png`.
    pub name: String,
    /// The file.
    pub png: Vec<u8>,
}

/// The three planes of an alignment, before and after it, as large as fits.
pub fn small_pictures(subject: &Subject) -> Vec<NamedPicture> {
    fitting(subject.depth, |slice, plane| {
        let [before, after] = Sampled::of(slice, subject).lined(slice.size());
        vec![
            named("before", plane, &before),
            named("after", plane, &after),
        ]
    })
}

/// The three planes of a depth map, as large as fits.
pub fn small_depth_pictures(tissues: &Volume<Tissue>, depth: &Volume<f32>) -> Vec<NamedPicture> {
    fitting(depth, |slice, plane| {
        vec![named("depth", plane, &depth::lined(slice, tissues, depth))]
    })
}

fn named(what: &str, plane: usize, picture: &Picture) -> NamedPicture {
    NamedPicture {
        name: format!("{what}-{plane}.png"),
        png: picture.small_png(),
    }
}

fn fitting(
    depth: &Volume<f32>,
    draw: impl Fn(&Slice, usize) -> Vec<NamedPicture> + Sync,
) -> Vec<NamedPicture> {
    let centre = centre(depth);
    let drawn = SIDES.into_iter().map(|side| {
        let slices = Slice::three(&depth.grid, centre, side);
        let pictures = slices.par_iter().enumerate();
        pictures
            .flat_map_iter(|(plane, slice)| draw(slice, plane))
            .collect::<Vec<_>>()
    });
    let bytes = |pictures: &[NamedPicture]| pictures.iter().map(|p| p.png.len()).sum::<usize>();
    drawn
        .into_iter()
        .find(|pictures| bytes(pictures) <= MOST_PICTURE_BYTES)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{affine::Affine, field::DisplacementField, grid::Grid};

    /// A depth without any pattern, which compresses worst.
    fn noise(shape: [usize; 3]) -> Volume<f32> {
        let grid = Grid {
            shape,
            voxel_to_world: Affine::IDENTITY,
        };
        let mut state = 1_u32;
        let values = (0..grid.voxels()).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        });
        Volume::from_vec(grid, values.collect()).unwrap()
    }

    #[test]
    fn pictures_of_noise_fit_and_are_not_smaller_than_they_must() {
        let depth = noise([128, 128, 128]);
        let forward = DisplacementField::zero(depth.grid);
        let pictures = small_pictures(&Subject {
            depth: &depth,
            template: &depth,
            patch_to_template: Affine::IDENTITY,
            forward: &forward,
            image: None,
        });
        let names: Vec<&str> = pictures.iter().map(|p| p.name.as_str()).collect();
        let expected = [
            "before-0", "after-0", "before-1", "after-1", "before-2", "after-2",
        ];
        assert_eq!(names, expected.map(|name| format!("{name}.png")));
        let bytes: usize = pictures.iter().map(|picture| picture.png.len()).sum();
        assert!(
            bytes <= MOST_PICTURE_BYTES && bytes > MOST_PICTURE_BYTES / 2,
            "{bytes}"
        );
    }
}
