//! `gc`: removes what lies in the folder and nothing needs.
//!
//! What a live scheduler or worker may use stays: jobs that run, are leased, or whose folder somebody has locked; what
//! jobs that are not done may ask for again; and a result never goes while its job is recorded. What was found is
//! decided before anything is removed, and each thing is looked at again just before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::Serialize;

use super::tasks::Tasks;
use super::{place, print, print_json, table};
use crate::alive;
use crate::cli;
use crate::event::now_ms;
use crate::folder::Folder;
use crate::job::{Job, JobId};
use crate::plan::stream_key;
use crate::store::{Standing, State, Store};

/// Schedulers that ended or were last seen so long ago are forgotten.
const FORGET: Duration = Duration::from_secs(24 * 3600);
/// What somebody may be about to write to: so new a file is left alone whatever it is.
const FRESH: Duration = Duration::from_secs(60);

pub async fn gc(arguments: cli::Gc) -> Result<ExitCode> {
    let folder = place::folder(&arguments.place);
    let location = place::location(&arguments.place)?;
    let store =
        if arguments.dry_run { Store::open_read_only(&location).await? } else { Store::open_to_ask(&location).await? };
    let standings = store.standings().await?;
    let look = Look {
        is_at_work: !alive::schedulers(&folder, &store).await?.is_empty(),
        jobs: standings.iter().map(|one| (one.id.as_str(), one)).collect(),
        open: store.jobs().await?.into_iter().map(|job| (job.id(), job)).collect(),
        tasks: Tasks::look(&store).await?,
        folder: &folder,
        arguments: &arguments,
    };
    let found = look.all()?;
    let mut removed: Vec<&Found> = Vec::new();
    for one in &found.remove {
        if arguments.dry_run || remove(&one.path)? {
            removed.push(one);
        }
    }
    let before = now_ms() - i64::try_from(arguments.older_than.unwrap_or(FORGET).as_millis())?;
    let schedulers = if arguments.dry_run {
        let all = store.schedulers().await?;
        all.iter().filter(|one| one.ended_ms.unwrap_or(one.seen_ms) < before).count() as u64
    } else {
        store.forget_schedulers(before).await?
    };
    tell(&arguments, &removed, &found.results, schedulers)?;
    Ok(ExitCode::SUCCESS)
}

/// Something that nothing needs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Found {
    what: &'static str,
    path: PathBuf,
    bytes: u64,
}

#[derive(Default)]
struct All {
    remove: Vec<Found>,
    /// Folders with results that the store does not know.
    results: Vec<PathBuf>,
}

struct Look<'a> {
    is_at_work: bool,
    jobs: HashMap<&'a str, &'a Standing>,
    open: HashMap<JobId, Job>,
    tasks: Tasks,
    folder: &'a Folder,
    arguments: &'a cli::Gc,
}

impl Look<'_> {
    fn all(&self) -> Result<All> {
        let mut all = All::default();
        for path in entries(&self.folder.root().join("jobs"))? {
            self.job(&path, &mut all)?;
        }
        self.streams(&mut all)?;
        self.cohorts(&mut all)?;
        self.arrays(&mut all)?;
        Ok(all)
    }

    fn job(&self, path: &Path, all: &mut All) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let known = self.jobs.get(name.as_ref());
        if known.is_some_and(|one| one.state == State::Running || one.is_leased()) || is_locked(&path.join("lock")) {
            return Ok(());
        }
        let Some(one) = known else {
            if path.join("student.safetensors").is_file() && !self.arguments.unknown_results {
                all.results.push(path.to_owned());
            } else {
                self.add(all, "jobs the store does not know", path.to_owned());
            }
            return Ok(());
        };
        // A scheduler at work may start what is open while this looks.
        let may_start = self.is_at_work && one.state != State::Done && one.wish.is_none();
        for file in entries(path)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_checkpoint = name.starts_with("checkpoint-") && name.ends_with(".safetensors");
            match name.as_str() {
                _ if is_partial(&name) && !may_start => self.add(all, "files that were never completed", file),
                _ if is_checkpoint && one.state == State::Done => self.add(all, "checkpoints of done jobs", file),
                _ if is_checkpoint && self.arguments.all_checkpoints && !may_start => {
                    self.add(all, "checkpoints of jobs that are not done", file);
                }
                "lock" if one.state == State::Done => self.add(all, "locks that nobody holds", file),
                _ => {}
            }
        }
        Ok(())
    }

    /// Teachers' answers that no open job of an experiment asks for.
    fn streams(&self, all: &mut All) -> Result<()> {
        let is_wanted = |id: &JobId| self.jobs.get(id.as_str()).is_none_or(|one| one.state != State::Done);
        let needed: BTreeSet<PathBuf> = self
            .open
            .iter()
            .filter(|(id, _)| is_wanted(id))
            .map(|(_, job)| stream_key(job))
            .flat_map(|key| [self.folder.stream(&key), self.folder.recording(&key)])
            .collect();
        for file in entries(&self.folder.root().join("streams"))? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Whoever makes one that is needed completes it.
            let whole = file.with_extension("safetensors");
            let is_needed = needed.contains(&file) || needed.contains(&whole);
            if is_partial(&name) && !is_needed {
                self.add(all, "files that were never completed", file);
            } else if !is_needed {
                self.add(all, "answers of teachers that nobody asks for", file);
            }
        }
        Ok(())
    }

    /// Manifests and logs of cohorts whose jobs are all done.
    fn cohorts(&self, all: &mut All) -> Result<()> {
        let unfinished = self.jobs.values().filter(|one| one.state != State::Done);
        let needed: BTreeSet<&str> = unfinished.filter_map(|one| one.cohort.as_deref()).collect();
        for file in entries(&self.folder.cohorts())? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let cohort = name.split('.').next().unwrap_or_default();
            // One that is about to be started has its manifest before its jobs name it.
            let may_start = self.is_at_work && is_younger(&file, 10 * FRESH);
            if !needed.contains(cohort) && !may_start {
                self.add(all, "manifests and logs of cohorts that are done", file);
            }
        }
        Ok(())
    }

    /// What was handed to a batch system, when all of its jobs are done.
    fn arrays(&self, all: &mut All) -> Result<()> {
        let is_done = |job: &JobId| self.jobs.get(job.as_str()).is_some_and(|one| one.state == State::Done);
        let any_open = self.jobs.values().any(|one| one.state != State::Done);
        let mut needed: HashMap<&str, bool> = HashMap::new();
        for task in self.tasks.all() {
            *needed.entry(&task.tag).or_default() |= !task.is_over || !is_done(&task.job);
        }
        for array in entries(&self.folder.arrays())? {
            let tag = array.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // One that is not written down, a manifest by hand for instance, may have any.
            if !needed.get(tag.as_str()).copied().unwrap_or(any_open) {
                self.add(all, "manifests and logs of tasks that are done", array);
            }
        }
        Ok(())
    }

    /// Unless it is too young.
    fn add(&self, all: &mut All, what: &'static str, path: PathBuf) {
        let least = match self.arguments.older_than {
            Some(age) => age,
            None if self.is_at_work => FRESH,
            None => Duration::ZERO,
        };
        let (bytes, newest) = measure(&path);
        let age = SystemTime::now().duration_since(newest).unwrap_or_default();
        if age >= least {
            all.remove.push(Found { what, path, bytes });
        }
    }
}

