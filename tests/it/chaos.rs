//! Two schedulers on one folder, and everything that may happen to them and their workers, at random: what is left must be
//! what an undisturbed run leaves, row for row and bit for bit.
//!
//! `DISTILLERY_CHAOS=50` disturbs fifty times; the seed that is printed makes `DISTILLERY_CHAOS_SEED` repeat the choices,
//! though not the moments. The first disturbances are one of each [`Kind`] in some order.
//!
//! The folder lies on a small file system of its own, which is filled; who may not mount one is root in a namespace of
//! his own. The clock of half the schedulers is libfaketime's, which jumps. Without one or the other that is left out, and
//! said aloud.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::kill::{Moments, Sweep, kill, processes, signal};

/// For a sign of life, in this test.
const LEASE_MS: u64 = 2500;
/// Of the file system that the folder lies on. A sweep of this kind takes less than one.
const DISK_MB: u32 = 16;
/// The test in a namespace of its own, started by itself.
const INSIDE: &str = "DISTILLERY_CHAOS_INSIDE";

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    WorkerKilled,
    SchedulerKilled,
    WorkerFrozen,
    /// Past its lease, and then it goes on.
    SchedulerStopped,
    CheckpointTorn,
    StoreLocked,
    /// Longer than a statement waits.
    StoreLockedLong,
    DiskFilled,
    ClockJumped,
}

impl Kind {
    const EACH: [Kind; 8] = [
        Kind::WorkerKilled,
        Kind::SchedulerKilled,
        Kind::WorkerFrozen,
        Kind::SchedulerStopped,
        Kind::CheckpointTorn,
        Kind::StoreLocked,
        Kind::DiskFilled,
        Kind::ClockJumped,
    ];

    fn any(hundredth: u64) -> Kind {
        match hundredth {
            0..36 => Kind::WorkerKilled,
            36..52 => Kind::SchedulerKilled,
            52..60 => Kind::WorkerFrozen,
            60..68 => Kind::SchedulerStopped,
            68..78 => Kind::CheckpointTorn,
            78..84 => Kind::StoreLocked,
            84..92 => Kind::DiskFilled,
            _ => Kind::ClockJumped,
        }
    }
}

/// Its program, impatient.
fn command(sweep: &Sweep, experiment: &str) -> Command {
    let mut command = sweep.command("run");
    command.args([experiment, "--no-report", "run.teacher-at-chance=allow", "run.checkpoints.every=0s"]);
    // What is lost more often than a person would accept goes on.
    command.args(["run.retries.lost.count=1000", "run.retries.no-progress=1000", "--threads", "2", "--slots", "2"]);
    command.envs([
        ("DISTILLERY_LEASE_MS", LEASE_MS.to_string()),
        ("DISTILLERY_LOOK_MS", "100".to_owned()),
        ("DISTILLERY_BEAT_SECONDS", "0.3".to_owned()),
        ("DISTILLERY_TAKEOVER_SECONDS", "2".to_owned()),
    ]);
    let log = OpenOptions::new().create(true).append(true).open(sweep.place.path().join("log")).unwrap();
    command.stdout(Stdio::null()).stderr(log);
    command
}

