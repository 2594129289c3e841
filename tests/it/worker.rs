//! The worker as a process: who may train a job, what can be asked of it while it does, and what it says when it cannot.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use distillery::event::{Event, Failure, Line, Message, Request};
use distillery::folder::Folder;
use distillery::job::*;
use distillery::plan::{Checkpoints, Evaluations, Manifest, Span};
use distillery::train::checkpoint;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, gethostname};

use crate::small::{labels, manifest, rows, train};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn folder() -> (tempfile::TempDir, Folder) {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::new(place.path().join("runs"));
    fs::create_dir_all(folder.root()).unwrap();
    (place, folder)
}

/// Of so many epochs, rarely measured.
fn long(jobs: &[&Job], attempt: u32) -> Manifest {
    Manifest { evaluations: Evaluations::Every(50), ..manifest(jobs, attempt) }
}

/// A worker at work.
struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Line>,
    said: Vec<Message>,
    beats: Vec<u64>,
}

impl Worker {
    fn start(manifest: &Manifest, folder: &Folder, environment: &[(&str, &str)]) -> Worker {
        let attempt = manifest.students[0].attempt;
        let file = folder.root().join(format!("manifest-{}-{attempt}.json", manifest.cohort));
        fs::write(&file, serde_json::to_string(manifest).unwrap()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
        command.arg("worker").arg("--manifest").arg(file).arg("--folder").arg(folder.root());
        command.envs(environment.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines() {
                let line = line.unwrap();
                let Ok(line) = serde_json::from_str(&line) else { panic!("a torn line: `{line}`") };
                let _ = sender.send(line);
            }
        });
        Worker { child, input, lines, said: Vec::new(), beats: Vec::new() }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn ask(&mut self, request: &Request) {
        let line = serde_json::to_string(request).unwrap() + "\n";
        self.input.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    /// Listens until it says such a thing.
    fn hear(&mut self, what: impl Fn(&Message) -> bool) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(Line::Beat { beat }) => self.beats.push(beat.memory_bytes),
                Ok(Line::Message(message)) => {
                    self.said.push((*message).clone());
                    if what(&message) {
                        return;
                    }
                }
                Err(_) => panic!("it never said so: {:?}", self.said.last()),
            }
        }
    }

    /// Listens until it ends.
    fn end(mut self) -> (ExitStatus, Vec<Message>, Vec<u64>) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            match line {
                Line::Beat { beat } => self.beats.push(beat.memory_bytes),
                Line::Message(message) => self.said.push(*message),
            }
        }
        (self.child.wait().unwrap(), std::mem::take(&mut self.said), std::mem::take(&mut self.beats))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_epoch(message: &Message) -> bool {
    matches!(message.event, Event::Epoch(_))
}

fn stopped(said: &[Message], job: &Job) -> bool {
    said.iter().any(|message| message.job == job.id() && matches!(message.event, Event::Stopped { .. }))
}

fn failure(said: &[Message], job: &Job) -> Option<(Failure, String)> {
    said.iter().filter(|message| message.job == job.id()).find_map(|message| match &message.event {
        Event::Failed { class, message } => Some((*class, message.clone())),
        _ => None,
    })
}

/// What both said, an epoch that was made twice once.
fn joined(parts: &[&[Message]], job: &Job) -> Vec<String> {
    let all: BTreeMap<u64, String> = parts
        .iter()
        .flat_map(|said| rows(said, job))
        .map(|row| (serde_json::from_str::<serde_json::Value>(&row).unwrap()["epoch"].as_u64().unwrap(), row))
        .collect();
    all.into_values().collect()
}

fn student(folder: &Folder, job: &Job) -> Vec<u8> {
    fs::read(folder.student(&job.id())).unwrap()
}

/// An attempt that hangs with its job's lock is ended by the next, which goes on to the same numbers.
#[test]
fn a_frozen_worker_is_replaced() {
    let (_place, undisturbed) = folder();
    let (_place, folder) = folder();
    let job = labels(150);
    let expected = rows(&train(&long(&[&job], 1), &undisturbed), &job);
    let mut frozen = Worker::start(&long(&[&job], 1), &folder, &[]);
    frozen.hear(is_epoch);
    frozen.signal(Signal::SIGSTOP);
    let (status, second, _) = Worker::start(&long(&[&job], 2), &folder, &[("DISTILLERY_TAKEOVER_SECONDS", "1")]).end();
    assert_eq!(status.code(), Some(0), "{:?}", second.last());
    let (status, first, _) = frozen.end();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert_eq!(joined(&[&first, &second], &job), expected);
    assert_eq!(student(&folder, &job), student(&undisturbed, &job));
}

