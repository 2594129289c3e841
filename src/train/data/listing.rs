//! What a data set on disk holds, before anything is decoded: names, labels, and where each image's bytes lie.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};

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

impl Entry {
    /// The encoded image.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let read = || match &self.place {
            Place::File(path) => std::fs::read(path).map(Cow::Owned),
            Place::Range { file, start, length } => {
                let mut bytes = vec![0; *length];
                file.read_exact_at(&mut bytes, *start).map(|()| Cow::Owned(bytes))
            }
            Place::Memory(bytes) => Ok(Cow::Borrowed(&bytes[..])),
        };
        read().with_context(|| format!("cannot read {}", self.name))
    }
}
