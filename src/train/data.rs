//! Data sets as bytes: every image of one data set, decoded, in the order of its files.
//!
//! Pixels stay u8 until a batch is made. Identity is content: [`identify`] hashes what was decoded, so the same images
//! have the same name on every machine, gzipped or not.

mod cifar;
pub mod decode;
mod folder;
mod idx;
pub mod inspect;
pub mod jpeg;
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
    /// A folder with the `.bin` files of CIFAR-10 or CIFAR-100.
    Cifar(PathBuf),
    /// A folder of images, a directory for every class.
    Folder(PathBuf),
}

/// What the test part is called in folders and files, the first that is there.
const TEST: [&str; 4] = ["test", "validation", "valid", "val"];

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

/// Images of any sizes with their labels, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// One image after the other.
    pixels: Vec<u8>,
    /// Where each begins, with height and width.
    places: Vec<(usize, u32, u32)>,
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
    let set = load_all(location)?;
    if set.train.labels.is_empty() {
        bail!("the training part of `{}` holds no image", location.name());
    }
    Ok(set)
}

/// As [`load`], but the training part may be missing.
///
/// # Errors
/// As [`load`].
pub fn load_all(location: &Location) -> Result<DataSet> {
    match location {
        Location::FashionMnist8k2k => idx::embedded(),
        Location::Idx(folder) => idx::folder(folder),
        Location::Parquet(folder) => parquet::folder(folder),
        Location::Cifar(folder) => cifar::folder(folder),
        Location::Folder(folder) => folder::folder(folder),
    }
}

/// Reads one part of a data set into memory: its images, how many classes there are and, where the files tell, their
/// names. Where they do not even tell how many, the labels do.
///
/// # Errors
/// As [`load`].
pub fn load_part(location: &Location, part: Part) -> Result<(Images, u32, Option<Vec<String>>)> {
    match location {
        Location::Parquet(folder) => return parquet::one(folder, part),
        Location::Cifar(folder) => return cifar::one(folder, part),
        Location::Folder(folder) => return folder::one(folder, part),
        Location::Idx(_) | Location::FashionMnist8k2k => {}
    }
    let DataSet { train, test, classes, names } = load(location)?;
    Ok((if part == Part::Train { train } else { test }, classes, names))
}

/// The identity of a loaded data set.
pub fn identify(location: &Location, set: &DataSet) -> Data {
    let mut hash = Sha256::new();
    for images in [&set.train, &set.test] {
        let one = images.size().map(|(height, width)| [height, width].map(|side| side as u64));
        let shape = [images.labels.len() as u64].into_iter().chain(one.unwrap_or_default());
        shape.chain([images.channels as u64]).for_each(|side| hash.update(side.to_le_bytes()));
        if one.is_none() {
            images.places.iter().for_each(|(_, height, width)| {
                hash.update(height.to_le_bytes());
                hash.update(width.to_le_bytes());
            });
        }
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
            Location::Idx(folder) | Location::Parquet(folder) | Location::Cifar(folder) | Location::Folder(folder) => {
                let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
                name.unwrap_or_else(|| "data".to_owned())
            }
        }
    }

    /// How an experiment calls this kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Location::FashionMnist8k2k => "built in",
            Location::Idx(_) => "idx",
            Location::Parquet(_) => "parquet",
            Location::Cifar(_) => "cifar",
            Location::Folder(_) => "folder",
        }
    }

    /// What a folder holds is seen by its files.
    pub fn folder(path: &Path) -> Location {
        let make = if parquet::is_here(path) {
            Location::Parquet
        } else if cifar::is_here(path) {
            Location::Cifar
        } else if folder::is_here(path) {
            Location::Folder
        } else {
            Location::Idx
        };
        make(path.to_owned())
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
    /// Images of one size, `[N, H, W, C]`.
    pub fn of_one_size(pixels: Vec<u8>, (height, width, channels): (usize, usize, usize), labels: Vec<u32>) -> Images {
        let size = height * width * channels;
        let places = (0..labels.len()).map(|index| (index * size, height as u32, width as u32)).collect();
        Images { pixels, places, channels, labels }
    }

    /// Images `(height, width, pixels)` of any sizes.
    pub fn of_any_size(
        decoded: impl Iterator<Item = (usize, usize, Vec<u8>)>,
        channels: usize,
        labels: Vec<u32>,
    ) -> Images {
        let (mut pixels, mut places) = (Vec::new(), Vec::with_capacity(labels.len()));
        for (height, width, own) in decoded {
            places.push((pixels.len(), height as u32, width as u32));
            pixels.extend(own);
        }
        Images { pixels, places, channels, labels }
    }

    pub fn get(&self, index: usize) -> Image<'_> {
        let (at, height, width) = self.places[index];
        let (height, width, channels) = (height as usize, width as usize, self.channels);
        Image { pixels: &self.pixels[at..][..height * width * channels], height, width, channels }
    }

    /// Height and width, where all images have the same.
    pub fn size(&self) -> Option<(usize, usize)> {
        let (_, height, width) = *self.places.first()?;
        let same = self.places.iter().all(|(_, h, w)| (*h, *w) == (height, width));
        same.then_some((height as usize, width as usize))
    }
}
