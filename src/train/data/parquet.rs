//! Parquet files as data sets of the Hugging Face hub have them: a column of encoded images, and one of labels.
//!
//! Files whose names start with `train` are the training part, `test` (or `validation`, `valid` or `val`, where there is no test)
//! the test part; several are taken in the order of their names. The names of classes are in the file's metadata.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::Value;

use super::{DataSet, Images, TEST, decode};
use crate::job::Part;

const IMAGES: [&str; 2] = ["image", "img"];
const LABELS: [&str; 3] = ["label", "labels", "fine_label"];
/// Classes at most.
const MOST: u32 = 1_000_000;

/// Whether a folder has such files.
pub(super) fn is_here(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| is_parquet(&entry.path())))
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "parquet")
}

pub(super) fn folder(folder: &Path) -> Result<DataSet> {
    let (train, of_train, names) = one(folder, Part::Train)?;
    let (test, of_test, test_names) = one(folder, Part::Test)?;
    ensure!(train.channels == test.channels, "`{}`: either part is grey, the other is not", folder.display());
    ensure!(names == test_names, "`{}`: training and test classes differ", folder.display());
    Ok(DataSet { train, test, classes: of_train.max(of_test), names })
}

/// One part: images, classes and their names.
pub(super) fn one(folder: &Path, part: Part) -> Result<(Images, u32, Option<Vec<String>>)> {
    let prefixes: &[&str] = if part == Part::Train { &["train"] } else { &TEST };
    let found = prefixes.iter().find(|name| files(folder, name).is_ok_and(|files| !files.is_empty()));
    let (images, names) = read_part(folder, found.unwrap_or(&prefixes[0]))?;
    let most = images.labels.iter().max().map_or(0, |label| label + 1);
    let classes = names.as_ref().map_or(most, |names| names.len() as u32);
    ensure!(most <= classes, "`{}`: label {} where there are {classes} classes", folder.display(), most.max(1) - 1);
    Ok((images, classes, names))
}

fn files(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let starts = |path: &Path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_parquet(path) && starts(path)).collect();
    files.sort();
    Ok(files)
}

fn read_part(folder: &Path, name: &str) -> Result<(Images, Option<Vec<String>>)> {
    let files = files(folder, name)?;
    if files.is_empty() {
        bail!(
            "`{}` holds no parquet file whose name starts with `{name}`\nhint: `train*.parquet` and `test*.parquet` are looked for",
            folder.display()
        );
    }
    let (mut encoded, mut labels, mut names) = (Vec::new(), Vec::new(), None);
    for path in &files {
        let within = || format!("in `{}`", path.display());
        let file = File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
        let reader = SerializedFileReader::new(file)
            .with_context(|| format!("`{}` is no whole parquet file", path.display()))?;
        names = names.or(class_names(&reader));
        for (row, record) in reader.into_iter().enumerate() {
            let (image, label) = record
                .map_err(Into::into)
                .and_then(|row| read(&row))
                .with_context(|| format!("row {row}"))
                .with_context(within)?;
            encoded.push(image);
            labels.push(label);
        }
    }
    let row = |row: usize| format!("image {row} of `{name}`");
    let images = decode::all(labels, |index| &encoded[index][..], row, &folder.display())?;
    ensure!(!images.labels.is_empty(), "the {name} part of `{}` holds no image", folder.display());
    Ok((images, names))
}

/// The encoded image and the label of a row.
fn read(row: &Row) -> Result<(Vec<u8>, u32)> {
    let (mut image, mut label) = (None, None);
    for (name, field) in row.get_column_iter() {
        if IMAGES.contains(&name.as_str()) {
            image = bytes(field);
        } else if LABELS.contains(&name.as_str()) && label.is_none() {
            label = number(field);
        }
    }
    let label = label.context("there is no label: a column `label`, `labels` or `fine_label` is looked for")?;
    let label = u32::try_from(label).ok().filter(|label| *label < MOST).with_context(|| format!("label {label}"))?;
    Ok((image.context("there is no image: a column `image` or `img` is looked for")?, label))
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
