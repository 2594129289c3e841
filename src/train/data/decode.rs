//! From encoded bytes to pixels: what they are, the bytes say, not a name.
//!
//! JPEG (grey, colour, CMYK), PNG, GIF (the first picture), BMP and WebP. Sixteen bits become eight, a palette its
//! colours; transparency is left away, as PIL's `convert("RGB")` and so torchvision do; the orientation that a camera wrote into EXIF is
//! not heeded, as by torchvision's loader and TensorFlow's decoder.

use std::io::Cursor;

use anyhow::{Context, Result};
use image::{DynamicImage, ImageDecoder, ImageReader};

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
    let image = DynamicImage::from_decoder(reader(bytes)?.into_decoder()?)?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    let pixels = if channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() };
    Ok((height, width, pixels))
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.format().context("no image: neither JPEG, PNG, GIF, BMP nor WebP")?;
    Ok(reader)
}