fn start(sweep: &Sweep, faked: Option<&Path>) -> Child {
    let place = sweep.place.path();
    let mut command = command(sweep, "killed.toml");
    if let Some(library) = faked {
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", place.join("clock"));
        command.envs([("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("FAKETIME_NO_CACHE", "1")]);
    }
    command.spawn().unwrap()
}

/// libfaketime, where it is installed.
fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|folder| folder.path());
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

/// Everybody's clock who is under it, from now on. Whole at every moment.
fn set_clock(place: &Path, ahead: &str) {
    fs::write(place.join("clock.new"), ahead).unwrap();
    fs::rename(place.join("clock.new"), place.join("clock")).unwrap();
}

/// A file system of its own, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path) -> Option<Mounted> {
        fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={DISK_MB}m"), "tmpfs"]).arg(at).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()).then(|| Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Whether this test may mount. One that may not starts itself where it may, and is then through: that is the error.
fn may_mount() -> Result<bool, ()> {
    let place = tempfile::tempdir().unwrap();
    if Mounted::new(place.path()).is_some() {
        return Ok(true);
    }
    let mut unshare = Command::new("unshare");
    let possible = unshare.args(["-Urm", "true"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !possible || std::env::var_os(INSIDE).is_some() {
        return Ok(false);
    }
    let mut inside = Command::new("unshare");
    inside.arg("-Urm").arg(std::env::current_exe().unwrap()).env(INSIDE, "1");
    inside.args(["--exact", "chaos::whatever_happens_the_rows_are_the_same", "--nocapture"]);
    assert!(inside.status().unwrap().success(), "see above");
    Err(())
}

/// A sweep that is disturbed, and whoever disturbs it.
struct Disturbed {
    /// First, so that it goes before the folder that it lies on.
    disk: Option<Mounted>,
    faketime: Option<PathBuf>,
    sweep: Sweep,
    schedulers: Vec<Child>,
    /// What goes on for a while.
    disturbances: Vec<JoinHandle<()>>,
}

impl Drop for Disturbed {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.place().join("log")).unwrap_or_default();
            eprintln!("what the schedulers said:\n{log}");
            for (pid, _) in processes(self.place()) {
                kill(pid);
            }
        }
    }
}

impl Disturbed {
    fn new(may_mount: bool, faketime: Option<PathBuf>) -> Disturbed {
        let sweep = Sweep::new();
        let disk = may_mount.then(|| Mounted::new(&sweep.place.path().join("runs")).unwrap());
        set_clock(sweep.place.path(), "+0");
        Disturbed { disk, faketime, sweep, schedulers: Vec::new(), disturbances: Vec::new() }
    }

    fn place(&self) -> &Path {
        self.sweep.place.path()
    }

    /// Those that still are.
    fn of(&self, verb: &str) -> Vec<u32> {
        let verb = format!(" {verb} ");
        processes(self.place()).into_iter().filter(|(_, line)| line.contains(&verb)).map(|(pid, _)| pid).collect()
    }

    /// Two at a time, half of them with a clock that jumps.
    fn keep_two(&mut self, moments: &mut Moments) {
        self.schedulers.retain_mut(|child| {
            let status = child.try_wait().unwrap();
            assert!(status.is_none_or(|status| status.code() != Some(101)), "a scheduler panicked");
            status.is_none()
        });
        while self.schedulers.len() < 2 {
            let faked = self.faketime.as_deref().filter(|_| moments.next(2).as_millis() == 0);
            self.schedulers.push(start(&self.sweep, faked));
        }
    }

    /// Whether there was anything to disturb.
    fn disturb(&mut self, kind: Kind, which: u64) -> bool {
        let place = self.place().to_owned();
        let pick = |pids: Vec<u32>| (!pids.is_empty()).then(|| pids[which as usize % pids.len()]);
        let some = Duration::from_millis(which);
        match kind {
            Kind::WorkerKilled => pick(self.of("worker")).map(kill).is_some(),
            Kind::SchedulerKilled => pick(self.of("run")).map(kill).is_some(),
            Kind::WorkerFrozen => pick(self.of("worker")).map(|pid| signal(pid, "STOP")).is_some(),
            Kind::SchedulerStopped => {
                let Some(pid) = pick(self.of("run")) else { return false };
                signal(pid, "STOP");
                self.disturbances.push(thread::spawn(move || {
                    thread::sleep(Duration::from_millis(LEASE_MS + 500) + some);
                    signal(pid, "CONT");
                }));
                true
            }
            Kind::CheckpointTorn => tear(&place, which),
            Kind::StoreLocked => self.lock_the_store(Duration::from_millis(500) + some),
            Kind::StoreLockedLong => self.lock_the_store(Duration::from_secs(11) + some),
            Kind::DiskFilled => {
                if self.disk.is_none() || !self.store().exists() {
                    return false;
                }
                self.disturbances
                    .push(thread::spawn(move || fill(&place.join("runs"), Duration::from_secs(2) + 2 * some)));
                true
            }
            Kind::ClockJumped => {
                set_clock(&place, ["+1h", "-1h", "+0"][which as usize % 3]);
                self.faketime.is_some()
            }
        }
    }

    fn store(&self) -> PathBuf {
        self.place().join("runs/store.sqlite")
    }

    /// Somebody else writes to the store for a while.
    fn lock_the_store(&mut self, length: Duration) -> bool {
        let path = self.store();
        if !path.exists() {
            return false;
        }
        self.disturbances.push(thread::spawn(move || lock(&path, length)));
        true
    }
}

fn lock(store: &Path, length: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(store).busy_timeout(Duration::from_secs(5));
        let Ok(mut connection) = SqliteConnection::connect_with(&options).await else { return };
        if let Ok(transaction) = connection.begin_with("BEGIN IMMEDIATE").await {
            tokio::time::sleep(length).await;
            transaction.rollback().await.unwrap();
        }
    });
}

