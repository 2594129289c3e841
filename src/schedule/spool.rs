//! What the workers wrote down while nobody listened.
//!
//! A worker appends every lasting event to its job's spool before it says it aloud. Reading the spools of all jobs that
//! are not done, before planning, is how a killed scheduler loses nothing, and even a deleted store comes back.

use std::fs;
use std::io::ErrorKind;

use super::Error;
use crate::alive::{bury, is_gone};
use crate::event::{Event, Message};
use crate::folder::Folder;
use crate::job::JobId;
use crate::store::{Store, Taken};

/// What reading the spools brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Messages the store did not have.
    pub messages: u64,
    /// Jobs that turned out to be done.
    pub finished: u64,
    /// Lines that are no message: torn by a crash.
    pub torn: u64,
    /// Attempts that a scheduler left open when it ended.
    pub orphans: u64,
}

/// Takes from the spools what the store does not have, of all recorded jobs that are not done, and ends the attempts
/// that killed schedulers left open; those of schedulers that live, beside this one, go on. For the holder of the
/// [`Lock`](super::Lock), after the experiment was recorded and before it is planned.
///
/// # Errors
/// When a spool is there but cannot be read, or the store fails.
pub async fn ingest_spools(folder: &Folder, store: &Store) -> Result<Ingested, Error> {
    let mut sum = Ingested::default();
    // Through the folders that exist, not through the jobs that might have one: most of a new sweep have none.
    let jobs = folder.root().join("jobs");
    let names = match fs::read_dir(&jobs) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| Error::Io { path: jobs, source })?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(Error::Io { path: jobs, source }),
    };
    let wanted = store.not_done().await?;
    let mut ids: Vec<JobId> = names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .map(JobId::from_stored)
        .filter(|id| wanted.contains(id))
        .collect();
    ids.sort();
    for id in &ids {
        let one = ingest_spool(folder, store, id).await?;
        sum.messages += one.messages;
        sum.finished += one.finished;
        sum.torn += one.torn;
    }
    for (owner, host) in store.owners().await? {
        if is_gone(folder, &owner, host.as_deref()) {
            sum.orphans += store.interrupt_orphans(&owner).await?;
        }
    }
    bury(folder, store).await?;
    Ok(sum)
}

/// The same for one job.
///
/// # Errors
/// As [`ingest_spools`].
pub async fn ingest_spool(folder: &Folder, store: &Store, id: &JobId) -> Result<Ingested, Error> {
    let mut ingested = Ingested::default();
    let (mut messages, torn) = read_spool(folder, id)?;
    ingested.torn = torn;
    // Without its result a job is not done, whatever was said: it is trained again, from its last checkpoint.
    if !folder.student(id).exists() {
        messages.retain(|message| message.event != Event::Finished);
    }
    let taken = store.take_spool(&messages).await?;
    for (message, taken) in messages.iter().zip(taken) {
        if taken == Taken::Stored {
            ingested.messages += 1;
            ingested.finished += u64::from(message.event == Event::Finished);
        }
    }
    Ok(ingested)
}

/// A job's messages, and how many lines are none. A missing file is an empty one.
///
/// # Errors
/// When the file is there but cannot be read.
pub fn read_spool(folder: &Folder, id: &JobId) -> Result<(Vec<Message>, u64), Error> {
    let path = folder.spool(id);
    // As bytes: a line torn inside a character is not UTF-8.
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(source) => return Err(Error::Io { path, source }),
    };
    let mut torn = 0;
    let mut messages = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        match serde_json::from_slice::<Message>(line) {
            // A spool that was copied to another job's folder is not that job's.
            Ok(message) if message.job == *id => messages.push(message),
            _ => torn += 1,
        }
    }
    Ok((messages, torn))
}
