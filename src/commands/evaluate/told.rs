//! What weights are and how images are shown to them: a card, and what was typed.

use anyhow::Result;

use super::super::Usage;
use super::Classes;
use crate::card::{Card, Interpolation, known};
use crate::cli;
use crate::grid::{self, WeightsFile};
use crate::job::Normalization;
use crate::train::data::Images;

/// What was typed about weights.
pub struct Told<'a> {
    /// Before the names of the options.
    prefix: &'static str,
    model: Option<&'a str>,
    mean: Option<&'a [f64]>,
    std: Option<&'a [f64]>,
    resolution: Option<u32>,
    crop: Option<f64>,
    interpolation: Option<cli::Interpolation>,
}

impl<'a> Told<'a> {
    pub fn of_own(own: &'a cli::Shown) -> Told<'a> {
        Told {
            prefix: "--",
            model: own.model.as_deref(),
            mean: own.mean.as_deref(),
            std: own.std.as_deref(),
            resolution: own.resolution,
            crop: own.crop,
            interpolation: own.interpolation,
        }
    }

    pub fn of_teachers(theirs: &'a cli::AgainstShown) -> Told<'a> {
        Told {
            prefix: "--against-",
            model: theirs.against_model.as_deref(),
            mean: theirs.against_mean.as_deref(),
            std: theirs.against_std.as_deref(),
            resolution: theirs.against_resolution,
            crop: theirs.against_crop,
            interpolation: theirs.against_interpolation,
        }
    }
}

/// What the weights are and how images are shown to them: the file's own card, overruled by what was typed.
pub fn card(name: &str, file: &WeightsFile, told: &Told<'_>, set: &Classes, images: &Images) -> Result<Card> {
    let prefix = told.prefix;
    let three = |what: &str, numbers: Option<&[f64]>| match numbers {
        None => Ok(None),
        Some([one]) => Ok(Some([*one; 3])),
        Some([red, green, blue]) => Ok(Some([*red, *green, *blue])),
        Some(_) => {
            let message = format!("`{prefix}{what}` is one number or three");
            Err(Usage(format!("{message}\nhint: for instance `{prefix}{what} 0.485,0.456,0.406`")))
        }
    };
    let (mean, std) = (three("mean", told.mean)?, three("std", told.std)?);
    let model =
        told.model.map(|text| known(text).map_or_else(|| grid::network(&format!("{prefix}model"), text, None), Ok));
    let mut card = match (&file.card, model.transpose()?) {
        (Some(card), model) => Card { model: model.unwrap_or(card.model.clone()), ..card.clone() },
        (None, Some(model)) => Card {
            model,
            classes: set.count,
            channels: images.channels as u32,
            resolution: images.size().map_or(224, |(height, width)| height.min(width) as u32),
            normalization: Normalization::default(),
            crop: 1.0,
            interpolation: Interpolation::Plain,
            job: None,
            data: None,
        },
        (None, None) => {
            let example = format!("`{prefix}model '{{ cifar-resnet = {{ depth = 20 }} }}'`");
            let hint = format!("say it: {example}, or timm's name; `distillery models` lists all");
            return Err(Usage(format!("no card beside `{name}` tells what it holds\nhint: {hint}")).into());
        }
    };
    card.normalization.mean = mean.unwrap_or(card.normalization.mean);
    card.normalization.std = std.unwrap_or(card.normalization.std);
    card.resolution = told.resolution.unwrap_or(card.resolution);
    card.crop = told.crop.unwrap_or(card.crop);
    if !(0.1..=1.0).contains(&card.crop) {
        let message = format!("`{prefix}crop` is {}, but must be from 0.1 to 1", card.crop);
        return Err(Usage(format!(
            "{message}\nhint: it is the share of the shorter side that is seen, 0.875 is usual"
        ))
        .into());
    }
    grid::check(&card.model, &card.normalization, Some(card.resolution)).map_err(Usage)?;
    card.interpolation = match told.interpolation {
        None => card.interpolation,
        Some(cli::Interpolation::Plain) => Interpolation::Plain,
        Some(cli::Interpolation::PlainAntialias) => Interpolation::PlainAntialias,
        Some(cli::Interpolation::PlainBicubic) => Interpolation::PlainBicubic,
        Some(cli::Interpolation::Area) => Interpolation::Area,
        Some(cli::Interpolation::Bilinear) => Interpolation::Bilinear,
        Some(cli::Interpolation::Bicubic) => Interpolation::Bicubic,
    };
    for (what, of_card, of_data) in
        [("classes", card.classes, set.count), ("channels", card.channels, images.channels as u32)]
    {
        if of_card != of_data {
            let message = format!("`{name}` has {of_card} {what}, the data {of_data}");
            return Err(
                Usage(format!("{message}\nhint: weights are measured on the data they were trained for")).into()
            );
        }
    }
    Ok(card)
}
