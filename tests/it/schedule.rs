//! The scheduler with an engine that trains nothing, under paused time; the local engine with a shell script.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::store::{epoch, labels_job, record, says, student_job};
use distillery::event::{Event, Failure, Line, Message, Request};
use distillery::folder::Folder;
use distillery::job::{Job, JobId};
use distillery::plan::{Evaluations, Manifest, Plan, RunSettings};
use distillery::schedule::*;
use distillery::store::{Outcome, Provenance, State, Store};

/// Takes a second an epoch, and does to jobs what it was told.
#[derive(Default)]
pub struct Fake {
    pub fates: BTreeMap<JobId, Fate>,
    /// Students of every worker, in the order they were started.
    pub started: RefCell<Vec<Vec<JobId>>>,
    pub running: Cell<usize>,
    pub most: Cell<usize>,
    /// Students that have room in memory at once.
    pub room: Option<u32>,
    /// Of validation images, where it is not the usual.
    pub top1: BTreeMap<JobId, f64>,
    /// Of an epoch, on the clock of the test.
    pub epoch: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Fate {
    Fails,
    /// Fails so in its first n attempts.
    FailsAtFirst(Failure, u32),
    /// Neither speaks nor heeds anything but its end, in its first n attempts.
    Freezes(u32),
    /// The worker is killed in the second epoch of this job's first n attempts.
    Kills(u32),
    /// Somebody stops the worker in the second epoch of this job's first n attempts: all is saved.
    Stops(u32),
    /// The worker cannot be started.
    Refused,
}

impl Engine for Fake {
    async fn run(&self, manifest: Manifest, voice: Voice, mut orders: Orders, mut stop: Stop) -> Ended {
        self.started.borrow_mut().push(manifest.students.iter().map(|student| student.job.id()).collect());
        self.running.set(self.running.get() + 1);
        self.most.set(self.most.get().max(self.running.get()));
        let how = self.train(&manifest, &voice, &mut orders, &mut stop).await;
        self.running.set(self.running.get() - 1);
        Ended { how, last_words: "the end".into() }
    }
}

impl Fake {
    async fn train(&self, manifest: &Manifest, voice: &Voice, orders: &mut Orders, stop: &mut Stop) -> How {
        let fate = |job: &Job| self.fates.get(&job.id()).copied();
        let speak = |message| voice.say(Line::Message(Box::new(message)));
        let many = manifest.students.len().min(manifest.at_once.unwrap_or(u32::MAX) as usize);
        if self.room.is_some_and(|room| many > room as usize) {
            for student in &manifest.students {
                let event = Event::Failed { class: Failure::OutOfMemory, message: "no room".into() };
                speak(says(&student.job, student.attempt, 0, event)).await;
            }
            return How::Exit(1);
        }
        let mut left: Vec<_> = manifest.students.iter().collect();
        if left.iter().any(|student| fate(&student.job) == Some(Fate::Refused)) {
            return How::NotStarted("no such file".into());
        }
        for at in 1.. {
            tokio::select! {
                () = tokio::time::sleep(self.epoch.unwrap_or(Duration::from_secs(1))) => {}
                Some(order) = orders.recv() => match order {
                    Order::Kill => return How::Signal(9),
                    Order::Ask(Request::Leave(jobs)) => {
                        for student in left.iter().filter(|student| jobs.contains(&student.job.id())) {
                            let event = Event::Stopped { epoch: at - 1, step: 1 };
                            speak(says(&student.job, student.attempt, 0, event)).await;
                        }
                        left.retain(|student| !jobs.contains(&student.job.id()));
                    }
                },
                level = stop.above(Level::Drain) => {
                    for student in left.iter().filter(|_| level == Level::Finish) {
                        let event = Event::Stopped { epoch: at - 1, step: 1 };
                        speak(says(&student.job, student.attempt, 0, event)).await;
                    }
                    return if level == Level::Now { How::Signal(9) } else { How::Exit(STOPPED) };
                }
            }
            let mut on = Vec::new();
            for student in left {
                let say = |event| speak(says(&student.job, student.attempt, i64::from(at), event));
                match fate(&student.job) {
                    Some(Fate::FailsAtFirst(class, times)) if student.attempt <= times => {
                        say(Event::Failed { class, message: "for now".into() }).await;
                        continue;
                    }
                    Some(Fate::Freezes(times)) if at == 2 && student.attempt <= times => {
                        while orders.recv().await != Some(Order::Kill) {}
                        return How::Signal(9);
                    }
                    Some(Fate::Kills(times)) if at == 2 && student.attempt <= times => return How::Signal(9),
                    Some(Fate::Stops(times)) if at == 2 && student.attempt <= times => {
                        for student in &manifest.students {
                            let event = Event::Stopped { epoch: 1, step: 1 };
                            speak(says(&student.job, student.attempt, 0, event)).await;
                        }
                        return How::Exit(STOPPED);
                    }
                    Some(Fate::Fails) => {
                        say(Event::Failed { class: Failure::NotFinite, message: "loss is NaN".into() }).await;
                        continue;
                    }
                    _ => {
                        let mut row = epoch(at);
                        if let Some(&top1) = self.top1.get(&student.job.id()) {
                            row.evaluations.iter_mut().for_each(|evaluation| evaluation.top1 = top1);
                        }
                        say(Event::Epoch(row)).await
                    }
                }
                match at == student.job.epochs {
                    true => say(Event::Finished).await,
                    false => on.push(student),
                }
            }
            if on.is_empty() {
                return How::Exit(0);
            }
            left = on;
        }
        unreachable!("a job has an end")
    }
}

pub struct Bench {
    _temporary: tempfile::TempDir,
    pub folder: Folder,
    pub store: Store,
    pub notices: RefCell<Vec<Notice>>,
}

impl Bench {
    pub async fn new() -> Bench {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::new(temporary.path());
        let store = Store::open(&folder.store()).await.unwrap();
        Bench { _temporary: temporary, folder, store, notices: RefCell::default() }
    }

