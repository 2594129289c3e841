//! What a data set on disk holds, before anything is decoded: names, labels, and where each image's bytes lie.

use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::job::short_hash;

/// The parts of a data set; any may be missing.
#[derive(Debug, Default)]
pub struct Listing {
    pub train: Vec<Entry>,
    pub validation: Vec<Entry>,
    pub test: Vec<Entry>,
    /// Of the classes, where the files tell.
    pub names: Option<Vec<String>>,
}

/// One encoded image.
#[derive(Clone, Debug)]
pub struct Entry {
    /// For messages: a path, or a row of a file.
    pub name: String,
    /// None where nothing tells.
    pub label: Option<u32>,
    pub place: Place,
    /// Of its own file when it was looked at: from then on other bytes are an error.
    pub stamp: Option<Stamp>,
}

/// Length, number and times of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp([i64; 6]);

impl Stamp {
    pub fn of(about: &Metadata) -> Stamp {
        let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
        let [a, b, c, d] = times;
        Stamp([about.len() as i64, about.ino() as i64, a, b, c, d])
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.map(i64::to_le_bytes).concat()
    }
}

/// Where bytes lie.
#[derive(Clone, Debug)]
pub enum Place {
    File(PathBuf),
    /// `length` bytes of an open file, from `start`.
    Range {
        file: Arc<File>,
        start: u64,
        length: usize,
    },
    Memory(Arc<[u8]>),
}

/// `train`, `validation` or `test`, by what people and files call it, in any case.
pub fn part(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "train" => Some("train"),
        "validation" | "valid" | "val" => Some("validation"),
        "test" => Some("test"),
        _ => None,
    }
}

impl Listing {
    /// The part that a word of [`part`] means.
    pub fn part_mut(&mut self, word: &str) -> Option<&mut Vec<Entry>> {
        match part(word)? {
            "train" => Some(&mut self.train),
            "validation" => Some(&mut self.validation),
            _ => Some(&mut self.test),
        }
    }

    /// All parts, in the order of training, validation and test.
    pub fn parts(&self) -> [&[Entry]; 3] {
        [&self.train, &self.validation, &self.test]
    }
}

/// What images that lie in folders are ordered by: a hash of their path, so that a slice holds every class and the order
/// is the same on every machine.
pub fn order(path: &str) -> String {
    short_hash("distillery image 1\n", path)
}

impl Entry {
    /// A file of its own, called by its path.
    pub fn file(path: PathBuf, label: Option<u32>) -> Entry {
        Entry { name: format!("`{}`", path.display()), label, place: Place::File(path), stamp: None }
    }

    /// The encoded image.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let read = || match &self.place {
            Place::File(path) => {
                let mut file = File::open(path)?;
                let about = file.metadata()?;
                if self.stamp.is_some_and(|stamp| stamp != Stamp::of(&about)) {
                    return Err(io::Error::other("the file changed while it was used"));
                }
                let mut bytes = Vec::with_capacity(about.len() as usize);
                file.read_to_end(&mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
            Place::Range { file, start, length } => {
                let mut bytes = vec![0; *length];
                file.read_exact_at(&mut bytes, *start).map(|()| Cow::Owned(bytes))
            }
            Place::Memory(bytes) => Ok(Cow::Borrowed(&bytes[..])),
        };
        read().with_context(|| format!("cannot read {}", self.name))
    }
}
