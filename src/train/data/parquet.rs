//! Parquet files as data sets of the Hugging Face hub have them: a column of encoded images, and mostly one of labels.
//!
//! Files are of the part that a word of their name is ([`part_of`]). Several are taken in the order of their names. The names of classes are in the file's metadata.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::Value;

use super::listing::{Entry, Listing, Place, part_of};
use super::pack::{self, Encoded};
use crate::train::memory;

const IMAGES: [&str; 2] = ["image", "img"];
const LABELS: [&str; 3] = ["label", "labels", "fine_label"];
/// Classes at most.
const MOST: u32 = 1_000_000;

/// Whether a folder has such files, or `data` in it.
pub(super) fn is_here(folder: &Path) -> bool {
    holds(folder) || holds(&folder.join("data"))
}

fn holds(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| is_parquet(&entry.path())))
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "parquet")
}

/// Of a folder, or of `data` in it, where the hub's repositories have them.
///
/// # Errors
/// When files cannot be read, say nothing of images, or belong to no part.
pub(super) fn listing(folder: &Path) -> Result<Listing> {
    let inner = folder.join("data");
    let folder = if holds(folder) || !holds(&inner) { folder } else { &inner };
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| is_parquet(path)).collect();
    files.sort();
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for path in files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(part) = part_of(&name) else {
            bail!(
                "`{}` belongs to no part\nhint: `train*.parquet`, `validation*.parquet` and `test*.parquet` are looked for",
                path.display()
            )
        };
        parts[part as usize].push(path);
    }
    of_files(&parts)
}

/// Of the files of each part: training, validation, test. Their images are kept in memory, or where they are too many for
/// a quarter of what is free, in files of the cache.
///
/// # Errors
/// As [`listing`].
pub(super) fn of_files(files: &[Vec<PathBuf>; 3]) -> Result<Listing> {
    let bytes: u64 = files.iter().flatten().filter_map(|path| fs::metadata(path).ok()).map(|about| about.len()).sum();
    let many = memory::available_bytes().is_some_and(|available| bytes > available / 4);
    let mut listing = Listing::default();
    let mut first: Option<&PathBuf> = None;
    let into = [&mut listing.train, &mut listing.validation, &mut listing.test];
    for (files, entries) in files.iter().zip(into) {
        for path in files {
            let names = class_names(&reader(path)?);
            entries.extend(of_file(path, many)?);
            match &first {
                None => (first, listing.names) = (Some(path), names),
                Some(first) => {
                    ensure!(names == listing.names, "`{}` and `{}` have other classes", first.display(), path.display())
                }
            }
        }
    }
    Ok(listing)
}

fn of_file(path: &Path, many: bool) -> Result<Vec<Entry>> {
    let name = |row: usize| format!("row {row} of `{}`", path.display());
    if many {
        return pack::packed(path, |put| rows(path, put), name);
    }
    let mut entries = Vec::new();
    rows(path, &mut |(image, label)| {
        let name = name(entries.len());
        entries.push(Entry { name, label, place: Place::Memory(image.into()), stamp: None });
        Ok(())
    })?;
    Ok(entries)
}

fn reader(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
    SerializedFileReader::new(file).with_context(|| format!("`{}` is no whole parquet file", path.display()))
}

/// Hands out the rows of a file.
fn rows(path: &Path, put: &mut dyn FnMut(Encoded) -> Result<()>) -> Result<()> {
    for (row, record) in reader(path)?.into_iter().enumerate() {
        let image = record.map_err(Into::into).and_then(|row| image_and_label(&row));
        put(image.with_context(|| format!("row {row}")).with_context(|| format!("in `{}`", path.display()))?)?;
    }
    Ok(())
}

/// The encoded image and the label of a row. -1 is no label, as the library `datasets` has it; an image that is null is
/// one without a byte, which cannot be read.
fn image_and_label(row: &Row) -> Result<Encoded> {
    let (mut image, mut label) = (None, None);
    for (name, field) in row.get_column_iter() {
        if IMAGES.contains(&name.as_str()) {
            image = Some(bytes(field).unwrap_or_default());
        } else if LABELS.contains(&name.as_str()) && label.is_none() {
            if let Field::Str(text) = field {
                bail!("the label is text, `{text}`\nhint: labels are numbers, whose names are in the file's metadata");
            }
            label = number(field).filter(|label| *label != -1);
        }
    }
    let fits =
        |label: i64| u32::try_from(label).ok().filter(|label| *label < MOST).with_context(|| format!("label {label}"));
    let image = image.context("there is no image: a column `image` or `img` is looked for")?;
    Ok((image, label.map(fits).transpose()?))
}

/// Bytes as they are, or as `bytes` of a group, beside a path.
fn bytes(field: &Field) -> Option<Vec<u8>> {
    match field {
        Field::Bytes(bytes) => Some(bytes.data().to_vec()),
        Field::Group(group) => {
            group.get_column_iter().find(|(name, _)| *name == "bytes").and_then(|(_, field)| bytes(field))
        }
        _ => None,
    }
}

fn number(field: &Field) -> Option<i64> {
    Some(match field {
        Field::Byte(number) => i64::from(*number),
        Field::Short(number) => i64::from(*number),
        Field::Int(number) => i64::from(*number),
        Field::Long(number) => *number,
        Field::UByte(number) => i64::from(*number),
        Field::UShort(number) => i64::from(*number),
        Field::UInt(number) => i64::from(*number),
        _ => return None,
    })
}

/// As the library `datasets` writes them into a file's metadata.
fn class_names(reader: &SerializedFileReader<File>) -> Option<Vec<String>> {
    let entries = reader.metadata().file_metadata().key_value_metadata()?;
    let text = entries.iter().find(|entry| entry.key == "huggingface")?.value.as_deref()?;
    let about: Value = serde_json::from_str(text).ok()?;
    let features = &about["info"]["features"];
    let names = LABELS.iter().find_map(|label| features[label]["names"].as_array())?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}