/// Takes all the room there is, also what falls free meanwhile.
fn fill(folder: &Path, length: Duration) {
    let path = folder.join("filler");
    let begun = Instant::now();
    let mut file = File::create(&path).unwrap();
    while begun.elapsed() < length {
        while file.write_all(&[1; 4096]).is_ok() {}
        thread::sleep(Duration::from_millis(50));
    }
    // Another may have done so.
    let _ = fs::remove_file(path);
}

/// Cuts a checkpoint short, of a job that has two; its worker, if it has one, does not look at it again.
fn tear(place: &Path, choice: u64) -> bool {
    let Ok(jobs) = fs::read_dir(place.join("runs/jobs")) else { return false };
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
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return false };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    file.set_len(length / 2).is_ok()
}

#[test]
fn whatever_happens_the_rows_are_the_same() {
    let times: u32 = std::env::var("DISTILLERY_CHAOS").map_or(8, |times| times.parse().unwrap());
    let Ok(may_mount) = may_mount() else { return };
    if !may_mount {
        eprintln!("LEFT OUT: nothing can be mounted here, not even in a namespace: the disk does not fill up");
    }
    let faketime = faketime();
    if faketime.is_none() {
        eprintln!("LEFT OUT: libfaketime is not installed: the clock does not jump");
    }
    let mut moments = match std::env::var("DISTILLERY_CHAOS_SEED") {
        Ok(seed) => Moments(seed.parse().unwrap()),
        Err(_) => Moments::new(),
    };
    eprintln!("DISTILLERY_CHAOS_SEED={}", moments.0);
    let mut wanted = wanted(&mut moments, times);
    wanted.retain(|kind| match kind {
        Kind::DiskFilled => may_mount,
        Kind::ClockJumped => faketime.is_some(),
        _ => true,
    });
    let begun = Instant::now();
    let undisturbed = Sweep::new();
    undisturbed.finish();
    let mut done: BTreeMap<Kind, u32> = BTreeMap::new();
    while !wanted.is_empty() {
        let mut disturbed = Disturbed::new(may_mount, faketime.clone());
        let before = wanted.len();
        disturb(&mut disturbed, &mut moments, &mut wanted, &mut done);
        eprintln!("after {:.0} s: {done:?}", begun.elapsed().as_secs_f64());
        compare(&disturbed.sweep, &undisturbed);
        assert!(wanted.len() < before, "nothing was disturbed");
    }
}

/// What is to happen, the last first: each kind once, in some order, then any; in a long run once a long lock.
fn wanted(moments: &mut Moments, times: u32) -> Vec<Kind> {
    let mut wanted: Vec<Kind> =
        (Kind::EACH.len() as u32..times).map(|_| Kind::any(moments.next(100).as_millis() as u64)).collect();
    if let Some(middle) = wanted.len().checked_div(2).filter(|_| !wanted.is_empty()) {
        wanted[middle] = Kind::StoreLockedLong;
    }
    let mut each = Kind::EACH.to_vec();
    while !each.is_empty() {
        let at = moments.next(each.len() as u64).as_millis() as usize;
        wanted.push(each.remove(at));
    }
    wanted
}

/// Until the sweep is done, or all that was wanted has happened. Ends with a run that is not disturbed.
fn disturb(sweep: &mut Disturbed, moments: &mut Moments, wanted: &mut Vec<Kind>, done: &mut BTreeMap<Kind, u32>) {
    let begun = Instant::now();
    let patience = Duration::from_secs(60 + 20 * wanted.len() as u64);
    while !wanted.is_empty() && !sweep.sweep.is_done() {
        assert!(begun.elapsed() < patience, "it does not get on: {done:?}");
        sweep.keep_two(moments);
        thread::sleep(Duration::from_millis(100) + moments.next(700));
        let which = moments.next(1000).as_millis() as u64;
        // What is not possible now is, perhaps, when something else has happened.
        if let Some(at) = (0..wanted.len()).rev().find(|at| sweep.disturb(wanted[*at], which)) {
            *done.entry(wanted.remove(at)).or_default() += 1;
        }
    }
    for disturbance in sweep.disturbances.drain(..) {
        disturbance.join().unwrap();
    }
    // Both come to the end, and see it.
    for mut scheduler in sweep.schedulers.drain(..) {
        scheduler.wait().unwrap();
    }
    assert!(start(&sweep.sweep, None).wait().unwrap().success(), "the last run ends well");
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
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(processes(place), [], "nobody is left behind");
}

