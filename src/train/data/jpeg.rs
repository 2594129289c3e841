//! The part of a JPEG that a window needs, at the scale that a resolution needs.
//!
//! Huffman codes must be read from the first to the window's last row; transforms, upsampling and colours are computed
//! for the window's blocks alone, and at a half, a quarter or an eighth of the size where the window is large enough.
//! Further scales (7/8, 6/8, ...) have no vector code in libjpeg: they take longer than the whole block does.
//! Grey and three colours are decoded here; what else there is (CMYK, colour as grey, other formats) is decoded whole by
//! [`decode`](super::decode::decode()).

mod huffman;
mod libjpeg;

use anyhow::{Result, ensure};

use self::libjpeg::{Pace, Reader, guarded};
use super::Image;
use super::decode::{self, Orient};
use crate::train::window::Window;

/// Decoded pixels with a window in them.
#[derive(Clone, Debug)]
pub struct Region {
    /// `[height, width, channels]`.
    pixels: Vec<u8>,
    height: usize,
    width: usize,
    channels: usize,
    /// The window in these pixels.
    pub window: Window,
}

impl Region {
    pub fn image(&self) -> Image<'_> {
        Image { pixels: &self.pixels, height: self.height, width: self.width, channels: self.channels }
    }
}

/// Markers up to the first scan's, with what they hold and the byte after it. Ends early where something has no length.
pub fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8], usize)> {
    const SCAN: u8 = 0xda;
    let mut next = Some(2);
    std::iter::from_fn(move || {
        let mut at = next?;
        // Filling bytes.
        while bytes.get(at..at + 2) == Some(&[0xff, 0xff]) {
            at += 1;
        }
        let &[0xff, marker, high, low] = bytes.get(at..at + 4)? else { return None };
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
        let segment = bytes.get(at + 4..end)?;
        next = (marker != SCAN).then_some(end);
        Some((marker, segment, end))
    })
}

/// Height, width, and whether it has colours. None where the bytes are no JPEG, or one that this decoder does not give.
///
/// # Errors
/// When the header is damaged.
pub fn header(bytes: &[u8]) -> Result<Option<(usize, usize, bool)>> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return Ok(None);
    }
    guarded(|_| {
        let reader = Reader::new(bytes, Pace::Libjpeg);
        let ((height, width), grey) = (reader.size(), reader.gives(1));
        reader.gives(3).then_some((height, width, !grey))
    })
}

/// Height, width and pixels `[H, W, C]` of a whole JPEG, as PIL has them to the byte. None where this decoder does not
/// give so many channels.
///
/// # Errors
/// When it is damaged or cut off.
pub fn decode(bytes: &[u8], channels: usize) -> Result<Option<(usize, usize, Vec<u8>)>> {
    let whole = |(height, width): (usize, usize)| Window { x: 0.0, y: 0.0, width: width as f64, height: height as f64 };
    match guarded(|pace| usual(bytes, pace, channels, whole, None))? {
        None => Ok(None),
        Some(region) => region.map(|region| Some((region.height, region.width, region.pixels))),
    }
}

/// What `window` of an encoded image needs to be resized, to one channel or three.
///
/// At the smallest scale at which the window has `least` pixels each way, or in full: then every pixel is that of the
/// whole image. At a reduced scale a window sees a little more than its own pixels, for those of a block are averaged.
/// Below the window's last row nothing is looked at but whether the image has its end.
///
/// # Errors
/// When the bytes are no image that is known, a damaged one, or one that does not hold the window.
pub fn decode_window(bytes: &[u8], channels: usize, window: Window, least: Option<usize>) -> Result<Region> {
    if bytes.starts_with(&[0xff, 0xd8])
        && let Some(region) = guarded(|pace| usual(bytes, pace, channels, |_| window, least))?
    {
        return region;
    }
    let (height, width, pixels) = decode::decode(bytes, channels, Orient::Stored)?;
    holds((height, width), window)?;
    Ok(Region { pixels, height, width, channels, window })
}

/// None where libjpeg would not give what `decode` does.
fn usual(
    bytes: &[u8],
    pace: Pace,
    channels: usize,
    window: impl FnOnce((usize, usize)) -> Window,
    least: Option<usize>,
) -> Option<Result<Region>> {
    let mut reader = Reader::new(bytes, pace);
    if !reader.gives(channels) {
        return None;
    }
    let (height, width) = reader.size();
    if let Err(error) = decode::fits((width as u32, height as u32)) {
        return Some(Err(error));
    }
    let window = window(reader.size());
    if let Err(error) = holds(reader.size(), window) {
        return Some(Err(error));
    }
    let shorter = window.width.min(window.height);
    let enough = |eighths: &u32| least.is_some_and(|least| shorter * f64::from(*eighths) / 8.0 >= least as f64);
    let eighths = [1, 2, 4].into_iter().find(enough).unwrap_or(8);
    let scale = f64::from(eighths) / 8.0;
    let (height, width) = reader.start(channels, eighths);
    let within = |start: f64, length: f64, pixels: usize| {
        // At least one pixel, whatever rounding does to a window at the edge.
        let first = (start * scale).floor().min(pixels as f64 - 1.0);
        let end = ((start + length) * scale).ceil().clamp(first + 1.0, pixels as f64);
        first as usize..end as usize
    };
    let columns = within(window.x, window.width, width);
    let rows = within(window.y, window.height, height);
    let top = rows.start;
    let (left, width, pixels) = reader.read(rows.clone(), columns, channels);
    if !reader.has_end() {
        return Some(Err(anyhow::anyhow!("the JPEG is cut off")));
    }
    let window = Window {
        x: window.x * scale - left as f64,
        y: window.y * scale - top as f64,
        width: window.width * scale,
        height: window.height * scale,
    };
    Some(Ok(Region { pixels, height: rows.len(), width, channels, window }))
}

fn holds((height, width): (usize, usize), window: Window) -> Result<()> {
    // A millionth of a pixel is rounding.
    let inside = |start: f64, length: f64, pixels: usize| {
        start >= 0.0 && length > 0.0 && start < pixels as f64 && start + length <= pixels as f64 + 1e-6
    };
    let holds = inside(window.x, window.width, width) && inside(window.y, window.height, height);
    ensure!(holds, "{width} x {height} pixels do not hold {window:?}");
    Ok(())
}

#[cfg(test)]
mod tests;
