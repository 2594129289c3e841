//! Encoded images of a file whose own form cannot be read at random, laid one after the other into a file of the cache.
//!
//! ```text
//! the images' bytes, then for each its length and label (u64 and i64, -1 for none), their number, and the SHA-256 of
//! lengths, labels and number
//! ```
//!
//! A file without its end was not finished and is made again.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::cache_folder;
use super::listing::{Entry, Place, Stamp};
use crate::digest::hex;

const RECORD_BYTES: u64 = 16;
const END_BYTES: u64 = 8 + 32;

/// An encoded image with its label.
pub type Encoded = (Vec<u8>, Option<u32>);

/// The images of `of`, which `read` hands to what it is given, one by one; `name` is how each is called.
///
/// # Errors
/// `read`'s, and the disk's.
pub fn packed(
    of: &Path,
    read: impl FnOnce(&mut dyn FnMut(Encoded) -> Result<()>) -> Result<()>,
    name: impl Fn(usize) -> String,
) -> Result<Vec<Entry>> {
    let context = || format!("cannot unpack `{}` into the cache", of.display());
    let file = place(of).with_context(context)?;
    if let Some(entries) = open(&file, &name) {
        return Ok(entries);
    }
    eprintln!("note: unpacking `{}` into `{}`", of.display(), file.display());
    write(&file, read).with_context(context)?;
    open(&file, &name).context("what was just written is not whole").with_context(context)
}

fn place(of: &Path) -> Result<PathBuf> {
    let about = fs::metadata(of)?;
    let text = format!("{}\n{}\n{}\n{}", of.display(), about.len(), about.mtime(), about.mtime_nsec());
    let folder = cache_folder().context("there is no folder for a cache\nhint: name one in DISTILLERY_CACHE")?;
    Ok(folder.join("packs").join(hex(&Sha256::digest(text))))
}

fn write(file: &Path, read: impl FnOnce(&mut dyn FnMut(Encoded) -> Result<()>) -> Result<()>) -> Result<()> {
    fs::create_dir_all(file.parent().context("a file lies in a folder")?)?;
    // Workers that make it at the same time make the same.
    let unfinished = file.with_extension(format!("{}.unfinished", std::process::id()));
    let mut to = BufWriter::new(File::create(&unfinished)?);
    let (mut records, mut count) = (Vec::new(), 0u64);
    let done = read(&mut |(bytes, label)| {
        records.extend((bytes.len() as u64).to_le_bytes());
        records.extend(label.map_or(-1, i64::from).to_le_bytes());
        count += 1;
        Ok(to.write_all(&bytes)?)
    });
    if let Err(error) = done {
        // It is of no use; that it stays would only cost room.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    records.extend(count.to_le_bytes());
    let digest = Sha256::digest(&records);
    to.write_all(&records)?;
    to.write_all(&digest)?;
    to.into_inner()?.sync_all()?;
    Ok(fs::rename(&unfinished, file)?)
}

/// None where it is not there or not whole.
fn open(path: &Path, name: &impl Fn(usize) -> String) -> Option<Vec<Entry>> {
    let file = Arc::new(File::open(path).ok()?);
    let about = file.metadata().ok()?;
    let (length, stamp) = (about.len(), Some(Stamp::of(&about)));
    let mut end = [0; END_BYTES as usize];
    file.read_exact_at(&mut end, length.checked_sub(END_BYTES)?).ok()?;
    let (count, digest) = end.split_at(8);
    let count = u64::from_le_bytes(count.try_into().ok()?);
    let records = count.checked_mul(RECORD_BYTES).filter(|bytes| *bytes <= length - END_BYTES)?;
    let mut all = vec![0; records as usize];
    file.read_exact_at(&mut all, length - END_BYTES - records).ok()?;
    if Sha256::new_with_prefix(&all).chain_update(count.to_le_bytes()).finalize()[..] != *digest {
        return None;
    }
    let mut start = 0;
    let mut entries = Vec::with_capacity(count as usize);
    for (index, record) in all.chunks_exact(RECORD_BYTES as usize).enumerate() {
        let (length, label) = record.split_at(8);
        let length = u64::from_le_bytes(length.try_into().ok()?);
        let label = u32::try_from(i64::from_le_bytes(label.try_into().ok()?)).ok();
        let place = Place::Range { file: Arc::clone(&file), start, length: usize::try_from(length).ok()? };
        entries.push(Entry { name: name(index), label, place, stamp });
        start += length;
    }
    (start == length - END_BYTES - records).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_or_is_packed_again() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("packs/one");
        let images: [Encoded; 3] = [(vec![1, 2, 3], Some(7)), (Vec::new(), None), (vec![9; 1000], Some(0))];
        let put = |put: &mut dyn FnMut(Encoded) -> Result<()>| images.iter().cloned().try_for_each(put);
        write(&file, put).unwrap();
        let name = |index: usize| format!("image {index}");
        let told = |entries: Vec<Entry>| -> Vec<Encoded> {
            entries.iter().map(|entry| (entry.bytes().unwrap().into_owned(), entry.label)).collect()
        };
        let entries = open(&file, &name).unwrap();
        assert_eq!(entries[2].name, "image 2");
        assert_eq!(told(entries.clone()), images);
        // What was cut off or changed is not taken, neither at first nor later.
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..1000]).unwrap();
        let error = format!("{:#}", entries[0].bytes().unwrap_err());
        assert_eq!(error, "cannot read image 0: the file changed while it was used");
        for length in [0, 10, 1003, 1040, whole.len() - 1] {
            fs::write(&file, &whole[..length]).unwrap();
            assert!(open(&file, &name).is_none(), "{length}");
        }
        let mut changed = whole.clone();
        changed[1004] ^= 1;
        fs::write(&file, &changed).unwrap();
        assert!(open(&file, &name).is_none());
        // A reader that fails leaves nothing behind.
        fs::remove_file(&file).unwrap();
        assert!(write(&file, |_| anyhow::bail!("torn")).is_err());
        assert_eq!(fs::read_dir(place.path().join("packs")).unwrap().count(), 0);
    }
}
