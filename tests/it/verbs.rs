//! The verbs that look at jobs, ask something of them, or tidy up, on the store of a short real run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use distillery::event::now_ms;
use distillery::job::JobId;
use distillery::store::{State, Store, Wish};
use serde_json::Value;

const EXPERIMENT: &str = r#"
    title = "Mine"
    [teachers.t]
    train = { epochs = 1, learning-rate = 1e-2 }
    [base]
    data = "fashion-mnist-8k2k"
    split = { train = "train[:200]", validation = "train[7000:7100]", test = "test[:100]" }
    student = { bit-resnet-small = { depth = 8, width = 4 } }
    resolution = 10
    teachers = ["t"]
    batch = 32
    learning-rate = 1e-2
    [run]
    teacher-at-chance = "allow"
    [[grid]]
    product = { teaching = ["fixed/rs", "function-matching"], epochs = [1, 2], seed = [0] }
    [[grid]]
    set = { teaching = "consistent/ic", epochs = 1, clip = "off", learning-rate = 1e30 }
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// After a run whose last job fails.
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine.toml"), EXPERIMENT).unwrap();
        let place = Place { folder };
        let output = place.call(&["run", "mine.toml", "--quiet", "--no-report"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        place
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn runs(&self, inside: &str) -> PathBuf {
        self.path().join("runs").join(inside)
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
        command.current_dir(self.path()).env_remove("DISTILLERY_DATA").args(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// What is said, after asserting that it was refused as wrong usage.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    fn id(&self, condition: &str) -> String {
        let rows = self.json(&["query", &format!("SELECT id FROM jobs WHERE {condition} ORDER BY id")]);
        rows[0]["id"].as_str().unwrap().to_owned()
    }

    fn column(&self, id: &str, column: &str) -> Value {
        self.json(&["query", &format!("SELECT {column} AS it FROM jobs WHERE id = '{id}'")])[0]["it"].clone()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Puts jobs into a state that only an unlucky run would leave them in.
async fn force(place: &Place, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.runs("store.sqlite"));
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
}

/// A short run, and everything that is asked afterwards. One test, since the run is what takes time.
#[tokio::test]
async fn jobs_are_looked_at_held_cancelled_and_tried_again() {
    let place = Place::new();
    let failed = place.id("state = 'failed'");
    let done = place.id("teaching = 'function-matching' AND epochs = 2");

    // What failed says why, and how often it was tried.
    let why = place.ok(&["why", &failed[..8]]);
    for part in ["failed", "not-finite", "distillery retry", "attempt", "process ", "cpu", "spool.jsonl"] {
        assert!(why.contains(part), "`{part}` is not in\n{why}");
    }
    let why = place.json(&["why", &done]);
    assert_eq!(
        (why["shown"].as_str(), why["epoch"].as_u64(), why["attempts"].as_array().unwrap().len()),
        (Some("done"), Some(2), 1)
    );
    let logs = place.ok(&["logs", &done]);
    for part in ["started", "epoch 1/2: loss", "validation", "images/s", "finished"] {
        assert!(logs.contains(part), "`{part}` is not in\n{logs}");
    }
    assert_eq!(place.ok(&["logs", &done, "-n", "1"]).lines().count(), 1);
    // Of what has ended, following ends.
    assert!(place.ok(&["logs", &failed, "--follow"]).contains("failed: not-finite"));
    let last = place.ok(&["logs", &done, "--json"]);
    let last: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(last["kind"], "finished");

    // Nothing to be done is said, and nothing is changed by a rehearsal.
    assert!(place.refused(&["cancel", &done]).contains("is done: nothing to cancel"));
    assert!(place.refused(&["hold", "seed=9"]).contains("no job matches `seed=9`"));
    assert!(place.refused(&["hold", "sed=9"]).contains("did you mean `seed`?"));
    assert!(place.refused(&["retry"]).contains("--failed"));
    assert!(place.refused(&["release", "all"]).contains("of 6 jobs none is held"));
    let rehearsed = place.ok(&["retry", "--failed", "--dry-run"]);
    assert_eq!(rehearsed, format!("1 job would be open again: {failed}\n"));
    assert_eq!(place.column(&failed, "state"), "failed");

    // Held: neither open for a person nor started.
    assert_eq!(place.ok(&["retry", "--failed"]), format!("1 job open again: {failed}\n"));
    assert!(
        place
            .ok(&["why", &failed])
            .contains("no scheduler is running; `distillery run mine.toml --quiet --no-report` goes on")
    );
    let held = place.json(&["hold", "state=open", "and", "learning-rate>1"]);
    assert_eq!(held["jobs"][0].as_str(), Some(failed.as_str()));
    assert!(place.ok(&["why", &failed]).contains("held by you: `distillery release"));
    let status = place.ok(&["status", "mine"]);
    assert!(status.contains("held") && status.contains("2/2") && status.contains(" %"), "{status}");
    assert_eq!(place.json(&["status"])[0]["held"], 1);
    assert!(place.refused(&["hold", &failed]).contains("is held: nothing to hold"));
    place.ok(&["cancel", "held"]);
    assert!(place.refused(&["release", &failed]).contains("hint: `distillery retry` opens what was cancelled"));
    assert!(place.ok(&["logs", &failed]).contains("you cancelled it"));
    place.ok(&["retry", &failed]);
    assert_eq!(place.column(&failed, "wish"), Value::Null);
    place.ok(&["priority", "-3", &failed]);
    assert_eq!(place.column(&failed, "priority"), -3);
    assert!(place.refused(&["priority", "-3", &failed]).contains("nothing to put before others"));

    // Held is held also while it runs; nobody runs it, whatever the lease says.
    force(
        &place,
        "UPDATE attempts SET ended_ms = NULL WHERE job = (SELECT id FROM jobs WHERE learning_rate > 1) AND attempt = 1",
    )
    .await;
    force(&place, "UPDATE jobs SET state = 'running', lease_until_ms = 99999999999999 WHERE learning_rate > 1").await;
    place.ok(&["hold", &failed]);
    assert_eq!(place.ok(&["release", "held"]), format!("1 job released: {failed}\n"));
    let why = place.ok(&["why", &failed]);
    assert!(why.contains("nobody works on it") && why.contains("`distillery run mine.toml"), "{why}");
    assert!(place.refused(&["hold", "state=donee"]).contains("did you mean `done`?"));

    // A teacher is in no grid, and still named where it keeps others waiting.
    force(&place, "UPDATE jobs SET state = 'interrupted' WHERE teaching = 'labels'").await;
    let teacher = place.id("teaching = 'labels'");
    place.ok(&["cancel", &teacher]);
    for status in [place.ok(&["status"]), place.ok(&["status", "mine"])] {
        let short = &teacher[..8];
        assert!(status.contains(&format!("teacher {short} is cancelled")), "{status}");
        assert!(status.contains(&format!("`distillery retry {short}` opens it again")), "{status}");
    }
    place.ok(&["retry", &teacher]);
    assert!(!place.ok(&["status"]).contains("cancelled"));

    // A dashboard is no file.
    let refused = place.refused(&["status", "--watch"]);
    assert!(refused.contains("wants a terminal") && refused.contains("hint: "), "{refused}");

    // A teacher that failed and what it blocks are tried together.
    force(&place, "UPDATE jobs SET state = 'failed', message = 'no luck' WHERE teaching = 'labels'").await;
    force(
        &place,
        "UPDATE jobs SET state = 'blocked', message = 'needs it', blocked_by = (SELECT id FROM jobs WHERE teaching = 'labels')
         WHERE teaching = 'consistent/ic'",
    )
    .await;
    let teacher = place.id("teaching = 'labels'");
    let why = place.ok(&["why", &failed]);
    assert!(why.contains(&format!("blocked by {teacher}")) && why.contains("no luck"), "{why}");
    assert!(place.ok(&["retry", &failed]).starts_with("2 jobs open again"));
    assert_eq!((place.column(&teacher, "state"), place.column(&failed, "state")), ("open".into(), "open".into()));
    let why = place.ok(&["why", &failed]);
    assert!(why.contains(&format!("needs {teacher}")) && why.contains("which is open"), "{why}");
}

/// What nothing needs goes, results stay, and what somebody works on is left alone.
#[tokio::test]
async fn rubbish_is_removed_and_results_are_not() {
    let place = Place::new();
    let done = place.id("teaching = 'function-matching' AND epochs = 2");
    let open = place.id("state = 'failed'");
    let job = |id: &str, file: &str| place.runs(&format!("jobs/{id}/{file}"));
    let unknown = "00000000000000aa";
    fs::create_dir_all(place.runs(&format!("jobs/{unknown}"))).unwrap();
    fs::create_dir_all(place.runs("streams")).unwrap();
    let rubbish = [
        job(&done, "checkpoint-a.safetensors"),
        job(&done, "spool.partial"),
        job(unknown, "spool.jsonl"),
        place.runs("streams/0123456789abcdef.safetensors"),
        place.runs("streams/0123456789abcdef.partial"),
        place.runs("cohorts/0123456789abcdef.log"),
    ];
    for path in &rubbish {
        fs::write(path, [0; 1000]).unwrap();
    }
    let checkpoint = job(&open, "checkpoint-b.safetensors");
    fs::write(&checkpoint, [0; 1000]).unwrap();
    let students = || -> usize {
        let folders = fs::read_dir(place.runs("jobs")).unwrap();
        folders.filter(|folder| folder.as_ref().unwrap().path().join("student.safetensors").is_file()).count()
    };
    let (before, kept) = (students(), place.ok(&["query", "SELECT * FROM epochs"]));
    assert_eq!(before, 5);

    let plan = place.json(&["gc", "--dry-run"]);
    assert!(plan["bytes"].as_u64().unwrap() >= 6000, "{plan}");
    assert!(rubbish.iter().all(|path| path.exists()));
    assert_eq!(place.json(&["gc", "--older-than", "7d"])["bytes"], 0);
    assert!(rubbish.iter().all(|path| path.exists()));

    // A job that is run now, and one that a worker has locked.
    force(&place, "UPDATE jobs SET lease_until_ms = 99999999999999, state = 'interrupted' WHERE state = 'failed'")
        .await;
    let lock = fs::File::create(job(&done, "lock")).unwrap();
    lock.lock().unwrap();
    place.ok(&["gc", "--all-checkpoints"]);
    assert!(checkpoint.exists() && rubbish[0].exists() && !rubbish[2].exists());
    drop(lock);
    place.ok(&["gc"]);
    assert!(checkpoint.exists() && rubbish.iter().all(|path| !path.exists()), "{rubbish:?}");
    force(&place, "UPDATE jobs SET lease_until_ms = NULL").await;
    place.ok(&["gc", "--all-checkpoints"]);
    assert!(!checkpoint.exists());
    assert_eq!((students(), place.ok(&["query", "SELECT * FROM epochs"])), (before, kept));
    // The manifest of what is not done is still there.
    assert!(fs::read_dir(place.runs("cohorts")).unwrap().count() >= 1);

    // A result that the store does not know is only removed when that is said.
    fs::create_dir_all(place.runs(&format!("jobs/{unknown}"))).unwrap();
    fs::write(job(unknown, "student.safetensors"), "a result").unwrap();
    let output = place.call(&["gc"]);
    assert!(text(&output.stderr).contains("1 folders hold results") && job(unknown, "").exists());
    place.ok(&["gc", "--unknown-results"]);
    assert!(!job(unknown, "").exists());
}

/// What is wrong is named with a way out, and makes the exit code.
#[test]
fn the_doctor_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { folder };
    fs::write(place.path().join("mine.toml"), EXPERIMENT).unwrap();
    let well = place.call(&["doctor", "mine.toml"]);
    let said = text(&well.stdout);
    assert_eq!(well.status.code(), Some(0), "{said}");
    for part in
        ["processor", "memory", "gpu", "file system", "none yet at", "6 jobs, 6 of them open", "nothing is in the way"]
    {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
    assert!(!place.path().join("runs").exists(), "the doctor made something");
    let ill = place.call(&["doctor", "fig1-duration", "size=box", "--json"]);
    let checks: Value = serde_json::from_slice(&ill.stdout).unwrap();
    let problem = checks.as_array().unwrap().iter().find(|check| check["verdict"] == "problem").unwrap();
    assert!(
        problem["found"].as_str().unwrap().contains("not on this machine") && problem["hint"].is_string(),
        "{problem}"
    );
    assert_eq!(ill.status.code(), Some(1));
    fs::create_dir(place.path().join("runs")).unwrap();
    fs::write(place.runs("store.sqlite"), "this is no database, and long enough to be none".repeat(100)).unwrap();
    let ill = place.call(&["doctor"]);
    assert_eq!(ill.status.code(), Some(1));
    assert!(text(&ill.stdout).contains("is not a database"), "{}", text(&ill.stdout));
}

/// Wishes are written beside a scheduler that writes, and never migrate.
#[tokio::test]
async fn wishes_are_written_while_somebody_else_writes() {
    use crate::store::labels_job;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    assert!(matches!(Store::open_to_ask(&path).await, Err(distillery::store::Error::Missing { .. })));
    let scheduler = Store::open(&path).await.unwrap();
    let jobs: Vec<_> = (0..3).map(|seed| labels_job(seed, 2)).collect();
    let none = Default::default();
    let listed: Vec<_> = jobs.iter().map(|job| (job.id(), job, &none)).collect();
    scheduler.record_experiment("toy", "hash", None, "text", &listed, &[]).await.unwrap();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id()).collect();
    let asking = Store::open_to_ask(&path).await.unwrap();
    assert_eq!(asking.wish(&ids[..2], Some(Wish::Hold)).await.unwrap(), ids[..2]);
    // What is so already has not changed.
    assert_eq!(asking.wish(&ids, Some(Wish::Hold)).await.unwrap(), ids[2..]);
    assert_eq!(asking.wish(&ids, None).await.unwrap(), ids);
    assert_eq!(asking.wish(&ids[..1], Some(Wish::Cancel)).await.unwrap(), ids[..1]);
    let standings = scheduler.standings().await.unwrap();
    let shown: Vec<&str> = standings.iter().map(|one| one.shown()).collect();
    assert_eq!(shown, ["cancelled", "open", "open"]);
    assert_eq!((standings[0].state, standings[0].wish), (State::Open, Some(Wish::Cancel)));
    assert_eq!(asking.retry(&ids).await.unwrap(), ids[..1]);
    assert_eq!(asking.prioritize(&ids, 0).await.unwrap(), []);
    assert_eq!(asking.prioritize(&ids[1..], 2).await.unwrap(), ids[1..]);
    assert_eq!(scheduler.events(&ids[0]).await.unwrap().len(), 4);
    assert_eq!(asking.forget_schedulers(now_ms()).await.unwrap(), 0);
}
