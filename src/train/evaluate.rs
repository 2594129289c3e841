//! Networks on a data set, outside of training: what `evaluate` computes.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::data::{Images, Shape};
use super::model::Blueprint;
use super::network::{Frozen, Machine};
use super::resample::{Filter, centre_crop};
use super::teacher::combine;
use super::views;
use super::weights::load_weights;
use super::window::Window;
use crate::card::{Card, Interpolation};
use crate::job::{Decode, Ensemble, Input, Precision, Resize};

/// Images a forward pass takes at once.
const CHUNK: usize = 100;

/// A trained network and how images are shown to it.
pub struct Network {
    frozen: Frozen,
    card: Card,
}

impl Network {
    /// The card tells what the file holds.
    ///
    /// # Errors
    /// When the weights do not fit the card, or the machine has no room.
    pub fn load(machine: &Machine, card: &Card, weights: &Path, precision: Precision) -> Result<Network> {
        let input = Input {
            channels: card.channels,
            classes: card.classes,
            resolution: card.resolution,
            normalization: card.normalization,
        };
        let flat = load_weights(weights, &Blueprint::new(&card.model, input))?;
        let frozen = Frozen::new(machine, &card.model, input, precision, CHUNK as u32, flat)?;
        Ok(Network { frozen, card: card.clone() })
    }
}

/// Logits `[N, classes]` of several networks together, of one alone its own. `tick` is told how many images are done.
///
/// # Errors
/// The machine's.
pub fn logits(
    networks: &[Network],
    ensemble: Ensemble,
    images: &Images,
    range: Range<usize>,
    tick: &mut dyn FnMut(usize),
) -> Result<Vec<f32>> {
    ensure!(!networks.is_empty(), "somebody must answer");
    let mut all = Vec::new();
    for start in range.clone().step_by(CHUNK) {
        let some = start..(start + CHUNK).min(range.end);
        let answers =
            networks.iter().map(|network| network.frozen.forward(&show(images, some.clone(), &network.card)?));
        let together = combine(answers.collect::<Result<_>>()?, ensemble, &vec![1.0; networks.len()])?;
        all.extend(together.flatten_all()?.to_vec1::<f32>()?);
        ensure!(
            all.iter().all(|logit| logit.is_finite()),
            "a network's answers are not finite\nhint: are its weights whole, and is its normalisation what it was trained on?"
        );
        tick(some.end - range.start);
    }
    Ok(all)
}

/// `[N, S, S, C]` in [-1, 1].
fn show(images: &Images, range: Range<usize>, card: &Card) -> Result<Tensor> {
    enum Shown {
        AsInTraining(Resize),
        ByPil(Filter),
    }
    let how = match card.interpolation {
        Interpolation::Plain => Shown::AsInTraining(Resize::Bilinear),
        Interpolation::PlainAntialias => Shown::AsInTraining(Resize::BilinearAntialias),
        Interpolation::PlainBicubic => Shown::AsInTraining(Resize::Bicubic),
        Interpolation::Area => Shown::ByPil(Filter::Box),
        Interpolation::Bilinear => Shown::ByPil(Filter::Triangle),
        Interpolation::Bicubic => Shown::ByPil(Filter::Cubic),
    };
    let (side, first) = (card.resolution as usize, range.start);
    let size = side * side * images.channels;
    let mut pixels = vec![0u8; range.len() * size];
    pixels.par_chunks_mut(size).enumerate().try_for_each(|(i, to)| match how {
        Shown::ByPil(filter) => images.see(first + i, |image| centre_crop(image, card.crop, side, filter, to)),
        Shown::AsInTraining(resize) => {
            let window = Window::central(1.0 / card.crop, images.size_of(first + i));
            images.view(first + i, window, Shape { side, flip: false, resize, decode: Decode::Full }, to)
        }
    })?;
    let normalized = views::normalized(&pixels);
    Ok(Tensor::from_vec(normalized, (range.len(), side, side, images.channels), &Device::Cpu)?)
}
