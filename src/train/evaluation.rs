//! What networks are measured on while they learn: a split at every student's resolution, shown some images at a time.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::data::{Images, Shape};
use super::views;
use super::window::Window;
use crate::event::Which;
use crate::job::{Crop, Job};

/// Images a forward pass outside training takes at once.
pub const CHUNK: usize = 250;

/// Views of a split and a resolution stay in memory, as bytes, up to this size; larger ones are made again each time.
const KEPT_BYTES: usize = 2 << 30;

/// A split to be measured on.
pub struct Evaluated<'a> {
    pub which: Which,
    pub labels: Vec<u32>,
    /// Each teacher's logits.
    pub each: Vec<Vec<f32>>,
    /// The ensemble's; the teacher's where there is one.
    pub together: Option<Vec<f32>>,
    crops: Crops<'a>,
    /// Views `[N, S, S, C]` by their resolution.
    kept: BTreeMap<u32, Vec<u8>>,
}

/// The central crops of a split.
struct Crops<'a> {
    images: &'a Images,
    /// Which of them.
    chosen: Vec<u32>,
    crop: Crop,
    shape: Shape,
}

impl<'a> Evaluated<'a> {
    /// The `chosen` of some images as `job` sees them; `often` are the resolutions that are looked at often.
    ///
    /// # Errors
    /// Those of encoded images.
    pub fn new(which: Which, job: &Job, images: &'a Images, chosen: Vec<u32>, often: &[u32]) -> Result<Evaluated<'a>> {
        let shape = Shape { side: 0, flip: false, resize: job.resize, decode: job.decode };
        let labels = chosen.iter().map(|image| images.labels[*image as usize]).collect();
        let crops = Crops { images, chosen, crop: job.crop.clone(), shape };
        let mut kept = BTreeMap::new();
        for resolution in often {
            if crops.chosen.len() * crops.size(*resolution) <= KEPT_BYTES {
                kept.insert(*resolution, crops.pixels(*resolution, 0..crops.chosen.len())?);
            }
        }
        Ok(Evaluated { which, labels, each: Vec::new(), together: None, crops, kept })
    }

    /// Logits `[N * classes]` of all images at `resolution`, of which `answer` is shown some at a time, `[n, S, S, C]` in
    /// [-1, 1].
    ///
    /// # Errors
    /// `answer`'s, and those of encoded images.
    pub fn logits(&self, resolution: u32, mut answer: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Vec<f32>> {
        let (side, channels, size) = (resolution as usize, self.crops.images.channels, self.crops.size(resolution));
        let mut logits = Vec::new();
        for start in (0..self.labels.len()).step_by(CHUNK) {
            let some = start..(start + CHUNK).min(self.labels.len());
            let normalized = match self.kept.get(&resolution) {
                Some(pixels) => views::normalized(&pixels[some.start * size..some.end * size]),
                None => views::normalized(&self.crops.pixels(resolution, some.clone())?),
            };
            let shown = Tensor::from_vec(normalized, (some.len(), side, side, channels), &Device::Cpu)?;
            logits.extend(answer(&shown)?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(logits)
    }
}

impl Crops<'_> {
    /// Bytes of an image.
    fn size(&self, resolution: u32) -> usize {
        (resolution as usize).pow(2) * self.images.channels
    }

    fn pixels(&self, resolution: u32, some: Range<usize>) -> Result<Vec<u8>> {
        let size = self.size(resolution);
        let shape = Shape { side: resolution as usize, ..self.shape };
        let mut pixels = vec![0; some.len() * size];
        pixels.par_chunks_mut(size).enumerate().try_for_each(|(i, to)| {
            let index = self.chosen[some.start + i] as usize;
            self.images.view(index, Window::evaluation(&self.crop, self.images.size_of(index)), shape, to)
        })?;
        Ok(pixels)
    }
}
