//! Data sets: the images of all parts of one, in the order of its files, and what they are called.
//!
//! A format lists what it holds ([`listing`]) or has pixels itself (`idx`, `cifar`). Files of images stay encoded until
//! somebody wants to look; [`DataSet::hold`] decodes them into memory, or into a file, for whoever looks often. Pixels stay
//! u8 until a batch is made. Identity is content: [`identify`] hashes what images are, wherever they lie.

mod cifar;
pub mod csv;
pub mod decode;
mod folder;
mod idx;
mod images;
mod index;
pub mod inspect;
pub mod jpeg;
pub mod listing;
pub mod official;
mod pack;
mod parquet;
pub mod tar;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

pub use images::{Image, Images, Shape, UNLABELLED};
use listing::Entry;

use crate::digest::hex;
use crate::job::{Data, Decode, Part, Slice};
use crate::known;
use crate::source::{Keep, Kind, Orientation, Origin, Source};

/// Names the folder where the paper's data sets lie, each in a folder of its name.
pub const DATA_FOLDER: &str = "DISTILLERY_DATA";

/// All parts of a data set. Any may be empty.
#[derive(Debug)]
pub struct DataSet {
    pub train: Images,
    pub validation: Images,
    pub test: Images,
    /// 0 where images have no labels.
    pub classes: u32,
    /// Of the classes, where the files tell.
    pub names: Option<Vec<String>>,
    /// Images that were left out, each with the reason.
    pub skipped: Vec<String>,
}

/// Looks at a data set: every image is read and checked once, which is remembered. A set with a part for validation and
/// none for tests, or one without labels, has the former as the latter.
///
/// # Errors
/// When files are missing, unreadable or not what they are said to be; every message names the file.
pub fn open(source: &Source) -> Result<DataSet> {
    let mut listing = match &source.origin {
        Origin::BuiltIn => return idx::embedded(),
        Origin::Files { kind, path } => match kind {
            Kind::Idx => return idx::folder(path),
            Kind::Cifar => return cifar::folder(path),
            Kind::Parquet => parquet::listing(path)?,
            Kind::Folder => folder::listing(path)?,
            Kind::Tar => tar::listing(path)?,
            Kind::Csv => csv::listing(path)?,
        },
        Origin::Known { name, path } => {
            let path = known_folder(name, path.as_deref())?;
            match official::listing(name, &path) {
                Some(listing) => listing?,
                None => match kind(&path) {
                    Some(kind) => {
                        return open(&Source { origin: Origin::Files { kind, path }, ..source.clone() });
                    }
                    None => bail!("`{}` is not laid out as `{name}` is\nhint: {}", path.display(), where_to_get(name)),
                },
            }
        }
        Origin::Fetched { files, .. } => {
            let is_tar = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tar");
            match files.iter().flatten().next() {
                Some(first) if is_tar(first) => tar::of_shards(files, first.parent().unwrap_or(Path::new(".")))?,
                _ => parquet::of_files(files)?,
            }
        }
        Origin::Hub(name) => bail!("`{name}` was not fetched"),
    };
    // A test part without labels, as of contests, measures nobody.
    let has_labels = |part: &[Entry]| part.iter().any(|entry| entry.label.is_some());
    if !has_labels(&listing.test) && (listing.test.is_empty() || has_labels(&listing.validation)) {
        listing.test = std::mem::take(&mut listing.validation);
    }
    index::data_set(listing, source)
}

/// Where one of the paper's sets lies: where it was said to, or in a folder of its name.
fn known_folder(name: &str, path: Option<&Path>) -> Result<PathBuf> {
    let place = match (path, std::env::var_os(DATA_FOLDER)) {
        (Some(path), _) => path.to_owned(),
        (None, Some(folder)) => Path::new(&folder).join(name),
        (None, None) => PathBuf::new(),
    };
    if place.is_dir() {
        return Ok(place);
    }
    let from = where_to_get(name);
    let missing = match place.as_os_str().is_empty() {
        true => format!("nobody says where `{name}` lies"),
        false => format!("there is no folder `{}`", place.display()),
    };
    bail!(
        "{missing}\nhint: write `data = {{ {name} = \"DIR\" }}`, or lay it into a folder `{name}` and name the folder around it in {DATA_FOLDER}. {from}"
    )
}

/// Of one of the paper's sets, in a line.
fn where_to_get(name: &str) -> String {
    known::find(name).map_or("", |known| known.where_to_get).replace('\n', " ")
}

