//! The whole program, killed: whatever is left must lead the next `run` to the rows an undisturbed one gives.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A teacher and six students in three cohorts, some seconds of work.
const EXPERIMENT: &str = r#"
[teachers.small]
train = { epochs = 6, learning-rate = 1e-2, student = { bit-resnet-small = { depth = 8, width = 8 } } }

[base]
data = "fashion-mnist-8k2k"
split = { train = "train[:400]", validation = "train[7000:7200]", test = "test[:200]" }
student = { bit-resnet-small = { depth = 8, width = 4 } }
resolution = 12
teachers = ["small"]
batch = 32
learning-rate = 1e-2
crop = { area = [0.25, 1.0] }

[[grid]]
[grid.product]
teaching = ["fixed/cc", "consistent/ic", "function-matching"]
epochs = [6, 20]
"#;

pub struct Sweep {
    pub place: tempfile::TempDir,
}

impl Sweep {
    pub fn new() -> Sweep {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("killed.toml"), EXPERIMENT).unwrap();
        Sweep { place }
    }

    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
        command.current_dir(self.place.path()).arg(verb).stdin(Stdio::null());
        command
    }

    fn start(&self) -> Child {
        let mut command = self.command("run");
        command.args(["killed.toml", "--no-report", "run.teacher-at-chance=allow"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub fn finish(&self) {
        let output = self.start().wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn query(&self, sql: &str) -> Vec<Value> {
        let output = self.command("query").args([sql, "--json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Every number of every row but its times and the attempt that made it.
    fn numbers(&self) -> BTreeMap<String, Vec<Value>> {
        let epochs = "SELECT job, epoch, step, images, training_loss, learning_rate, gradient_norm, student_flops, \
                      teacher_flops FROM epochs ORDER BY job, epoch";
        let evaluations = "SELECT * FROM evaluations ORDER BY job, epoch, split";
        let teachers = "SELECT job, teacher, split, images, top1, top5 FROM teachers ORDER BY job, teacher, split";
        let states = "SELECT id, state FROM jobs ORDER BY id";
        [epochs, evaluations, teachers, states].map(|sql| (sql.to_owned(), self.query(sql))).into()
    }

    /// The trained students, by job.
    fn weights(&self) -> BTreeMap<String, Vec<u8>> {
        let jobs = fs::read_dir(self.place.path().join("runs/jobs")).unwrap();
        let files = jobs.map(|job| {
            let job = job.unwrap();
            let bytes = fs::read(job.path().join("student.safetensors")).unwrap();
            (job.file_name().into_string().unwrap(), bytes)
        });
        files.collect()
    }

    /// Whether every job is.
    pub fn is_done(&self) -> bool {
        if !self.place.path().join("runs/store.sqlite").exists() {
            return false;
        }
        let output =
            self.command("query").args(["SELECT id FROM jobs WHERE state <> 'done'", "--json"]).output().unwrap();
        let jobs: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let any = self.command("query").args(["SELECT id FROM jobs LIMIT 1", "--json"]).output().unwrap();
        let any: Vec<Value> = serde_json::from_slice(&any.stdout).unwrap_or_default();
        output.status.success() && jobs.is_empty() && !any.is_empty()
    }

    pub fn compare(&self, undisturbed: &Sweep) {
        for (sql, rows) in undisturbed.numbers() {
            assert!(!rows.is_empty(), "{sql}");
            assert_eq!(self.numbers()[&sql], rows, "{sql}");
        }
        assert_eq!(self.weights(), undisturbed.weights());
    }
}

/// Processes of this system whose command line names `place`, workers and schedulers alike.
pub fn processes(place: &Path) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(cwd) = fs::read_link(entry.path().join("cwd")) else { continue };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        if cwd == place.canonicalize().unwrap() && !line.is_empty() {
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

pub fn kill(pid: u32) {
    signal(pid, "KILL");
}

pub fn signal(pid: u32, name: &str) {
    // It may be gone already: the moment is random.
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Moments of no particular meaning, different at every call and for every process.
pub struct Moments(pub u64);

impl Moments {
    pub fn next(&mut self, most_ms: u64) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((self.0 >> 33) % most_ms)
    }

    pub fn new() -> Moments {
        Moments(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64)
    }
}

/// SIGKILL to one worker after another at random moments, in one run and the next.
#[test]
fn killed_workers_change_nothing() {
    let (undisturbed, disturbed) = (Sweep::new(), Sweep::new());
    undisturbed.finish();
    let mut moments = Moments::new();
    let mut killed = 0;
    // A run ends early when one cohort was lost too often; the next one goes on. Four is enough, one the least.
    for _ in 0..20 {
        let mut scheduler = disturbed.start();
        while killed < 4 && scheduler.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(100) + moments.next(600));
            let mut workers =
                processes(disturbed.place.path()).into_iter().filter(|(_, line)| line.contains(" worker "));
            if let Some((pid, _)) = workers.next_back() {
                kill(pid);
                killed += 1;
            }
        }
        if scheduler.wait().unwrap().success() {
            break;
        }
    }
    assert!(killed > 0, "no worker was met alive");
    disturbed.finish();
    disturbed.compare(&undisturbed);
    let lost = disturbed.query("SELECT count(*) AS n FROM attempts WHERE failure = 'lost'");
    assert!(lost[0]["n"].as_u64().unwrap() >= 1, "{lost:?}");
}

/// SIGTERM to a worker alone: it saves and leaves, and is started again in the same run.
#[test]
fn a_worker_that_is_stopped_is_started_again() {
    let (undisturbed, disturbed) = (Sweep::new(), Sweep::new());
    undisturbed.finish();
    let mut scheduler = disturbed.start();
    let mut stopped = 0;
    while stopped < 2 && scheduler.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(400));
        let mut workers = processes(disturbed.place.path()).into_iter().filter(|(_, line)| line.contains(" worker "));
        if let Some((pid, _)) = workers.next_back() {
            signal(pid, "TERM");
            stopped += 1;
        }
    }
    assert!(scheduler.wait().unwrap().success(), "one run is enough");
    assert!(stopped > 0, "no worker was met alive");
    disturbed.compare(&undisturbed);
}

/// SIGKILL to the scheduler at random moments: its workers save and leave, the next run goes on.
#[test]
fn a_killed_scheduler_changes_nothing() {
    let (undisturbed, disturbed) = (Sweep::new(), Sweep::new());
    undisturbed.finish();
    let mut moments = Moments::new();
    for _ in 0..4 {
        let mut scheduler = disturbed.start();
        std::thread::sleep(Duration::from_millis(200) + moments.next(1300));
        kill(scheduler.id());
        scheduler.wait().unwrap();
    }
    disturbed.finish();
    disturbed.compare(&undisturbed);
    assert_eq!(processes(disturbed.place.path()), [], "nobody is left behind");
}

/// SIGINT: the step is finished, all is saved, 75 is returned, and the same command goes on to the same end.
#[test]
fn an_interrupted_run_goes_on() {
    let (undisturbed, disturbed) = (Sweep::new(), Sweep::new());
    undisturbed.finish();
    let mut interrupted = 0;
    loop {
        let mut scheduler = disturbed.start();
        std::thread::sleep(Duration::from_millis(900));
        if scheduler.try_wait().unwrap().is_none() {
            Command::new("kill").args(["-INT", &scheduler.id().to_string()]).status().unwrap();
        }
        match scheduler.wait().unwrap().code() {
            Some(75) => interrupted += 1,
            Some(0) => break,
            // On a busy machine the signal may come before anybody listens: then it ends at once.
            None => {}
            other => panic!("exit code {other:?}"),
        }
        assert_eq!(processes(disturbed.place.path()), [], "nobody is left behind");
        assert!(interrupted < 100, "no progress");
    }
    assert!(interrupted > 0, "it was done before the first interrupt");
    disturbed.compare(&undisturbed);
}
