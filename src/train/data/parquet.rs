//! Parquet files as data sets of the Hugging Face hub have them: a column of encoded images, and one of labels.
//!
//! Files whose names start with `train` are the training part, `test` (or `validation`, `valid` or `val`, where there is no test)
//! the test part; several are taken in the order of their names. The names of classes are in the file's metadata.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use image::ImageReader;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use rayon::prelude::*;
use serde_json::Value;

use super::{DataSet, Images};

const IMAGES: [&str; 2] = ["image", "img"];
const LABELS: [&str; 3] = ["label", "labels", "fine_label"];
const TEST: [&str; 4] = ["test", "validation", "valid", "val"];

/// Whether a folder has such files.
pub(super) fn is_here(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| is_parquet(&entry.path())))
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "parquet")
}

pub(super) fn folder(folder: &Path) -> Result<DataSet> {
    let train = part(folder, "train")?;
    let test = TEST.iter().find(|name| files(folder, name).is_ok_and(|files| !files.is_empty()));
    let test = part(folder, test.unwrap_or(&TEST[0]))?;
    let shape = |part: &Part| (part.images.height, part.images.width, part.images.channels);
    ensure!(shape(&train) == shape(&test), "`{}`: training and test images differ in size", folder.display());
    ensure!(train.names == test.names, "`{}`: training and test classes differ", folder.display());
    let most = train.images.labels.iter().chain(&test.images.labels).max().map_or(0, |label| label + 1);
    let classes = train.names.as_ref().map_or(most, |names| names.len() as u32);
    ensure!(most <= classes, "`{}`: label {} where there are {classes} classes", folder.display(), most.max(1) - 1);
    Ok(DataSet { train: train.images, test: test.images, classes, names: train.names })
}

struct Part {
    images: Images,
    names: Option<Vec<String>>,
}

fn files(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let starts = |path: &Path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_parquet(path) && starts(path)).collect();
    files.sort();
    Ok(files)
}

fn part(folder: &Path, name: &str) -> Result<Part> {
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
    let decode = |(row, bytes): (usize, &Vec<u8>)| decode(bytes).with_context(|| format!("image {row} of `{name}`"));
    let decoded = encoded.par_iter().enumerate().map(decode).collect::<Result<Vec<_>>>()?;
    let Some((height, width, channels, _)) = decoded.first().map(|first| (first.0, first.1, first.2, ())) else {
        bail!("the {name} part of `{}` holds no image", folder.display());
    };
    let mut pixels = Vec::with_capacity(decoded.len() * height * width * channels);
    for (row, (h, w, c, own)) in decoded.into_iter().enumerate() {
        ensure!(
            (h, w, c) == (height, width, channels),
            "image {row} of `{name}` is {h}x{w} with {c} channels, the first is {height}x{width} with {channels}"
        );
        pixels.extend(own);
    }
    Ok(Part { images: Images { pixels, height, width, channels, labels }, names })
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
    let label = u32::try_from(label).with_context(|| format!("label {label}"))?;
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

/// Height, width, channels and pixels; grey stays grey, all else becomes red, green and blue.
fn decode(bytes: &[u8]) -> Result<(usize, usize, usize, Vec<u8>)> {
    let image = ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format()?.decode()?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    Ok(match image.color().has_color() {
        true => (height, width, 3, image.into_rgb8().into_raw()),
        false => (height, width, 1, image.into_luma8().into_raw()),
    })
}
