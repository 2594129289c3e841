//! Windows of an image and their pixels at a network's resolution.
//!
//! A window is a box of the original image; cropping and resizing are one step, so that teacher and student can be
//! shown the same window at different resolutions (paper.md 3.3).

use std::mem;

use crate::job::{Crop, View};
use crate::train::data::Image;
use crate::train::random::Stream;

/// A box in pixels of the original image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Window {
    /// The window `view` takes of a `width` x `height` image, whatever the resolutions of those who look; random ones by
    /// `stream`.
    ///
    /// The paper resizes to 160 px and cuts 128 at a whole pixel; here the cut is a share of the image at any place,
    /// so that networks of different resolution are shown the same window.
    pub fn draw(view: View, crop: &Crop, (width, height): (usize, usize), stream: &mut Stream) -> Window {
        let whole = Window { x: 0.0, y: 0.0, width: width as f64, height: height as f64 };
        let cut = |left: f64, top: f64| {
            let (width, height) = (whole.width / crop.margin, whole.height / crop.margin);
            Window { x: left * (whole.width - width), y: top * (whole.height - height), width, height }
        };
        match view {
            View::Resize => whole,
            View::CentralCrop => cut(0.5, 0.5),
            View::MildCrop => {
                let left = stream.unit();
                cut(left, stream.unit())
            }
            View::InceptionCrop => inception(crop, width as u32, height as u32, stream).unwrap_or(whole),
        }
    }

    /// Evaluation's window: the centre of the image at its own aspect, as resizing the shorter side and cutting the
    /// centre does (paper.md 1.8).
    pub fn evaluation(crop: &Crop, size: (usize, usize)) -> Window {
        Window::central(crop.margin, size)
    }

    /// A square of `1 / margin` of the shorter side.
    pub fn central(margin: f64, (width, height): (usize, usize)) -> Window {
        let side = width.min(height) as f64 / margin;
        Window { x: (width as f64 - side) / 2.0, y: (height as f64 - side) / 2.0, width: side, height: side }
    }
}

/// TensorFlow's sampler of distorted boxes, which the paper's code calls: the aspect ratio is drawn uniformly, then a
/// whole-pixel height uniformly among those whose area fits, then the place. None when every try failed.
fn inception(crop: &Crop, width: u32, height: u32, stream: &mut Stream) -> Option<Window> {
    let area = f64::from(width) * f64::from(height);
    let (least, most) = (crop.area[0] * area, crop.area[1] * area);
    for _ in 0..crop.tries {
        let aspect = stream.between(crop.aspect[0], crop.aspect[1]);
        let across = |h: f64| (h * aspect).round();
        let lowest = (least / aspect).sqrt().round();
        let mut highest = (most / aspect).sqrt().round();
        if across(highest) > f64::from(width) {
            highest = ((f64::from(width) + 0.5 - 1e-7) / aspect).floor();
            if across(highest) > f64::from(width) {
                highest -= 1.0;
            }
        }
        highest = highest.min(f64::from(height));
        let mut h = lowest.min(highest);
        if h < highest {
            h += f64::from(stream.below((highest - h) as u32 + 1));
        }
        // Rounding must not push a box out of the range.
        if h * across(h) < least {
            h += 1.0;
        }
        if h * across(h) > most {
            h -= 1.0;
        }
        let w = across(h);
        let fits = w * h >= least && w * h <= most && w <= f64::from(width) && h <= f64::from(height);
        if !fits || w < 1.0 || h < 1.0 {
            continue;
        }
        let x = f64::from(stream.below(width - w as u32 + 1));
        let y = f64::from(stream.below(height - h as u32 + 1));
        return Some(Window { x, y, width: w, height: h });
    }
    None
}

/// Writes the window's pixels, `resolution` x `resolution` x C, mirrored if `flip`, into `to`.
///
/// Bilinear between pixel centres, without antialias (paper.md 3.1), never reading beyond the window, rounded to u8 as
/// the paper's code does by its cast (which cuts off; rounding has no bias).
pub fn resize(image: Image, window: Window, resolution: usize, flip: bool, to: &mut [u8]) {
    // Known to the compiler, channels make vectors.
    match image.channels {
        1 => resize_channels::<1>(image, window, resolution, flip, to),
        3 => resize_channels::<3>(image, window, resolution, flip, to),
        channels => unreachable!("images are grey or of three colours, not of {channels}"),
    }
}

