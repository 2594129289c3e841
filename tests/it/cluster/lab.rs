//! A sweep of its own on the cluster that tests share: a folder, a database, and what happens to its tasks.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::kill::signal;

/// What happens in seconds here that takes minutes elsewhere.
pub const LEASE: Duration = Duration::from_secs(5);
/// Longest that a sweep may take.
const PATIENCE: Duration = Duration::from_secs(240);
/// Epochs of the students that something happens to.
pub const EPOCHS: u32 = 240;

/// A teacher and two cohorts of two students, some seconds of work.
pub const EXPERIMENT: &str = include_str!("../../cluster/sweep.toml");

/// Of so few images nobody learns much.
const SETTINGS: [&str; 2] = ["run.teacher-at-chance=allow", "run.minitrain=50"];

/// What a sweep has a right to.
#[derive(Clone, Copy, PartialEq)]
pub enum Turn {
    /// Beside others, whom it does not disturb.
    Shared,
    /// Alone: it stops what all need.
    Alone,
}

/// The table of an experiment that asks Slurm for little.
pub fn site(more: &str) -> String {
    format!("\n[slurm]\ngpus = 0\nmemory = \"300M\"\ntime = \"10\"\n{more}\n")
}

pub struct Lab {
    place: TempDir,
    /// With user and server, in it no password.
    store: String,
    database: String,
    _turn: File,
}

/// Numbers and weights, whoever made them.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    rows: BTreeMap<&'static str, Vec<Value>>,
    weights: BTreeMap<String, Vec<u8>>,
}

/// A controller that does not outlive its test.
pub struct Controller(Child);

