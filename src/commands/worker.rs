//! `worker`: trains one cohort and says what happens, one JSON object a line.
//!
//! - First it takes its jobs from whoever still has them ([`claim`]).
//! - Every lasting message goes to the job's spool file and is synced before it is said aloud ([`voice`]), so that
//!   whatever the scheduler does, the next one finds it.
//! - Standard input is what is asked of it ([`requests`]); SIGTERM, SIGINT and SIGUSR1, the end of the time that Slurm
//!   gave, and the want of anybody who listens mean: finish the step, save, exit 75 ([`watch`], which also says every few
//!   seconds that it lives).
//! - With an index it is a task of a batch system, and the scheduler of one such worker ([`task`]).

mod claim;
mod requests;
mod task;
mod voice;
mod watch;

use std::any::Any;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use crate::cli;
use crate::commands::Usage;
use crate::event::{Event, Message, now_ms};
use crate::folder::Folder;
use crate::plan::Manifest;
use crate::schedule::{STOPPED, cluster};
use crate::train::failure::class;
use crate::train::{self, Control, End};
use claim::Claim;
pub use task::task;
use voice::Voice;

/// A backward pass walks its graph by recursion.
const STACK_BYTES: usize = 64 << 20;

pub fn worker(arguments: &cli::Worker) -> Result<ExitCode> {
    let text = fs::read_to_string(&arguments.manifest)
        .with_context(|| format!("cannot read `{}`", arguments.manifest.display()))?;
    let mut manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| match cluster::read(&arguments.manifest, 0) {
            Ok(_) => Usage(format!(
                "`{}` has a task a line, of which one is to be done\nhint: `--index 0` names the first",
                arguments.manifest.display()
            ))
            .into(),
            Err(_) => anyhow::Error::new(error).context("the manifest is not one"),
        })?;
    let folder = Folder::new(&arguments.place.folder);
    let control = Arc::new(Control::default());
    watch::start(&control, manifest.device)?;
    requests::listen(&control, manifest.students.iter().map(|student| student.job.id()).collect());
    let mut voice = Voice::new(&folder, &control);
    if !take_all(&mut manifest, &folder, &control, &mut voice) {
        return Ok(ExitCode::from(STOPPED as u8));
    }
    if manifest.students.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    train::memory::keep_freed_pages();
    // The training loop is one of the pool's own threads: from outside, every operation would be a hand-over.
    let threads = usize::try_from(manifest.threads)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK_BYTES).build()?;
    match pool.install(|| train_all(&manifest, &folder, &control, &mut voice))? {
        End::Complete => Ok(ExitCode::SUCCESS),
        End::Stopped => Ok(ExitCode::from(STOPPED as u8)),
    }
}

/// Takes the locks of all jobs, leaving out those that it must not have; false when it was stopped while it waited.
fn take_all(manifest: &mut Manifest, folder: &Folder, control: &Control, voice: &mut Voice<'_>) -> bool {
    let mut taken = Vec::new();
    for student in std::mem::take(&mut manifest.students) {
        let job = student.job.id();
        match claim::take(folder, &job, student.attempt, control) {
            Ok(Claim::Taken(lock)) => {
                voice.keep(job, lock);
                taken.push(student);
            }
            Ok(Claim::Stopped) => return false,
            Ok(Claim::Refused(class, message)) => {
                // Not to the spool: the job's folder is another's.
                let event = Event::Failed { class, message };
                voice.say_aloud(&Message { job, attempt: student.attempt, at_ms: now_ms(), event });
            }
            Err(error) => {
                let event = Event::Failed { class: class(&error), message: format!("{error:#}") };
                voice.say_aloud(&Message { job, attempt: student.attempt, at_ms: now_ms(), event });
            }
        }
    }
    manifest.students = taken;
    true
}

fn train_all(manifest: &Manifest, folder: &Folder, control: &Control, voice: &mut Voice<'_>) -> Result<End> {
    let run = AssertUnwindSafe(|| train::run(manifest, folder, control, &mut |message| voice.say(message)));
    let result = panic::catch_unwind(run).unwrap_or_else(|panic| Err(anyhow!("a bug: {}", words(panic.as_ref()))));
    if let Err(error) = &result {
        let class = class(error);
        for student in &manifest.students {
            let job = student.job.id();
            if !voice.has_ended(&job) {
                let event = Event::Failed { class, message: format!("{error:#}") };
                voice.say(Message { job, attempt: student.attempt, at_ms: now_ms(), event });
            }
        }
    }
    result
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked without a word")
}
