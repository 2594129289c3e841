//! Pictures at another size, as PIL and torch (`antialias=True`) make them: a kernel over what an output pixel covers,
//! wider where the picture shrinks; rows and columns one after the other.

use super::data::Image;
use super::window::{Window, resize};
use crate::job::Resize;

/// stand-in until merged
pub fn view(image: Image<'_>, window: Window, how: Resize, side: usize, flip: bool, to: &mut [u8]) {
    let _ = how;
    resize(image, window, side, flip, to);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The mean of what is covered; of a picture that grows, the nearest.
    Box,
    Triangle,
    /// Keys' with a = -0.5.
    Cubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Box => 0.5,
            Filter::Triangle => 1.0,
            Filter::Cubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        match self {
            Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Triangle => (1.0 - x.abs()).max(0.0),
            Filter::Cubic => {
                const A: f64 = -0.5;
                match x.abs() {
                    x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                    x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                    _ => 0.0,
                }
            }
        }
    }

    /// The first of `before` pixels that output `place` of `after` reads, and its weights, which sum to one.
    pub fn taps(self, place: usize, before: usize, after: usize) -> (usize, Vec<f64>) {
        let scale = before as f64 / after as f64;
        let wide = scale.max(1.0);
        let (centre, support) = (scale * (place as f64 + 0.5), self.support() * wide);
        let first = (centre - support + 0.5).floor().max(0.0) as usize;
        let end = ((centre + support + 0.5).floor() as usize).min(before);
        let weights: Vec<f64> = (first..end).map(|from| self.at((from as f64 - centre + 0.5) / wide)).collect();
        let sum: f64 = weights.iter().sum();
        (first, weights.into_iter().map(|weight| weight / sum).collect())
    }
}

/// Torchvision's evaluation crop: the shorter side to `floor(resolution / crop)`, then `resolution` from the centre;
/// `[resolution, resolution, C]`, rounded to bytes after each pass, as PIL does.
pub fn centre_crop(image: Image<'_>, crop: f64, resolution: usize, filter: Filter, to: &mut [u8]) {
    let c = image.channels;
    let shorter = ((resolution as f64 / crop).floor() as usize).max(resolution);
    let longer = |long: usize, short: usize| (shorter as f64 * long as f64 / short as f64) as usize;
    let (height, width) = match image.height <= image.width {
        true => (shorter, longer(image.width, image.height)),
        false => (longer(image.height, image.width), shorter),
    };
    // Python's round, which torchvision calls, takes halves to even numbers.
    let start = |side: usize| ((side - resolution) as f64 / 2.0).round_ties_even() as usize;
    let columns: Vec<_> = (0..resolution).map(|x| filter.taps(start(width) + x, image.width, width)).collect();
    let mut wide = vec![0u8; image.height * resolution * c];
    for (row, to) in wide.chunks_exact_mut(resolution * c).enumerate() {
        let from = &image.pixels[row * image.width * c..][..image.width * c];
        for (to, (first, weights)) in to.chunks_exact_mut(c).zip(&columns) {
            for (channel, to) in to.iter_mut().enumerate() {
                let pixels = from[first * c..].chunks_exact(c).zip(weights);
                *to = byte(pixels.map(|(pixel, weight)| f64::from(pixel[channel]) * weight).sum());
            }
        }
    }
    for (y, to) in to.chunks_exact_mut(resolution * c).enumerate() {
        let (first, weights) = filter.taps(start(height) + y, image.height, height);
        for (place, to) in to.iter_mut().enumerate() {
            let rows = wide[first * resolution * c..].chunks_exact(resolution * c).zip(&weights);
            *to = byte(rows.map(|(row, weight)| f64::from(row[place]) * weight).sum());
        }
    }
}

fn byte(value: f64) -> u8 {
    (value + 0.5).floor().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Torchvision's numbers for a picture of 7 x 5 bytes: `tests/golden/evaluation_crops.py`.
    #[test]
    fn crops_are_torchvisions() {
        #[derive(serde::Deserialize)]
        struct Recorded {
            height: usize,
            width: usize,
            resolution: usize,
            crop: f64,
            interpolation: String,
            pixels: Vec<u8>,
        }
        let recorded: Vec<Recorded> =
            serde_json::from_str(include_str!("../../tests/golden/evaluation_crops.json")).unwrap();
        assert_eq!(recorded.len(), 18);
        for Recorded { height, width, resolution, crop, interpolation, pixels } in recorded {
            let image: Vec<u8> = (0..height * width * 3).map(|i| (i * i * 31 % 251) as u8).collect();
            let filter = match interpolation.as_str() {
                "box" => Filter::Box,
                "bilinear" => Filter::Triangle,
                _ => Filter::Cubic,
            };
            let mut found = vec![0; resolution * resolution * 3];
            centre_crop(Image { pixels: &image, height, width, channels: 3 }, crop, resolution, filter, &mut found);
            let what = format!("{height}x{width} to {resolution} by {interpolation}");
            assert_eq!(found.len(), pixels.len(), "{what}");
            // PIL's weights are fixed-point: a byte may round the other way.
            let off = found.iter().zip(&pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
            assert!(off <= 1, "{what}: off by {off}");
        }
    }
}
