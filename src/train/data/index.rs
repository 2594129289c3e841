//! From what lies on disk to a data set: every image's size and digest, and whether it can be decoded.
//!
//! All of that takes reading and decoding everything once. What was found is kept in the cache, under a name that says
//! which bytes it is about (a file by its path, length, number and times, bytes in memory by their digest), so that
//! the next start is fast.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decode::{self, Header};
use super::images::{Images, UNLABELLED};
use super::listing::{Entry, Listing, Place, Stamp};
use super::{DataSet, cache_folder};
use crate::digest::hex;
use crate::folder::replace;
use crate::source::{Broken, Source};

/// Broken images that are named; of more, the number is told.
const NAMED: usize = 1000;
/// Stands before what is kept; a change of its form or meaning must change it.
const FORM: &[u8] = b"distillery index 3\n";
/// What is found out faster is not worth a file.
const WORTH: Duration = Duration::from_secs(2);
/// Digest, height, width, and what is left in a byte.
const RECORD_BYTES: usize = 41;

/// What is known of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    digest: [u8; 32],
    /// None: it cannot be decoded.
    header: Option<Header>,
}

/// Looks at every image of a listing.
///
/// # Errors
/// When some cannot be read and `source` wants none of that: then all such are listed. When labels do not fit.
pub(super) fn data_set(listing: Listing, source: &Source) -> Result<DataSet> {
    let name = source.origin.name();
    let Listing { train, validation, test, names } = listing;
    let parts = [train, validation, test];
    let (mut skipped, mut checked) = (Vec::new(), Vec::new());
    for mut entries in parts {
        let known = look_at(&mut entries, source);
        let mut good = (Vec::new(), Vec::new(), Vec::new());
        let mut colour = false;
        for (entry, known) in entries.into_iter().zip(known) {
            let Some(header) = known.header else {
                skipped.push(why(&entry, source));
                continue;
            };
            colour |= header.colour;
            good.0.push(entry);
            good.1.push((header.height, header.width));
            good.2.push(known.digest);
        }
        checked.push((good, colour));
    }
    let nothing_left = checked.iter().all(|((entries, ..), _)| entries.is_empty());
    if !skipped.is_empty() && (source.broken == Broken::Fatal || nothing_left) {
        bail!(listed(&skipped, &name));
    }
    let channels = if checked.iter().any(|(_, colour)| *colour) { 3 } else { 1 };
    let mut parts = checked
        .into_iter()
        .map(|((entries, sizes, digests), _)| Images::encoded(entries, source.orientation, (sizes, digests), channels));
    let mut next = || parts.next().unwrap_or_else(|| Images::none(channels));
    let (train, validation, test) = (next(), next(), next());
    let classes = classes([&train, &validation, &test], names.as_deref(), &name)?;
    Ok(DataSet { train, validation, test, classes, names, skipped })
}

/// How many there are: as many as have names, or as the labels show. 0 where no image has a label; of a part all have
/// one, or none.
fn classes(parts: [&Images; 3], names: Option<&[String]>, of: &str) -> Result<u32> {
    for images in parts {
        let without = images.labels.iter().filter(|label| **label == UNLABELLED).count();
        if without > 0 && without < images.len() {
            let all = images.len();
            bail!(
                "{without} of {all} images of one part of `{of}` have no label\nhint: label all images of a part, or none"
            );
        }
    }
    let most = parts.iter().flat_map(|images| &images.labels).filter(|label| **label != UNLABELLED).max();
    let Some(most) = most.map(|label| label + 1) else { return Ok(0) };
    match names {
        None => Ok(most),
        Some(names) if most as usize <= names.len() => Ok(names.len() as u32),
        Some(names) => bail!("`{of}`: label {} where there are {} classes", most - 1, names.len()),
    }
}

/// Everything that is wrong with an image, which is read again for it.
fn why(entry: &Entry, source: &Source) -> String {
    match entry.bytes().and_then(|bytes| decode::decode(&bytes, 3, source.orientation).map(drop)) {
        Err(error) => format!("{}: {error:#}", entry.name),
        Ok(()) => format!("{}: it could not be read before", entry.name),
    }
}