fn resize_channels<const C: usize>(image: Image, window: Window, resolution: usize, flip: bool, to: &mut [u8]) {
    let mut columns = taps(window.x, window.width, image.width, resolution);
    if flip {
        columns.reverse();
    }
    let rows = taps(window.y, window.height, image.height, resolution);
    // Rows at the output's width; the lower one is often the next one's upper.
    let (mut above, mut below) = (Line::new(resolution * C), Line::new(resolution * C));
    for (row, to) in rows.iter().zip(to.chunks_exact_mut(resolution * C)) {
        if above.row != Some(row.first) {
            mem::swap(&mut above, &mut below);
        }
        above.fill::<C>(image, row.first, &columns);
        below.fill::<C>(image, row.second, &columns);
        for ((to, upper), lower) in to.iter_mut().zip(&above.values).zip(&below.values) {
            *to = (upper + (lower - upper) * row.share + 0.5) as u8;
        }
    }
}

/// One row of an image at another width.
struct Line {
    row: Option<usize>,
    values: Vec<f32>,
}

impl Line {
    fn new(length: usize) -> Line {
        Line { row: None, values: vec![0.0; length] }
    }

    fn fill<const C: usize>(&mut self, image: Image, row: usize, columns: &[Tap]) {
        if self.row == Some(row) {
            return;
        }
        self.row = Some(row);
        let (pixels, _) = image.pixels[row * image.width * C..][..image.width * C].as_chunks::<C>();
        let (values, _) = self.values.as_chunks_mut::<C>();
        for (to, column) in values.iter_mut().zip(columns) {
            let (first, second) = (pixels[column.first], pixels[column.second]);
            for ((to, first), second) in to.iter_mut().zip(first).zip(second) {
                let (first, second) = (f32::from(first), f32::from(second));
                *to = first + (second - first) * column.share;
            }
        }
    }
}

/// Two neighbouring pixels and the share of the second.
struct Tap {
    first: usize,
    second: usize,
    share: f32,
}