/// One that is saving is waited for, and not ended.
#[test]
fn a_worker_that_leaves_is_waited_for() {
    let (_place, folder) = folder();
    let job = labels(4000);
    let mut first = Worker::start(&long(&[&job], 1), &folder, &[]);
    first.hear(is_epoch);
    let mut second = Worker::start(&long(&[&job], 2), &folder, &[]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(second.lines.try_iter().all(|line| matches!(line, Line::Beat { .. })), "it began before it had the job");
    first.signal(Signal::SIGTERM);
    second.hear(|message| matches!(message.event, Event::Started { epoch } if epoch > 0));
    let (status, said, _) = first.end();
    assert_eq!((status.code(), stopped(&said, &job)), (Some(75), true));
}

/// Who comes late, and who is on another host, is left alone, and nothing of the job is touched.
#[test]
fn a_newer_or_distant_worker_is_left_alone() {
    let (_place, folder) = folder();
    let job = labels(4000);
    let mut newer = Worker::start(&long(&[&job], 2), &folder, &[]);
    newer.hear(is_epoch);
    for attempt in [1, 2] {
        let (status, said, _) = Worker::start(&long(&[&job], attempt), &folder, &[]).end();
        let (class, why) = failure(&said, &job).unwrap();
        assert_eq!((status.code(), class, said.len()), (Some(0), Failure::Lost, 1));
        assert!(why.contains("attempt 2 at this job runs as process"), "{why}");
    }
    newer.hear(is_epoch);
    drop(newer);
    let spool = fs::read_to_string(folder.spool(&job.id())).unwrap();
    assert!(!spool.contains("\"lost\""), "{spool}");

    let hold = |pid: u32, host: &str| {
        let mut lock = File::options().read(true).write(true).open(folder.job_lock(&job.id())).unwrap();
        lock.lock().unwrap();
        lock.set_len(0).unwrap();
        lock.rewind().unwrap();
        write!(lock, "{}", serde_json::json!({ "pid": pid, "host": host, "attempt": 1 })).unwrap();
        lock
    };
    let refused = || {
        let impatient = [("DISTILLERY_TAKEOVER_SECONDS", "0.3")];
        let (_, said, _) = Worker::start(&long(&[&job], 3), &folder, &impatient).end();
        assert_eq!(said.len(), 1);
        failure(&said, &job).unwrap()
    };
    let lock = hold(1, "elsewhere");
    let (class, why) = refused();
    assert!(class == Failure::Io && why.contains("on host `elsewhere`"), "{why}");
    drop(lock);
    // The text names a process that does not have the lock: it is nobody's business.
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    let lock = hold(bystander.id(), &gethostname().unwrap().to_string_lossy());
    assert_eq!(refused().0, Failure::Io);
    assert!(bystander.try_wait().unwrap().is_none(), "it was ended");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    drop(lock);
}

/// One of two students is asked to leave: it saves and its job is free at once, while the other goes on as if alone.
#[test]
fn a_student_leaves_and_the_others_go_on() {
    let (_place, undisturbed) = folder();
    let (_place, folder) = folder();
    let (leaver, stayer) = (labels(150), Job { learning_rate: 0.003, ..labels(150) });
    let expected = train(&long(&[&leaver, &stayer], 1), &undisturbed);
    let mut worker = Worker::start(&long(&[&leaver, &stayer], 1), &folder, &[]);
    worker.hear(is_epoch);
    worker.ask(&Request::Leave(vec![leaver.id()]));
    worker.hear(|message| message.job == leaver.id() && matches!(message.event, Event::Stopped { .. }));
    // Its next attempt need not wait for the worker.
    let (status, rest, _) = Worker::start(&long(&[&leaver], 2), &folder, &[]).end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(failure(&rest, &leaver), None);
    let (status, said, _) = worker.end();
    assert_eq!(status.code(), Some(0));
    assert!(!stopped(&said, &stayer));
    assert_eq!(rows(&said, &stayer), rows(&expected, &stayer));
    let met = rows(&said, &leaver).len();
    assert!(met < 150, "it was done before it was asked");
    assert_eq!(joined(&[&said, &rest], &leaver), rows(&expected, &leaver));
    for job in [&leaver, &stayer] {
        assert_eq!(student(&folder, job), student(&undisturbed, job));
    }
}

/// The end of its input, SIGUSR1, and the end of the time that Slurm gave: it saves and says so. Meanwhile its heart
/// beats, and no line is torn.
#[test]
fn it_stops_in_order_and_lives_audibly() {
    let (_place, folder) = folder();
    let job = labels(1_000_000);
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 122;
    for attempt in 1..=3 {
        let end = soon.to_string();
        let slurm = if attempt == 3 { end.as_str() } else { "1000" };
        let environment = [("DISTILLERY_BEAT_SECONDS", "0.02"), ("SLURM_JOB_END_TIME", slurm)];
        let mut worker = Worker::start(&long(&[&job], attempt), &folder, &environment);
        worker.hear(|message| matches!(message.event, Event::Started { .. }));
        if attempt != 3 {
            worker.hear(is_epoch);
        }
        match attempt {
            1 => drop(worker.input.take()),
            2 => worker.signal(Signal::SIGUSR1),
            _ => {}
        }
        let (status, said, beats) = worker.end();
        assert_eq!((status.code(), stopped(&said, &job)), (Some(75), true), "{attempt}");
        assert!(beats.len() > 2 && beats.iter().all(|bytes| *bytes > 1 << 20), "{beats:?}");
    }
    assert!(checkpoint::load(&folder.job(&job.id()), job.id().as_str()).unwrap().checkpoint.unwrap().place.step > 0);
}

/// A second SIGTERM does not wait for a step that takes long.
#[test]
fn a_second_signal_ends_it_at_once() {
    let (_place, folder) = folder();
    let mut job = Job { student: Model::BitResnet(BitResnet { depth: 50, width: 1 }), resolution: 224, ..labels(9) };
    (job.batch, job.split.train.end, job.split.validation.end, job.split.test.end) = (40, 1000, 7001, 1);
    let slow = Manifest { minitrain: 0, ..long(&[&job], 1) };
    let mut worker = Worker::start(&slow, &folder, &[]);
    // The next one begins at once, and takes longer than both pauses.
    worker.hear(|message| matches!(message.event, Event::Step { .. }));
    std::thread::sleep(Duration::from_millis(500));
    worker.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(1500));
    let ended = worker.child.try_wait().unwrap();
    assert_eq!(ended, None, "a step was shorter than the pause: {:?}", worker.said.last());
    worker.signal(Signal::SIGTERM);
    let (status, said, _) = worker.end();
    assert_eq!((status.code(), stopped(&said, &job)), (Some(143), false));
}

