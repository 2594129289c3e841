//! The controller and its tasks against a Slurm that is a script (`tests/cluster/fake.sh`) and a store of one machine. The real
//! ones are in `cluster.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use distillery::folder::Folder;
use distillery::store::{SchedulerWish, Store};
use tempfile::TempDir;

const EXPERIMENT: &str = r#"
[slurm]
gpus = 0
[run]
evaluate-every = 2
retries = { no-progress = 2 }
teacher-at-chance = "allow"
[teachers.wide]
[teachers.wide.train]
student = { bit-resnet-small = { depth = 8, width = 8 } }
split = { train = "train[:60]" }
view = "rc"
epochs = 1
[base]
data = "fashion-mnist-8k2k"
split = { train = "train[:40]", validation = "train[7960:]", test = "test[:40]" }
student = { bit-resnet-small = { depth = 8, width = 8 } }
resolution = 12
teachers = ["wide"]
batch = 20
learning-rate = 1e-2
epochs = 2
[[grid]]
[grid.product]
teaching = ["consistent/ic", "function-matching"]
seed = [0, 1]
"#;

/// A folder, an experiment in it, and a Slurm.
struct Site {
    place: TempDir,
}

impl Site {
    fn new() -> Site {
        let site = Site { place: tempfile::tempdir().unwrap() };
        fs::write(site.at("e.toml"), EXPERIMENT).unwrap();
        for folder in ["fake", "fake/arrays", "fake/tasks", "bin"] {
            fs::create_dir_all(site.at(folder)).unwrap();
        }
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/fake.sh");
        for name in ["sbatch", "squeue", "scontrol", "scancel"] {
            symlink(&fake, site.at("bin").join(name)).unwrap();
        }
        site
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn say(&self, name: &str, text: &str) {
        fs::write(self.at("fake").join(name), text).unwrap();
    }

    fn calls(&self, program: &str) -> Vec<String> {
        let text = fs::read_to_string(self.at("fake/calls")).unwrap_or_default();
        text.lines().filter(|line| line.starts_with(&format!("{program} "))).map(str::to_owned).collect()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
        let path = std::env::var("PATH").unwrap();
        command
            .args(words)
            .current_dir(self.place.path())
            .env("PATH", format!("{}:{path}", self.at("bin").display()))
            .env("FAKE", self.at("fake"))
            .env("DISTILLERY_SLURM_SQLITE", "1")
            .env("DISTILLERY_RECONCILE_MS", "200")
            .env("DISTILLERY_LOOK_MS", "100");
        for name in ["SLURM_CONF", "SLURM_JOB_ID", "DISTILLERY_STORE", "DISTILLERY_FOLDER"] {
            command.env_remove(name);
        }
        command
    }

    fn distillery(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn controller(&self) -> Child {
        let words = ["run", "e.toml", "--engine", "slurm", "--no-report"];
        let log = fs::File::create(self.at("log")).unwrap();
        self.command(&words).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    fn query(&self, sql: &str) -> String {
        let output = self.distillery(&["query", sql, "--json"]);
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(90), "waited for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What SIGKILL leaves, and nobody waits for.
fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

const ROWS: &str = "SELECT e.job, e.epoch, e.training_loss, v.split, v.top1, v.loss FROM epochs e
    LEFT JOIN evaluations v ON v.job = e.job AND v.epoch = e.epoch ORDER BY 1, 2, 4";

/// Teachers first, students when the store says that those are done; in the end what one machine gives.
#[test]
fn what_goes_through_slurm_is_what_one_machine_gives() {
    let (site, alone) = (Site::new(), Site::new());
    let output = site.distillery(&["run", "e.toml", "--engine", "slurm", "--no-report"]);
    assert!(output.status.success(), "{}", text(&output));
    let output = alone.distillery(&["run", "e.toml", "--no-report"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(site.query(ROWS), alone.query(ROWS));
    let asked = site.calls("sbatch");
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].contains("--array=0-0 ") && asked[1].contains("--array=0-3 "), "{asked:?}");
    for word in
        ["--parsable", "--comment=distillery:", "--requeue", "--open-mode=append", "--signal=B:USR1@180", "--mem="]
    {
        assert!(asked.iter().all(|call| call.contains(word)), "{word}: {asked:?}");
    }
    let owners = site.query("SELECT DISTINCT owner FROM attempts");
    assert!(owners.contains("slurm:") && !owners.contains("local:"), "{owners}");
    // Nothing is left to do, and nothing is asked for.
    let output = site.distillery(&["run", "e.toml", "--engine", "slurm", "--no-report"]);
    assert!(output.status.success() && site.calls("sbatch").len() == 2, "{}", text(&output));
}

/// Killed before anybody knows what became of what it asked for: nothing is lost, and nothing twice.
#[test]
fn a_submission_that_nobody_heard_of_is_found_again() {
    for (mode, arrays) in [("keep", 2), ("lose", 2)] {
        let site = Site::new();
        site.say("mode", mode);
        let child = site.controller();
        // The row is there before Slurm is asked.
        wait("the first call", || !site.calls("sbatch").is_empty());
        kill(child);
        let output = site.distillery(&["run", "e.toml", "--engine", "slurm", "--no-report"]);
        assert!(output.status.success(), "{mode}: {}", text(&output));
        let there = fs::read_dir(site.at("fake/arrays")).unwrap().count();
        assert_eq!(there, arrays, "{mode}: {:?}", site.calls("sbatch"));
        assert!(site.query("SELECT max(attempt) AS most FROM attempts").contains("\"most\": 1"), "{mode}");
    }
}

/// Its arrays are no larger than they may be; where there are too many, half as many are asked for.
#[test]
fn arrays_are_as_large_as_they_may_be() {
    let site = Site::new();
    site.say("mode", "run");
    site.say("largest", "4");
    let output = site.distillery(&["run", "e.toml", "--engine", "slurm", "--no-report"]);
    assert!(output.status.success(), "{}", text(&output));
    let asked = site.calls("sbatch");
    let sizes: Vec<bool> =
        asked.iter().map(|call| call.contains("--array=0-2 ") || call.contains("--array=0-0 ")).collect();
    assert_eq!(sizes, [true, true, true], "{asked:?}");

    let site = Site::new();
    site.say("mode", "big 3");
    // The teacher waits, so it is done here.
    let alone = site.distillery(&["run", "e.toml", "--no-report", "seed=7"]);
    assert!(alone.status.success(), "{}", text(&alone));
    let child = site.controller();
    wait("all of them", || fs::read_dir(site.at("fake/tasks")).unwrap().count() == 4);
    kill(child);
    let asked = site.calls("sbatch");
    assert!(
        asked.iter().any(|call| call.contains("--array=0-3 "))
            && asked.iter().filter(|call| call.contains("--array=0-1 ")).count() == 2,
        "{asked:?}"
    );
}

/// What Slurm will never do is said, with its words.
#[test]
fn a_refusal_ends_it_with_the_reason() {
    let site = Site::new();
    site.say("mode", "refuse Requested node configuration is not available");
    let output = site.distillery(&["run", "e.toml", "--engine", "slurm"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("error: Slurm refuses: Batch job submission failed: Requested node configuration"),
        "{}",
        text(&output)
    );
    assert!(site.query("SELECT count(*) AS n FROM tasks").contains("\"n\": 0"));
}

/// Tasks that end without a word are tried again, not for ever; what needs them is blocked.
#[test]
fn what_nothing_brings_forward_is_given_up() {
    let site = Site::new();
    let profile = site.at("bad.toml");
    fs::write(&profile, "prologue = \"exit 3\"\n").unwrap();
    let output =
        site.distillery(&["run", "e.toml", "--engine", "slurm", "--no-report", "--profile", profile.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(site.calls("sbatch").len(), 2, "{:?}", site.calls("sbatch"));
    let states = site.query("SELECT state, count(*) AS n FROM jobs GROUP BY state ORDER BY state");
    assert!(states.contains("blocked") && states.contains("failed"), "{states}");
    let why = text(&site.distillery(&["why", "failed"]));
    assert!(why.contains("2 tasks ended without an epoch") && why.contains("FAILED, exit code 3, n1"), "{why}");
    // Said again, it is tried again: now it can.
    let output = site.distillery(&["run", "e.toml", "--engine", "slurm", "--no-report"]);
    assert!(output.status.success(), "{}", text(&output));
}

/// Who looks after an experiment is one process; the others are told who.
#[test]
fn a_second_controller_is_refused() {
    let site = Site::new();
    site.say("mode", "queue");
    let child = site.controller();
    wait("a task", || site.log().contains("submitted 1 cohort"));
    let output = site.distillery(&["run", "e.toml", "--engine", "slurm"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("another process submits and looks after this experiment's tasks: `slurm-controller:"),
        "{}",
        text(&output)
    );

    // Why nothing happens is seen everywhere, and what waits can be taken back.
    let status = text(&site.distillery(&["status", "e"]));
    assert!(status.contains("in Slurm: 0 tasks running, 1 waiting\n  1 for Resources"), "{status}");
    let teacher = site.query("SELECT job FROM tasks");
    let teacher = teacher.split('"').nth(3).unwrap();
    let why = text(&site.distillery(&["why", teacher]));
    assert!(why.contains("task 1_0 of Slurm waits since") && why.contains(": Resources"), "{why}");
    let output = site.distillery(&["cancel", "all"]);
    assert!(text(&output).contains("taken back from Slurm, where they waited: 1 task"), "{}", text(&output));
    assert_eq!(fs::read_dir(site.at("fake/tasks")).unwrap().count(), 0);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(75), "{}", site.log());
}

/// Nobody here knows whether one on another host lives: his lease is waited for, and if he renews it he keeps what he has.
#[tokio::test]
async fn a_controller_of_another_host_is_waited_for() {
    let site = Site::new();
    let store = Store::open(&Folder::new(site.at("runs")).store()).await.unwrap();
    let other = ("slurm-controller:e@elsewhere/1/1", "elsewhere");
    let take = async || store.take_control("e", other, Duration::from_secs(2), None).await.unwrap();
    assert_eq!(take().await, None);
    let mut child = site.controller();
    let ended = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert_eq!(take().await, None, "{}", site.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(ended.code(), Some(1));
    for says in ["s for the lease of `slurm-controller:e@elsewhere/1/1`", "error: another process submits"] {
        assert!(site.log().contains(says), "{says}: {}", site.log());
    }
    assert!(site.calls("sbatch").is_empty());
    // He is gone, or at least silent, some time later.
    assert_eq!(store.take_control("e", other, Duration::from_secs(8), None).await.unwrap(), None);
    let status = site.controller().wait().unwrap();
    assert!(status.success() && site.log().contains("s for the lease of"), "{}", site.log());
    assert_eq!(take().await, None, "it was given back");
}

/// A limit of what one may have in the queue: as much is asked for as there is room, and nothing is left behind by what was refused.
#[test]
fn no_more_is_asked_for_than_there_is_room() {
    let site = Site::new();
    site.say("mode", "limit 2");
    let output = site.distillery(&["run", "e.toml", "--engine", "slurm", "--no-report"]);
    assert!(output.status.success(), "{}", text(&output));
    let taken = fs::read_dir(site.at("fake/arrays")).unwrap().count();
    assert_eq!(fs::read_dir(site.at("runs/cluster")).unwrap().count(), taken, "{:?}", site.calls("sbatch"));
    assert!(site.calls("sbatch").len() <= 30, "{:?}", site.calls("sbatch"));
    assert!(text(&output).contains("the rest waits until Slurm takes more: "), "{}", text(&output));
    // The last of them may be on its way out.
    wait("nothing is left", || {
        assert!(site.distillery(&["gc"]).status.success());
        fs::read_dir(site.at("runs/cluster")).unwrap().count() == 0
    });
}

/// A partition that is drained is waited for, others' refusals are not.
#[test]
fn a_drained_partition_is_waited_for() {
    let site = Site::new();
    site.say("mode", "refuse Required partition not available (inactive or drain)");
    let mut child = site.controller();
    wait("the note", || site.log().contains("waits until Slurm takes more: "));
    assert!(child.try_wait().unwrap().is_none());
    site.say("mode", "run");
    assert!(child.wait().unwrap().success(), "{}", site.log());
}

/// Who stops all schedulers, as the dashboard does, stops this one, and what waits is taken back.
#[tokio::test]
async fn a_controller_does_as_schedulers_do() {
    for wish in [SchedulerWish::Stop, SchedulerWish::Drain] {
        let site = Site::new();
        site.say("mode", "queue");
        let child = site.controller();
        wait("a task", || site.log().contains("1 waiting (Resources)"));
        let store = Store::open_to_ask(&Folder::new(site.at("runs")).store()).await.unwrap();
        assert_eq!(store.ask_schedulers(wish).await.unwrap(), 1);
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(75), "{}", site.log());
        assert_eq!(fs::read_dir(site.at("fake/tasks")).unwrap().count(), 0, "{}", site.log());
    }
}

/// What waits for an experiment as it was before is not wanted any more.
#[test]
fn a_changed_experiment_takes_back_what_waits() {
    let site = Site::new();
    site.say("mode", "queue");
    let child = site.controller();
    wait("a task", || site.log().contains("1 waiting (Resources)"));
    kill(child);
    site.say("mode", "run");
    fs::write(site.at("e.toml"), EXPERIMENT.replace("train[:60]", "train[:80]")).unwrap();
    let output = site.distillery(&["run", "e.toml", "--engine", "slurm", "--no-report"]);
    assert!(output.status.success(), "{}", text(&output));
    let left =
        fs::read_dir(site.at("fake/tasks")).unwrap().flatten().map(|task| fs::read_to_string(task.path()).unwrap());
    assert!(left.into_iter().all(|line| line.contains("COMPLETED")), "{}", site.log());
}

/// Somebody runs the experiment with other jobs beside it: who looked after the old ones says so and ends.
#[test]
fn a_controller_whose_jobs_are_replaced_ends() {
    let site = Site::new();
    site.say("mode", "queue");
    let mut child = site.controller();
    wait("a task", || site.log().contains("1 waiting (Resources)"));
    site.distillery(&["run", "e.toml", "--engine", "manifest", "--device", "cpu", "epochs=3"]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(site.log().contains("error: `e` was run with other jobs meanwhile"), "{}", site.log());
}

/// What was given up goes on when a person says so, with the controller that is there.
#[test]
fn what_is_retried_goes_on_with_who_is_there() {
    let site = Site::new();
    let head = EXPERIMENT.split("[teachers.wide]").next().unwrap();
    let base = EXPERIMENT.split("[base]").nth(1).unwrap().split("[[grid]]").next().unwrap();
    let base = base.replace("teachers = [\"wide\"]\n", "");
    let text = format!("{head}[base]{base}objective = \"labels\"\n[[grid]]\nproduct = {{ seed = [0, 1] }}\n");
    fs::write(site.at("e.toml"), text).unwrap();
    // The first of each array fails, the other waits.
    let mended = site.at("mended");
    let there = format!("[ -e {} ]", mended.display());
    let free = site.at("free");
    let lines = format!(
        "{there} || [ $SLURM_ARRAY_TASK_ID != 0 ] || exit 3\nwhile ! [ -e {} ]; do sleep 0.1; done\n",
        free.display()
    );
    fs::write(site.at("site.toml"), format!("prologue = {lines:?}\n")).unwrap();
    let log = fs::File::create(site.at("log")).unwrap();
    let words = ["run", "e.toml", "--engine", "slurm", "--no-report", "--profile", "site.toml"];
    let mut child = site.command(&words).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    wait("it is given up", || site.log().contains("failed: 2 tasks ended without an epoch"));
    fs::write(&mended, "").unwrap();
    let output = site.distillery(&["retry", "failed"]);
    assert!(output.status.success(), "{}", self::text(&output));
    fs::write(&free, "").unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{}", site.log());
    assert!(site.query("SELECT count(*) AS n FROM jobs WHERE state = 'done'").contains("\"n\": 2"));
    assert_eq!(site.calls("sbatch").len(), 3, "{}", site.log());
}

/// While Slurm is away nothing is concluded from its silence.
#[test]
fn who_does_not_answer_is_waited_for() {
    let site = Site::new();
    site.say("away", "");
    let mut child = site.controller();
    wait("the note", || site.log().contains("waiting: Slurm does not answer: Unable to contact"));
    std::thread::sleep(Duration::from_secs(2));
    assert!(child.try_wait().unwrap().is_none());
    fs::remove_file(site.at("fake/away")).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{}", site.log());
    assert_eq!(site.calls("sbatch").len(), 2);
}

/// A list that is empty once says nothing.
#[test]
fn one_look_does_not_tell_what_is_gone() {
    let site = Site::new();
    site.say("mode", "queue");
    let child = site.controller();
    wait("a task", || site.log().contains("1 waiting (Resources)"));
    std::thread::sleep(Duration::from_secs(1));
    site.say("blind", "");
    wait("the look", || !site.at("fake/blind").exists());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(site.calls("sbatch").len(), 1, "{}", site.log());
    // One that stays away is submitted again.
    fs::remove_file(site.at("fake/tasks/1_0")).unwrap();
    wait("the second", || site.calls("sbatch").len() == 2);
    kill(child);
}

/// By hand, or by Kubernetes: a manifest, an index. A second start of the same finds nothing to do.
#[test]
fn a_manifest_needs_no_slurm() {
    let site = Site::new();
    let write = || {
        let output = site.distillery(&["run", "e.toml", "--engine", "manifest", "--device", "cpu", "--no-report"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap().lines().next().unwrap_or_default().to_owned())
    };
    let (code, teachers) = write();
    assert_eq!(code, Some(75));
    let work = |manifest: &str, index: &str| site.distillery(&["worker", "--manifest", manifest, "--index", index]);
    let output = work(&teachers, "0");
    assert!(output.status.success(), "{}", text(&output));
    let again = work(&teachers, "0");
    assert!(again.status.success() && text(&again).contains("nothing is left to do"), "{}", text(&again));
    let none = work(&teachers, "1");
    assert!(!none.status.success() && text(&none).contains("none of index 1"), "{}", text(&none));
    let (_, students) = write();
    assert_ne!(teachers, students);
    for index in ["0", "1", "2", "3"] {
        let output = work(&students, index);
        assert!(output.status.success(), "{}", text(&output));
    }
    let (code, _) = write();
    assert_eq!(code, Some(0));
    assert!(site.query("SELECT max(attempt) AS most FROM attempts").contains("\"most\": 1"));
}

/// Killed, and started again before its lease is over, as Kubernetes does: it waits, and then has the jobs.
#[test]
fn a_task_that_was_killed_is_taken_up_by_its_next_start() {
    let site = Site::new();
    let write = site.distillery(&[
        "run",
        "e.toml",
        "--engine",
        "manifest",
        "--device",
        "cpu",
        "teachers.wide.train.epochs=4000",
    ]);
    let manifest = String::from_utf8(write.stdout).unwrap().trim().to_owned();
    let work = || {
        let mut command = site.command(&["worker", "--manifest", &manifest, "--index", "0"]);
        command.env("DISTILLERY_LEASE_MS", "3000").stdout(Stdio::null());
        command
    };
    let first = work().stderr(Stdio::null()).spawn().unwrap();
    wait("it has begun", || !site.query("SELECT count(*) AS n FROM epochs").contains("\"n\": 0"));
    kill(first);
    let mut second = work().stderr(Stdio::null()).spawn().unwrap();
    wait("its next attempt", || site.query("SELECT max(attempt) AS most FROM attempts").contains("\"most\": 2"));
    second.kill().unwrap();
    second.wait().unwrap();
}

/// Several machines need a server.
#[test]
fn a_file_is_no_store_for_several_machines() {
    let site = Site::new();
    let output =
        site.command(&["run", "e.toml", "--engine", "slurm"]).env_remove("DISTILLERY_SLURM_SQLITE").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("which several machines cannot share")
            && text(&output).contains("hint: `--store postgres://")
    );
    assert!(!site.at("runs").exists() && site.calls("sbatch").is_empty());
    // Nor is a server the store of a folder that has a file.
    fs::create_dir(site.at("runs")).unwrap();
    fs::write(site.at("runs/store.sqlite"), "").unwrap();
    for verb in [&["status"][..], &["run", "e.toml"]] {
        let output = site.command(verb).env("DISTILLERY_STORE", "postgres://me@127.0.0.1:1/runs").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains("has a store of its own") && text(&output).contains("\nhint: leave `--store`"));
    }
    fs::remove_dir_all(site.at("runs")).unwrap();
    for (word, what) in [("slurm.partitoin=a", "partitoin"), ("run.halving={axes=[\"seed\"],at=[1]}", "halving")] {
        let output = site.distillery(&["run", "e.toml", word, "--engine", "slurm"]);
        assert_eq!(output.status.code(), Some(2), "{word}");
        assert!(text(&output).contains(what), "{}", text(&output));
    }
}
