//! A live teacher's answers, step by step, on disk: what was asked once need not be asked again.
//!
//! Views are pure functions of (seed, epoch, position), so the answer to step s of a stream is the same whoever asks. One
//! file for each stream key holds records of fixed length, the logits `[batch, classes]` of step s at s times that
//! length, each with a checksum over key, step and numbers. A record that is missing, torn or of another stream is
//! asked for and written again, and an interrupted run leaves nothing to repair.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::disk;

const CHECKSUM_BYTES: usize = 16;
/// Written between two looks at the room that is left.
const LOOK_EVERY_BYTES: u64 = 8 << 20;

/// The answers to one stream.
#[derive(Debug)]
pub struct Recording {
    file: File,
    path: PathBuf,
    key: String,
    /// Of a record: batch times classes.
    numbers: usize,
    /// Bytes that may be written before the next look at the room that is left.
    room: Cell<u64>,
}

impl Recording {
    /// Of the stream `key`, whose answers have so many numbers a step.
    ///
    /// # Errors
    /// When the file can be neither opened nor made.
    pub fn open(path: &Path, key: &str, numbers: usize) -> Result<Recording> {
        let folder = path.parent().context("a file lies in a folder")?;
        let open = || {
            fs::create_dir_all(folder)?;
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
        };
        let file = open().with_context(|| format!("cannot open `{}`", path.display()))?;
        Ok(Recording { file, path: path.to_owned(), key: key.to_owned(), numbers, room: Cell::new(0) })
    }

    /// The logits of a step, if they were recorded.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, step: u64) -> Result<Option<Vec<f32>>> {
        let mut bytes = vec![0; self.length()];
        match self.file.read_exact_at(&mut bytes, step * self.length() as u64) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.with_context(|| format!("cannot read `{}`", self.path.display()))?,
        }
        let (checksum, logits) = bytes.split_at(CHECKSUM_BYTES);
        if checksum != &self.checksum(step, logits)[..] {
            return Ok(None);
        }
        let floats = logits.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        Ok(Some(floats.collect()))
    }

    /// Records a step.
    ///
    /// # Errors
    /// When the file cannot be written, for instance because the disk is full.
    pub fn put(&self, step: u64, logits: &[f32]) -> Result<()> {
        assert_eq!(logits.len(), self.numbers, "answers of one stream have one length");
        let logits: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        let mut bytes = self.checksum(step, &logits);
        bytes.extend(logits);
        let wanted = bytes.len() as u64;
        if self.room.get() < wanted {
            let some = LOOK_EVERY_BYTES.max(wanted);
            disk::ensure_room(&self.path, some)?;
            self.room.set(some);
        }
        self.room.set(self.room.get() - wanted);
        self.file.write_all_at(&bytes, step * self.length() as u64).map_err(|error| disk::explain(&self.path, error))
    }

    fn length(&self) -> usize {
        CHECKSUM_BYTES + 4 * self.numbers
    }

    fn checksum(&self, step: u64, logits: &[u8]) -> Vec<u8> {
        let digest =
            Sha256::new_with_prefix(&self.key).chain_update(step.to_le_bytes()).chain_update(logits).finalize();
        digest[..CHECKSUM_BYTES].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_whole_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streams").join("a.logits");
        let recording = Recording::open(&path, "key", 3).unwrap();
        assert_eq!(recording.get(0).unwrap(), None);
        // Out of order, as after a resume without the first steps.
        recording.put(2, &[1.0, -0.0, f32::MIN_POSITIVE]).unwrap();
        recording.put(0, &[4.0, 5.0, 6.0]).unwrap();
        let again = Recording::open(&path, "key", 3).unwrap();
        assert_eq!(again.get(0).unwrap().unwrap(), [4.0, 5.0, 6.0]);
        assert_eq!(again.get(1).unwrap(), None);
        let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(again.get(2).unwrap().unwrap()), bits(vec![1.0, -0.0, f32::MIN_POSITIVE]));
        assert_eq!(again.get(3).unwrap(), None);
        assert_eq!(Recording::open(&path, "another key", 3).unwrap().get(0).unwrap(), None);
        // Every flipped byte and every cut is noticed.
        let whole = fs::read(&path).unwrap();
        for at in 0..28 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(Recording::open(&path, "key", 3).unwrap().get(0).unwrap(), None, "byte {at}");
        }
        for length in 0..28 {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(Recording::open(&path, "key", 3).unwrap().get(0).unwrap(), None, "{length} bytes");
        }
    }
}