/// A bug in the training is said of every student that had not ended.
#[test]
fn a_panic_is_said() {
    let (_place, folder) = folder();
    let mut job = labels(1);
    job.split.validation = Slice { part: Part::Train, start: 7990, end: 9000 };
    let other = Job { learning_rate: 0.003, ..job.clone() };
    let (status, said, _) = Worker::start(&manifest(&[&job, &other], 1), &folder, &[]).end();
    assert_eq!(status.code(), Some(1));
    for job in [&job, &other] {
        let (class, why) = failure(&said, job).unwrap();
        assert!(class == Failure::Error && why.starts_with("a bug: "), "{why}");
    }
}

/// Where memory is short it says so of all; fewer at once fit, and give the same numbers.
#[test]
fn fewer_at_once_need_less_memory() {
    let (_place, together) = folder();
    let (_place, folder) = folder();
    let jobs = [labels(2), Job { learning_rate: 0.003, ..labels(3) }, Job { learning_rate: 0.001, ..labels(1) }];
    let all: Vec<&Job> = jobs.iter().collect();
    let expected = train(&manifest(&all, 1), &together);
    let small = [("DISTILLERY_TEST_MEMORY", "2")];
    let (_, said, _) = Worker::start(&manifest(&all, 1), &folder, &small).end();
    for job in all.iter() {
        let (class, why) = failure(&said, job).unwrap();
        assert!(class == Failure::OutOfMemory && why.contains("no room for 3 students"), "{why}");
    }
    let fewer = Manifest { at_once: Some(2), ..manifest(&all, 2) };
    let (status, said, _) = Worker::start(&fewer, &folder, &small).end();
    assert_eq!(status.code(), Some(0));
    for job in all {
        assert_eq!(rows(&said, job), rows(&expected, job));
        assert_eq!(student(&folder, job), student(&together, job));
    }
    let begun = |job: &Job| said.iter().position(|message| message.job == job.id() && is_epoch(message)).unwrap();
    let done = said.iter().position(|message| message.job == jobs[1].id() && message.event == Event::Finished);
    assert!(begun(&jobs[0]) < done.unwrap() && done.unwrap() < begun(&jobs[2]), "the third came after");
}

/// A file system of its own, of some MiB; needs root.
struct Small(tempfile::TempDir);

