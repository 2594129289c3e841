//! What a worker says: to its jobs' spools, and to standard output.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};

use serde::Serialize;

use crate::disk;
use crate::event::{Event, Failure, Message};
use crate::folder::Folder;
use crate::job::JobId;
use crate::train::Control;
use crate::train::failure::class;

pub struct Voice<'a> {
    folder: &'a Folder,
    control: &'a Control,
    spools: HashMap<JobId, File>,
    /// Of jobs that have not ended.
    locks: HashMap<JobId, File>,
    /// Jobs that said their last word.
    ended: HashSet<JobId>,
    /// Jobs whose spool could not be written, and why.
    broken: HashMap<JobId, (Failure, String)>,
}

/// Says one line, whole, whoever else is speaking. False when nobody listens.
pub fn say_line(what: &impl Serialize) -> bool {
    let mut line = serde_json::json!(what).to_string();
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

impl<'a> Voice<'a> {
    pub fn new(folder: &'a Folder, control: &'a Control) -> Voice<'a> {
        let (spools, locks, broken) = Default::default();
        Voice { folder, control, spools, locks, ended: HashSet::new(), broken }
    }

    /// Keeps a job's lock until its last word.
    pub fn keep(&mut self, job: JobId, lock: File) {
        self.locks.insert(job, lock);
    }

    pub fn has_ended(&self, job: &JobId) -> bool {
        self.ended.contains(job)
    }

    /// To the spool first. A job whose spool cannot be written leaves the cohort, for training on would make rows that
    /// nobody keeps; that it failed is said aloud in any case.
    pub fn say(&mut self, mut message: Message) {
        if let (Event::Stopped { .. }, Some((class, why))) = (&message.event, self.broken.get(&message.job)) {
            message.event = Event::Failed { class: *class, message: why.clone() };
        }
        if message.event.is_lasting()
            && let Err(error) = self.spool(&message)
        {
            let error = disk::explain(&self.folder.spool(&message.job), error);
            self.broken.entry(message.job.clone()).or_insert_with(|| (class(&error), format!("{error:#}")));
            self.control.leave([message.job.clone()]);
        }
        if matches!(message.event, Event::Finished | Event::Failed { .. } | Event::Stopped { .. }) {
            // Whoever hears it may start the job anew.
            self.spools.remove(&message.job);
            self.locks.remove(&message.job);
            self.ended.insert(message.job.clone());
        }
        self.say_aloud(&message);
    }

    /// To standard output alone.
    pub fn say_aloud(&self, message: &Message) {
        if !say_line(message) {
            // Nobody listens any more: save and leave.
            self.control.stop();
        }
    }

    /// Appends a line, or nothing.
    fn spool(&mut self, message: &Message) -> io::Result<()> {
        let job = &message.job;
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
        let mut line = serde_json::json!(message).to_string();
        line.push('\n');
        let length = file.metadata()?.len();
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a line would be taken for one that a kill cut off.
            let _ = file.set_len(length);
        }
        written
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