/// Both are told to work at once; each job is trained once, and both say that all is done.
#[test]
fn two_runs_share_a_folder() {
    let (undisturbed, shared) = (Sweep::new(), Sweep::new());
    undisturbed.finish();
    let runs = [start(&shared, None), start(&shared, None)];
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    shared.compare(&undisturbed);
    let attempts = shared.query("SELECT count(*) AS n, count(DISTINCT job) AS jobs FROM attempts");
    assert_eq!(attempts[0]["n"], attempts[0]["jobs"], "none twice");
    let schedulers = shared.query("SELECT count(*) AS n FROM schedulers WHERE ended_ms IS NOT NULL");
    assert_eq!(schedulers[0]["n"], 2);
}

/// Experiments that have jobs in common: each job is trained once, by whichever run, and both come to their end.
#[test]
fn two_experiments_share_a_folder_and_some_jobs() {
    let (undisturbed, shared) = (Sweep::new(), Sweep::new());
    let experiments = ["killed.toml", "other.toml"];
    for sweep in [&undisturbed, &shared] {
        let text = fs::read_to_string(sweep.place.path().join("killed.toml")).unwrap();
        let other = text.replace("\"consistent/ic\", \"function-matching\"", "\"independent/ic\"");
        assert_ne!(text, other);
        fs::write(sweep.place.path().join("other.toml"), other).unwrap();
    }
    for experiment in experiments {
        assert!(command(&undisturbed, experiment).status().unwrap().success());
    }
    let runs = experiments.map(|experiment| command(&shared, experiment).spawn().unwrap());
    for mut run in runs {
        assert!(run.wait().unwrap().success(), "{}", fs::read_to_string(shared.place.path().join("log")).unwrap());
    }
    shared.compare(&undisturbed);
    // A teacher, six jobs and two more.
    let attempts = shared.query("SELECT count(*) AS n, count(DISTINCT job) AS jobs FROM attempts");
    assert_eq!((&attempts[0]["n"], &attempts[0]["jobs"]), (&9.into(), &9.into()), "none twice");
    let owners = shared.query("SELECT count(DISTINCT owner) AS n FROM attempts");
    assert_eq!(owners[0]["n"], 2, "both had something to do");
    let common = shared.query("SELECT job FROM experiment_jobs WHERE needed = 0 GROUP BY job HAVING count(*) = 2");
    assert_eq!(common.len(), 2);
}

/// One that was stopped past its lease and goes on finds its job taken, and does not take it back.
#[test]
fn a_scheduler_that_wakes_leaves_others_what_they_have() {
    let (undisturbed, shared) = (Sweep::new(), Sweep::new());
    for sweep in [&undisturbed, &shared] {
        let file = sweep.place.path().join("killed.toml");
        let text = fs::read_to_string(&file).unwrap().replace("[6, 20]", "[80]");
        let text = text.replace("\"fixed/cc\", \"consistent/ic\", ", "");
        fs::write(file, text).unwrap();
    }
    undisturbed.finish();
    let begun = Instant::now();
    let wait_for = |sql: &str| loop {
        if shared.place.path().join("runs/store.sqlite").exists() {
            let output = shared.command("query").args([sql, "--json"]).output().unwrap();
            let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if let Some(row) = rows.into_iter().next() {
                return row;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{sql}");
        thread::sleep(Duration::from_millis(50));
    };
    let mut first = command(&shared, "killed.toml").spawn().unwrap();
    let student = "SELECT j.id, a.attempt, a.owner FROM jobs j JOIN attempts a ON a.job = j.id
                   WHERE j.teaching = 'function-matching'";
    let row = wait_for(student);
    signal(first.id(), "STOP");
    let mut second = command(&shared, "killed.toml").spawn().unwrap();
    wait_for(&format!("{student} AND a.attempt = 2"));
    signal(first.id(), "CONT");
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    shared.compare(&undisturbed);
    let attempts = shared.query(&format!("{student} ORDER BY a.attempt"));
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(attempts[0]["owner"], row["owner"]);
    assert_ne!(attempts[1]["owner"], row["owner"]);
    let log = fs::read_to_string(shared.place.path().join("log")).unwrap();
    assert!(log.contains("was taken over by another run"), "{log}");
}