impl Small {
    fn new(mib: u32) -> Option<Small> {
        let place = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "small"]).arg(place.path());
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("SKIPPED: a full disk is not tested, for that needs root and `mount`");
        }
        mounted.then_some(Small(place))
    }

    /// Takes all room but so many bytes.
    fn fill(&self, but: u64) -> std::path::PathBuf {
        let file = self.0.path().join("filler");
        let mut filler = File::create(&file).unwrap();
        // One that was just stopped may still be in the midst of a write.
        loop {
            let (free, _) = distillery::disk::room(&file).unwrap();
            match filler.write_all(&vec![1; free.saturating_sub(but).min(64 << 10) as usize]) {
                Ok(()) if free > but => {}
                Ok(()) => return file,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                    return file;
                }
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn partials(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|name| name.extension().is_some_and(|extension| extension == "partial")).count()
}

/// One that was cut off, on a file system whose locks it alone sees: by the lock's text it knows that a newer attempt has the job,
/// and changes no file of it.
#[test]
fn an_attempt_that_is_not_the_newest_writes_nothing() {
    let (_place, folder) = folder();
    let job = labels(400);
    let mut worker = Worker::start(&long(&[&job], 1), &folder, &[]);
    worker.hear(|message| matches!(&message.event, Event::Epoch(row) if row.epoch == 3));
    let text = serde_json::json!({ "pid": 1, "host": "elsewhere", "attempt": 2 }).to_string();
    fs::write(folder.job_lock(&job.id()), text).unwrap();
    let (_, said, _) = worker.end();
    let (class, why) = failure(&said, &job).unwrap();
    assert_eq!(class, Failure::Lost);
    assert!(why.contains("attempt 2 has this job now"), "{why}");
    // What it saved last is from before it knew.
    let found = checkpoint::load(&folder.job(&job.id()), job.id().as_str()).unwrap();
    let last = said.iter().filter_map(|message| match &message.event {
        Event::Epoch(row) => Some(row.epoch),
        _ => None,
    });
    assert!(found.torn.is_empty() && found.checkpoint.unwrap().place.epoch < last.max().unwrap());
    assert!(!folder.student(&job.id()).exists());
}

/// When nothing more can be written it is said, nothing is torn, and with room again the run goes on to the same end.
/// With a little room left, some of it is left to others.
#[test]
fn a_full_disk_is_noticed_and_tears_nothing() {
    let (_place, undisturbed) = folder();
    let job = labels(150);
    let expected = rows(&train(&long(&[&job], 1), &undisturbed), &job);
    for left in [0, 200 << 10] {
        let Some(disk) = Small::new(8) else { return };
        let folder = Folder::new(disk.0.path().join("runs"));
        fs::create_dir_all(folder.root()).unwrap();
        let mut worker = Worker::start(&long(&[&job], 1), &folder, &[]);
        // The state after the second is on disk then.
        worker.hear(|message| matches!(&message.event, Event::Epoch(row) if row.epoch == 3));
        worker.signal(Signal::SIGSTOP);
        let filler = disk.fill(left);
        worker.signal(Signal::SIGCONT);
        let (status, first, _) = worker.end();
        let (class, why) = failure(&first, &job).unwrap();
        assert_eq!((status.code(), class), (Some(0), Failure::DiskFull), "{why}");
        assert!(why.contains("the disk is full: cannot write") && why.contains("are free"), "{why}");
        assert_eq!(partials(&folder.job(&job.id())), 0);
        let spool = fs::read(folder.spool(&job.id())).unwrap();
        assert!(spool.ends_with(b"\n"), "a torn line");
        let text = String::from_utf8(spool).unwrap();
        assert!(text.lines().all(|line| serde_json::from_str::<Message>(line).is_ok()));
        if left > 0 {
            // Before it came to that: others still can.
            assert!(text.contains("\"disk-full\""), "{text}");
            fs::write(disk.0.path().join("store"), vec![0; 100 << 10]).unwrap();
        }
        let found = checkpoint::load(&folder.job(&job.id()), job.id().as_str()).unwrap();
        assert!(found.torn.is_empty(), "{:?}", found.torn);
        assert!(found.checkpoint.unwrap().place.epoch > 0);
        fs::remove_file(filler).unwrap();
        let (status, second, _) = Worker::start(&long(&[&job], 2), &folder, &[]).end();
        assert_eq!(status.code(), Some(0), "{:?}", second.last());
        assert_eq!(joined(&[&first, &second], &job), expected);
        assert_eq!(student(&folder, &job), student(&undisturbed, &job));
    }
}

/// A recorded stream that does not fit is a full disk for all that learn from it.
#[test]
fn a_stream_that_does_not_fit_is_a_full_disk() {
    let Some(disk) = Small::new(8) else { return };
    let folder = Folder::new(disk.0.path().join("runs"));
    let teacher = labels(1);
    train(&manifest(&[&teacher], 1), &folder);
    let job = crate::small::distil(&teacher, Teaching::FunctionMatching { mixup: 1.0 }, 100_000);
    let other = Job { learning_rate: 0.003, ..job.clone() };
    let recorded = Manifest { record_teacher: true, ..long(&[&job, &other], 1) };
    disk.fill(3 << 20);
    let (_, said, _) = Worker::start(&recorded, &folder, &[]).end();
    for job in [&job, &other] {
        let (class, why) = failure(&said, job).unwrap();
        assert!(class == Failure::DiskFull && why.contains("streams/"), "{why}");
    }
}

/// Trains until so many messages were said, then nothing more, as if it were killed.
fn cut(manifest: &Manifest, folder: &Folder, words: usize, said: &mut Vec<Message>) -> bool {
    let until = said.len() + words;
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let control = distillery::train::Control::default();
        distillery::train::run(manifest, folder, &control, &mut |message| {
            assert!(said.len() < until, "killed");
            said.push(message);
        })
        .unwrap()
    }));
    killed.is_err()
}

