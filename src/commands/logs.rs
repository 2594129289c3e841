//! `logs`: what happened to a job, from the store and its spool, and what its worker wrote.
//!
//! The spool is read and not only the store: it has the epochs, and what was said while no scheduler listened.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::tasks::Tasks;
use super::{choice, place, print};
use crate::cli;
use crate::event::{Event, Message};
use crate::folder::Folder;
use crate::job::JobId;
use crate::progress::{date, noted, said};
use crate::store::{Noted, State, Store};

const POLL: Duration = Duration::from_millis(500);

pub async fn logs(arguments: cli::Logs) -> Result<ExitCode> {
    let folder = place::folder(&arguments.place);
    let store = Store::open_read_only(&place::location(&arguments.place)?).await?;
    let job = choice::one(&store, &arguments.job).await?;
    let mut reader = Reader {
        spool: Tail::new(folder.spool(&job.id)),
        log: None,
        seen: HashSet::new(),
        id: job.id.clone(),
        epochs: job.epochs,
        is_finished: false,
    };
    let cohort = job.cohort.clone();
    let last = |lines: Vec<String>| {
        let from = lines.len().saturating_sub(arguments.lines);
        lines[from..].iter().map(|line| format!("{line}\n")).collect::<String>()
    };
    print(&last(reader.events(&store, arguments.json).await?))?;
    reader.log = cohort.as_deref().map(|cohort| Tail::new(log(&folder, cohort)));
    let log_lines = reader.log_lines();
    if !log_lines.is_empty() && !arguments.json {
        print(&format!("\n{}\n{}", log(&folder, cohort.as_deref().unwrap_or_default()).display(), last(log_lines)))?;
    }
    if let Some(path) = Tasks::look(&store).await?.log(&folder, &job.id).filter(|_| !arguments.json) {
        print(&format!("\n{}\n{}", path.display(), last(Tail::new(path.clone()).lines())))?;
    }
    if arguments.follow {
        follow(&store, &folder, &mut reader, cohort, arguments.json).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what is new until the job has ended.
async fn follow(
    store: &Store,
    folder: &Folder,
    reader: &mut Reader,
    mut cohort: Option<String>,
    json: bool,
) -> Result<()> {
    loop {
        // Before the last look: what is written between the two is seen in it.
        let now = choice::one(store, reader.id.as_str()).await?;
        let is_over = matches!(now.state, State::Done | State::Failed | State::Blocked);
        if now.cohort != cohort {
            cohort.clone_from(&now.cohort);
            reader.log = cohort.as_deref().map(|cohort| Tail::new(log(folder, cohort)));
        }
        let mut lines = reader.events(store, json).await?;
        if !json {
            lines.extend(reader.log_lines().into_iter().map(|line| format!("  | {line}")));
        }
        print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
        if is_over || reader.is_finished {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn log(folder: &Folder, cohort: &str) -> PathBuf {
    folder.cohorts().join(format!("{cohort}.log"))
}

/// What was not printed yet.
struct Reader {
    spool: Tail,
    log: Option<Tail>,
    /// Attempt, time and kind of what was printed: most events are in store and spool.
    seen: HashSet<(Option<u32>, i64, String)>,
    id: JobId,
    epochs: u32,
    /// The spool says that it has finished, perhaps to nobody.
    is_finished: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'a> {
    at_ms: i64,
    attempt: Option<u32>,
    kind: &'a str,
    text: &'a str,
}

impl Reader {
    async fn events(&mut self, store: &Store, json: bool) -> Result<Vec<String>> {
        let mut events: Vec<(Noted, String)> = Vec::new();
        for line in self.spool.lines() {
            // A spool that was copied to another job's folder is not that job's.
            let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
            if message.job != self.id {
                continue;
            }
            self.is_finished = message.event == Event::Finished;
            let (_, words) = said(&message.event, Some(self.epochs));
            let text = serde_json::json!(message.event).to_string();
            let kind = kind(&text);
            let Message { job, attempt, at_ms, .. } = message;
            events.push((Noted { at_ms, job, attempt: Some(attempt), kind, text }, words));
        }
        events.extend(store.events(&self.id).await?.into_iter().map(|event| {
            let (_, words) = noted(&event);
            (event, words)
        }));
        events.retain(|(event, _)| self.seen.insert((event.attempt, event.at_ms, event.kind.clone())));
        events.sort_by_key(|(event, _)| event.at_ms);
        events.iter().map(|(event, words)| self.line(event, words, json)).collect()
    }

    fn line(&self, event: &Noted, words: &str, json: bool) -> Result<String> {
        if json {
            let Noted { at_ms, attempt, kind, text, .. } = event;
            return Ok(serde_json::to_string(&Line { at_ms: *at_ms, attempt: *attempt, kind, text })?);
        }
        let attempt = event.attempt.map_or("  ".to_owned(), |attempt| format!("#{attempt}"));
        Ok(format!("{}  {attempt}  {}", date(event.at_ms), words.replace('\n', "\n  | ")))
    }

    fn log_lines(&mut self) -> Vec<String> {
        self.log.as_mut().map_or(Vec::new(), Tail::lines)
    }
}

/// The name of an event: the key of its object, or the word it is.
fn kind(text: &str) -> String {
    text.chars().skip_while(|c| !c.is_ascii_alphabetic()).take_while(|c| c.is_ascii_alphabetic()).collect()
}

/// A file that grows, line by line.
struct Tail {
    path: PathBuf,
    from: u64,
}

impl Tail {
    fn new(path: PathBuf) -> Tail {
        Tail { path, from: 0 }
    }

    /// The whole lines since the last time; none where there is no such file.
    fn lines(&mut self) -> Vec<String> {
        let bytes = read_from(&self.path, self.from).unwrap_or_default();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.from += whole as u64;
        String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect()
    }
}

fn read_from(path: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
