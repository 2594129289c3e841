//! From encoded bytes to pixels: what they are, the bytes say, not a name.
//!
//! JPEG (grey, colour, CMYK), PNG, GIF (the first picture), BMP and WebP. Sixteen bits become eight, a palette its
//! colours; transparency is left away, as PIL's `convert("RGB")` and so torchvision do. JPEGs are decoded as by PIL, to the
//! byte; one that is cut off is an error there and here.

use std::io::Cursor;

use anyhow::{Context, Result, ensure};
use image::metadata::Orientation as TurnedBy;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, Rgb, RgbImage};

use super::jpeg;

pub use crate::source::Orientation as Orient;

/// Twice what PIL warns of; there it is an error too.
const MOST_PIXELS: u64 = 178_956_970;

/// What is known without decoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Header {
    pub height: u32,
    pub width: u32,
    /// Whether it is anything but grey.
    pub colour: bool,
}

/// Of an image after it is turned.
///
/// # Errors
/// When the bytes are no image that is known.
pub fn header(bytes: &[u8], orient: Orient) -> Result<Header> {
    let (height, width, colour, turn) = match jpeg::header(bytes)? {
        Some((height, width, colour)) => (height as u32, width as u32, colour, turn_of_jpeg(bytes, orient)),
        None => {
            let mut decoder = reader(bytes)?.into_decoder()?;
            let (width, height) = decoder.dimensions();
            (height, width, decoder.color_type().has_color(), turn(&mut decoder, orient))
        }
    };
    fits((width, height))?;
    let on_its_side = matches!(
        turn,
        Some(TurnedBy::Rotate90 | TurnedBy::Rotate270 | TurnedBy::Rotate90FlipH | TurnedBy::Rotate270FlipH)
    );
    let (height, width) = if on_its_side { (width, height) } else { (height, width) };
    Ok(Header { height, width, colour })
}

/// How an image is to be turned. What cannot be read counts as upright, as in every viewer.
fn turn(decoder: &mut impl ImageDecoder, orient: Orient) -> Option<TurnedBy> {
    let said = match orient {
        Orient::Stored => None,
        Orient::Exif => decoder.orientation().ok(),
    };
    said.filter(|turn| *turn != TurnedBy::NoTransforms)
}

/// The same of a JPEG, which may be one that only libjpeg reads.
fn turn_of_jpeg(bytes: &[u8], orient: Orient) -> Option<TurnedBy> {
    if orient == Orient::Stored {
        return None;
    }
    let chunk = jpeg::segments(bytes).find_map(|(marker, segment, _)| match marker {
        0xe1 => segment.strip_prefix(b"Exif\0\0"),
        _ => None,
    })?;
    TurnedBy::from_exif_chunk(chunk).filter(|turn| *turn != TurnedBy::NoTransforms)
}

/// Height, width and pixels `[H, W, C]`; one channel is grey, three are red, green and blue.
///
/// # Errors
/// When the bytes are no image that is known, or a damaged one.
pub fn decode(bytes: &[u8], channels: usize, orient: Orient) -> Result<(usize, usize, Vec<u8>)> {
    let is_jpeg = bytes.starts_with(&[0xff, 0xd8]);
    let decoded = if is_jpeg { jpeg::decode(bytes, channels)? } else { None };
    let (mut image, turn) = match decoded {
        Some(decoded) => {
            let Some(turn) = turn_of_jpeg(bytes, orient) else { return Ok(decoded) };
            let (height, width, pixels) = (decoded.0 as u32, decoded.1 as u32, decoded.2);
            let image = match channels {
                1 => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
                _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
            };
            (image.context("as many pixels as the sides say")?, Some(turn))
        }
        None => {
            let mut decoder = reader(bytes)?.into_decoder()?;
            fits(decoder.dimensions())?;
            ensure!(!is_jpeg || has_end(bytes), "the JPEG is cut off");
            let turn = turn(&mut decoder, orient);
            (DynamicImage::from_decoder(decoder)?, turn)
        }
    };
    if let Some(turn) = turn {
        image.apply_orientation(turn);
    }
    let (height, width) = (image.height() as usize, image.width() as usize);
    let pixels = if channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() };
    Ok((height, width, pixels))
}