fn asked(every: Duration) -> Checkpoints {
    Checkpoints { every: Span(every), best: true, epochs: vec![1, 3] }
}

/// What is kept beside the result: the same files whenever it was saved and however often it was killed.
#[test]
fn what_is_kept_does_not_depend_on_interruptions() {
    let job = labels(5);
    let averaged = Job { ema: Ema::Decay(0.9), learning_rate: 0.02, ..labels(5) };
    let files = |folder: &Folder, job: &Job| {
        let id = job.id();
        let paths =
            [folder.student(&id), folder.best_student(&id), folder.student_after(&id, 1), folder.student_after(&id, 3)];
        paths.map(|path| (fs::read(&path).unwrap(), fs::read(path.with_extension("json")).unwrap()))
    };
    let (_place, undisturbed) = folder();
    let told = |every, attempt| Manifest { checkpoints: asked(every), ..manifest(&[&job, &averaged], attempt) };
    let expected = train(&told(Duration::ZERO, 1), &undisturbed);
    for job in [&job, &averaged] {
        let [last, best, first, third] = files(&undisturbed, job).map(|(weights, _)| weights);
        assert!(first != third && third != last);
        // By hand: the first of the best.
        let top1 = |row: &String| {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            let all = row["evaluations"].as_array().unwrap().clone();
            all.iter().find(|one| one["split"] == "validation").unwrap()["top1"].as_f64().unwrap()
        };
        let all: Vec<f64> = rows(&expected, job).iter().map(top1).collect();
        let most = all.iter().copied().fold(0.0, f64::max);
        let at = all.iter().position(|top1| *top1 == most).unwrap();
        let known = [(0, &first), (2, &third), (4, &last)];
        known.iter().for_each(|(epoch, weights)| assert_eq!(best == **weights, at == *epoch, "{all:?}"));
    }
    for every in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(3600)] {
        let (_place, disturbed) = folder();
        let mut said = Vec::new();
        let mut attempt = 1;
        while cut(&told(every, attempt), &disturbed, 3 * attempt as usize, &mut said) {
            attempt += 1;
            assert!(attempt < 100, "no progress");
        }
        assert!(attempt > 3);
        for job in [&job, &averaged] {
            assert_eq!(joined(&[&said], job), rows(&expected, job), "{every:?}");
            assert!(files(&disturbed, job) == files(&undisturbed, job), "{every:?}");
        }
    }
}

/// By time between steps, not before its time, and by epoch where no time is set.
#[test]
fn states_are_saved_when_they_are_due() {
    let job = labels(5);
    let place = |every, epochs| {
        let (_place, folder) = folder();
        let told = Manifest { checkpoints: asked(every), ..manifest(&[&job], 1) };
        let control = distillery::train::Control::default();
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            distillery::train::run(&told, &folder, &control, &mut |message| {
                assert!(!matches!(message.event, Event::Epoch(row) if row.epoch == epochs), "killed");
            })
        }));
        assert!(killed.is_err());
        let found = checkpoint::load(&folder.job(&job.id()), job.id().as_str()).unwrap();
        found.checkpoint.map(|found| (found.place.epoch, found.place.step))
    };
    // Six batches an epoch, of which the last was just made.
    assert_eq!(place(Duration::from_nanos(1), 1), Some((0, 5)));
    assert_eq!(place(Duration::from_secs(3600), 4), None);
    assert_eq!(place(Duration::ZERO, 1), None);
    assert_eq!(place(Duration::ZERO, 3), Some((2, job.steps_at(2))));
}
