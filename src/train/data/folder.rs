//! Image folders: a directory for every class, below `train`, `validation` (or `valid`, `val`, `dev`) and `test`, or as
//! one tree, which then is the training part and is split by slices of it.
//!
//! Classes are the names of directories in alphabetical order, as torchvision's `ImageFolder` has them; all parts
//! have the same. A part that holds images but no directory is without labels. Images are ordered by a hash of their
//! path, so that a slice such as `train[90%:]` holds every class and the order is the same on every machine. What is
//! hidden (`.DS_Store`) is left out, all else must be an image.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::listing::{Entry, Listing, Place};
use super::parts;
use crate::job::short_hash;

/// Whether a folder holds folders with files in them, or images.
pub(super) fn is_here(folder: &Path) -> bool {
    let [train, validation, test] = parts(|part| folder.join(part).is_dir());
    let tree = train.or(validation).or(test).map_or(folder.to_owned(), |part| folder.join(part));
    let folders = subfolders(&tree).unwrap_or_default();
    let holds = |folder: &Path| files(folder).is_ok_and(|files| !files.is_empty());
    folders.iter().any(|(_, class)| holds(class))
        || files(&tree).unwrap_or_default().iter().any(|(_, path)| is_image(path))
}

/// By its name: of files whose names say nothing only the experiment knows.
fn is_image(path: &Path) -> bool {
    const SUFFIXES: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];
    let suffix = path.extension().map(|suffix| suffix.to_string_lossy().to_lowercase());
    suffix.is_some_and(|suffix| SUFFIXES.contains(&&*suffix))
}

/// # Errors
/// When a folder cannot be read, or parts differ in their classes.
pub(super) fn listing(folder: &Path) -> Result<Listing> {
    let found = parts(|part| folder.join(part).is_dir());
    if found == [None; 3] {
        let (train, names) = tree(folder)?;
        return Ok(Listing { train, names, ..Listing::default() });
    }
    let mut listing = Listing::default();
    let mut first: Option<&str> = None;
    for (part, into) in found.into_iter().zip([&mut listing.train, &mut listing.validation, &mut listing.test]) {
        let Some(part) = part else { continue };
        let (entries, names) = tree(&folder.join(part))?;
        *into = entries;
        match first {
            None => (first, listing.names) = (Some(part), names),
            Some(first) => {
                ensure!(names == listing.names, "`{}`: `{first}` and `{part}` have other classes", folder.display());
            }
        }
    }
    Ok(listing)
}

/// The images of one part, and the names of their classes.
fn tree(tree: &Path) -> Result<(Vec<Entry>, Option<Vec<String>>)> {
    let mut listed = Vec::new();
    let mut list = |class: &str, label: Option<u32>, (name, path): (String, PathBuf)| {
        let place = short_hash("distillery image 1\n", &format!("{class}/{name}"));
        let name = format!("`{}`", path.display());
        listed.push((place, label, name, path));
    };
    let classes = subfolders(tree)?;
    if classes.is_empty() {
        let files = files(tree)?;
        if files.is_empty() {
            bail!("`{}` has neither a folder for a class in it nor an image", tree.display());
        }
        files.into_iter().for_each(|file| list("", None, file));
    }
    for (label, (class, folder)) in classes.iter().enumerate() {
        files(folder)?.into_iter().for_each(|file| list(class, Some(label as u32), file));
    }
    listed.sort();
    let entries = listed.into_iter().map(|(_, label, name, path)| Entry { name, label, place: Place::File(path) });
    let names: Vec<String> = classes.into_iter().map(|(name, _)| name).collect();
    Ok((entries.collect(), (!names.is_empty()).then_some(names)))
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
