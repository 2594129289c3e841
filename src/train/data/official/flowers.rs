//! Oxford Flowers-102: labels and parts are in MATLAB's files.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use matfile::{MatFile, NumericData};

use super::images;
use crate::train::data::listing::Listing;

/// The parts are lists of images, the labels those of all images; both count from 1. Classes have no names here.
pub fn listing(folder: &Path) -> Result<Listing> {
    let labels = numbers(&folder.join("imagelabels.mat"), "labels")?;
    let part = |name: &str| {
        let list = folder.join("setid.mat");
        let labelled = numbers(&list, name)?.into_iter().map(|image| {
            let label = image.checked_sub(1).and_then(|index| labels.get(index as usize)?.checked_sub(1));
            let label = label.with_context(|| format!("image {image} of `{}` has no label", list.display()))?;
            Ok((format!("image_{image:05}.jpg"), label))
        });
        anyhow::Ok(images(&folder.join("jpg"), labelled.collect::<Result<_>>()?))
    };
    Ok(Listing { train: part("trnid")?, validation: part("valid")?, test: part("tstid")?, names: None })
}

/// An array of whole numbers.
fn numbers(path: &Path, name: &str) -> Result<Vec<u32>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open `{shown}`"))?;
    let file = MatFile::parse(file).map_err(|error| anyhow!("`{shown}` is no whole MATLAB file: {error}"))?;
    let array = file.find_by_name(name).with_context(|| format!("`{shown}` has no array of numbers `{name}`"))?;
    Ok(match array.data() {
        NumericData::UInt8 { real, .. } => real.iter().map(|number| u32::from(*number)).collect(),
        NumericData::UInt16 { real, .. } => real.iter().map(|number| u32::from(*number)).collect(),
        // A number that is no label or image is found out where it is used.
        NumericData::Double { real, .. } => real.iter().map(|number| *number as u32).collect(),
        _ => bail!("`{name}` in `{shown}` holds numbers of another type than MATLAB's `uint8`, `uint16` and `double`"),
    })
}
