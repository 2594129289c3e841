//! Several schedulers on one store, failures that pass, and what a run does about silence and want of memory; with an
//! engine that trains nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use distillery::alive::Presence;
use distillery::event::Failure;
use distillery::job::{Job, JobId};
use distillery::plan::{Device, Halving, Halvings, Plan, Retry, Span};
use distillery::schedule::*;
use distillery::store::{Claim, Provenance, State, Store, Wish};

use crate::schedule::{Bench, Fake, Fate, go};
use crate::store::{labels_job, student_job};

fn owner(name: &str) -> Provenance {
    Provenance { owner: name.into(), ..Provenance::default() }
}

/// Real time, but short.
fn hasty() -> Watch {
    Watch { lease: Duration::from_millis(400), look: Duration::from_millis(20), reserve: Some(0), is_task: false }
}

async fn column(bench: &Bench, sql: &str) -> Vec<String> {
    let reader = Store::open_read_only(bench.store.location()).await.unwrap();
    let words = |row: &Vec<serde_json::Value>| row[0].as_str().map_or_else(|| row[0].to_string(), str::to_owned);
    reader.query(sql).await.unwrap().rows.iter().map(words).collect()
}

#[tokio::test]
async fn two_schedulers_train_each_job_once_and_both_see_the_end() {
    let bench = Bench::new().await;
    let teacher = labels_job(0, 3);
    let mut jobs: Vec<Job> = (1..7).map(|seed| labels_job(seed, 2 + seed as u32)).collect();
    jobs.push(student_job(&teacher, 0.01, 4));
    let plan = bench.plan(&jobs).await;
    let second = Store::open(bench.store.location()).await.unwrap();
    let engines = [(); 2].map(|()| Fake { epoch: Some(Duration::from_millis(15)), ..Fake::default() });
    let presences = ["a", "b"].map(|name| Presence::take(&bench.folder, name).unwrap());
    let settings = ["a", "b"].map(|name| Settings { provenance: owner(name), watch: hasty(), ..bench.settings(2) });
    // Results are files, and one run waits for those of the other.
    for job in plan.jobs.iter() {
        std::fs::create_dir_all(bench.folder.job(&job.id)).unwrap();
        std::fs::write(bench.folder.student(&job.id), "weights").unwrap();
    }
    let (one, two) = tokio::join!(
        schedule(&plan, &settings[0], &bench.store, &engines[0], |_| {}, go()),
        schedule(&plan, &settings[1], &second, &engines[1], |_| {}, go()),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.done + two.done, 8);
    assert!(one.done > 0 && two.done > 0, "{one:?} {two:?}");
    assert_eq!([one.open, two.open, one.failed, two.failed], [0; 4]);
    let mut started: Vec<JobId> = engines.iter().flat_map(|engine| engine.started.take()).flatten().collect();
    let all = started.len();
    started.sort();
    started.dedup();
    assert_eq!((started.len(), all), (8, 8), "none twice");
    assert_eq!(column(&bench, "SELECT count(*) FROM attempts").await, ["8"]);
    drop(presences);
}

#[tokio::test]
async fn what_a_dead_scheduler_has_is_free_at_once_and_what_a_silent_one_has_after_a_lease() {
    for alive in [false, true] {
        let bench = Bench::new().await;
        let job = labels_job(0, 2);
        let plan = bench.plan(std::slice::from_ref(&job)).await;
        let id = [job.id()];
        let (lease, cohort) = (Duration::from_millis(400), &plan.cohorts[0].id);
        let presence = Presence::take(&bench.folder, "first").unwrap();
        bench.store.register(&owner("first"), "toy", 1).await.unwrap();
        let claims = bench.store.claim(&id, cohort, &owner("first"), lease, &Default::default()).await.unwrap();
        assert_eq!(claims, [Claim::Begun(1)]);
        let held = alive.then_some(presence);
        let engine = Fake { epoch: Some(Duration::from_millis(5)), ..Fake::default() };
        let settings = Settings { provenance: owner("second"), watch: hasty(), ..bench.settings(1) };
        let begun = Instant::now();
        let summary = bench.run_with(&settings, &plan, &engine, go()).await;
        assert_eq!(summary, Summary { done: 1, ..Summary::default() });
        assert!(!alive || begun.elapsed() >= lease, "it was taken while its owner might live");
        assert_eq!(column(&bench, "SELECT owner FROM attempts ORDER BY attempt").await, ["first", "second"]);
        // The first one's word does not count any more.
        let ending = distillery::store::Ending::Stopped { message: "late".into() };
        let taken = bench.store.end_attempt(&job.id(), 1, &ending).await.unwrap();
        assert_eq!(taken, distillery::store::Taken::Refused { newest: 2 });
        drop(held);
    }
}