/// The first of them, and the number of the others.
fn listed(broken: &[String], of: &str) -> String {
    let more = broken.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let (count, named) = (broken.len(), broken[..broken.len().min(NAMED)].join("; "));
    let images = if count == 1 { "1 image" } else { &format!("{count} images") };
    format!(
        "{images} of `{of}` cannot be read: {named}{more}\nhint: mend or remove them, or leave them out with `broken = \"skip\"` beside the data's place"
    )
}

/// From the cache, or by reading everything.
fn look_at(entries: &mut [Entry], source: &Source) -> Vec<Known> {
    if entries.is_empty() {
        return Vec::new();
    }
    let prints: Vec<Result<[u8; 32]>> = entries.par_iter_mut().map(print).collect();
    // What is not there has no print, and is one of the broken.
    let mut key = Sha256::new_with_prefix(FORM).chain_update([source.orientation as u8]);
    prints.iter().for_each(|print| key.update(print.as_ref().map_or([0; 32], |print| *print)));
    let file = cache_folder().map(|folder| folder.join("index").join(hex(&key.finalize())));
    if let Some(known) = file.as_ref().and_then(|file| load(file, entries.len())) {
        return known;
    }
    let started = Instant::now();
    let known: Vec<Known> = entries.par_iter().map(|entry| look(entry, source)).collect();
    // What could not even be read may be there the next time.
    let unread = known.iter().any(|known| known.digest == [0; 32]);
    if let Some(file) = file.filter(|_| started.elapsed() > WORTH && !unread) {
        save(&file, &known);
    }
    known
}

fn look(entry: &Entry, source: &Source) -> Known {
    let Ok(bytes) = entry.bytes() else { return Known { digest: [0; 32], header: None } };
    let header = decode::header(&bytes, source.orientation).and_then(|header| {
        decode::decode(&bytes, if header.colour { 3 } else { 1 }, source.orientation)?;
        Ok(header)
    });
    Known { digest: Sha256::digest(&bytes).into(), header: header.ok() }
}

/// Which bytes an entry is about; a file of its own is stamped.
fn print(entry: &mut Entry) -> Result<[u8; 32]> {
    let hash = match &entry.place {
        Place::Memory(bytes) => Sha256::new_with_prefix(bytes),
        Place::File(path) => {
            let stamp = Stamp::of(&fs::metadata(path)?);
            entry.stamp = Some(stamp);
            Sha256::new_with_prefix(stamp.bytes()).chain_update(path.to_string_lossy().as_bytes())
        }
        Place::Range { file, start, length } => {
            let place = [*start, *length as u64].map(u64::to_le_bytes).concat();
            Sha256::new_with_prefix(Stamp::of(&file.metadata()?).bytes()).chain_update(place)
        }
    };
    Ok(hash.finalize().into())
}

/// A file that is not whole, or of another form, is as good as none.
fn load(file: &Path, count: usize) -> Option<Vec<Known>> {
    let bytes = fs::read(file).ok()?;
    let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    let records = body.strip_prefix(FORM)?;
    if Sha256::digest(body)[..] != *digest || records.len() != count * RECORD_BYTES {
        return None;
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let known = records.chunks_exact(RECORD_BYTES).map(|record| {
        let (digest, rest) = record.split_at(32);
        let header = match rest[8] {
            0 => None,
            kind => Some(Header { height: number(&rest[..4]), width: number(&rest[4..8]), colour: kind == 2 }),
        };
        Some(Known { digest: digest.try_into().ok()?, header })
    });
    known.collect()
}

/// Without a cache everything is looked at again, and that is all.
fn save(file: &Path, known: &[Known]) {
    let mut bytes = FORM.to_vec();
    for Known { digest, header } in known {
        let (height, width, kind) = match header {
            None => (0, 0, 0),
            Some(header) => (header.height, header.width, if header.colour { 2 } else { 1 }),
        };
        bytes.extend(digest);
        bytes.extend(height.to_le_bytes());
        bytes.extend(width.to_le_bytes());
        bytes.push(kind);
    }
    let digest = Sha256::digest(&bytes);
    bytes.extend(digest);
    let written = file.parent().map(fs::create_dir_all).transpose().and_then(|_| replace(file, &bytes));
    if let Err(error) = written {
        eprintln!("note: what was found out about the images is not kept: {error}");
    }
}
