//! Image folders: a directory for every class, below `train` and `test` (or `validation`, `valid` or `val`), or as one
//! tree, which then is the training part and is split by slices of it.
//!
//! Classes are the names of directories in alphabetical order, as torchvision's `ImageFolder` has them; `train` and `test`
//! have the same. Images are ordered by a hash of their path, so that a slice such as `train[90%:]` holds every class
//! and the order is the same on every machine. What is hidden (`.DS_Store`) is left out, all else must be an image:
//! whatever cannot be decoded is listed, all of it at once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;

use super::{DataSet, Images, TEST, decode};
use crate::job::{Part, short_hash};

/// Whether a folder holds folders with files in them.
pub(super) fn is_here(folder: &Path) -> bool {
    let tree = one_tree(folder).unwrap_or_else(|| folder.to_owned());
    let folders = subfolders(&tree).unwrap_or_default();
    folders.iter().any(|(_, class)| files(class).is_ok_and(|files| !files.is_empty()))
}

/// The training part's tree, where there are parts.
fn one_tree(folder: &Path) -> Option<PathBuf> {
    ["train"].iter().chain(&TEST).map(|part| folder.join(part)).find(|part| part.is_dir())
}

pub(super) fn folder(folder: &Path) -> Result<DataSet> {
    let (train, classes, names) = one(folder, Part::Train)?;
    let (test, test_names) = match tree(folder, Part::Test) {
        None => (Images::of_any_size(std::iter::empty(), train.channels, Vec::new()), names.clone()),
        Some(_) => {
            let (images, _, names) = one(folder, Part::Test)?;
            (images, names)
        }
    };
    ensure!(names == test_names, "`{}`: training and test part have other classes", folder.display());
    ensure!(
        train.channels == test.channels || test.labels.is_empty(),
        "`{}`: either part is grey, the other is not",
        folder.display()
    );
    Ok(DataSet { train, test, classes, names })
}

/// Where a part lies; a tree without parts is for training.
fn tree(folder: &Path, part: Part) -> Option<PathBuf> {
    let named = |names: &[&str]| names.iter().map(|name| folder.join(name)).find(|path| path.is_dir());
    match part {
        Part::Train => Some(named(&["train"]).unwrap_or_else(|| folder.to_owned())),
        Part::Test => named(&TEST),
    }
}

/// One part: images, classes and their names.
pub(super) fn one(folder: &Path, part: Part) -> Result<(Images, u32, Option<Vec<String>>)> {
    let Some(tree) = tree(folder, part) else {
        bail!(
            "`{}` has no test part\nhint: put it into `test`, or cut the three parts of `split` from `train`: `test = \"train[90%:]\"`",
            folder.display()
        );
    };
    let classes = subfolders(&tree)?;
    ensure!(!classes.is_empty(), "`{}` has no folder for a class in it", tree.display());
    let mut listed = Vec::new();
    for (label, (class, folder)) in classes.iter().enumerate() {
        for (name, path) in files(folder)? {
            listed.push((short_hash("distillery image 1\n", &format!("{class}/{name}")), label as u32, path));
        }
    }
    listed.sort();
    let read = |(_, label, path): &(String, u32, PathBuf)| -> Result<(Vec<u8>, u32)> {
        Ok((fs::read(path).with_context(|| format!("`{}`", path.display()))?, *label))
    };
    let encoded = decode::or_all_errors(listed.par_iter().map(read).collect(), &tree.display())?;
    let bytes = |index: usize| &encoded[index].0[..];
    let name = |index: usize| format!("`{}`", listed[index].2.display());
    let labels = encoded.iter().map(|(_, label)| *label).collect();
    let images = decode::all(labels, bytes, name, &tree.display())?;
    let names: Vec<String> = classes.into_iter().map(|(name, _)| name).collect();
    Ok((images, names.len() as u32, Some(names)))
}

/// Names and paths of what is in a folder, in order, without what is hidden.
fn entries(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<(String, PathBuf)>> {
    let context = || format!("cannot read `{}`", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with('.') && wanted(&path) {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

fn subfolders(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    entries(folder, Path::is_dir)
}

fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    entries(folder, Path::is_file)
}