    pub fn settings(&self, slots: usize) -> Settings {
        Settings {
            devices: vec![(distillery::plan::Device::Cpu, None)],
            slots,
            threads: 1,
            run: RunSettings {
                evaluations: Evaluations::Every(1),
                minitrain: 512,
                allow_teacher_at_chance: false,
                record_teacher: false,
                images: Default::default(),
                checkpoints: Default::default(),
                retries: Default::default(),
                halving: None,
            },
            places: Default::default(),
            folder: self.folder.clone(),
            provenance: Provenance::default(),
            halving: None,
            flops_per_second: None,
            budget: None,
            watch: Watch::default(),
        }
    }

    pub async fn plan(&self, jobs: &[Job]) -> Plan {
        // Teachers too, as grid jobs, so that the outcomes show them.
        let plan = Plan::new(jobs, &Default::default());
        record(&self.store, "toy", &plan.jobs.iter().map(|planned| &*planned.job).collect::<Vec<_>>(), &[]).await;
        Plan::new(jobs, &self.store.done().await.unwrap())
    }

    pub async fn run(&self, plan: &Plan, slots: usize, engine: &impl Engine, stop: Stop) -> Summary {
        self.run_with(&self.settings(slots), plan, engine, stop).await
    }

    pub async fn run_with(&self, settings: &Settings, plan: &Plan, engine: &impl Engine, stop: Stop) -> Summary {
        let observer = |notice: &Notice| self.notices.borrow_mut().push(notice.clone());
        schedule(plan, settings, &self.store, engine, observer, stop).await.unwrap()
    }