/// # Errors
/// When an image says that it has more pixels than any photo.
pub fn fits((width, height): (u32, u32)) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    ensure!(pixels <= MOST_PIXELS, "it says that it has {width} x {height} pixels, too many for an image");
    Ok(())
}

/// As [`decode`] makes grey of a colour.
pub fn luminance(pixel: [u8; 3]) -> u8 {
    use image::Pixel;
    Rgb(pixel).to_luma().0[0]
}

/// Whether a JPEG has its end: segment by segment, and in a scan up to the next marker. What follows is nobody's
/// business, and a thumbnail in a segment has an end of its own.
fn has_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END: u8 = 0xd9;
    let mut at = 2;
    while let Some(&[0xff, marker]) = bytes.get(at..at + 2) {
        match marker {
            END => return true,
            // Filling bytes.
            0xff => at += 1,
            // Markers that stand alone.
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
                if marker == START_OF_SCAN {
                    let rest = bytes.get(at..).unwrap_or_default();
                    // In a scan a zero follows what is no marker; restarts belong to it.
                    let next = rest.windows(2).position(|two| two[0] == 0xff && !matches!(two[1], 0 | 0xd0..=0xd7));
                    let Some(next) = next else { return false };
                    at += next;
                }
            }
        }
    }
    false
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.format().context("no image: neither JPEG, PNG, GIF, BMP nor WebP")?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/golden/odd_jpegs.py`; the colours are what PIL makes of them.
    #[test]
    fn print_colours_and_held_on_its_side() {
        let near = |pixel: &[u8], expected: [u8; 3]| pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 4);
        let cmyk = include_bytes!("../../../tests/golden/cmyk.jpg");
        let (height, width, pixels) = decode(cmyk, 3, Orient::Exif).unwrap();
        assert_eq!((height, width), (8, 16));
        let at = |pixels: &[u8], width: usize, x: usize, y: usize| pixels[3 * (y * width + x)..][..3].to_vec();
        assert!(near(&at(&pixels, width, 2, 4), [250, 20, 10]), "{:?}", at(&pixels, width, 2, 4));
        assert!(near(&at(&pixels, width, 13, 4), [10, 30, 240]), "{:?}", at(&pixels, width, 13, 4));

        let turned = include_bytes!("../../../tests/golden/on_its_side.jpg");
        let size = |orient| header(turned, orient).map(|header| (header.height, header.width)).unwrap();
        assert_eq!((size(Orient::Stored), size(Orient::Exif)), ((8, 16), (16, 8)));
        let stored = decode(turned, 3, Orient::Stored).unwrap();
        let upright = decode(turned, 3, Orient::Exif).unwrap();
        assert_eq!(((stored.0, stored.1), (upright.0, upright.1)), ((8, 16), (16, 8)));
        // Red was left, and is above.
        assert!(near(&at(&upright.2, 8, 4, 2), [251, 20, 10]) && near(&at(&upright.2, 8, 4, 13), [10, 30, 239]));
        assert_eq!(at(&stored.2, 16, 2, 4), at(&upright.2, 8, 3, 2));
    }

    /// To heed the orientation changes nothing of what is upright, not by a bit.
    #[test]
    fn what_is_upright_stays_as_it_is() {
        let all: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../tests/golden/jpegs.json")).unwrap();
        for recorded in all {
            use base64::Engine;
            let bytes = base64::engine::general_purpose::STANDARD.decode(recorded["jpeg"].as_str().unwrap()).unwrap();
            assert_eq!(decode(&bytes, 3, Orient::Exif).unwrap(), decode(&bytes, 3, Orient::Stored).unwrap());
            assert_eq!(header(&bytes, Orient::Exif).unwrap(), header(&bytes, Orient::Stored).unwrap());
        }
    }
}
