//! Pictures of planes: grey backgrounds, lines of equal depth, colours, PNG.

use std::collections::BTreeSet;

/// Shares of the values that may lie below black and above white.
const WINDOW: [f64; 2] = [0.01, 0.99];
/// Of what lies outside an image.
const NOTHING: [u8; 3] = [40, 40, 46];
/// Pixels between pictures side by side.
const GAP: usize = 8;
/// Pixels along a side of a tile of a checkerboard.
const TILE: usize = 24;
/// Bits of grey that a small file does without: 32 shades are left.
const DROPPED_BITS: u8 = 3;

/// Colours, row by row from the top.
pub(super) struct Picture {
    size: [usize; 2],
    rgb: Vec<[u8; 3]>,
}

impl Picture {
    /// Grey from black to white over all but the most extreme values; NaN is nothing.
    pub(super) fn grey(size: [usize; 2], values: &[f32]) -> Self {
        let mut sorted: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = |share: f64| {
            let index = (share * sorted.len().saturating_sub(1) as f64) as usize;
            sorted.get(index).copied().unwrap_or(0.0)
        };
        let [low, high] = WINDOW.map(at);
        let range = if high > low { high - low } else { 1.0 };
        Self::coloured(size, values, |value| {
            [((value - low) / range * 255.0).clamp(0.0, 255.0) as u8; 3]
        })
    }

    /// Colours of values; NaN is nothing.
    pub(super) fn coloured(
        size: [usize; 2],
        values: &[f32],
        colour: impl Fn(f32) -> [u8; 3],
    ) -> Self {
        let pixel = |value: &f32| {
            if value.is_finite() {
                colour(*value)
            } else {
                NOTHING
            }
        };
        Self {
            size,
            rgb: values.iter().map(pixel).collect(),
        }
    }

    /// Lines where `values`, on the same pixels, cross one of the levels.
    pub(super) fn lines(&mut self, values: &[f32], levels: &[f32], colour: [u8; 3]) {
        let [width, height] = self.size;
        for row in 0..height {
            for column in 0..width {
                let here = column + row * width;
                let right = (column + 1 < width).then_some(here + 1);
                let below = (row + 1 < height).then_some(here + width);
                let crossed = [right, below].into_iter().flatten().any(|other| {
                    levels
                        .iter()
                        .any(|level| crosses(values[here], values[other], *level))
                });
                if crossed {
                    self.rgb[here] = colour;
                }
            }
        }
    }

    /// Pictures in a row, aligned at the top.
    pub(super) fn side_by_side(pictures: &[&Self]) -> Self {
        let width: usize = pictures.iter().map(|p| p.size[0] + GAP).sum();
        let size = [
            width.saturating_sub(GAP),
            pictures.iter().map(|p| p.size[1]).max().unwrap_or(0),
        ];
        let mut rgb = vec![NOTHING; size[0] * size[1]];
        let mut left = 0;
        for picture in pictures {
            for (row, pixels) in picture.rgb.chunks_exact(picture.size[0]).enumerate() {
                let start = left + row * size[0];
                rgb[start..start + pixels.len()].copy_from_slice(pixels);
            }
            left += picture.size[0] + GAP;
        }
        Self { size, rgb }
    }

    /// Width and height in pixels.
    pub(super) fn size(&self) -> [usize; 2] {
        self.size
    }

    /// The picture as a PNG file.
    pub(super) fn png(&self) -> Vec<u8> {
        self.encode(self.rgb.as_flattened(), |encoder| {
            encoder.set_color(png::ColorType::Rgb);
        })
    }

    /// The picture as a small PNG file: fewer shades of grey, at most a byte for each pixel. Of a
    /// picture with more than 256 colours, the brightest become one.
    pub(super) fn small_png(&self) -> Vec<u8> {
        let rgb: Vec<[u8; 3]> = self.rgb.iter().map(|pixel| coarse(*pixel)).collect();
        let colours: BTreeSet<[u8; 3]> = rgb.iter().copied().collect();
        let palette: Vec<[u8; 3]> = colours.into_iter().take(256).collect();
        let index = |pixel: &[u8; 3]| match palette.binary_search(pixel) {
            Ok(index) | Err(index) => u8::try_from(index).unwrap_or(u8::MAX),
        };
        let pixels: Vec<u8> = rgb.iter().map(index).collect();
        self.encode(&pixels, |encoder| {
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(palette.as_flattened().to_vec());
            encoder.set_compression(png::Compression::High);
            // Neighbouring indices say nothing about each other.
            encoder.set_filter(png::Filter::NoFilter);
        })
    }

    fn encode(
        &self,
        pixels: &[u8],
        choose: impl FnOnce(&mut png::Encoder<&mut Vec<u8>>),
    ) -> Vec<u8> {
        let mut file = Vec::new();
        let [width, height] = self.size.map(|n| n as u32);
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_depth(png::BitDepth::Eight);
        choose(&mut encoder);
        let written = encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(pixels));
        // Writing to memory fails only for pictures without pixels, which no grid has.
        debug_assert!(written.is_ok());
        file
    }
}