    pub async fn outcome(&self, job: &Job) -> Outcome {
        let outcomes = self.store.outcomes("toy").await.unwrap();
        outcomes.into_iter().find(|outcome| outcome.id == job.id()).unwrap()
    }
}

pub fn go() -> Stop {
    stop().1
}

#[tokio::test(start_paused = true)]
async fn the_first_seeds_first_in_so_many_slots() {
    let bench = Bench::new().await;
    // Four cohorts of label jobs: their streams differ by the seed.
    let jobs: Vec<Job> =
        [2, 5, 3, 5].into_iter().enumerate().map(|(seed, epochs)| labels_job(seed as u64, epochs)).collect();
    let plan = bench.plan(&jobs).await;
    let engine = Fake::default();
    let summary = bench.run(&plan, 2, &engine, go()).await;
    assert_eq!(summary, Summary { done: 4, ..Summary::default() });
    assert_eq!(engine.most.get(), 2);
    let order: Vec<JobId> = engine.started.take().concat();
    assert_eq!(order, [0, 1, 2, 3].map(|seed: usize| jobs[seed].id()));
    let outcome = bench.outcome(&jobs[1]).await;
    assert_eq!((outcome.state, outcome.epochs.len()), (State::Done, 5));
    assert!(Plan::new(&jobs, &bench.store.done().await.unwrap()).cohorts.is_empty(), "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_teacher_comes_before_its_students_and_before_what_is_shorter_with_them() {
    let bench = Bench::new().await;
    let (teacher, other) = (labels_job(0, 2), Job { batch: 16, ..labels_job(0, 4) });
    let students = [student_job(&teacher, 0.01, 9), student_job(&teacher, 0.02, 3)];
    let plan = bench.plan(&[other.clone(), students[0].clone(), students[1].clone()]).await;
    let engine = Fake::default();
    bench.run(&plan, 1, &engine, go()).await;
    let started = engine.started.take();
    assert_eq!(started, [vec![teacher.id()], students.iter().map(Job::id).collect(), vec![other.id()]]);
}

#[tokio::test(start_paused = true)]
async fn one_failed_student_leaves_the_rest_and_what_needs_it_is_blocked() {
    let bench = Bench::new().await;
    let (teacher, second) = (labels_job(0, 2), labels_job(0, 3));
    let assistant = student_job(&teacher, 0.01, 2);
    let pupil = student_job(&assistant, 0.01, 2);
    let free = student_job(&second, 0.01, 2);
    let plan = bench.plan(&[pupil.clone(), free.clone()]).await;
    assert_eq!(plan.cohorts[0].jobs.len(), 2, "both teachers share a cohort");
    let mut engine = Fake { fates: BTreeMap::from([(teacher.id(), Fate::Fails)]), ..Fake::default() };
    let summary = bench.run(&plan, 3, &engine, go()).await;
    assert_eq!(summary, Summary { done: 2, failed: 1, blocked: 2, ..Summary::default() });
    for job in [&assistant, &pupil] {
        let outcome = bench.outcome(job).await;
        assert_eq!(outcome.state, State::Blocked);
        let message = outcome.message.unwrap();
        assert_eq!(message, format!("needs job `{}`, which failed: loss is NaN", teacher.id()));
    }
    assert_eq!(bench.outcome(&teacher).await.message.unwrap(), "loss is NaN");
    assert_eq!(bench.outcome(&free).await.state, State::Done);

    // The next run tries what failed again, and only that.
    engine.fates.clear();
    engine.started.take();
    let plan = bench.plan(&[pupil.clone(), free.clone()]).await;
    let summary = bench.run(&plan, 3, &engine, go()).await;
    assert_eq!(summary, Summary { done: 3, ..Summary::default() });
    assert_eq!(engine.started.take(), [[teacher.id()], [assistant.id()], [pupil.id()]]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_worker_is_started_again_with_what_it_left() {
    let bench = Bench::new().await;
    let (short, long) = (labels_job(0, 1), labels_job(0, 4));
    let plan = bench.plan(&[short.clone(), long.clone()]).await;
    let engine = Fake { fates: BTreeMap::from([(long.id(), Fate::Kills(2))]), ..Fake::default() };
    let summary = bench.run(&plan, 1, &engine, go()).await;
    assert_eq!(summary, Summary { done: 2, ..Summary::default() });
    assert_eq!(engine.started.take(), [vec![short.id(), long.id()], vec![long.id()], vec![long.id()]]);
    assert_eq!(bench.outcome(&long).await.epochs.len(), 4);
    let reader = Store::open_read_only(bench.store.location()).await.unwrap();
    let attempts = reader.query("SELECT outcome, failure FROM attempts ORDER BY started_ms, attempt").await.unwrap();
    assert_eq!(attempts.rows.len(), 4);
    assert_eq!(attempts.rows.iter().filter(|row| row[1] == "lost").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cohort_that_is_lost_three_times_is_given_up() {
    let bench = Bench::new().await;
    let job = labels_job(0, 4);
    let student = student_job(&job, 0.1, 1);
    let plan = bench.plan(std::slice::from_ref(&student)).await;
    let engine = Fake { fates: BTreeMap::from([(job.id(), Fate::Kills(9))]), ..Fake::default() };
    let summary = bench.run(&plan, 1, &engine, go()).await;
    assert_eq!(summary, Summary { failed: 1, blocked: 1, ..Summary::default() });
    assert_eq!(engine.started.take().len(), 3, "once and two retries");
    let message = bench.outcome(&job).await.message.unwrap();
    assert_eq!(
        message,
        "the worker was killed (signal 9), perhaps by the kernel for want of memory; its last words:\nthe end\n\
         given up: it was tried 3 times"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_start_is_not_tried_again() {
    let bench = Bench::new().await;
    let job = labels_job(0, 4);
    let plan = bench.plan(std::slice::from_ref(&job)).await;
    let engine = Fake { fates: BTreeMap::from([(job.id(), Fate::Refused)]), ..Fake::default() };
    assert_eq!(bench.run(&plan, 1, &engine, go()).await.failed, 1);
    assert_eq!(engine.started.take().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_stop_saves_and_the_second_ends() {
    for presses in [1, 2] {
        let bench = Bench::new().await;
        let jobs = [labels_job(0, 50), labels_job(1, 40)];
        let plan = bench.plan(&jobs).await;
        let (stopper, stop) = stop();
        let engine = Fake::default();
        let press = async {
            // Paused time runs ahead while the store's thread is at work: wait for what happens, not for an hour.
            let is_epoch = |notice: &Notice| matches!(notice, Notice::Message { message, .. } if matches!(message.event, Event::Epoch(_)));
            while !bench.notices.borrow().iter().any(is_epoch) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            for _ in 0..presses {
                stopper.press();
            }
        };
        let (summary, ()) = tokio::join!(bench.run(&plan, 1, &engine, stop.clone()), press);
        assert_eq!(summary, Summary { interrupted: 1, open: 1, ..Summary::default() });
        assert_eq!(bench.outcome(&jobs[0]).await.state, State::Interrupted);
        assert_eq!(bench.outcome(&jobs[1]).await.state, State::Open);
        assert!(bench.notices.borrow().iter().any(|notice| matches!(notice, Notice::Stopping { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_of_two_cohorts_runs_once() {
    let bench = Bench::new().await;
    let (shared, own) = (labels_job(0, 3), labels_job(0, 2));
    let mut plan = bench.plan(&[shared.clone(), own.clone()]).await;
    let mut second = plan.cohorts[0].clone();
    second.jobs.retain(|(job, _)| *job == shared.id());
    plan.cohorts.push(second);
    let engine = Fake::default();
    let summary = bench.run(&plan, 2, &engine, go()).await;
    assert_eq!(summary.done, 2);
    assert_eq!(engine.started.take().concat().iter().filter(|job| **job == shared.id()).count(), 1);
}

#[tokio::test]
async fn a_killed_scheduler_loses_nothing() {
    let bench = Bench::new().await;
    let (finished, torn, gone) = (labels_job(0, 2), labels_job(1, 3), labels_job(2, 1));
    let plan = bench.plan(&[finished.clone(), torn.clone(), gone.clone()]).await;
    for (job, cohort) in [&finished, &torn, &gone].into_iter().zip(&plan.cohorts) {
        bench.store.begin_attempt(&job.id(), &cohort.id, &Provenance::default()).await.unwrap();
    }
    let spool = |job: &Job, messages: &[Message], tail: &str| {
        fs::create_dir_all(bench.folder.job(&job.id())).unwrap();
        let lines: String = messages.iter().map(|message| serde_json::to_string(message).unwrap() + "\n").collect();
        fs::write(bench.folder.spool(&job.id()), lines + tail).unwrap();
    };
    let all = [says(&finished, 1, 1, Event::Epoch(epoch(1))), says(&finished, 1, 2, Event::Epoch(epoch(2)))];
    bench.store.take(&all[0]).await.unwrap();
    spool(&finished, &[&all[..], &[says(&finished, 1, 3, Event::Finished)]].concat(), "");
    fs::write(bench.folder.student(&finished.id()), "weights").unwrap();
    spool(&torn, &[says(&torn, 1, 1, Event::Epoch(epoch(1)))], r#"{"job":"0123"#);
    // Says that it is done, but its result is not there.
    spool(&gone, &[says(&gone, 1, 1, Event::Epoch(epoch(1))), says(&gone, 1, 2, Event::Finished)], "");

    let ingested = ingest_spools(&bench.folder, &bench.store).await.unwrap();
    assert_eq!(ingested, Ingested { messages: 4, finished: 1, torn: 1, orphans: 2 });
    let states = [(&finished, State::Done, 2), (&torn, State::Interrupted, 1), (&gone, State::Interrupted, 1)];
    for (job, state, epochs) in states {
        let outcome = bench.outcome(job).await;
        assert_eq!((outcome.state, outcome.epochs.len()), (state, epochs));
    }
    assert_eq!(ingest_spools(&bench.folder, &bench.store).await.unwrap(), Ingested { torn: 1, ..Ingested::default() });

    // Even a deleted store comes back from the spools, with the attempts they name.
    let fresh = Store::open(&bench.folder.root().join("fresh.sqlite")).await.unwrap();
    record(&fresh, "toy", &[&finished, &torn, &gone], &[]).await;
    ingest_spools(&bench.folder, &fresh).await.unwrap();
    assert!(fresh.done().await.unwrap().contains(&finished.id()));
    let next = fresh.begin_attempt(&torn.id(), &plan.cohorts[1].id, &Provenance::default()).await.unwrap();
    assert_eq!(next, 2);
}

#[tokio::test]
async fn one_scheduler_at_a_time_begins() {
    tokio::time::pause();
    let folder = tempfile::tempdir().unwrap();
    let folder = Folder::new(folder.path());
    let lock = Lock::take(&folder).await.unwrap();
    let error = Lock::take(&folder).await.unwrap_err().to_string();
    let process = format!("does not come to an end: process {}", std::process::id());
    assert!(error.starts_with("another run begins in `") && error.contains(&process), "{error}");
    let (second, ()) = tokio::join!(Lock::take(&folder), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(lock);
    });
    second.unwrap();
}

/// A worker in place of ours: `$3` is the manifest, `$5` the folder.
fn script(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join("worker.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn a_worker_process_speaks_dies_and_is_quoted() {
    let bench = Bench::new().await;
    let job = labels_job(0, 1);
    let plan = bench.plan(std::slice::from_ref(&job)).await;
    let lines = bench.folder.root().join("lines");
    let messages = [says(&job, 2, 1, Event::Epoch(epoch(1))), says(&job, 2, 2, Event::Finished)];
    fs::write(&lines, messages.map(|message| serde_json::to_string(&message).unwrap() + "\n").concat()).unwrap();
    // The first attempt dies with a word on standard error, the second one says what is to be said.
    let text = format!(
        "test \"$1 $2 $4\" = 'worker --manifest --folder' || exit 9
         test -n \"$RAYON_NUM_THREADS\" && grep -q '\"attempt\":1' \"$3\" && {{ echo 'out of paper' >&2; kill -9 $$; }}
         echo stray; cat {}",
        lines.display()
    );
    let engine = LocalEngine::with_program(bench.folder.clone(), script(bench.folder.root(), &text));
    let summary = bench.run(&plan, 1, &engine, go()).await;
    assert_eq!(summary, Summary { done: 1, ..Summary::default() });
    let notices = bench.notices.take();
    let why = notices.iter().find_map(|notice| match notice {
        Notice::Lost { why, again: true, .. } => Some(why.as_str()),
        _ => None,
    });
    assert!(
        why.unwrap().ends_with("(signal 9), perhaps by the kernel for want of memory; its last words:\nout of paper")
    );
    let log = fs::read_to_string(bench.folder.cohorts().join(format!("{}.log", plan.cohorts[0].id))).unwrap();
    assert_eq!(log, "out of paper\nstdout: stray\n");
}

#[tokio::test]
async fn a_worker_process_is_asked_to_stop_and_then_ended() {
    for (presses, trap) in [(1, "trap 'exit 75' TERM"), (2, "trap '' TERM")] {
        let bench = Bench::new().await;
        let job = labels_job(0, 1);
        let plan = bench.plan(std::slice::from_ref(&job)).await;
        let ready = bench.folder.root().join("ready");
        let text = format!("{trap}\necho > {}\nwhile true; do sleep 0.05; done", ready.display());
        let engine = LocalEngine::with_program(bench.folder.clone(), script(bench.folder.root(), &text));
        let (stopper, stop) = stop();
        let press = async {
            while !ready.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            for _ in 0..presses {
                stopper.press();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let (summary, ()) = tokio::join!(bench.run(&plan, 1, &engine, stop), press);
        assert_eq!(summary, Summary { interrupted: 1, ..Summary::default() });
        assert_eq!(bench.outcome(&job).await.state, State::Interrupted);
    }
}
