//! From encoded bytes to pixels: what they are, the bytes say, not a name.
//!
//! JPEG (grey, colour, CMYK), PNG, GIF (the first picture), BMP and WebP. Sixteen bits become eight, a palette its
//! colours; transparency is left away, as PIL's `convert("RGB")` and so torchvision do; the orientation that a camera wrote into EXIF is
//! not heeded, as by torchvision's loader and TensorFlow's decoder. A JPEG that is cut off is an error, as by PIL.

use std::fmt::Display;
use std::io::Cursor;

use anyhow::{Context, Result, bail, ensure};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use rayon::prelude::*;

use super::Images;

/// Broken images that are named; of more, the number is told.
const NAMED: usize = 20;

/// Decodes the images that `labels` label on all cores, to one channel where all are grey. `name` is how each is
/// called, `of` all of them.
///
/// # Errors
/// Names all that are no images; where all are, all that are damaged.
pub fn all<'a>(
    labels: Vec<u32>,
    bytes: impl Fn(usize) -> &'a [u8] + Sync,
    name: impl Fn(usize) -> String + Sync,
    of: &dyn Display,
) -> Result<Images> {
    let count = labels.len();
    let headers = (0..count).into_par_iter().map(|i| header(bytes(i)).with_context(|| name(i)));
    let colour = or_all_errors(headers.collect(), of)?.iter().any(|header| header.colour);
    let channels = if colour { 3 } else { 1 };
    let decoded = (0..count).into_par_iter().map(|i| decode(bytes(i), channels).with_context(|| name(i)));
    Ok(Images::of_any_size(or_all_errors(decoded.collect(), of)?.into_iter(), channels, labels))
}

/// Everything, or everything that went wrong.
///
/// # Errors
/// When anything did.
pub fn or_all_errors<T>(results: Vec<Result<T>>, of: &dyn Display) -> Result<Vec<T>> {
    let (mut good, mut bad) = (Vec::with_capacity(results.len()), Vec::new());
    for result in results {
        match result {
            Ok(value) => good.push(value),
            Err(error) => bad.push(format!("{error:#}")),
        }
    }
    if bad.is_empty() {
        return Ok(good);
    }
    let more = bad.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let (count, named) = (bad.len(), bad[..bad.len().min(NAMED)].join("; "));
    bail!("{count} images of `{of}` cannot be read: {named}{more}\nhint: mend or remove them")
}

/// What is known without decoding.
pub struct Header {
    /// Whether it is anything but grey.
    pub colour: bool,
}

/// # Errors
/// When the bytes are no image that is known.
pub fn header(bytes: &[u8]) -> Result<Header> {
    Ok(Header { colour: reader(bytes)?.into_decoder()?.color_type().has_color() })
}

/// Height, width and pixels `[H, W, C]`; one channel is grey, three are red, green and blue.
///
/// # Errors
/// When the bytes are no image that is known, or a damaged one.
pub fn decode(bytes: &[u8], channels: usize) -> Result<(usize, usize, Vec<u8>)> {
    let reader = reader(bytes)?;
    ensure!(reader.format() != Some(ImageFormat::Jpeg) || has_end(bytes), "the JPEG is cut off");
    let image = DynamicImage::from_decoder(reader.into_decoder()?)?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    let pixels = if channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() };
    Ok((height, width, pixels))
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
