//! What a data set on disk holds, before anything is decoded: names, labels, and where each image's bytes lie.

use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::job::{Part, short_hash};

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
    /// Of the file it lies in when that was looked at: from then on other bytes are an error.
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

    /// Whether a file that stays open holds what it held: a new name for it, or none, changes its other time.
    fn is_as_long_and_old(&self, other: &Stamp) -> bool {
        self.0[..4] == other.0[..4]
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

/// The part that a word means, in any case and with or without a number behind it: `train`, `Testing`, `val2017`.
pub fn part(word: &str) -> Option<Part> {
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
    match word.as_str() {
        "train" | "training" => Some(Part::Train),
        "validation" | "valid" | "val" | "dev" => Some(Part::Validation),
        "test" | "testing" => Some(Part::Test),
        _ => None,
    }
}

/// The part that the first such word of a file's name means.
pub fn part_of(file: &str) -> Option<Part> {
    file.split(|c: char| !c.is_ascii_alphanumeric()).find_map(part)
}

impl Listing {
    pub fn part_mut(&mut self, part: Part) -> &mut Vec<Entry> {
        match part {
            Part::Train => &mut self.train,
            Part::Validation => &mut self.validation,
            Part::Test => &mut self.test,
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
    /// When the file cannot be read, or is not what it was.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let changed = || io::Error::other("the file changed while it was used");
        let read = || match &self.place {
            Place::File(path) => {
                let mut file = File::open(path)?;
                let about = file.metadata()?;
                if self.stamp.is_some_and(|stamp| stamp != Stamp::of(&about)) {
                    return Err(changed());
                }
                let mut bytes = Vec::with_capacity(about.len() as usize);
                file.read_to_end(&mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
            Place::Range { file, start, length } => {
                let mut bytes = vec![0; *length];
                let read = file.read_exact_at(&mut bytes, *start);
                let now = Stamp::of(&file.metadata()?);
                if self.stamp.is_some_and(|stamp| !stamp.is_as_long_and_old(&now)) {
                    return Err(changed());
                }
                read.map(|()| Cow::Owned(bytes))
            }
            Place::Memory(bytes) => Ok(Cow::Borrowed(&bytes[..])),
        };
        read().with_context(|| format!("cannot read {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_by_words() {
        for (names, expected) in [
            (
                &["train0000.tar", "train2017.tar", "Train-0.tar", "training-0.tar", "set_TRAIN_3.tar"][..],
                Some(Part::Train),
            ),
            (&["val2017.tar", "Valid-0.tar", "x-validation.tar", "dev.tar"], Some(Part::Validation)),
            (&["test0000.tar", "Test-0.tar", "testing-0.tar", "x.test.3.tar"], Some(Part::Test)),
            (&["trainer.tar", "latest.tar", "0000.tar", "eval-0.tar", "2017train.tar", "contest.tar"], None),
        ] {
            names.iter().for_each(|name| assert_eq!(part_of(name), expected, "{name}"));
        }
        assert_eq!((part("train-0"), part("Train2017")), (None, Some(Part::Train)));
    }
}
