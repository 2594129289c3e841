//! `worker`: trains one cohort and says what happens, one JSON object a line.
//!
//! Every lasting message goes to the job's spool file and is synced before it is said aloud, so that whatever the
//! scheduler does, the next one finds it.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::cli;
use crate::event::{Event, Failure, Message, now_ms};
use crate::folder::Folder;
use crate::job::JobId;
use crate::plan::Manifest;
use crate::schedule::STOPPED;
use crate::train::{self, End};

/// A backward pass walks its graph by recursion.
const STACK_BYTES: usize = 64 << 20;

pub fn worker(arguments: &cli::Worker) -> Result<ExitCode> {
    let text = fs::read_to_string(&arguments.manifest)
        .with_context(|| format!("cannot read `{}`", arguments.manifest.display()))?;
    let manifest: Manifest = serde_json::from_str(&text).context("the manifest is not one")?;
    let folder = Folder::new(&arguments.folder);
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    train::memory::keep_freed_pages();
    // The training loop is one of the pool's own threads: from outside, every operation would be a hand-over.
    let threads = usize::try_from(manifest.threads)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK_BYTES).build()?;
    match pool.install(|| train_all(&manifest, &folder, &stop))? {
        End::Complete => Ok(ExitCode::SUCCESS),
        End::Stopped => Ok(ExitCode::from(STOPPED as u8)),
    }
}

fn train_all(manifest: &Manifest, folder: &Folder, stop: &AtomicBool) -> Result<End> {
    let mut voice = Voice { folder, stop, spools: HashMap::new(), ended: HashSet::new(), broken: None };
    let result = train::run(manifest, folder, stop, &mut |message| voice.say(message));
    let result = match voice.broken.take() {
        Some(error) => Err(anyhow::Error::new(error).context("cannot write the spool")),
        None => result,
    };
    if let Err(error) = &result {
        let class = if error.chain().any(|cause| cause.is::<io::Error>()) { Failure::Io } else { Failure::Error };
        for student in &manifest.students {
            let job = student.job.id();
            if !voice.ended.contains(&job) {
                let event = Event::Failed { class, message: format!("{error:#}") };
                voice.say(Message { job, attempt: student.attempt, at_ms: now_ms(), event });
            }
        }
    }
    result
}

/// Spool and standard output.
struct Voice<'a> {
    folder: &'a Folder,
    stop: &'a AtomicBool,
    spools: HashMap<JobId, File>,
    /// Jobs that said their last word.
    ended: HashSet<JobId>,
    broken: Option<io::Error>,
}

impl Voice<'_> {
    fn say(&mut self, message: Message) {
        let mut line = serde_json::json!(message).to_string();
        line.push('\n');
        if message.event.is_lasting()
            && let Err(error) = self.spool(&message.job, &line)
        {
            // Training on would make rows that nobody keeps.
            self.broken.get_or_insert(error);
            self.stop.store(true, Ordering::Relaxed);
        }
        if matches!(message.event, Event::Finished | Event::Failed { .. } | Event::Stopped { .. }) {
            self.ended.insert(message.job);
        }
        let mut stdout = io::stdout().lock();
        if stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            // Nobody listens any more: save and leave.
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn spool(&mut self, job: &JobId, line: &str) -> io::Result<()> {
        let file = match self.spools.get_mut(job) {
            Some(file) => file,
            None => {
                fs::create_dir_all(self.folder.job(job))?;
                let mut file = OpenOptions::new().create(true).read(true).append(true).open(self.folder.spool(job))?;
                // A line that a kill cut off must not swallow the next.
                if ends_inside_a_line(&mut file)? {
                    file.write_all(b"\n")?;
                }
                self.spools.entry(job.clone()).or_insert(file)
            }
        };
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }
}

fn ends_inside_a_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