impl Controller {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A task of Slurm's that runs on this machine.
#[derive(Clone, Debug)]
pub struct Task {
    pub pid: u32,
    /// `12_0`, as Slurm's commands take it.
    pub name: String,
    pub node: String,
    /// What it was started with.
    pub words: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Lab {
    /// None, said aloud, where there is no cluster.
    pub fn new(test: &str, turn: Turn) -> Option<Lab> {
        let (slurm, server) = services(test)?;
        let lock = OpenOptions::new().create(true).append(true).open(format!("{}.turn", slurm.display())).unwrap();
        match turn {
            Turn::Shared => lock.lock_shared().unwrap(),
            Turn::Alone => lock.lock().unwrap(),
        }
        let database = format!("sweep_{test}_{}", std::process::id());
        psql(&server, &format!("CREATE DATABASE {database}"));
        let (base, tail) = server.split_at(server.rfind('/').unwrap());
        let tail = tail.find('?').map_or("", |at| &tail[at..]);
        let lab = Lab {
            // What Slurm makes of names is not made of ours.
            place: tempfile::Builder::new().prefix("cluster 5%A-").tempdir().unwrap(),
            store: format!("{base}/{database}{tail}"),
            database,
            _turn: lock,
        };
        lab.write(&site(""));
        Some(lab)
    }

    /// Only where slow tests are wanted.
    pub fn slow(test: &str, turn: Turn) -> Option<Lab> {
        if std::env::var_os("DISTILLERY_CLUSTER_ALL").is_none() {
            say(&format!("left out: {test}: it is slow, and DISTILLERY_CLUSTER_ALL is not set"));
            return None;
        }
        Lab::new(test, turn)
    }

    /// The experiment, with what is to be added.
    pub fn write(&self, more: &str) {
        fs::write(self.path("sweep.toml"), format!("{EXPERIMENT}{more}")).unwrap();
    }

    pub fn root(&self) -> &Path {
        self.place.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub fn command(&self, verb: &str) -> Command {
        let mut command = command(self.place.path(), verb);
        command.env("DISTILLERY_STORE", &self.store).env("DISTILLERY_FOLDER", self.path("runs"));
        command
    }

    /// The controller, its words in `log`.
    pub fn start(&self) -> Controller {
        let log = OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command("run");
        command.args(["sweep.toml", "--engine", "slurm", "--device", "cpu", "--no-report"]);
        command.args(SETTINGS).args(["run.checkpoints.every=0s", "run.retries.lost.count=100"]);
        // Before Slurm's own commands.
        let path = std::env::join_paths(
            std::iter::once(self.path("bin")).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        command.env("PATH", path.unwrap());
        Controller(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn end(&self, controller: &mut Controller) -> ExitStatus {
        self.until("the controller ends", PATIENCE, || controller.0.try_wait().unwrap())
    }

    /// To the end, which is a good one.
    pub fn finish(&self, controller: &mut Controller) {
        let status = self.end(controller);
        assert!(status.success(), "{status}\n{}", self.account());
    }

    pub fn query(&self, sql: &str) -> Vec<Value> {
        query(self.command("query"), sql).unwrap_or_else(|said| panic!("{sql}: {said}"))
    }

    /// The number of a query that counts.
    pub fn count(&self, sql: &str) -> u64 {
        let rows = self.query(&format!("SELECT count(*) AS n {sql}"));
        rows[0]["n"].as_u64().unwrap()
    }

    /// Until there is something.
    pub fn until<T>(&self, what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(begun.elapsed() < patience, "waited in vain until {what}\n{}", self.account());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Until a task has trained a few epochs of a long student. Returns all tasks that have, with that student.
    pub fn in_the_middle(&self, tasks: usize) -> Vec<(Task, String)> {
        self.in_the_middle_but(tasks, "")
    }

    /// The same, leaving out one student's.
    pub fn in_the_middle_but(&self, tasks: usize, other: &str) -> Vec<(Task, String)> {
        let sql = format!(
            "SELECT e.job AS job, a.cohort AS cohort FROM epochs e JOIN jobs j ON j.id = e.job
             JOIN attempts a ON a.job = e.job AND a.attempt = j.attempt
             WHERE j.state = 'running' AND j.epochs = {EPOCHS} GROUP BY e.job, a.cohort
             HAVING max(e.epoch) BETWEEN 2 AND {}",
            EPOCHS - 40
        );
        self.until(&format!("{tasks} tasks are in the middle"), PATIENCE / 4, || {
            let rows = query(self.command("query"), &sql).unwrap_or_default();
            let mut found = Vec::new();
            for task in self.tasks() {
                let text = fs::read_to_string(task.manifest()).unwrap_or_default();
                let line = text.lines().nth(1 + task.index()).unwrap_or_default().to_owned();
                let is_its = |row: &&Value| line.contains(row["cohort"].as_str().unwrap()) && row["job"] != other;
                let row = rows.iter().find(is_its);
                found.extend(row.map(|row| (task, row["job"].as_str().unwrap().to_owned())));
            }
            (found.len() >= tasks).then_some(found)
        })
    }

    /// Tasks of this sweep that run.
    pub fn tasks(&self) -> Vec<Task> {
        let ours = self.processes().into_iter().filter(|(_, words)| words.iter().any(|word| word == "--index"));
        let found = ours.filter_map(|(pid, words)| {
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let pairs = split(&environment);
            let environment: Vec<(String, String)> =
                pairs.iter().filter_map(|pair| pair.split_once('=')).map(|(a, b)| (a.into(), b.into())).collect();
            let value = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            let name = format!("{}_{}", value("SLURM_ARRAY_JOB_ID")?, value("SLURM_ARRAY_TASK_ID")?);
            Some(Task { pid, name, node: value("SLURMD_NODENAME")?, words, environment })
        });
        found.collect()
    }

    /// Whether Slurm has nothing of this sweep to do, now or later.
    pub fn is_at_rest(&self) -> bool {
        let arrays = fs::read_dir(self.path("runs/cluster")).unwrap().flatten();
        let comments: Vec<String> =
            arrays.map(|array| format!("distillery:{}", array.file_name().to_string_lossy())).collect();
        let left = slurm("squeue", &["-h", "-r", "-t", "pending,running,completing", "-o", "%k"]);
        !left.contains("error") && !left.lines().any(|line| comments.iter().any(|comment| comment == line.trim()))
    }

    /// Everybody on this machine who was started with this folder, but the controller.
    pub fn processes(&self) -> Vec<(u32, Vec<String>)> {
        let place = self.place.path().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            let words = split(&line);
            if words.iter().any(|word| word == "worker") && words.iter().any(|word| word.starts_with(&place)) {
                found.push((pid, words));
            }
        }
        found
    }

    pub fn until_nobody_is_left(&self, patience: Duration) {
        self.until("nobody is left", patience, || self.processes().is_empty().then_some(()));
    }

    /// Rows without their times, and the students' weights.
    pub fn outcome(&self) -> Outcome {
        outcome(&self.path("runs"), |sql| self.query(sql))
    }

    /// With what one machine gives; and no epoch is there twice, no attempt without an end, nobody left behind.
    pub fn compare(&self) {
        let (ours, one) = (self.outcome(), of_one_machine());
        for (sql, rows) in &one.rows {
            assert!(!rows.is_empty(), "{sql}");
            for (ours, one) in ours.rows[sql].iter().zip(rows) {
                assert_eq!(ours, one, "{sql}\n{}", self.account());
            }
            assert_eq!(ours.rows[sql].len(), rows.len(), "{sql}\n{}", self.account());
        }
        assert_eq!(ours.weights.keys().collect::<Vec<_>>(), one.weights.keys().collect::<Vec<_>>());
        assert!(ours.weights == one.weights, "weights differ\n{}", self.account());
        let open = self.query("SELECT job, attempt FROM attempts WHERE ended_ms IS NULL");
        assert!(open.is_empty(), "attempts without an end: {open:?}");
        self.until_nobody_is_left(Duration::from_secs(20));
    }

    /// What Slurm says of a task.
    pub fn shown(&self, task: &Task) -> String {
        slurm("scontrol", &["-o", "show", "job", &task.name])
    }

    /// For whom wonders what went wrong.
    pub fn account(&self) -> String {
        let mut text = format!("--- controller\n{}", self.log());
        for (what, sql) in [
            ("jobs", "SELECT id, state, attempt, teaching, epochs, message FROM jobs ORDER BY id"),
            ("attempts", "SELECT job, attempt, owner, outcome, failure, message FROM attempts ORDER BY job, attempt"),
        ] {
            let said = query(self.command("query"), sql).unwrap_or_else(|said| vec![said.into()]);
            text += &format!("--- {what}\n");
            said.iter().for_each(|row| text += &format!("{row}\n"));
        }
        text += &format!("--- Slurm\n{}", slurm("squeue", &["-h", "-r", "-t", "all", "-o", "%F|%K|%T|%r|%N|%k"]));
        for entry in self.logs() {
            text += &format!("--- {}\n{}", entry.display(), fs::read_to_string(&entry).unwrap_or_default());
        }
        text
    }

    /// What tasks wrote.
    pub fn logs(&self) -> Vec<PathBuf> {
        let all = files(&self.path("runs/cluster"));
        all.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "log")).collect()
    }

    /// Processes of the server that answer this sweep.
    pub fn backends(&self) -> Vec<u32> {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE datname = '{}'", self.database);
        psql(&server().unwrap(), &sql).lines().map(|line| line.trim().parse().unwrap()).collect()
    }

    /// A program that is found before Slurm's own of that name. `{slurm's}` in it becomes the path of that.
    pub fn before_slurms(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::var_os("PATH").unwrap();
        let real = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file()).unwrap();
        fs::create_dir_all(self.path("bin")).unwrap();
        let script = self.path("bin").join(name);
        fs::write(&script, format!("#!/bin/sh\n{}", text.replace("{slurm's}", &real.to_string_lossy()))).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for line in slurm("squeue", &["-h", "-t", "pending,running", "-o", "%F|%Z|%o"]).lines() {
            // The folder that it was submitted from, or the script.
            if line.contains(&*self.place.path().to_string_lossy()) {
                slurm("scancel", &[line.split('|').next().unwrap()]);
            }
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) && !self.processes().is_empty() {
            thread::sleep(Duration::from_millis(100));
        }
        self.processes().into_iter().for_each(|(pid, _)| signal(pid, "KILL"));
        if let Some(server) = server() {
            let _ = try_psql(&server, &format!("DROP DATABASE {} WITH (FORCE)", self.database));
        }
    }
}

impl Task {
    fn manifest(&self) -> &Path {
        let at = self.words.iter().position(|word| word == "--manifest").unwrap();
        Path::new(&self.words[at + 1])
    }

    fn index(&self) -> usize {
        self.name.split_once('_').unwrap().1.parse().unwrap()
    }

    /// Started again by hand, as if Slurm had lost count.
    pub fn again(&self) -> Command {
        let mut command = Command::new(fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap());
        command.args(&self.words[1..]).env_clear().envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Those that it started.
    pub fn children(&self) -> Vec<u32> {
        let text = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }
}

/// Whether it runs, and does not only wait to be noticed.
pub fn is_alive(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// One of Slurm's commands; what it says, errors too.
pub fn slurm(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// `tests/cluster/slurm.sh` for the Slurm that is up.
pub fn cluster(verb: &str, words: &[&str]) {
    let conf = std::env::var_os("SLURM_CONF").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/slurm.sh");
    let mut command = Command::new(script);
    command.arg(verb).arg(Path::new(&conf).parent().unwrap()).args(words).stdout(Stdio::null()).stdin(Stdio::null());
    assert!(command.status().unwrap().success(), "slurm.sh {verb} {words:?}");
}

/// The server ends hard, and is there again after so long.
pub fn restart_server(down: Duration) {
    let words =
        std::env::var("DISTILLERY_TEST_POSTGRES_RESTART").expect("postgres.sh says how the server is restarted");
    let mut command = Command::new("sh");
    command.args(["-c", &words]).env("DOWN_SECONDS", down.as_secs_f64().to_string());
    assert!(command.stdout(Stdio::null()).stdin(Stdio::null()).status().unwrap().success(), "{words}");
}

fn services(test: &str) -> Option<(PathBuf, String)> {
    let wanted = ["SLURM_CONF", "DISTILLERY_TEST_POSTGRES"];
    let missing: Vec<&str> = wanted.into_iter().filter(|name| std::env::var_os(name).is_none()).collect();
    if missing.is_empty() {
        return Some((std::env::var_os("SLURM_CONF").unwrap().into(), server().unwrap()));
    }
    let why = format!("cluster {test}: {} not set; see tests/cluster/run.sh", missing.join(" and "));
    assert!(std::env::var_os("DISTILLERY_CLUSTER_REQUIRED").is_none(), "SKIPPED {why}");
    say(&format!("SKIPPED {why}"));
    None
}

/// Also where the words of tests that pass are not shown.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn server() -> Option<String> {
    std::env::var("DISTILLERY_TEST_POSTGRES").ok()
}

fn psql(server: &str, sql: &str) -> String {
    try_psql(server, sql).unwrap_or_else(|said| panic!("{sql}: {said}"))
}

fn try_psql(server: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql").args([server, "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql]).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
}

fn command(place: &Path, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
    command.current_dir(place).arg(verb).stdin(Stdio::null());
    command.envs([
        ("DISTILLERY_LEASE_MS", LEASE.as_millis().to_string()),
        ("DISTILLERY_LOOK_MS", "200".to_owned()),
        ("DISTILLERY_BEAT_SECONDS", "0.5".to_owned()),
        ("DISTILLERY_TAKEOVER_SECONDS", "2".to_owned()),
        ("DISTILLERY_RECONCILE_MS", "500".to_owned()),
    ]);
    command
}

fn query(mut command: Command, sql: &str) -> Result<Vec<Value>, String> {
    let output = command.args([sql, "--json"]).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

fn outcome(folder: &Path, query: impl Fn(&str) -> Vec<Value>) -> Outcome {
    let epochs = "SELECT job, epoch, step, images, training_loss, learning_rate, gradient_norm, student_flops, \
                  teacher_flops FROM epochs ORDER BY job, epoch";
    let evaluations = "SELECT * FROM evaluations ORDER BY job, epoch, split";
    let teachers = "SELECT job, teacher, split, images, top1, top5 FROM teachers ORDER BY job, teacher, split";
    let states = "SELECT id, state FROM jobs ORDER BY id";
    let weights = fs::read_dir(folder.join("jobs")).unwrap().map(|job| {
        let job = job.unwrap();
        let file = job.path().join("student.safetensors");
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (job.file_name().into_string().unwrap(), bytes)
    });
    Outcome {
        weights: weights.collect(),
        rows: [epochs, evaluations, teachers, states].map(|sql| (sql, query(sql))).into(),
    }
}

/// The experiment run by itself, with a file as its store.
fn of_one_machine() -> &'static Outcome {
    static ONCE: OnceLock<Outcome> = OnceLock::new();
    ONCE.get_or_init(|| {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("sweep.toml"), EXPERIMENT).unwrap();
        let mut run = command(place.path(), "run");
        run.args(["sweep.toml", "--no-report", "--device", "cpu"]).args(SETTINGS);
        let output = run.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        outcome(&place.path().join("runs"), |sql| query(command(place.path(), "query"), sql).unwrap())
    })
}

fn split(bytes: &[u8]) -> Vec<String> {
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found.sort();
    found
}
