//! Weights, other files and data sets from the Hugging Face hub: `hf:owner/name`, found in the hub's cache or downloaded
//! into it.
//!
//! In: a [`Reference`] and [`Settings`]. Out: a path in the cache, the commit it belongs to, and the file's SHA-256,
//! which is compared to the hub's where the hub has one, on every call. Of data sets ([`fetch_data`]) a [`DataReference`]
//! in, and the files of each part out, whose SHA-256 is compared when they are downloaded. The cache is that of Python's
//! `huggingface_hub`, but for what a commit has in it:
//!
//! ```text
//! hub/models--owner--name/         of data sets, datasets--owner--name
//!   refs/main                    the commit that `main` was when it was last asked for
//!   snapshots/<commit>/<file>    a link to the blob
//!   .no_exist/<commit>/<file>    an empty file: the commit has none of that name
//!   .files/<commit>.json         all files of a data set's commit, with their sizes
//!   blobs/<etag>                 the content; the etag of a large file is its SHA-256
//!   blobs/<etag>.incomplete      what there is of it so far
//! hub/.locks/models--owner--name/<etag>.lock
//! ```
//!
//! `hf-hub` says where the cache and the token lie, and what a mirror has that does not say why it refuses. Its own
//! download starts from nothing each time, takes an answer for the file whatever its status, and checks no sum; so a
//! file's requests are made here. A file kept with Xet comes over plain HTTP, as the hub offers each of them.
//!
//! It sends nothing, and of what it fetches it reads a data set's description only.

mod cache;
mod choice;
mod client;
mod data;
mod download;
mod error;
mod reference;
mod settings;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

pub use data::{FetchedData, fetch_data};
pub use error::Error;
pub use reference::{DataReference, Reference};
pub use settings::Settings;

use self::cache::{Cache, Found};
use self::client::{Client, Described};
use crate::digest;

/// Files of a repository by name, with their sizes in bytes where they are known.
type Files = BTreeMap<String, Option<u64>>;

/// A file of the hub that lies in the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// In the folder of its commit. Beside it lie the commit's other files that were fetched.
    pub path: PathBuf,
    /// Of the content, 64 hexadecimal digits.
    pub sha256: String,
    /// What the revision meant.
    pub commit: String,
}

/// Finds the file in the cache, or downloads it. A branch or tag is looked up on the hub each time; where the hub
/// cannot be reached, what the cache has of it stands in. A commit that is in the cache asks nobody.
///
/// While it downloads, `progress` hears the bytes that are there so far and, where the hub told it, how many there will
/// be. The call blocks; it may be made from within an asynchronous program.
///
/// # Errors
/// When the file can neither be found nor downloaded, or is not what the hub says it is. A download that was cut off
/// goes on at the next call; a file with a wrong SHA-256 is removed.
pub fn fetch(
    reference: &Reference,
    settings: &Settings,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Fetched, Error> {
    drive(progress, async |tell| obtain(reference, settings, tell).await)
}

/// Hears the bytes that are there so far and, where the hub told it, how many there will be.
type Tell<'a> = dyn FnMut(u64, Option<u64>) + Send + 'a;

/// Runs asynchronous work to its end while `progress` hears of it.
fn drive<T: Send>(
    progress: &mut dyn FnMut(u64, Option<u64>),
    work: impl AsyncFnOnce(&mut Tell<'_>) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let (sender, receiver) = mpsc::channel();
    // The runtime gets a thread of its own: none may be started on a thread that already drives one.
    thread::scope(|scope| {
        let work = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|source| Error::Runtime { source })?;
            // Whoever listens is there until this thread ends.
            let mut tell = |bytes, total| {
                let _ = sender.send((bytes, total));
            };
            runtime.block_on(work(&mut tell))
        });
        for (bytes, total) in receiver {
            progress(bytes, total);
        }
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Whether the hub answers: the status it answers with. Fetches nothing.
///
/// # Errors
/// When it cannot be reached.
pub fn answers(settings: &Settings) -> Result<u16, Error> {
    drive(&mut |_, _| {}, async |_| client::Client::new(settings)?.answers().await)
}

/// As [`fetch`], for a file that a repository may lack: `None` where it does. That a commit lacks it is remembered, so
/// nobody need be asked twice.
///
/// # Errors
/// As [`fetch`]. A hub that cannot be reached, or may not be asked, is one: whether the file is there must not depend on
/// the weather.
pub fn fetch_optional(
    reference: &Reference,
    settings: &Settings,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Option<Fetched>, Error> {
    let cache = Cache::new(&settings.cache, reference);
    let (commit, file) = (reference.revision(), reference.file());
    if cache::is_commit(commit) && cache.lacks(commit, file) {
        return Ok(None);
    }
    match fetch(reference, settings, progress) {
        Ok(fetched) => Ok(Some(fetched)),
        Err(Error::NoFile { .. }) => {
            if cache::is_commit(commit) {
                cache.note_lack(commit, file)?;
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn obtain(reference: &Reference, settings: &Settings, tell: &mut Tell<'_>) -> Result<Fetched, Error> {
    checked(reference, locate(reference, settings, tell).await?)
}

/// Where the file lies in the cache, once it is there. What is downloaded is right; what was there is not looked into.
async fn locate(reference: &Reference, settings: &Settings, tell: &mut Tell<'_>) -> Result<Found, Error> {
    let cache = Cache::new(&settings.cache, reference);
    let revision = reference.revision();
    let cached = cache.find(revision, reference.file());
    match cached {
        Some(found) if settings.offline || cache::is_commit(revision) => return Ok(found),
        None if settings.offline => {
            return Err(Error::Offline { reference: reference.to_string(), cache: settings.cache.clone() });
        }
        _ => {}
    }
    let asked = async {
        let client = Client::new(settings)?;
        let described = client.describe(reference).await?;
        Ok((client, described))
    };
    let (client, described) = match (asked.await, cached) {
        (Err(error), Some(found)) if Error::will_pass(&error) => return Ok(found),
        (asked, _) => asked?,
    };
    let Described { commit, etag, .. } = &described;
    if cache.at(commit, reference.file()).is_none() {
        let _lock = cache.lock(etag)?;
        // Another process may have brought it while this one waited.
        if cache.at(commit, reference.file()).is_none() {
            if !cache.blob(etag).exists() {
                download::download(&client, reference, &described, &cache, tell).await?;
            }
            cache.link(commit, reference.file(), etag)?;
        }
    }
    cache.note(revision, commit)?;
    let path = cache.pointer(commit, reference.file());
    Ok(Found { path, commit: described.commit, etag: Some(described.etag) })
}

/// Digests the file. One that is not what its name in the cache says is removed, and so is the name.
fn checked(reference: &Reference, found: Found) -> Result<Fetched, Error> {
    let Found { path, commit, etag } = found;
    let reading = |source| Error::Read { path: path.clone(), source };
    let sha256 = digest::of_reader(File::open(&path).map_err(reading)?).map_err(reading)?;
    match etag.filter(|etag| cache::is_sha256(etag) && !etag.eq_ignore_ascii_case(&sha256)) {
        None => Ok(Fetched { path, sha256, commit }),
        Some(expected) => {
            let blob = fs::canonicalize(&path).map_err(reading)?;
            let error = Error::checksum(reference, expected, sha256, &blob);
            // A name that is not the content itself is left. Should it stay, it leads nowhere, which counts as absent.
            let _ = fs::remove_file(&path);
            Err(error)
        }
    }
}