/// Counted from the window's first pixel, so that a window cut out of its image gives the same bits.
fn taps(start: f64, length: f64, pixels: usize, resolution: usize) -> Vec<Tap> {
    let low = start.floor().max(0.0);
    let start = start - low;
    let high = ((start + length).ceil() - 1.0).clamp(0.0, pixels as f64 - 1.0 - low);
    (0..resolution)
        .map(|i| {
            let centre = start + (i as f64 + 0.5) * length / resolution as f64 - 0.5;
            let centre = centre.clamp(0.0, high);
            let first = centre.floor();
            Tap {
                first: (low + first) as usize,
                second: (low + (first + 1.0).min(high)) as usize,
                share: (centre - first) as f32,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::random::Purpose;

    const PAPER: Crop = Crop { area: [0.05, 1.0], aspect: [0.75, 1.33], tries: 100, margin: 1.25 };

    fn gradient(width: usize, height: usize) -> Vec<u8> {
        (0..height).flat_map(|y| (0..width).map(move |x| (x * 5 + y * 3) as u8)).collect()
    }

    #[test]
    fn inception_windows_keep_their_promises() {
        let mut areas = Vec::new();
        for index in 0..4000 {
            let mut stream = Stream::new(0, Purpose::TeacherView, index);
            let window = Window::draw(View::InceptionCrop, &PAPER, (50, 40), &mut stream);
            assert!(window.x >= 0.0 && window.y >= 0.0, "{window:?}");
            assert!(window.x + window.width <= 50.0 && window.y + window.height <= 40.0, "{window:?}");
            let area = window.width * window.height / 2000.0;
            assert!((0.05..=1.0).contains(&area), "{window:?}");
            // Whole pixels: a ratio may be off by what half a pixel of width makes.
            let aspect = window.width / window.height;
            let slack = 0.5 / window.height;
            assert!((0.75 - slack..=1.33 + slack).contains(&aspect), "{window:?}");
            areas.push(area);
        }
        // Heights are uniform, so areas crowd at the small end: the median lies below the middle of the range.
        areas.sort_by(f64::total_cmp);
        assert!((0.2..0.5).contains(&areas[2000]), "{}", areas[2000]);
    }

    #[test]
    fn resize_of_the_whole_at_its_own_size_is_the_image() {
        let pixels = gradient(9, 9);
        let image = Image { pixels: &pixels, height: 9, width: 9, channels: 1 };
        let whole = Window { x: 0.0, y: 0.0, width: 9.0, height: 9.0 };
        let mut to = vec![0; 81];
        resize(image, whole, 9, false, &mut to);
        assert_eq!(to, pixels);
        resize(image, whole, 9, true, &mut to);
        assert!(to.chunks(9).zip(pixels.chunks(9)).all(|(a, b)| a.iter().eq(b.iter().rev())));
    }

    /// The same bits as the formula pixel by pixel, which results that are kept were made with.
    #[test]
    fn resize_is_the_formula_to_the_bit() {
        let mut stream = Stream::new(7, Purpose::TeacherView, 0);
        for channels in [1, 3] {
            let (height, width) = (61, 83);
            let pixels: Vec<u8> = (0..height * width * channels).map(|_| stream.below(256) as u8).collect();
            let image = Image { pixels: &pixels, height, width, channels };
            for turn in 0..60 {
                let (w, h) = (1.0 + stream.unit() * 82.0, 1.0 + stream.unit() * 60.0);
                let (x, y) = (stream.unit() * (83.0 - w), stream.unit() * (61.0 - h));
                let window = Window { x, y, width: w, height: h };
                let (resolution, flip) = (1 + stream.below(90) as usize, turn % 2 == 0);
                let mut found = vec![0; resolution * resolution * channels];
                resize(image, window, resolution, flip, &mut found);
                let columns = taps(window.x, window.width, width, resolution);
                let rows = taps(window.y, window.height, height, resolution);
                for (place, found) in found.iter().enumerate() {
                    let (row, column, channel) =
                        (place / channels / resolution, place / channels % resolution, place % channels);
                    let (row, column) = (&rows[row], &columns[if flip { resolution - 1 - column } else { column }]);
                    let at = |y: usize, x: usize| f32::from(pixels[(y * width + x) * channels + channel]);
                    let across = |y| at(y, column.first) + (at(y, column.second) - at(y, column.first)) * column.share;
                    let (upper, lower) = (across(row.first), across(row.second));
                    assert_eq!(*found, (upper + (lower - upper) * row.share + 0.5) as u8, "{window:?} {resolution}");
                }
            }
        }
    }

    #[test]
    fn a_window_never_shows_what_is_outside() {
        let mut pixels = vec![255; 100];
        for y in 2..7 {
            pixels[y * 10 + 3..y * 10 + 8].fill(10);
        }
        let image = Image { pixels: &pixels, height: 10, width: 10, channels: 1 };
        let window = Window { x: 3.0, y: 2.0, width: 5.0, height: 5.0 };
        for resolution in [3, 5, 11, 32] {
            let mut to = vec![0; resolution * resolution];
            resize(image, window, resolution, false, &mut to);
            assert!(to.iter().all(|pixel| *pixel == 10), "{resolution}: {to:?}");
        }
    }

    #[test]
    fn margin_of_one_makes_the_mild_crop_whole() {
        let crop = Crop { margin: 1.0, ..PAPER };
        let mut stream = Stream::new(0, Purpose::TeacherView, 0);
        let whole = Window { x: 0.0, y: 0.0, width: 28.0, height: 28.0 };
        for view in [View::MildCrop, View::CentralCrop, View::Resize] {
            assert_eq!(Window::draw(view, &crop, (28, 28), &mut stream), whole);
        }
        assert_eq!(Window::evaluation(&crop, (28, 28)), whole);
    }

    /// Four fifths of each side, as the 128 of 160 px in the paper, anywhere in the image and everywhere equally.
    #[test]
    fn mild_crops_move_over_the_spare_pixels() {
        let mut counts = [0; 4];
        for index in 0..4000 {
            let mut stream = Stream::new(0, Purpose::TeacherView, index);
            let window = Window::draw(View::MildCrop, &PAPER, (160, 80), &mut stream);
            assert_eq!((window.width, window.height), (128.0, 64.0));
            assert!((0.0..=32.0).contains(&window.x) && (0.0..=16.0).contains(&window.y), "{window:?}");
            counts[(window.x / 8.0) as usize % 4] += 1;
        }
        // 1,000 expected, standard deviation 27.
        assert!(counts.iter().all(|count| (880..1120).contains(count)), "{counts:?}");
        let centre = Window::draw(View::CentralCrop, &PAPER, (160, 80), &mut Stream::new(0, Purpose::Order, 0));
        assert_eq!(centre, Window { x: 16.0, y: 8.0, width: 128.0, height: 64.0 });
    }
}