#[tokio::test]
async fn a_lease_that_is_renewed_is_not_taken() {
    let bench = Bench::new().await;
    let job = labels_job(0, 1);
    let plan = bench.plan(std::slice::from_ref(&job)).await;
    let _presence = Presence::take(&bench.folder, "first").unwrap();
    let (lease, cohort) = (Duration::from_millis(400), &plan.cohorts[0].id);
    bench.store.claim(&[job.id()], cohort, &owner("first"), lease, &Default::default()).await.unwrap();
    let engine = Fake::default();
    let settings = Settings { provenance: owner("second"), watch: hasty(), ..bench.settings(1) };
    let (stopper, stop) = stop();
    let renew = async {
        for _ in 0..12 {
            bench.store.renew("first", lease).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stopper.press();
    };
    let (summary, ()) = tokio::join!(bench.run_with(&settings, &plan, &engine, stop), renew);
    assert_eq!(summary, Summary { open: 1, ..Summary::default() });
    assert!(engine.started.take().is_empty());
}

#[tokio::test]
async fn a_worker_that_gives_no_sign_of_life_is_killed_and_tried_again() {
    let bench = Bench::new().await;
    let jobs = [labels_job(0, 4), labels_job(1, 40)];
    let plan = bench.plan(&jobs).await;
    let engine = Fake {
        fates: BTreeMap::from([(jobs[0].id(), Fate::Freezes(1))]),
        epoch: Some(Duration::from_millis(20)),
        ..Fake::default()
    };
    let settings = Settings { watch: hasty(), ..bench.settings(2) };
    let summary = bench.run_with(&settings, &plan, &engine, go()).await;
    assert_eq!(summary, Summary { done: 2, ..Summary::default() });
    assert_eq!(bench.outcome(&jobs[0]).await.epochs.len(), 4);
    let messages = column(&bench, "SELECT message FROM attempts WHERE failure = 'lost'").await;
    assert_eq!(messages, ["the worker gave no sign of life for 400ms and was killed"]);
}

#[tokio::test(start_paused = true)]
async fn want_of_memory_halves_what_is_done_at_once_and_is_written_down() {
    let bench = Bench::new().await;
    let teacher = labels_job(0, 1);
    let jobs: Vec<Job> = (0..7).map(|at| student_job(&teacher, 0.01 * f64::from(at + 1), 2)).collect();
    let plan = bench.plan(&jobs).await;
    let engine = Fake { room: Some(2), ..Fake::default() };
    let summary = bench.run(&plan, 1, &engine, go()).await;
    assert_eq!(summary, Summary { done: 8, ..Summary::default() });
    // 7, then at most 4, then at most 2.
    assert_eq!(engine.started.take().iter().map(Vec::len).collect::<Vec<_>>(), [1, 7, 7, 7]);
    let splits = column(&bench, "SELECT DISTINCT text FROM events WHERE kind = 'split' ORDER BY at_ms, text").await;
    let wanted = ["too little memory for 7 students at once; again with 4", "again with 2"];
    assert_eq!(splits.len(), 2, "{splits:?}");
    assert!(wanted.iter().all(|words| splits.iter().any(|split| split.contains(words))), "{splits:?}");
    assert_eq!(column(&bench, "SELECT count(*) FROM events WHERE kind = 'split'").await, ["14"]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_alone_is_given_up() {
    let bench = Bench::new().await;
    let job = labels_job(0, 1);
    let plan = bench.plan(std::slice::from_ref(&job)).await;
    let engine = Fake { room: Some(0), ..Fake::default() };
    assert_eq!(bench.run(&plan, 1, &engine, go()).await.failed, 1);
    assert_eq!(bench.outcome(&job).await.state, State::Failed);
    assert_eq!(engine.started.take().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn files_are_tried_again_some_time_later_and_not_for_ever() {
    for (times, state) in [(4, State::Done), (5, State::Failed)] {
        let bench = Bench::new().await;
        let jobs = [labels_job(0, 3), labels_job(0, 2)];
        let plan = bench.plan(&jobs).await;
        let engine =
            Fake { fates: BTreeMap::from([(jobs[0].id(), Fate::FailsAtFirst(Failure::Io, times))]), ..Fake::default() };
        let mut settings = Settings { watch: Watch { reserve: Some(0), ..Watch::default() }, ..bench.settings(1) };
        settings.run.retries.no_progress = 99;
        bench.run_with(&settings, &plan, &engine, go()).await;
        assert_eq!(bench.outcome(&jobs[0]).await.state, state);
        assert_eq!(bench.outcome(&jobs[1]).await.state, State::Done, "its cohort goes on");
        let delays: Vec<Duration> = bench
            .notices
            .take()
            .into_iter()
            .filter_map(|notice| if let Notice::Again { after, .. } = notice { Some(after) } else { None })
            .collect();
        assert_eq!(delays.len(), 4);
        for (delay, most) in delays.iter().zip([2.0, 4.0, 8.0, 16.0]) {
            assert!((most / 2.0..=most).contains(&delay.as_secs_f64()), "{delays:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_without_a_step_forward_end() {
    let bench = Bench::new().await;
    let job = labels_job(0, 3);
    let plan = bench.plan(std::slice::from_ref(&job)).await;
    let engine = Fake { fates: BTreeMap::from([(job.id(), Fate::FailsAtFirst(Failure::Io, 99))]), ..Fake::default() };
    let mut settings = Settings { watch: Watch { reserve: Some(0), ..Watch::default() }, ..bench.settings(1) };
    settings.run.retries.io = Retry { count: 1000, delay: Span(Duration::ZERO), ..settings.run.retries.io };
    settings.run.retries.no_progress = 3;
    assert_eq!(bench.run_with(&settings, &plan, &engine, go()).await.failed, 1);
    assert_eq!(engine.started.take().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_what_runs_come_to_its_end() {
    let bench = Bench::new().await;
    let jobs = [labels_job(0, 3), labels_job(1, 3)];
    let plan = bench.plan(&jobs).await;
    let (stopper, stop) = stop();
    let engine = Fake::default();
    let drain = async {
        while engine.started.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stopper.raise(Level::Drain);
    };
    let (summary, ()) = tokio::join!(bench.run(&plan, 1, &engine, stop), drain);
    assert_eq!(summary, Summary { done: 1, open: 1, ..Summary::default() });
}

/// Time of devices, and not of the cohorts that share one.
#[tokio::test]
async fn what_may_be_spent_is_spent_and_then_everything_is_saved() {
    let gpu = |ordinal| (Device::Cuda { ordinal, deterministic: false }, None);
    for (devices, slots, least) in [(vec![(Device::Cpu, None)], 2, 400), (vec![gpu(0), gpu(1)], 1, 200)] {
        let bench = Bench::new().await;
        let jobs = [labels_job(0, 100), labels_job(1, 100), labels_job(2, 100)];
        let plan = bench.plan(&jobs).await;
        let engine = Fake { epoch: Some(Duration::from_millis(20)), ..Fake::default() };
        let settings = Settings { devices, budget: Some(0.4 / 3600.0), watch: hasty(), ..bench.settings(slots) };
        let begun = Instant::now();
        let summary = bench.run_with(&settings, &plan, &engine, go()).await;
        assert_eq!(summary, Summary { interrupted: 2, open: 1, ..Summary::default() });
        assert_eq!(engine.most.get(), 2);
        // At 20 ms an epoch; a busy machine makes fewer of them.
        assert!(begun.elapsed() >= Duration::from_millis(least), "{:?}", begun.elapsed());
        let epochs: usize = column(&bench, "SELECT count(*) FROM epochs").await[0].parse().unwrap();
        assert!(least > 200 || epochs <= 2 * 15, "both devices' time counts: {epochs} epochs");
        let told = bench.notices.take();
        assert!(told.iter().any(|notice| matches!(notice, Notice::Note(text) if text.contains("budget"))));
    }
}

/// What a scheduler wanted to try again an hour later is free when that one is gone.
#[tokio::test]
async fn what_rests_of_a_dead_scheduler_is_free_at_once() {
    for begins in [true, false] {
        let bench = Bench::new().await;
        let jobs = [labels_job(0, 2), labels_job(1, 40)];
        let plan = bench.plan(&jobs).await;
        let presence = Presence::take(&bench.folder, "first").unwrap();
        let first = Provenance { host: distillery::alive::here(), ..owner("first") };
        bench.store.register(&first, "toy", 1).await.unwrap();
        bench.store.rest(&[jobs[0].id()], "first", Duration::from_secs(3600)).await.unwrap();
        let engine = Fake { epoch: Some(Duration::from_millis(10)), ..Fake::default() };
        let settings = Settings { provenance: owner("second"), watch: hasty(), ..bench.settings(2) };
        let ends = async {
            // Before the second begins, or while it works on something else.
            tokio::time::sleep(Duration::from_millis(if begins { 0 } else { 150 })).await;
            drop(presence);
        };
        if begins {
            ends.await;
            ingest_spools(&bench.folder, &bench.store).await.unwrap();
            assert_eq!(column(&bench, "SELECT count(*) FROM jobs WHERE retry_at_ms IS NOT NULL").await, ["0"]);
            bench.run_with(&settings, &plan, &engine, go()).await;
        } else {
            tokio::join!(bench.run_with(&settings, &plan, &engine, go()), ends);
        }
        let states = [bench.outcome(&jobs[0]).await.state, bench.outcome(&jobs[1]).await.state];
        assert_eq!(states, [State::Done, State::Done]);
    }
}

/// A worker that somebody else stopped is started again as one that is lost; not for ever, and not while it drains.
#[tokio::test(start_paused = true)]
async fn a_worker_that_was_stopped_alone_is_started_again() {
    for (times, drain, done) in [(1, false, 2), (99, false, 0), (1, true, 0)] {
        let bench = Bench::new().await;
        let jobs = [labels_job(0, 4), labels_job(0, 5)];
        let plan = bench.plan(&jobs).await;
        let engine = Fake { fates: BTreeMap::from([(jobs[0].id(), Fate::Stops(times))]), ..Fake::default() };
        let (stopper, stop) = stop();
        let after = async {
            while engine.started.borrow().is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            if drain {
                stopper.raise(Level::Drain);
            }
        };
        let mut settings = bench.settings(1);
        settings.run.retries.no_progress = 1000;
        let (summary, ()) = tokio::join!(bench.run_with(&settings, &plan, &engine, stop), after);
        assert_eq!(summary, Summary { done, interrupted: 2 - done, ..Summary::default() });
        let most = usize::try_from(settings.run.retries.lost.count).unwrap() + 1;
        let expected = if drain { 1 } else { most.min(times as usize + 1) };
        assert_eq!(engine.started.take().len(), expected);
    }
}

#[tokio::test]
async fn a_full_disk_starts_nothing_until_somebody_stops() {
    let bench = Bench::new().await;
    let job = labels_job(0, 1);
    let plan: Plan = bench.plan(std::slice::from_ref(&job)).await;
    let engine = Fake::default();
    let watch = Watch { reserve: Some(u64::MAX / 8), ..hasty() };
    let settings = Settings { watch, ..bench.settings(1) };
    let (stopper, stop) = stop();
    let press = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stopper.press();
    };
    let (summary, ()) = tokio::join!(bench.run_with(&settings, &plan, &engine, stop), press);
    assert_eq!(summary, Summary { open: 1, ..Summary::default() });
    assert!(engine.started.take().is_empty());
    let told = bench.notices.take();
    assert!(told.iter().any(|notice| matches!(notice, Notice::Note(text) if text.starts_with("paused: "))), "{told:?}");
}

#[tokio::test]
async fn halving_ends_what_does_badly_and_writes_down_why() {
    let bench = Bench::new().await;
    let teacher = labels_job(0, 1);
    let jobs: Vec<Job> = (1..5).map(|at| student_job(&teacher, 0.01 * f64::from(at), 6)).collect();
    let ids: Vec<JobId> = jobs.iter().map(Job::id).collect();
    let plan = bench.plan(&jobs).await;
    let top1 = ids.iter().cloned().zip([0.4, 0.7, 0.6, 0.5]).collect();
    // In real time: a student that is asked to leave must not be through before it hears of it.
    let engine = Fake { top1, epoch: Some(Duration::from_millis(60)), ..Fake::default() };
    let rule = Halving { axes: vec!["learning-rate".into()], at: vec![2, 4], keep: 0.5 };
    let halving = Some(Halvings::new(rule, vec![ids.clone()]));
    let settings = Settings { halving: halving.clone(), ..bench.settings(1) };
    let summary = bench.run_with(&settings, &plan, &engine, go()).await;
    assert_eq!(summary, Summary { done: 2, unwanted: 3, ..Summary::default() });
    let (mut states, mut lengths) = (Vec::new(), Vec::new());
    for job in &jobs {
        let outcome = bench.outcome(job).await;
        lengths.push(outcome.epochs.len());
        states.push((outcome.state, outcome.message.unwrap_or_default()));
    }
    assert_eq!(states[1], (State::Done, String::new()));
    let why = |rank, of, epochs| {
        format!("ended early by successive halving: {rank} of {of} on validation images after {epochs} epochs")
    };
    assert_eq!([0, 2, 3].map(|at| states[at].1.clone()), [why(4, 4, 2), why(2, 2, 4), why(3, 4, 2)]);
    assert!(lengths[0] < 6 && lengths[2] >= 4 && lengths[1] == 6, "{lengths:?}");
    // They stay ended in the next run, whether it halves or not.
    for halving in [halving, None] {
        engine.started.take();
        let plan = bench.plan(&jobs).await;
        let settings = Settings { halving, ..bench.settings(1) };
        let summary = bench.run_with(&settings, &plan, &engine, go()).await;
        assert_eq!(summary, Summary { unwanted: 3, ..Summary::default() });
        assert!(engine.started.take().is_empty());
    }
}

#[tokio::test]
async fn what_people_wish_is_heeded_while_it_runs() {
    let bench = Bench::new().await;
    let jobs = [labels_job(0, 30), labels_job(0, 31), labels_job(1, 3)];
    let plan = bench.plan(&jobs).await;
    let asking = Store::open_to_ask(bench.store.location()).await.unwrap();
    asking.wish(&[jobs[2].id()], Some(Wish::Hold)).await.unwrap();
    let engine = Fake { epoch: Some(Duration::from_millis(30)), ..Fake::default() };
    let settings = Settings { watch: hasty(), ..bench.settings(2) };
    let ask = async {
        while engine.started.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        asking.wish(&[jobs[1].id()], Some(Wish::Cancel)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        asking.wish(&[jobs[2].id()], None).await.unwrap();
    };
    let (summary, ()) = tokio::join!(bench.run_with(&settings, &plan, &engine, go()), ask);
    assert_eq!(summary, Summary { done: 2, unwanted: 1, ..Summary::default() });
    assert_eq!(bench.outcome(&jobs[1]).await.state, State::Interrupted);
    assert!(bench.outcome(&jobs[1]).await.epochs.len() < 20, "it was left");
    assert_eq!(bench.outcome(&jobs[0]).await.epochs.len(), 30, "its company went on");
    let started = engine.started.take();
    assert_eq!(started, [vec![jobs[0].id(), jobs[1].id()], vec![jobs[2].id()]]);
}

#[tokio::test(start_paused = true)]
async fn what_a_person_wants_first_starts_first_with_what_it_needs() {
    let bench = Bench::new().await;
    let teacher = labels_job(3, 1);
    let urgent = student_job(&teacher, 0.1, 1);
    let jobs = [labels_job(0, 2), labels_job(1, 2), urgent.clone()];
    let plan = bench.plan(&jobs).await;
    let asking = Store::open_to_ask(bench.store.location()).await.unwrap();
    asking.prioritize(&[urgent.id()], 5).await.unwrap();
    let engine = Fake::default();
    bench.run(&plan, 1, &engine, go()).await;
    let order: Vec<JobId> = engine.started.take().concat();
    assert_eq!(order, [teacher.id(), urgent.id(), jobs[0].id(), jobs[1].id()]);
}

/// A cohort has one worker at a time, whoever wants what of its jobs meanwhile.
#[tokio::test]
async fn what_is_wanted_again_waits_for_its_cohort() {
    let bench = Bench::new().await;
    let jobs = [labels_job(0, 20), labels_job(0, 60)];
    let plan = bench.plan(&jobs).await;
    let asking = Store::open_to_ask(bench.store.location()).await.unwrap();
    let engine = Fake { epoch: Some(Duration::from_millis(20)), ..Fake::default() };
    let settings = Settings { watch: hasty(), ..bench.settings(2) };
    let ask = async {
        while engine.started.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        asking.wish(&[jobs[0].id()], Some(Wish::Cancel)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
        asking.wish(&[jobs[0].id()], None).await.unwrap();
    };
    let (summary, ()) = tokio::join!(bench.run_with(&settings, &plan, &engine, go()), ask);
    assert_eq!(summary, Summary { done: 2, ..Summary::default() });
    assert_eq!(engine.most.get(), 1);
    assert_eq!(engine.started.take(), [vec![jobs[0].id(), jobs[1].id()], vec![jobs[0].id()]]);
    assert_eq!(bench.outcome(&jobs[1]).await.epochs.len(), 60);
}

/// A second try that is due while others of the cohort rest takes only what is due, and nothing twice.
#[tokio::test(start_paused = true)]
async fn what_rests_is_tried_at_its_own_time() {
    let bench = Bench::new().await;
    let teachers = [labels_job(0, 30), labels_job(0, 31)];
    let jobs = [student_job(&teachers[0], 0.1, 2), student_job(&teachers[1], 0.1, 2)];
    let plan = bench.plan(&jobs).await;
    let fails = |job: &Job, times| (job.id(), Fate::FailsAtFirst(Failure::Io, times));
    let engine = Fake { fates: [fails(&teachers[0], 2), fails(&teachers[1], 3)].into(), ..Fake::default() };
    let mut settings = Settings { watch: Watch { reserve: Some(0), ..Watch::default() }, ..bench.settings(2) };
    settings.run.retries.no_progress = 99;
    let summary = bench.run_with(&settings, &plan, &engine, go()).await;
    assert_eq!(summary, Summary { done: 4, ..Summary::default() });
    let started = engine.started.take().concat();
    let times = |job: &Job| started.iter().filter(|started| **started == job.id()).count();
    assert_eq!([&teachers[0], &teachers[1], &jobs[0], &jobs[1]].map(times), [3, 4, 1, 1]);
}

#[tokio::test]
async fn another_run_waits_for_what_rests_and_blocks_nothing() {
    let bench = Bench::new().await;
    let teacher = labels_job(0, 40);
    let plan = bench.plan(&[student_job(&teacher, 0.1, 2)]).await;
    let second = Store::open(bench.store.location()).await.unwrap();
    let fates = BTreeMap::from([(teacher.id(), Fate::FailsAtFirst(Failure::Io, 1))]);
    let engines =
        [(); 2].map(|()| Fake { fates: fates.clone(), epoch: Some(Duration::from_millis(5)), ..Fake::default() });
    let _presences = ["a", "b"].map(|name| Presence::take(&bench.folder, name).unwrap());
    let settings = ["a", "b"].map(|name| {
        let mut settings = Settings { provenance: owner(name), watch: hasty(), ..bench.settings(1) };
        settings.run.retries.io =
            Retry { delay: Span(Duration::from_millis(700)), jitter: false, ..settings.run.retries.io };
        settings
    });
    for job in plan.jobs.iter() {
        std::fs::create_dir_all(bench.folder.job(&job.id)).unwrap();
        std::fs::write(bench.folder.student(&job.id), "weights").unwrap();
    }
    let (one, two) = tokio::join!(
        schedule(&plan, &settings[0], &bench.store, &engines[0], |_| {}, go()),
        schedule(&plan, &settings[1], &second, &engines[1], |_| {}, go()),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.done + two.done, 2, "{one:?} {two:?}");
    assert_eq!([one.failed, one.blocked, two.failed, two.blocked], [0; 4]);
}
