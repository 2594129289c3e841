//! Two schedulers on one folder, and everything that may happen to them and their workers, at random: what is left must be
//! what an undisturbed run leaves, row for row and bit for bit.
//!
//! `DISTILLERY_CHAOS=50` disturbs fifty times; the seed that is printed makes `DISTILLERY_CHAOS_SEED` repeat the choices,
//! though not the moments.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::kill::{Moments, Sweep, kill, processes, signal};

/// For a sign of life, in this test.
const LEASE_MS: u64 = 2500;

fn start(sweep: &Sweep) -> Child {
    let mut command = sweep.command("run");
    command.args(["killed.toml", "--no-report", "run.teacher-at-chance=allow", "run.checkpoints.every=0s"]);
    // What is lost more often than a person would accept goes on.
    command.args(["run.retries.lost.count=1000", "run.retries.no-progress=1000", "--threads", "2", "--slots", "2"]);
    command.envs([
        ("DISTILLERY_LEASE_MS", LEASE_MS.to_string()),
        ("DISTILLERY_LOOK_MS", "100".to_owned()),
        ("DISTILLERY_BEAT_SECONDS", "0.3".to_owned()),
        ("DISTILLERY_TAKEOVER_SECONDS", "2".to_owned()),
    ]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Somebody else writes to the store for a while.
fn lock_the_store(sweep: &Sweep, length: Duration) {
    let path = sweep.place.path().join("runs/store.sqlite");
    if !path.exists() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(5));
        let Ok(mut connection) = SqliteConnection::connect_with(&options).await else { return };
        if let Ok(transaction) = connection.begin_with("BEGIN IMMEDIATE").await {
            tokio::time::sleep(length).await;
            transaction.rollback().await.unwrap();
        }
    });
}

/// Cuts a checkpoint short, of a job that has two; its worker, if it has one, does not look at it again.
fn tear(sweep: &Sweep, choice: u64) -> bool {
    let Ok(jobs) = fs::read_dir(sweep.place.path().join("runs/jobs")) else { return false };
    let whole: Vec<PathBuf> = jobs
        .flatten()
        .map(|job| ["a", "b"].map(|name| job.path().join(format!("checkpoint-{name}.safetensors"))))
        .filter(|pair| pair.iter().all(|path| path.exists()))
        .flat_map(|[a, b]| {
            let newest = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
            if newest(&a) > newest(&b) { [a] } else { [b] }
        })
        .collect();
    if whole.is_empty() {
        return false;
    }
    let path = &whole[choice as usize % whole.len()];
    // A file that is replaced meanwhile is whole again.
    let Ok(file) = fs::OpenOptions::new().write(true).open(path) else { return false };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    file.set_len(length / 2).is_ok()
}

#[test]
fn whatever_happens_the_rows_are_the_same() {
    let times: u32 = std::env::var("DISTILLERY_CHAOS").map_or(8, |times| times.parse().unwrap());
    let mut moments = match std::env::var("DISTILLERY_CHAOS_SEED") {
        Ok(seed) => Moments(seed.parse().unwrap()),
        Err(_) => Moments::new(),
    };
    eprintln!("DISTILLERY_CHAOS_SEED={}", moments.0);
    let undisturbed = Sweep::new();
    undisturbed.finish();
    let mut done = [0; 5];
    while done.iter().sum::<u32>() < times {
        let disturbed = Sweep::new();
        let before: u32 = done.iter().sum();
        disturb(&disturbed, &mut moments, times, &mut done);
        eprintln!("workers killed, schedulers killed, workers frozen, checkpoints torn, store locked: {done:?}");
        compare(&disturbed, &undisturbed);
        assert!(done.iter().sum::<u32>() > before, "nothing was disturbed");
    }
}

/// Until the sweep is done, or was disturbed so often. Ends with a run that is not.
fn disturb(sweep: &Sweep, moments: &mut Moments, times: u32, done: &mut [u32; 5]) {
    let place = sweep.place.path();
    let of = |verb: &str| {
        let verb = format!(" {verb} ");
        processes(place).into_iter().filter(|(_, line)| line.contains(&verb)).map(|(pid, _)| pid).collect::<Vec<_>>()
    };
    let mut schedulers: Vec<Child> = Vec::new();
    let begun = Instant::now();
    while done.iter().sum::<u32>() < times && !sweep.is_done() {
        assert!(begun.elapsed() < Duration::from_secs(60 + 20 * u64::from(times)), "it does not get on: {done:?}");
        schedulers.retain_mut(|child| child.try_wait().unwrap().is_none());
        while schedulers.len() < 2 {
            schedulers.push(start(sweep));
        }
        std::thread::sleep(Duration::from_millis(100) + moments.next(700));
        let (choice, which) = (moments.next(100).as_millis() as u64, moments.next(1000).as_millis() as u64);
        let pick = |pids: Vec<u32>| (!pids.is_empty()).then(|| pids[which as usize % pids.len()]);
        match choice {
            0..45 => {
                if let Some(pid) = pick(of("worker")) {
                    kill(pid);
                    done[0] += 1;
                }
            }
            45..65 => {
                if let Some(pid) = pick(of("run")) {
                    kill(pid);
                    done[1] += 1;
                }
            }
            65..75 => {
                if let Some(pid) = pick(of("worker")) {
                    signal(pid, "STOP");
                    done[2] += 1;
                }
            }
            75..90 => done[3] += u32::from(tear(sweep, which)),
            _ => {
                lock_the_store(sweep, Duration::from_millis(500 + which));
                done[4] += 1;
            }
        }
    }
    // Both come to the end, and see it.
    for mut scheduler in schedulers {
        scheduler.wait().unwrap();
    }
    assert!(start(sweep).wait().unwrap().success(), "the last run ends well");
}

fn compare(disturbed: &Sweep, undisturbed: &Sweep) {
    disturbed.compare(undisturbed);
    let twice = disturbed.query("SELECT job, epoch FROM epochs GROUP BY job, epoch HAVING count(*) > 1");
    assert!(twice.is_empty(), "{twice:?}");
    let open = disturbed.query("SELECT job FROM attempts WHERE ended_ms IS NULL");
    assert!(open.is_empty(), "attempts without an end: {open:?}");
    let deadline = Instant::now() + Duration::from_secs(10);
    let place = disturbed.place.path();
    while !processes(place).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(processes(place), [], "nobody is left behind");
}

/// Both are told to work at once; each job is trained once, and both say that all is done.
#[test]
fn two_runs_share_a_folder() {
    let (undisturbed, shared) = (Sweep::new(), Sweep::new());
    undisturbed.finish();
    let runs = [start(&shared), start(&shared)];
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    shared.compare(&undisturbed);
    let attempts = shared.query("SELECT count(*) AS n, count(DISTINCT job) AS jobs FROM attempts");
    assert_eq!(attempts[0]["n"], attempts[0]["jobs"], "none twice");
    let schedulers = shared.query("SELECT count(*) AS n FROM schedulers WHERE ended_ms IS NOT NULL");
    assert_eq!(schedulers[0]["n"], 2);
}
