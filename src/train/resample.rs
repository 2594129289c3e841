//! Pictures at another size, as PIL and torch (`antialias=True`) make them: a kernel over what an output pixel covers,
//! wider where the picture shrinks; rows and columns one after the other. Training's views by name, and the crops that
//! published weights are evaluated with.

use std::cell::RefCell;

use fast_image_resize::images::Image as Target;
use fast_image_resize::images::{CroppedImage, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::data::Image;
use super::window::{self, Window};
use crate::job::Resize;

thread_local! {
    /// Keeps its buffers from one view to the next.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// Writes the window's pixels, `resolution` x `resolution` x C, mirrored if `flip`, into `to`.
///
/// No pixel beyond the window is read, but those that its edges cut. Of an image of one channel or three.
pub fn view(image: Image<'_>, window: Window, resize: Resize, resolution: usize, flip: bool, to: &mut [u8]) {
    let filter = match resize {
        Resize::Bilinear => return window::resize(image, window, resolution, flip, to),
        Resize::BilinearAntialias => FilterType::Bilinear,
        Resize::Bicubic => FilterType::CatmullRom,
    };
    RESIZER.with_borrow_mut(|resizer| antialiased(resizer, image, window, filter, resolution, to));
    if flip {
        mirror(to, resolution, image.channels);
    }
}

fn antialiased(
    resizer: &mut Resizer,
    image: Image<'_>,
    window: Window,
    filter: FilterType,
    resolution: usize,
    to: &mut [u8],
) {
    let kind = if image.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
    // A window at the edge may be rounded a little beyond it.
    let within = |start: f64, length: f64, pixels: usize| {
        let first = start.floor().clamp(0.0, pixels as f64 - 1.0);
        let end = (start + length).ceil().clamp(first + 1.0, pixels as f64);
        let start = start.max(first) - first;
        (first as u32, (end - first) as u32, start, length.min(end - first - start))
    };
    let (left, width, x, across) = within(window.x, window.width, image.width);
    let (top, height, y, down) = within(window.y, window.height, image.height);
    const FITS: &str = "an image has as many bytes as its sides say, and holds its windows";
    let from = ImageRef::new(image.width as u32, image.height as u32, image.pixels, kind).expect(FITS);
    let from = CroppedImage::new(&from, left, top, width, height).expect(FITS);
    let side = resolution as u32;
    let mut to = Target::from_slice_u8(side, side, to, kind).expect("as many bytes as the resolution says");
    let options = ResizeOptions::new().crop(x, y, across, down).resize_alg(ResizeAlg::Convolution(filter));
    resizer.resize(&from, &mut to, &options).expect(FITS);
}

fn mirror(pixels: &mut [u8], resolution: usize, channels: usize) {
    for row in pixels.chunks_exact_mut(resolution * channels) {
        match channels {
            1 => row.reverse(),
            _ => row.as_chunks_mut::<3>().0.reverse(),
        }
    }
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
    use fast_image_resize::CpuExtensions;

    use super::*;
    use crate::train::random::{Purpose, Stream};

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

    /// Torchvision's views of boxes: `tests/golden/views.py`.
    #[test]
    fn views_are_torchvisions() {
        #[derive(serde::Deserialize)]
        struct Recorded {
            height: usize,
            width: usize,
            channels: usize,
            #[serde(rename = "box")]
            window: [f64; 4],
            resolution: usize,
            resize: String,
            flip: bool,
            pixels: Vec<u8>,
        }
        let recorded: Vec<Recorded> = serde_json::from_str(include_str!("../../tests/golden/views.json")).unwrap();
        assert_eq!(recorded.len(), 30);
        for Recorded { height, width, channels, window, resolution, resize, flip, pixels } in recorded {
            let made_up: Vec<u8> = (0..height * width * channels).map(|i| (i * i * 31 % 251) as u8).collect();
            let image = Image { pixels: &made_up, height, width, channels };
            let what = format!("{window:?} of {height}x{width}x{channels} to {resolution} by {resize}");
            let resize = match resize.as_str() {
                "bilinear" => Resize::Bilinear,
                "bilinear-antialias" => Resize::BilinearAntialias,
                _ => Resize::Bicubic,
            };
            let [x, y, width, height] = window;
            let mut found = vec![0; resolution * resolution * channels];
            view(image, Window { x, y, width, height }, resize, resolution, flip, &mut found);
            assert_eq!(found.len(), pixels.len(), "{what}");
            let off: Vec<u8> = found.iter().zip(&pixels).map(|(a, b)| a.abs_diff(*b)).collect();
            let mean = off.iter().map(|off| f64::from(*off)).sum::<f64>() / off.len() as f64;
            let most = off.iter().max().copied().unwrap_or(0);
            // Fixed-point weights of other widths: a byte may round the other way after each pass. A cubic goes beyond
            // the range on noise, where it is cut off after either pass, and these come in the other order.
            assert!(mean <= 0.45 && (most <= 1 || resize == Resize::Bicubic), "{what}: off by {mean}, at most {most}");
        }
    }

    fn noise(count: usize) -> Vec<u8> {
        let mut stream = Stream::new(3, Purpose::TeacherView, 0);
        (0..count).map(|_| stream.below(256) as u8).collect()
    }

    /// A view is the same on every machine: vector code of every kind gives the bytes of plain code.
    #[test]
    fn views_do_not_depend_on_the_processor() {
        let mut resizers = Vec::new();
        #[cfg(target_arch = "x86_64")]
        for extensions in [CpuExtensions::None, CpuExtensions::Sse4_1, CpuExtensions::Avx2] {
            if extensions.is_supported() {
                let mut resizer = Resizer::new();
                // SAFETY: the processor has them.
                unsafe { resizer.set_cpu_extensions(extensions) };
                resizers.push(resizer);
            }
        }
        #[cfg(target_arch = "aarch64")]
        for extensions in [CpuExtensions::None, CpuExtensions::Neon] {
            let mut resizer = Resizer::new();
            // SAFETY: every processor of this kind has them.
            unsafe { resizer.set_cpu_extensions(extensions) };
            resizers.push(resizer);
        }
        let mut stream = Stream::new(5, Purpose::TeacherView, 0);
        for channels in [1, 3] {
            let (height, width) = (91, 120);
            let pixels = noise(height * width * channels);
            let image = Image { pixels: &pixels, height, width, channels };
            for turn in 0..100 {
                let (w, h) = (1.0 + stream.unit() * 119.0, 1.0 + stream.unit() * 90.0);
                let (x, y) = (stream.unit() * (120.0 - w), stream.unit() * (91.0 - h));
                let window = Window { x, y, width: w, height: h };
                let resolution = 1 + stream.below(70) as usize;
                let filter = if turn % 2 == 0 { FilterType::Bilinear } else { FilterType::CatmullRom };
                let views = resizers.iter_mut().map(|resizer| {
                    let mut to = vec![0; resolution * resolution * channels];
                    antialiased(resizer, image, window, filter, resolution, &mut to);
                    to
                });
                let views: Vec<Vec<u8>> = views.collect();
                assert!(views.windows(2).all(|two| two[0] == two[1]), "{window:?} to {resolution}");
            }
        }
    }

    #[test]
    fn no_view_shows_what_is_outside_its_window() {
        let mut pixels = vec![255; 300];
        for y in 2..7 {
            pixels[(y * 10 + 3) * 3..(y * 10 + 8) * 3].fill(10);
        }
        let image = Image { pixels: &pixels, height: 10, width: 10, channels: 3 };
        let whole = Window { x: 3.0, y: 2.0, width: 5.0, height: 5.0 };
        let cut = Window { x: 3.25, y: 2.5, width: 4.5, height: 4.25 };
        for resize in [Resize::Bilinear, Resize::BilinearAntialias, Resize::Bicubic] {
            for (window, resolution) in [(whole, 3), (whole, 5), (whole, 32), (cut, 2), (cut, 7), (cut, 31)] {
                let mut to = vec![0; resolution * resolution * 3];
                view(image, window, resize, resolution, false, &mut to);
                assert!(to.iter().all(|pixel| *pixel == 10), "{resize:?} {window:?} {resolution}: {to:?}");
            }
        }
    }
}