/// Names that files have while they are written.
fn is_partial(name: &str) -> bool {
    name.ends_with(".partial") || name.ends_with(".unfinished")
}

/// What is in a folder, in order; nothing, where there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> io::Result<Vec<PathBuf>> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    let mut paths = match read() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
        paths => paths.with_context(|| format!("cannot read `{}`", folder.display()))?,
    };
    paths.sort();
    Ok(paths)
}

/// Whether somebody holds the file's lock. Looking takes it for a moment, in the shared way.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn is_younger(path: &Path, age: Duration) -> bool {
    let (_, newest) = measure(path);
    SystemTime::now().duration_since(newest).unwrap_or_default() < age
}

/// Bytes of a file or of all in a folder, and when the newest of it was written.
fn measure(path: &Path) -> (u64, SystemTime) {
    let Ok(about) = path.symlink_metadata() else { return (0, SystemTime::now()) };
    let own = about.modified().unwrap_or_else(|_| SystemTime::now());
    if !about.is_dir() {
        return (about.len(), own);
    }
    let inside = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| measure(&entry.path()));
    inside.fold((0, own), |(bytes, newest), (more, time)| (bytes + more, newest.max(time)))
}

/// Whether it was still there.
fn remove(path: &Path) -> Result<bool> {
    let Ok(about) = path.symlink_metadata() else { return Ok(false) };
    // Of a file, that of its folder.
    let beside = path.parent().is_some_and(|folder| is_locked(&folder.join("lock")));
    if is_locked(path) || is_locked(&path.join("lock")) || beside {
        return Ok(false);
    }
    let done = if about.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        done => done.map(|()| true).with_context(|| format!("cannot remove `{}`", path.display())),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report<'a> {
    dry_run: bool,
    bytes: u64,
    removed: &'a [&'a Found],
    schedulers_forgotten: u64,
    /// Folders with results whose jobs the store does not know: they stay.
    unknown_results: &'a [PathBuf],
}

fn tell(arguments: &cli::Gc, removed: &[&Found], results: &[PathBuf], schedulers: u64) -> Result<()> {
    let bytes = removed.iter().map(|one| one.bytes).sum();
    let dry_run = arguments.dry_run;
    if arguments.json {
        let report = Report { dry_run, bytes, removed, schedulers_forgotten: schedulers, unknown_results: results };
        return print_json(&report);
    }
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for one in removed {
        let (count, size) = sums.entry(one.what).or_default();
        *count += 1;
        *size += one.bytes;
    }
    let rows: Vec<Vec<String>> = sums
        .iter()
        .map(|(what, (count, size))| vec![(*what).to_owned(), count.to_string(), table::bytes(*size as f64)])
        .collect();
    if !rows.is_empty() {
        print(&table::table(&["what nothing needs", "number", "size"], &rows))?;
    }
    let would = if dry_run { "would be " } else { "" };
    print(&format!("{} {would}freed\n", table::bytes(bytes as f64)))?;
    if schedulers > 0 {
        eprintln!("{schedulers} schedulers of long ago {would}forgotten");
    }
    if !results.is_empty() {
        eprintln!(
            "note: {} folders hold results of jobs that the store does not know\nhint: after a lost store, `distillery run` \
             takes them in again; `--unknown-results` removes them",
            results.len()
        );
    }
    Ok(())
}
