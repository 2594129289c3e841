//! SUN397, divided as TensorFlow Datasets does, whose parts the paper trains and tests on.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{images, lines};
use crate::train::data::listing::Listing;

/// What the lists are called in TFDS, or here: for training, validation and test.
const LISTS: [&[&str]; 3] = [
    &["sun397_tfds_tr.txt", "train.txt"],
    &["sun397_tfds_va.txt", "validation.txt", "val.txt"],
    &["sun397_tfds_te.txt", "test.txt"],
];

/// A line is an image, `/a/abbey/sun_aaalbzqrimafwbiv.jpg`; its folder is the class, and the classes' order alphabetical.
pub fn listing(folder: &Path) -> Result<Listing> {
    let mut parts = Vec::new();
    for names in LISTS {
        let Some(list) = names.iter().map(|name| folder.join(name)).find(|list| list.is_file()) else {
            bail!(
                "`{}` has the images of SUN397, but not `{}`\nhint: the paper's parts are those of TensorFlow Datasets: lay its lists `{}`, `{}` and `{}` (package `tensorflow_datasets`, folder `image_classification`) into this folder",
                folder.display(),
                names[0],
                LISTS[0][0],
                LISTS[1][0],
                LISTS[2][0]
            );
        };
        let paths = lines(&list)?.into_iter().map(|line| {
            let path = line.trim_start_matches('/').to_owned();
            let class = path.rsplit_once('/').map(|(class, _)| class.to_owned());
            Ok((class.with_context(|| format!("`{line}` in `{}` is in no class", list.display()))?, path))
        });
        parts.push(paths.collect::<Result<Vec<_>>>()?);
    }
    let names: BTreeSet<&String> = parts.iter().flatten().map(|(class, _)| class).collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let part = |index: usize| {
        let label = |class: &String| names.binary_search(class).map_or(0, |label| label as u32);
        images(folder, parts[index].iter().map(|(class, path)| (path.clone(), label(class))).collect())
    };
    let (train, validation, test) = (part(0), part(1), part(2));
    Ok(Listing { train, validation, test, names: Some(names) })
}
