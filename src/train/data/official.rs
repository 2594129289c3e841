//! The data sets of the paper as their makers hand them out, found by the files that belong to each.
//!
//! | name | what lies in the folder |
//! |---|---|
//! | `flowers102` | `jpg/image_00001.jpg`, `imagelabels.mat`, `setid.mat` |
//! | `pet37` | `images/Abyssinian_100.jpg`, `annotations/trainval.txt` and `test.txt` |
//! | `food101` | `images/apple_pie/1005649.jpg`, `meta/classes.txt`, `train.txt` and `test.txt` |
//! | `sun397` | `a/abbey/sun_aaalbzqrimafwbiv.jpg`, and the lists of TFDS's parts |
//! | `imagenet` | `train/n01440764/*.JPEG`, `val/n01440764/*.JPEG` |
//!
//! Or one folder deeper, where the archive's own folder is kept. A part's images are ordered by a hash of their path, as
//! those of an image folder are: a slice such as `train[90%:]` then holds every class. TFDS orders them otherwise, so the
//! same slice holds other images there.

mod flowers;
mod sun;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::folder;
use super::listing::{Entry, Listing, order};

/// What the folder holds, where it has the layout of the set called `name`.
///
/// # Errors
/// When lists are broken, or a part cannot be told.
pub fn listing(name: &str, folder: &Path) -> Option<Result<Listing>> {
    type Reader = fn(&Path) -> Result<Listing>;
    let (inner, needed, read): (&str, &[&str], Reader) = match name {
        "flowers102" => ("flowers-102", &["jpg", "imagelabels.mat", "setid.mat"], flowers::listing),
        "pet37" => ("oxford-iiit-pet", &["images", "annotations/trainval.txt"], pets),
        "food101" => ("food-101", &["images", "meta/train.txt"], food),
        "sun397" => ("SUN397", &["a/abbey", "y/yard"], sun::listing),
        "imagenet" => ("ILSVRC/Data/CLS-LOC", &["train"], imagenet),
        _ => return None,
    };
    let is_here = |folder: &PathBuf| {
        needed.iter().all(|needed| folder.join(needed).exists()) && (name != "imagenet" || has_synsets(folder))
    };
    [folder.to_owned(), folder.join(inner)].into_iter().find(is_here).map(|folder| read(&folder))
}

fn food(folder: &Path) -> Result<Listing> {
    let names = lines(&folder.join("meta/classes.txt"))?;
    let part = |part: &str| {
        let list = folder.join("meta").join(format!("{part}.txt"));
        let labelled = lines(&list)?.into_iter().map(|line| {
            let class = line.split('/').next().unwrap_or_default();
            let label = names.iter().position(|name| name == class);
            let label = label.with_context(|| format!("`{line}` in `{}` is of no class", list.display()))?;
            Ok((format!("{line}.jpg"), label as u32))
        });
        anyhow::Ok(images(&folder.join("images"), labelled.collect::<Result<_>>()?))
    };
    let (train, test) = (part("train")?, part("test")?);
    Ok(Listing { train, test, names: Some(names), ..Listing::default() })
}

/// A line has the name, the class from 1, the species and the breed in it.
fn pets(folder: &Path) -> Result<Listing> {
    let mut names = BTreeMap::new();
    let mut part = |part: &str| {
        let list = folder.join("annotations").join(format!("{part}.txt"));
        let mut labelled = Vec::new();
        for line in lines(&list)?.iter().filter(|line| !line.starts_with('#')) {
            let words: Vec<_> = line.split_whitespace().collect();
            let read = || {
                let class = words.get(1)?.parse::<u32>().ok()?.checked_sub(1)?;
                Some((words[0], words[0].rsplit_once('_')?.0, class))
            };
            let (name, breed, class) =
                read().with_context(|| format!("`{line}` in `{}` is no name and class", list.display()))?;
            names.entry(class).or_insert_with(|| breed.to_owned());
            labelled.push((format!("{name}.jpg"), class));
        }
        anyhow::Ok(images(&folder.join("images"), labelled))
    };
    let (train, test) = (part("trainval")?, part("test")?);
    let all = names.keys().copied().eq(0..names.len() as u32);
    ensure!(all, "`{}` leaves a class without an image", folder.join("annotations").display());
    Ok(Listing { train, test, names: Some(names.into_values().collect()), ..Listing::default() })
}

/// Classes are the synsets in alphabetical order.
fn imagenet(folder: &Path) -> Result<Listing> {
    let names = entries(&folder.join("train"))?.into_iter().filter(|name| is_synset(name)).collect::<Vec<_>>();
    let part = |part: &str| {
        let root = folder.join(part);
        let (mut labelled, mut flat) = (Vec::new(), 0);
        for class in entries(&root)? {
            if !is_synset(&class) {
                flat += usize::from(Path::new(&class).extension().is_some_and(|suffix| suffix == "JPEG"));
                continue;
            }
            let label = names.binary_search(&class);
            let label = label.map_err(|_| anyhow!("`{}` is no class of `train`", root.join(&class).display()))?;
            let own = entries(&root.join(&class))?;
            labelled.extend(own.into_iter().map(|name| (format!("{class}/{name}"), label as u32)));
        }
        if flat > 0 {
            bail!(
                "`{}` holds {flat} images that lie in no folder of a class\nhint: move each into the folder of its synset, as `train` has them: `valprep.sh` of github.com/soumith/imagenetloader.torch does. (`ILSVRC2012_validation_ground_truth.txt` numbers the classes by `ILSVRC2012_ID` of `meta.mat`, not in the order of the synsets.)",
                root.display()
            );
        }
        Ok(ordered(labelled).into_iter().map(|(path, label)| Entry::file(root.join(path), Some(label))).collect())
    };
    let validation = if folder.join("val").is_dir() { part("val")? } else { Vec::new() };
    Ok(Listing { train: part("train")?, validation, names: Some(names), ..Listing::default() })
}

fn has_synsets(folder: &Path) -> bool {
    entries(&folder.join("train")).is_ok_and(|names| names.iter().any(|name| is_synset(name)))
}

/// Such as `n01440764`.
fn is_synset(name: &str) -> bool {
    name.len() == 9 && name.starts_with('n') && name[1..].bytes().all(|byte| byte.is_ascii_digit())
}

/// The names in a folder, in order, without what is hidden.
fn entries(folder: &Path) -> Result<Vec<String>> {
    Ok(folder::entries(folder, |_| true)?.into_iter().map(|(name, _)| name).collect())
}

/// Those that have something in them.
fn lines(list: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(list).with_context(|| format!("cannot read `{}`", list.display()))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// The images below `root`, by path and label, in our order.
fn images(root: &Path, labelled: Vec<(String, u32)>) -> Vec<Entry> {
    ordered(labelled).into_iter().map(|(path, label)| Entry::file(root.join(path), Some(label))).collect()
}

fn ordered(labelled: Vec<(String, u32)>) -> Vec<(String, u32)> {
    let mut hashed: Vec<_> = labelled.into_iter().map(|(path, label)| (order(&path), path, label)).collect();
    hashed.sort();
    hashed.into_iter().map(|(_, path, label)| (path, label)).collect()
}

#[cfg(test)]
mod tests;
