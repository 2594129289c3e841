//! Image folders: a directory for every class, below `train`, `validation` (or `valid`, `val`, `dev`) and `test`, or as
//! one tree, which then is the training part and is split by slices of it.
//!
//! Classes are the names of directories in alphabetical order, as torchvision's `ImageFolder` has them; all parts
//! have the same. Images may lie in folders of a class's folder. A part that holds images but no directory is without
//! labels. Images are ordered by a hash of their path, so that a slice such as `train[90%:]` holds every class and the
//! order is the same on every machine. What is hidden (`.DS_Store`) is left out, all else must be an image.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::listing::{Entry, Listing, order};
use super::parts;

/// Whether a folder holds folders with files in them, or images.
pub(super) fn is_here(folder: &Path) -> bool {
    let found = parts(|part| folder.join(part).is_dir()).unwrap_or_default();
    let tree = found.into_iter().flatten().next().map_or(folder.to_owned(), |part| folder.join(part));
    let images = |folder: &Path| files(folder).unwrap_or_default().iter().any(|(_, path)| is_image(path));
    let folders = subfolders(&tree).unwrap_or_default();
    folders.iter().any(|(_, class)| !below(class, String::new()).unwrap_or_default().is_empty()) || images(&tree)
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
    let found = parts(|part| folder.join(part).is_dir()).with_context(|| format!("in `{}`", folder.display()))?;
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
        listed.push((order(&format!("{class}/{name}")), label, path));
    };
    let classes = subfolders(tree)?;
    let own = files(tree)?;
    if classes.is_empty() {
        if own.is_empty() {
            bail!("`{}` has neither a folder for a class in it nor an image", tree.display());
        }
        own.into_iter().for_each(|file| list("", None, file));
    } else if let Some((_, path)) = own.iter().find(|(_, path)| is_image(path)) {
        bail!("`{}` lies beside the classes' folders\nhint: move it into the folder of its class", path.display());
    }
    for (label, (class, folder)) in classes.iter().enumerate() {
        below(folder, String::new())?.into_iter().for_each(|file| list(class, Some(label as u32), file));
    }
    listed.sort();
    let entries = listed.into_iter().map(|(_, label, path)| Entry::file(path, label));
    let names: Vec<String> = classes.into_iter().map(|(name, _)| name).collect();
    Ok((entries.collect(), (!names.is_empty()).then_some(names)))
}

/// All files of a class, those of folders in its folder too, by their path from it.
fn below(folder: &Path, from: String) -> Result<Vec<(String, PathBuf)>> {
    let mut found: Vec<_> = files(folder)?.into_iter().map(|(name, path)| (format!("{from}{name}"), path)).collect();
    for (name, inner) in subfolders(folder)? {
        found.extend(below(&inner, format!("{from}{name}/"))?);
    }
    Ok(found)
}

/// Names and paths of what is in a folder, in order, without what is hidden.
pub(super) fn entries(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<(String, PathBuf)>> {
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
    // A link that leads nowhere is an image that is missing.
    entries(folder, |path| !path.is_dir())
}
