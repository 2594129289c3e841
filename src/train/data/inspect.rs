//! What a data set holds, for a person to look at: counts, sizes, images that occur twice, and a sheet of them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;

use super::{DataSet, Images, UNLABELLED};
use crate::train::resample::{Filter, centre_crop};

/// Of a part.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    pub images: usize,
    /// Of every class.
    pub by_class: Vec<u64>,
    /// Heights and widths: smallest, median, largest.
    pub heights: [usize; 3],
    pub widths: [usize; 3],
    /// Images that occurred before in the same part.
    pub repeated: u64,
}

/// Images of the test part that are in the training part too.
pub fn shared(set: &DataSet) -> u64 {
    let train = seen(&set.train);
    hashes(&set.test).filter(|hash| train.contains_key(hash)).count() as u64
}

pub fn about(images: &Images, classes: u32) -> About {
    let mut by_class = vec![0; classes as usize];
    images.labels.iter().filter(|label| **label < classes).for_each(|label| by_class[*label as usize] += 1);
    let sides = |side: fn((usize, usize)) -> usize| {
        let mut all: Vec<usize> = (0..images.len()).map(|index| side(images.size_of(index))).collect();
        all.sort_unstable();
        let at = |place: usize| all.get(place).copied().unwrap_or(0);
        [at(0), at(all.len() / 2), at(all.len().saturating_sub(1))]
    };
    let repeated = seen(images).values().map(|count| count - 1).sum();
    About {
        images: images.len(),
        by_class,
        widths: sides(|(width, _)| width),
        heights: sides(|(_, height)| height),
        repeated,
    }
}

fn hashes(images: &Images) -> impl Iterator<Item = [u8; 32]> {
    (0..images.len()).map(|index| images.digest(index))
}

fn seen(images: &Images) -> HashMap<[u8; 32], u64> {
    let mut seen = HashMap::new();
    hashes(images).for_each(|hash| *seen.entry(hash).or_insert(0) += 1);
    seen
}

/// Writes a PNG of the first `each` images of every class, a class a row, `side` pixels each. Images without labels are one
/// row.
///
/// # Errors
/// When an image cannot be read, or the file cannot be written.
pub fn sheet(images: &Images, classes: u32, (each, side): (usize, usize), file: &Path) -> Result<()> {
    const GAP: usize = 2;
    let rows = classes.max(1) as usize;
    let (width, height) = (each * (side + GAP) + GAP, rows * (side + GAP) + GAP);
    let mut sheet = RgbImage::from_pixel(width as u32, height as u32, image::Rgb([255; 3]));
    let mut placed = vec![0; rows];
    let mut pixels = vec![0u8; side * side * images.channels];
    for (index, label) in images.labels.iter().enumerate() {
        let row = if *label == UNLABELLED { 0 } else { *label as usize };
        let column = placed[row];
        if column == each {
            continue;
        }
        placed[row] += 1;
        images.see(index, |image| centre_crop(image, 1.0, side, Filter::Triangle, &mut pixels))?;
        for (place, pixel) in pixels.chunks_exact(images.channels).enumerate() {
            let colour = if let [red, green, blue] = pixel { [*red, *green, *blue] } else { [pixel[0]; 3] };
            let x = GAP + column * (side + GAP) + place % side;
            let y = GAP + row * (side + GAP) + place / side;
            sheet.put_pixel(x as u32, y as u32, image::Rgb(colour));
        }
    }
    sheet.save_with_format(file, image::ImageFormat::Png).with_context(|| format!("cannot write `{}`", file.display()))
}