/// Values of two pictures in tiles, in turn: what goes on across the borders of the tiles matches.
pub(super) fn checkerboard([width, _]: [usize; 2], first: &[f32], second: &[f32]) -> Vec<f32> {
    let tiles = first.iter().zip(second).enumerate();
    tiles
        .map(|(i, (first, second))| {
            let [column, row] = [i % width, i / width].map(|pixel| pixel / TILE);
            *[first, second][(column + row) % 2]
        })
        .collect()
}

/// Depth from black at the pial surface to white at the white matter.
pub(super) fn depth_grey(depth: f32) -> [u8; 3] {
    [(depth * 255.0).clamp(0.0, 255.0) as u8; 3]
}

/// Greys in fewer shades, from black to white; colours as they are.
fn coarse([r, g, b]: [u8; 3]) -> [u8; 3] {
    if r != g || g != b {
        return [r, g, b];
    }
    let (shade, most) = (
        u16::from(r >> DROPPED_BITS),
        u16::from(u8::MAX >> DROPPED_BITS),
    );
    [(shade * 255 / most) as u8; 3]
}

/// Whether a level lies between two values. False for NaN.
fn crosses(a: f32, b: f32, level: f32) -> bool {
    (a < level && b >= level) || (b < level && a >= level)
}

/// Blue where space shrinks, white where it keeps its volume, red where it grows; full at a half and
/// at twice the volume.
pub(super) fn jacobian_colour(determinant: f32) -> [u8; 3] {
    let change = determinant.max(1e-6).log2().clamp(-1.0, 1.0);
    let fade = |full: f32| (255.0 - change.abs() * (255.0 - full)) as u8;
    if change < 0.0 {
        [fade(33.0), fade(102.0), fade(172.0)]
    } else {
        [fade(178.0), fade(24.0), fade(43.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lie_where_the_level_is_crossed_and_not_beyond_the_border() {
        let values = [0.0, 0.4, 0.6, f32::NAN, 0.0, 0.4, 0.6, 1.0];
        let mut picture = Picture::grey([4, 2], &values);
        picture.lines(&values, &[0.5], [1, 2, 3]);
        let drawn: Vec<bool> = picture.rgb.iter().map(|rgb| *rgb == [1, 2, 3]).collect();
        assert_eq!(
            drawn,
            [false, true, false, false, false, true, false, false]
        );
        assert_eq!(picture.rgb[3], NOTHING);
    }

    #[test]
    fn tiles_come_from_both_pictures_in_turn() {
        let size = [2 * TILE + 1, TILE + 1];
        let values = |value: f32| vec![value; size[0] * size[1]];
        let board = checkerboard(size, &values(0.0), &values(1.0));
        let at = |column: usize, row: usize| board[column + row * size[0]];
        assert_eq!([at(0, 0), at(TILE, 0), at(2 * TILE, 0)], [0.0, 1.0, 0.0]);
        assert_eq!(
            [at(0, TILE), at(TILE - 1, TILE), at(TILE, TILE)],
            [1.0, 1.0, 0.0]
        );
    }

    #[test]
    fn a_png_can_be_read_again() {
        let picture = Picture::grey([3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let wide = Picture::side_by_side(&[&picture, &picture]);
        let mut reader = png::Decoder::new(std::io::Cursor::new(wide.png()))
            .read_info()
            .unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.width, info.height), (3 + 8 + 3, 2));
        assert_eq!(&rgb, wide.rgb.as_flattened());
    }

    #[test]
    fn a_small_png_keeps_colours_black_and_white_and_has_fewer_greys() {
        let mut picture = Picture::grey([16, 16], &(0..256).map(|v| v as f32).collect::<Vec<_>>());
        picture.rgb[7] = [255, 176, 0];
        let mut decoder = png::Decoder::new(std::io::Cursor::new(picture.small_png()));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut rgb).unwrap();
        let (pixels, _) = rgb.as_chunks::<3>();
        assert_eq!(
            [pixels[0], pixels[7], pixels[255]],
            [[0; 3], [255, 176, 0], [255; 3]]
        );
        assert_eq!(BTreeSet::from_iter(pixels).len(), 33);
        let apart = |(a, b): (&[u8; 3], &[u8; 3])| a.iter().zip(b).any(|(a, b)| a.abs_diff(*b) > 8);
        assert!(!pixels.iter().zip(&picture.rgb).any(apart));
    }

    #[test]
    fn shrinking_is_blue_and_growing_is_red() {
        assert_eq!(jacobian_colour(1.0), [255; 3]);
        let (small, large) = (jacobian_colour(0.5), jacobian_colour(4.0));
        assert!(small[2] > small[0] && large[0] > large[2]);
        assert_eq!(jacobian_colour(-1.0), jacobian_colour(0.5));
    }
}