/// The identity of a data set.
pub fn identify(source: &Source, set: &DataSet) -> Data {
    let mut hash = Sha256::new();
    let parts = [&set.train, &set.validation, &set.test];
    if parts.iter().any(|images| !images.digests().is_empty()) {
        hash.update("distillery images 1\n");
        if source.orientation == Orientation::Exif {
            hash.update("exif\n");
        }
        for images in parts {
            hash.update((images.len() as u64).to_le_bytes());
            images.digests().iter().zip(&images.labels).for_each(|(digest, label)| {
                hash.update(digest);
                hash.update(label.to_le_bytes());
            });
        }
    } else {
        for images in parts {
            // A part that is not there says nothing.
            let Some(size) = images.size() else { continue };
            let shape = [images.len() as u64, size.0 as u64, size.1 as u64, images.channels as u64];
            shape.iter().for_each(|side| hash.update(side.to_le_bytes()));
            (0..images.len()).for_each(|index| hash.update(images.pixels(index)));
            images.labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
        }
    }
    Data {
        name: source.origin.name(),
        sha256: hex(&hash.finalize()),
        classes: set.classes,
        channels: set.train.channels as u32,
        train_images: set.train.len() as u32,
        validation_images: set.validation.len() as u32,
        test_images: set.test.len() as u32,
    }
}

impl DataSet {
    pub fn part(&self, part: Part) -> &Images {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
            Part::Test => &self.test,
        }
    }

    /// Images and labels of a slice, as positions in its part.
    pub fn slice(&self, slice: &Slice) -> (&Images, std::ops::Range<usize>) {
        (self.part(slice.part), slice.start as usize..slice.end as usize)
    }

    /// With so many channels each.
    #[must_use]
    pub fn with_channels(self, channels: u32) -> DataSet {
        let channels = channels as usize;
        let DataSet { train, validation, test, .. } = self;
        let (train, validation) = (train.with_channels(channels), validation.with_channels(channels));
        DataSet { train, validation, test: test.with_channels(channels), ..self }
    }

    /// Ready to be looked at often: decoded into memory or a file, or encoded, as told. Views at a reduced
    /// scale are made of what is encoded.
    ///
    /// # Errors
    /// That of an image that cannot be read any more, and the disk's.
    pub fn hold(self, keep: Keep, decode: Decode) -> Result<DataSet> {
        let parts = [&self.train, &self.validation, &self.test];
        let bytes: u64 = parts.iter().map(|images| images.decoded_bytes()).sum();
        let fits = || super::memory::available_bytes().is_none_or(|available| bytes <= available / 2);
        let keep = match (decode, keep) {
            (Decode::Reduced, _) => Keep::Encoded,
            (Decode::Full, Keep::Auto) if fits() => Keep::Memory,
            (Decode::Full, Keep::Auto) => Keep::Encoded,
            (Decode::Full, keep) => keep,
        };
        let held = |images: Images, part: Part| match keep {
            Keep::Encoded | Keep::Auto => Ok(images),
            Keep::Memory => images.in_memory(),
            Keep::Disk => match cache_folder() {
                None => images.in_memory(),
                Some(folder) => {
                    let file = format!("{}-{}.pixels", part.name(), hex(&images.identity()));
                    images.on_disk(&folder.join("decoded").join(file))
                }
            },
        };
        let DataSet { train, validation, test, .. } = self;
        let (train, validation) = (held(train, Part::Train)?, held(validation, Part::Validation)?);
        Ok(DataSet { train, validation, test: held(test, Part::Test)?, ..self })
    }
}

/// Where what was found out and decoded is kept: `$DISTILLERY_CACHE`, or the user's cache.
pub fn cache_folder() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("DISTILLERY_CACHE")
        .or_else(|| named("XDG_CACHE_HOME").map(|folder| folder.join("distillery")))
        .or_else(|| named("HOME").map(|folder| folder.join(".cache").join("distillery")))
}

/// What a folder, or a table, holds is seen by its files: none where it is nothing that is known.
pub fn kind(path: &Path) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| match kind {
        Kind::Parquet => parquet::is_here(path),
        Kind::Cifar => cifar::is_here(path),
        Kind::Tar => tar::is_here(path),
        Kind::Csv => csv::is_here(path),
        Kind::Idx => idx::is_here(path),
        Kind::Folder => folder::is_here(path),
    })
}
