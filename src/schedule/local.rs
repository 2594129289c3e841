//! Workers as processes of this machine.
//!
//! A worker is this very program: `worker --manifest FILE --folder DIR`. Its standard output is a pipe of one JSON
//! [`Line`] a line; its standard error goes to `cohorts/<id>.log`; its standard input is a pipe of one [`Request`] a line.
//!
//! It runs in a process group of its own, so that a Ctrl-C at the terminal does not reach it but through here: the
//! first stop becomes SIGTERM (finish the step, save, exit 75), the second SIGKILL for the group. It does not outlive
//! the scheduler: the kernel sends it SIGTERM when its parent dies, and its standard input ends. SIGTERM and not SIGKILL,
//! since saving costs a moment; the locks on its jobs keep the next worker of theirs away for as long.
//!
//! The kernel means the parent *thread*. Run this on a current-thread runtime whose thread is the main thread, or
//! workers are stopped when a thread of a pool retires.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

#[cfg(target_os = "linux")]
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
#[cfg(target_os = "linux")]
use nix::unistd::{getpid, getppid};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::stop::{Level, Stop};
use super::{Ended, Engine, How, Order, Orders, Voice};
use crate::event::{Line, Request};
use crate::folder::{Folder, replace};
use crate::plan::Manifest;

/// How much of a worker's log is quoted.
const LAST_WORDS_BYTES: u64 = 4096;
const LAST_WORDS_LINES: usize = 8;

#[derive(Debug)]
pub struct LocalEngine {
    folder: Folder,
    program: PathBuf,
}

impl LocalEngine {
    /// Workers of this program.
    ///
    /// # Errors
    /// When the system does not say where the program lies.
    pub fn new(folder: Folder) -> io::Result<LocalEngine> {
        Ok(LocalEngine::with_program(folder, std::env::current_exe()?))
    }

    /// Workers of another program that takes the same arguments: for tests.
    pub fn with_program(folder: Folder, program: PathBuf) -> LocalEngine {
        LocalEngine { folder, program }
    }

    fn start(&self, manifest: &Manifest, log: &Path) -> io::Result<Child> {
        // Another scheduler may have other jobs of the same cohort.
        let attempt = manifest.students.first().map_or(0, |student| student.attempt);
        let name = format!("{}.{}-{attempt}.json", manifest.cohort, std::process::id());
        let file = self.folder.cohorts().join(name);
        fs::create_dir_all(self.folder.cohorts())?;
        replace(&file, serde_json::json!(manifest).to_string().as_bytes())?;
        let log = OpenOptions::new().create(true).append(true).open(log)?;

        let mut command = Command::new(&self.program);
        command
            .arg("worker")
            .arg("--manifest")
            .arg(&file)
            .arg("--folder")
            .arg(self.folder.root())
            // The worker makes a pool of as many threads as its manifest says. This is for candle's own pool, whose
            // threads wait by spinning and would take the cores from other workers.
            .env("RAYON_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        #[cfg(target_os = "linux")]
        die_with_this_process(&mut command);
        command.spawn()
    }
}

/// Elsewhere than on Linux a worker notices that nobody reads its words any more, and leaves then.
#[cfg(target_os = "linux")]
fn die_with_this_process(command: &mut Command) {
    let scheduler = getpid();
    // SAFETY: between fork and exec only two system calls are made; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGTERM)?;
            // The scheduler died before the line above: nobody would be told.
            if getppid() != scheduler { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
        });
    }
}

impl Engine for LocalEngine {
    async fn run(&self, manifest: Manifest, voice: Voice, mut orders: Orders, mut stop: Stop) -> Ended {
        let log = self.folder.cohorts().join(format!("{}.log", manifest.cohort));
        let before = fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let mut child = match self.start(&manifest, &log) {
            Ok(child) => child,
            Err(error) => return Ended { how: How::NotStarted(error.to_string()), last_words: String::new() },
        };
        let status = attend(&mut child, &log, &voice, &mut orders, &mut stop).await;
        let how = match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => How::Exit(code),
                (None, Some(signal)) => How::Signal(signal),
                (None, None) => How::NotStarted(format!("it ended with {status}")),
            },
            Err(error) => How::NotStarted(format!("cannot wait for it: {error}")),
        };
        Ended { how, last_words: last_words(&log, before).unwrap_or_default() }
    }
}

/// Passes on what the worker says and what is asked of it, until it has ended.
async fn attend(
    child: &mut Child,
    log: &Path,
    voice: &Voice,
    orders: &mut Orders,
    stop: &mut Stop,
) -> io::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let mut lines: Option<Lines<BufReader<ChildStdout>>> =
        child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
    let mut input = child.stdin.take();
    let mut level = Level::Drain;
    let kill_all = |pid: Option<Pid>| pid.map(|pid| killpg(pid, Signal::SIGKILL));
    loop {
        tokio::select! {
            line = next_line(&mut lines) => match line {
                Ok(Some(line)) => pass_on(line, log, voice).await,
                // The end, or nothing more that could be understood. The spool has it all.
                Ok(None) | Err(_) => lines = None,
            },
            // Not before the pipe is empty: what it said last is what matters most.
            status = child.wait(), if lines.is_none() => return status,
            higher = stop.above(level) => {
                level = higher;
                // It may have ended meanwhile; it is not waited for yet, so the number is still its own.
                let _ = if level == Level::Now { kill_all(pid) } else { pid.map(|pid| kill(pid, Signal::SIGTERM)) };
            }
            Some(order) = orders.recv() => match order {
                Order::Ask(request) => ask(&mut input, &request).await,
                // SIGKILL ends what is frozen, too.
                Order::Kill => drop(kill_all(pid)),
            },
        }
    }
}

async fn next_line(lines: &mut Option<Lines<BufReader<ChildStdout>>>) -> io::Result<Option<String>> {
    match lines {
        Some(lines) => lines.next_line().await,
        None => std::future::pending().await,
    }
}

/// One that has ended, or reads no more, is not asked.
async fn ask(input: &mut Option<ChildStdin>, request: &Request) {
    let line = serde_json::json!(request).to_string() + "\n";
    if let Some(pipe) = input
        && pipe.write_all(line.as_bytes()).await.is_err()
    {
        *input = None;
    }
}

async fn pass_on(line: String, log: &Path, voice: &Voice) {
    match serde_json::from_str::<Line>(&line) {
        Ok(line) => voice.say(line).await,
        // A stray `println!` of some library, or the torn last line of a worker that was killed.
        Err(_) => {
            if let Ok(mut log) = OpenOptions::new().append(true).open(log) {
                let _ = writeln!(log, "stdout: {line}");
            }
        }
    }
}

/// The last lines of what this worker added to the log.
fn last_words(log: &Path, before: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(before.max(length.saturating_sub(LAST_WORDS_BYTES))))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(LAST_WORDS_LINES)..].join("\n"))
}
