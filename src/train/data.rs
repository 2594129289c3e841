//! Data sets as bytes: every image of one data set, decoded, in the order of its files.
//!
//! Pixels stay u8 until a batch is made. Identity is content: [`identify`] hashes what was decoded, so the same images
//! have the same name on every machine, gzipped or not.

mod idx;
mod parquet;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::job::{Data, Part, Slice};

/// Where a data set comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// In the binary: Fashion-MNIST's first 8,000 training and 2,000 test images.
    FashionMnist8k2k,
    /// A folder with the four IDX files of MNIST and its relatives, gzipped or not.
    Idx(PathBuf),
    /// A folder of parquet files as the hub has them: an image and a label a row.
    Parquet(PathBuf),
}

/// The name of the data set that is in the binary.
pub const FASHION_MNIST_8K2K: &str = "fashion-mnist-8k2k";

/// Training and test images.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSet {
    pub train: Images,
    pub test: Images,
    pub classes: u32,
    /// Of the classes, where the files tell.
    pub names: Option<Vec<String>>,
}

/// Images of one size with their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// `[N, H, W, C]`
    pub pixels: Vec<u8>,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// `[N]`, below the number of classes.
    pub labels: Vec<u32>,
}

/// One image, `[H, W, C]`.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub pixels: &'a [u8],
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

/// Reads a data set into memory.
///
/// # Errors
/// When files are missing, unreadable or not what their names say; every message names the file.
pub fn load(location: &Location) -> Result<DataSet> {
    let set = match location {
        Location::FashionMnist8k2k => idx::embedded(),
        Location::Idx(folder) => idx::folder(folder),
        Location::Parquet(folder) => parquet::folder(folder),
    }?;
    for (part, images) in [("train", &set.train), ("test", &set.test)] {
        if images.labels.is_empty() {
            bail!("the {part} part of {} holds no image", location.name());
        }
    }
    Ok(set)
}

/// The identity of a loaded data set.
pub fn identify(location: &Location, set: &DataSet) -> Data {
    let mut hash = Sha256::new();
    for images in [&set.train, &set.test] {
        let shape = [images.labels.len(), images.height, images.width, images.channels].map(|side| side as u64);
        shape.iter().for_each(|side| hash.update(side.to_le_bytes()));
        hash.update(&images.pixels);
        images.labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
    }
    Data {
        name: location.name(),
        sha256: hex(&hash.finalize()),
        classes: set.classes,
        channels: set.train.channels as u32,
        train_images: set.train.labels.len() as u32,
        test_images: set.test.labels.len() as u32,
    }
}

impl Location {
    /// A folder is called by its last component: where it lies is not identity.
    pub fn name(&self) -> String {
        match self {
            Location::FashionMnist8k2k => FASHION_MNIST_8K2K.to_owned(),
            Location::Idx(folder) | Location::Parquet(folder) => {
                let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
                name.unwrap_or_else(|| "data".to_owned())
            }
        }
    }

    /// What a folder holds is seen by its files.
    pub fn folder(path: &Path) -> Location {
        match parquet::is_here(path) {
            true => Location::Parquet(path.to_owned()),
            false => Location::Idx(path.to_owned()),
        }
    }
}

impl DataSet {
    pub fn part(&self, part: Part) -> &Images {
        match part {
            Part::Train => &self.train,
            Part::Test => &self.test,
        }
    }

    /// Images and labels of a slice, as positions in its part.
    pub fn slice(&self, slice: &Slice) -> (&Images, std::ops::Range<usize>) {
        (self.part(slice.part), slice.start as usize..slice.end as usize)
    }
}

impl Images {
    pub fn get(&self, index: usize) -> Image<'_> {
        let size = self.height * self.width * self.channels;
        Image {
            pixels: &self.pixels[index * size..][..size],
            height: self.height,
            width: self.width,
            channels: self.channels,
        }
    }
}
