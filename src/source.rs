//! Where a data set lies and how it is read: what an experiment writes under `data`, and what a worker is told.
//!
//! Pure: nothing is looked up here. What is found there is [`crate::job::Data`], whose identity is its content.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

/// The name of the data set that is in the binary.
pub const FASHION_MNIST_8K2K: &str = "fashion-mnist-8k2k";

/// How a data set of the hub begins.
pub const HUB: &str = "hf:";

/// A data set as a place and choices of how it is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Source {
    pub origin: Origin,
    pub orientation: Orientation,
    pub broken: Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Fashion-MNIST's first 8,000 training and 2,000 test images, in the binary.
    BuiltIn,
    Files {
        kind: Kind,
        path: PathBuf,
    },
    /// One of the paper's, by name; in a folder of that name where data sets are kept, unless told.
    Known {
        name: String,
        path: Option<PathBuf>,
    },
    /// `hf:owner/name[:config][@revision]`.
    Hub(String),
    /// Of the hub, as it lies on this machine: parquet files or tar shards of training, validation and test.
    Fetched {
        name: String,
        files: [Vec<PathBuf>; 3],
    },
}

/// What a path holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The four files of MNIST and its relatives.
    Idx,
    /// `train*.parquet` and so on, as the Hugging Face hub has them.
    Parquet,
    /// The `.bin` files of CIFAR-10 or CIFAR-100.
    Cifar,
    /// A directory for every class, below `train` and `test` or as one tree.
    Folder,
    /// Shards of WebDataset.
    Tar,
    /// A file of `path,label`, or a folder of such.
    Csv,
}

/// What becomes of the orientation that a camera wrote into a photo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orientation {
    /// Pixels as they are stored, as TensorFlow's decoder and torchvision's loader have them.
    #[default]
    Stored,
    /// Turned as the camera was held.
    Exif,
}

/// What becomes of images that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Broken {
    /// An error that lists all.
    #[default]
    Fatal,
    /// They are left out, named and counted.
    Skip,
}

/// How a worker holds images. None of it changes a pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Decoded in memory where half of what is free is enough, else encoded.
    #[default]
    Auto,
    /// Decoded in memory.
    Memory,
    /// Decoded once into a file that all workers map.
    Disk,
    /// Encoded as they are, and decoded for every view.
    Encoded,
}

impl Kind {
    /// In the order in which a folder is asked what it is: what says least, a folder of folders, comes last.
    pub const ALL: [Kind; 6] = [Kind::Parquet, Kind::Cifar, Kind::Tar, Kind::Csv, Kind::Idx, Kind::Folder];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Idx => "idx",
            Kind::Parquet => "parquet",
            Kind::Cifar => "cifar",
            Kind::Folder => "folder",
            Kind::Tar => "tar",
            Kind::Csv => "csv",
        }
    }
}

impl Origin {
    /// What has a name of its own.
    pub const NAMES: [&str; 9] = [
        FASHION_MNIST_8K2K,
        "flowers102",
        "pet37",
        "food101",
        "sun397",
        "imagenet",
        "cifar10",
        "imagenette",
        "flowers17",
    ];

    /// What a name stands for.
    pub fn named(name: &str) -> Option<Origin> {
        match name {
            FASHION_MNIST_8K2K => Some(Origin::BuiltIn),
            name if name.starts_with(HUB) => Some(Origin::Hub(name.to_owned())),
            name if Origin::NAMES.contains(&name) => Some(Origin::Known { name: name.to_owned(), path: None }),
            _ => None,
        }
    }

    /// What people call it: a folder by its last component, a set of the hub by `owner/name`.
    pub fn name(&self) -> String {
        let last = |path: &Path| {
            let is_table = path.extension().is_some_and(|extension| extension == "csv" || extension == "tsv");
            let name = if is_table { path.file_stem() } else { path.file_name() };
            name.map_or_else(|| "data".to_owned(), |name| name.to_string_lossy().into_owned())
        };
        match self {
            Origin::BuiltIn => FASHION_MNIST_8K2K.to_owned(),
            Origin::Files { path, .. } => last(path),
            Origin::Known { name, .. } | Origin::Fetched { name, .. } => name.clone(),
            Origin::Hub(name) => {
                let name = name.strip_prefix(HUB).unwrap_or(name);
                name.split('@').next().unwrap_or(name).to_owned()
            }
        }
    }

    /// Its path, where the text has one.
    pub fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Origin::Files { path, .. } => Some(path),
            Origin::Known { path, .. } => path.as_mut(),
            Origin::BuiltIn | Origin::Hub(_) | Origin::Fetched { .. } => None,
        }
    }
}

impl Source {
    /// Read as usual.
    pub fn of(origin: Origin) -> Source {
        Source { origin, orientation: Orientation::default(), broken: Broken::default() }
    }

    pub fn files(kind: Kind, path: &Path) -> Source {
        Source::of(Origin::Files { kind, path: path.to_owned() })
    }
}

/// How a table is written: one of the places, and the choices.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    #[serde(default)]
    orientation: Orientation,
    #[serde(default)]
    broken: Broken,
    idx: Option<PathBuf>,
    parquet: Option<PathBuf>,
    cifar: Option<PathBuf>,
    folder: Option<PathBuf>,
    tar: Option<PathBuf>,
    csv: Option<PathBuf>,
    flowers102: Option<PathBuf>,
    pet37: Option<PathBuf>,
    food101: Option<PathBuf>,
    sun397: Option<PathBuf>,
    imagenet: Option<PathBuf>,
    cifar10: Option<PathBuf>,
    imagenette: Option<PathBuf>,
    flowers17: Option<PathBuf>,
    /// One that has a name of its own, or the hub's.
    set: Option<String>,
}

impl Table {
    fn source<E: Error>(self) -> Result<Source, E> {
        let files = [
            (Kind::Idx, self.idx),
            (Kind::Parquet, self.parquet),
            (Kind::Cifar, self.cifar),
            (Kind::Folder, self.folder),
            (Kind::Tar, self.tar),
            (Kind::Csv, self.csv),
        ];
        let known = [
            ("flowers102", self.flowers102),
            ("pet37", self.pet37),
            ("food101", self.food101),
            ("sun397", self.sun397),
            ("imagenet", self.imagenet),
            ("cifar10", self.cifar10),
            ("imagenette", self.imagenette),
            ("flowers17", self.flowers17),
        ];
        let files = files.into_iter().filter_map(|(kind, path)| Some(Origin::Files { kind, path: path? }));
        let known =
            known.into_iter().filter_map(|(name, path)| Some(Origin::Known { name: name.into(), path: Some(path?) }));
        let named = self.set.map(|name| named(&name)).transpose()?;
        let mut origins = files.chain(known).chain(named);
        match (origins.next(), origins.next()) {
            (Some(origin), None) => Ok(Source { origin, orientation: self.orientation, broken: self.broken }),
            (None, _) => Err(E::custom("this data set has no place")),
            (Some(_), Some(_)) => Err(E::custom("this data set has two places")),
        }
    }
}

fn named<E: Error>(name: &str) -> Result<Origin, E> {
    Origin::named(name).ok_or_else(|| E::unknown_variant(name, &Origin::NAMES))
}

/// A source as an experiment writes it.
pub struct Written(pub Source);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Written, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Source;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a data set, or a table with its place")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Source, E> {
                named(name).map(Source::of)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Source, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))?.source()
            }
        }
        deserializer.deserialize_any(Either).map(Written)
    }
}
