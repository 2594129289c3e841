//! Image folders: a directory for every class, below `train`, `validation` (or `valid`, `val`, `dev`) and `test`, or as
//! one tree, which then is the training part and is split by slices of it. Parts may go by any name of [`part`] where all
//! directories do: `Train` and `Test`, `train2017` and `val2017`.
//!
//! Classes are the names of directories in alphabetical order, as torchvision's `ImageFolder` has them; all parts
//! have the same. Images may lie in folders of a class's folder. A part that holds images but no directory is without
//! labels, as contests have their tests. Images are ordered by a hash of their path, so that a slice such as `train[90%:]` holds every class and the
//! order is the same on every machine. What is hidden (`.DS_Store`) is left out, all else must be an image.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::listing::{Entry, Listing, order, part};
use crate::job::Part;

/// What makes directories parts whatever lies beside them.
const PLAIN: [&str; 6] = ["train", "validation", "valid", "val", "dev", "test"];

/// Whether a folder holds folders with files in them, or images.
pub(super) fn is_here(folder: &Path) -> bool {
    let found = parts(folder).unwrap_or_default();
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
    let found = parts(folder)?;
    if found.iter().all(Option::is_none) {
        let (train, names) = tree(folder)?;
        return Ok(Listing { train, names, ..Listing::default() });
    }
    let mut listing = Listing::default();
    let mut first: Option<String> = None;
    for (part, into) in found.into_iter().zip([&mut listing.train, &mut listing.validation, &mut listing.test]) {
        let Some(part) = part else { continue };
        let (entries, names) = tree(&folder.join(&part))?;
        *into = entries;
        match &first {
            _ if names.is_none() => {}
            None => (first, listing.names) = (Some(part), names),
            Some(first) => {
                ensure!(names == listing.names, "`{}`: `{first}` and `{part}` have other classes", folder.display());
            }
        }
    }
    Ok(listing)
}

/// The directories of training, validation and test.
///
/// # Errors
/// When the folder cannot be read, or a part goes by two names.
fn parts(folder: &Path) -> Result<[Option<String>; 3]> {
    let names: Vec<String> = subfolders(folder)?.into_iter().map(|(name, _)| name).collect();
    let is_plain = |name: &str| PLAIN.contains(&name);
    let mut found = [None, None, None];
    if !names.iter().any(|name| is_plain(name)) && !names.iter().all(|name| part(name).is_some()) {
        return Ok(found);
    }
    for wanted in [Part::Train, Part::Validation, Part::Test] {
        let own = || names.iter().filter(|name| part(name) == Some(wanted));
        let plain: Vec<&String> = own().filter(|name| is_plain(name)).collect();
        let own = if plain.is_empty() { own().collect() } else { plain };
        if let [first, second, ..] = own[..] {
            let folder = folder.display();
            bail!(
                "in `{folder}` are both `{first}` and `{second}`\nhint: keep one of them: they are names of the same part"
            );
        }
        found[wanted as usize] = own.first().map(|name| (*name).clone());
    }
    Ok(found)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(images: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for image in images {
            let path = folder.path().join(image);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, image).unwrap();
        }
        folder
    }

    /// Images of training, validation and test, and how many classes have a name.
    fn told(images: &[&str]) -> ([usize; 3], usize) {
        let folder = folder(images);
        assert!(is_here(folder.path()), "{images:?}");
        let listing = listing(folder.path()).unwrap();
        (listing.parts().map(<[Entry]>::len), listing.names.unwrap_or_default().len())
    }

    #[test]
    fn directories_that_are_all_called_so_are_parts() {
        for (train, other, expected) in [
            ("train", "test", [2, 0, 2]),
            ("Train", "Test", [2, 0, 2]),
            ("training", "testing", [2, 0, 2]),
            ("train2017", "val2017", [2, 2, 0]),
        ] {
            let images = [train, other].map(|part| [format!("{part}/a/1.png"), format!("{part}/b/1.png")]).concat();
            let images: Vec<&str> = images.iter().map(String::as_str).collect();
            assert_eq!(told(&images), (expected, 2), "{train}");
        }
        // Beside what is no part they are classes, the plain names excepted.
        assert_eq!(told(&["Train/1.png", "Plane/1.png"]), ([2, 0, 0], 2));
        assert_eq!(told(&["train/a/1.png", "val2017/a/1.png", "docs/1.txt", "test/a/1.png"]), ([1, 1, 1], 1));
        assert_eq!(told(&["train/a/1.png", "test/a/1.png", "test2/a/1.png"]), ([1, 0, 1], 1));
        for names in [["val", "valid"], ["train2014", "train2017"]] {
            let images = names.map(|name| format!("{name}/a/1.png"));
            let folder = folder(&images.each_ref().map(String::as_str));
            let error = listing(folder.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("are both `{}` and `{}`\nhint: ", names[0], names[1])), "{error}");
        }
    }

    #[test]
    fn a_part_without_classes_is_without_labels() {
        let contest = ["train/a/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png", "test/5.png", "test/6.png"];
        let place = folder(&contest);
        let listing = listing(place.path()).unwrap();
        assert_eq!((listing.train.len(), listing.validation.len(), listing.test.len()), (2, 2, 2));
        assert!(listing.test.iter().all(|entry| entry.label.is_none()));
        assert!(listing.validation.iter().all(|entry| entry.label.is_some()));
        assert_eq!(listing.names.unwrap(), ["a", "b"]);
        assert_eq!(told(&["train/1.png", "test/a/2.png", "test/b/3.png"]), ([1, 0, 2], 2));
        let place = folder(&["train/a/1.png", "train/b/2.png", "val/a/3.png", "test/4.png"]);
        let error = super::listing(place.path()).unwrap_err().to_string();
        assert!(error.contains("`train` and `val` have other classes"), "{error}");
    }
}
