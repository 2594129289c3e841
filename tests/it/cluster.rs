//! Sweeps through a real Slurm, with a real PostgreSQL, and what may happen to them there: the rows and the weights must be those
//! of one machine, whatever happens.
//!
//! `tests/cluster/run.sh` brings both up and runs this; without them each test says that it is skipped, and
//! DISTILLERY_CLUSTER_REQUIRED makes that a failure. DISTILLERY_CLUSTER_ALL=1 has the slow ones run, too. What needs hosts
//! with a network of their own is `tests/cluster/partition.sh`.
//!
//! Slurm, its nodes and the server are shared: who stops one of them is alone meanwhile ([`Turn`]).

mod lab;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::kill::{kill, signal};
use lab::{EPOCHS, LEASE, Lab, Turn, cluster, is_alive, restart_server, site, slurm};

const SECONDS: Duration = Duration::from_secs(1);

/// All as it should be; and in the midst of it a second controller, and a second start of a task, which leave it alone.
#[test]
fn slurm_gives_what_one_machine_gives() {
    let Some(lab) = Lab::new("undisturbed", Turn::Shared) else { return };
    lab.write(&site("").replace("gpus = 0", "gpus = 1"));
    let mut controller = lab.start();
    let (task, job) = lab.in_the_middle(1).remove(0);
    let comment = slurm("squeue", &["-h", "-j", &task.name, "-o", "%k"]);
    assert!(comment.starts_with("distillery:"), "{comment}");

    let attempts = lab.count("FROM attempts");
    let again = task.again().output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success(), "{} {said}", again.status);
    assert_eq!(lab.count("FROM attempts"), attempts, "{said}");

    let second = lab
        .command("run")
        .args(["sweep.toml", "--engine", "slurm", "--device", "cpu", "run.teacher-at-chance=allow"])
        .output();
    let second = second.unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("controller"), "{said}");

    lab.finish(&mut controller);
    lab.compare();
    assert_eq!(lab.count("FROM attempts"), lab.count("FROM jobs"), "each job once\n{}", lab.account());
    assert_eq!(lab.logs().len(), 3, "{:?}", lab.logs());
    let words = lab.command("logs").arg(&job).output().unwrap();
    assert!(String::from_utf8_lossy(&words.stdout).contains(&format!("job {job} is done")), "{words:?}");

    // Nothing is left to do, and nothing is submitted.
    let arrays = || fs::read_dir(lab.path("runs/cluster")).unwrap().count();
    let before = arrays();
    lab.finish(&mut lab.start());
    assert_eq!((arrays(), before), (before, 2));
}

/// The script and the worker are one process. Killed, it takes with it the one that trains, and somebody else goes on.
#[test]
fn who_kills_a_task_leaves_nobody_behind() {
    let Some(lab) = Lab::new("killed", Turn::Shared) else { return };
    let mut controller = lab.start();
    let (task, job) = lab.in_the_middle(1).remove(0);
    let children = task.children();
    assert!(!children.is_empty(), "nobody trains\n{}", lab.account());
    kill(task.pid);
    lab.until("those it had started are gone", 5 * SECONDS, || {
        (!children.iter().any(|child| is_alive(*child))).then_some(())
    });
    lab.finish(&mut controller);
    lab.compare();
    assert!(lab.count(&format!("FROM attempts WHERE job = '{job}'")) >= 2, "{}", lab.account());
}

/// One task has its warning, of a preemption or the end of its time; the other is taken off and put back into the queue.
#[test]
fn tasks_that_must_leave_are_started_again() {
    let Some(lab) = Lab::new("told", Turn::Shared) else { return };
    let mut controller = lab.start();
    let (warned, first) = lab.in_the_middle(1).remove(0);
    slurm("scancel", &["-b", "-s", "USR1", &warned.name]);
    let (requeued, second) = lab.in_the_middle_but(1, &first).remove(0);
    slurm("scontrol", &["requeue", &requeued.name]);
    lab.finish(&mut controller);
    lab.compare();
    for job in [&first, &second] {
        let attempts = lab.query(&format!("SELECT outcome FROM attempts WHERE job = '{job}' ORDER BY attempt"));
        assert!(attempts.len() >= 2 && attempts[0]["outcome"] == "stopped", "{attempts:?}\n{}", lab.account());
    }
    for task in [&warned, &requeued] {
        let shown = lab.shown(task);
        assert!(shown.contains(" Restarts=") && !shown.contains(" Restarts=0 "), "{shown}\n{}", lab.account());
    }
}

/// A student that fails takes nobody with it, and why is kept.
#[test]
fn a_failure_is_told_and_the_rest_is_done() {
    let Some(lab) = Lab::new("failed", Turn::Shared) else { return };
    let diverging = "[[grid]]\nset = { teaching = \"fixed/cc\", learning-rate = 1e30, clip = \"off\", epochs = 6 }\n";
    lab.write(&format!("{diverging}{}", site("")));
    let mut controller = lab.start();
    assert_eq!(lab.end(&mut controller).code(), Some(1), "{}", lab.account());
    let rows = lab.query("SELECT id, state, message FROM jobs WHERE state <> 'done'");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["state"], "failed");
    let message = rows[0]["message"].as_str().unwrap();
    assert!(message.contains("not finite"), "{message}");
    let why = lab.command("why").arg(rows[0]["id"].as_str().unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&why.stdout).contains(message.lines().next().unwrap()), "{why:?}");
    assert_eq!(lab.count("FROM jobs WHERE state = 'done'"), 5);
    assert!(lab.log().contains("failed"), "{}", lab.log());
}

/// What no node has, what Slurm refuses, and what does not start: each is said, and nobody waits without knowing why.
#[test]
fn what_cannot_run_says_why() {
    let Some(lab) = Lab::new("refused", Turn::Shared) else { return };
    for (more, says) in [
        ("[slurm]\ngpus = 3\n", "Requested node configuration is not available"),
        ("[slurm]\ngpus = 0\npartition = \"nowhere\"\n", "partition"),
    ] {
        lab.write(more);
        let mut controller = lab.start();
        let status = lab.end(&mut controller);
        assert!(!status.success() && lab.log().contains(says), "{more}{status}\n{}", lab.account());
        fs::remove_file(lab.path("log")).unwrap();
    }

    lab.write(&site("cpus = 99"));
    let mut controller = lab.start();
    lab.until("somebody says why", 30 * SECONDS, || lab.log().contains("PartitionConfig").then_some(()));
    for verb in ["status", "why"] {
        let mut command = lab.command(verb);
        if verb == "why" {
            let job = lab.query("SELECT id FROM jobs WHERE teaching = 'labels'");
            command.arg(job[0]["id"].as_str().unwrap());
        } else {
            command.arg("sweep");
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("PartitionConfig"), "{verb}: {said}");
    }
    signal(controller.id(), "TERM");
    lab.end(&mut controller);
    assert!(lab.command("cancel").arg("open").output().unwrap().status.success());
    drop(lab);

    // What Slurm starts, and what comes to nothing: an end comes, with Slurm's words and the place of the log, if there is one.
    for (name, why, says) in [
        ("nothing", "prologue = \"exit 3\"", "exit code 3, n"),
        ("nowhere", "extra = [\"--output=/no/such/place/%A_%a.log\"]", ".log` was never begun: does the node see"),
    ] {
        let Some(lab) = Lab::new(name, Turn::Shared) else { return };
        lab.write(&format!("{}[run]\nretries.no-progress = 2\n", site(why)));
        let mut controller = lab.start();
        assert_eq!(lab.end(&mut controller).code(), Some(1), "{}", lab.account());
        let rows = lab.query("SELECT message FROM jobs WHERE state = 'failed'");
        assert_eq!(rows.len(), 1, "{rows:?}");
        let message = rows[0]["message"].as_str().unwrap();
        assert!(message.contains("FAILED") && message.contains(".log`") && message.contains(says), "{message}");
    }
}

/// A person who goes home: the tasks go on without a controller. `cancel` reaches them, too.
#[test]
fn tasks_go_on_without_a_controller() {
    let Some(lab) = Lab::new("detached", Turn::Shared) else { return };
    let mut controller = lab.start();
    let (_, job) = lab.in_the_middle(1).remove(0);
    signal(controller.id(), "TERM");
    assert_eq!(lab.end(&mut controller).code(), Some(75), "{}", lab.account());
    lab.until("one student is told to leave", 20 * SECONDS, || {
        lab.command("cancel").arg(&job).output().unwrap().status.success().then_some(())
    });
    lab.until("all tasks have ended", 120 * SECONDS, || lab.is_at_rest().then_some(()));
    assert_eq!(lab.count("FROM jobs WHERE state = 'done'"), 4, "{}", lab.account());
    let left = lab.query(&format!("SELECT max(epoch) AS epoch FROM epochs WHERE job = '{job}'"));
    assert!(left[0]["epoch"].as_u64().unwrap() < u64::from(EPOCHS), "{left:?}");
    assert!(lab.command("retry").arg(&job).output().unwrap().status.success());
    lab.finish(&mut lab.start());
    lab.compare();
}

/// The server's processes that answer this sweep hang: shorter than a lease, and longer.
#[test]
fn a_store_that_hangs_holds_nobody_up() {
    let Some(lab) = Lab::new("hung", Turn::Shared) else { return };
    let mut controller = lab.start();
    lab.until("a task runs", 30 * SECONDS, || (!lab.tasks().is_empty()).then_some(()));
    for wait in [LEASE / 3, 2 * LEASE] {
        let hung = lab.backends();
        assert!(!hung.is_empty(), "{}", lab.account());
        hung.iter().for_each(|pid| signal(*pid, "STOP"));
        thread::sleep(wait);
        hung.iter().for_each(|pid| signal(*pid, "CONT"));
        if wait < LEASE {
            lab.in_the_middle(1);
        }
    }
    lab.finish(&mut controller);
    lab.compare();
}

/// The server ends hard and comes back: soon, so that nobody notices; late, so that tasks save and leave, and are started again.
#[test]
fn a_store_that_is_away_is_waited_for() {
    let Some(lab) = Lab::new("away", Turn::Alone) else { return };
    let mut controller = lab.start();
    lab.until("a task runs", 30 * SECONDS, || (!lab.tasks().is_empty()).then_some(()));
    restart_server(2 * SECONDS);
    lab.in_the_middle(1);
    restart_server(2 * LEASE);
    assert!(!controller.is_over(), "{}", lab.account());
    lab.finish(&mut controller);
    lab.compare();
}

/// The controller is killed where it hurts: when the array is written down and not yet submitted, and when it is submitted and
/// not yet written down. No index runs twice, none is lost.
#[test]
fn a_controller_that_dies_submitting_loses_nothing() {
    let Some(lab) = Lab::new("submitting", Turn::Shared) else { return };
    let lines = "case $(cat mode 2>/dev/null) in\n\
                 before) rm mode; kill -KILL $PPID; exit 1 ;;\n\
                 after) rm mode; {slurm's} \"$@\" > number; kill -KILL $PPID; exit 1 ;;\n\
                 esac\nexec {slurm's} \"$@\"\n";
    lab.before_slurms("sbatch", lines);
    for mode in ["after", "before"] {
        fs::write(lab.path("mode"), mode).unwrap();
        let mut controller = lab.start();
        assert_eq!(lab.end(&mut controller).code(), None, "{}", lab.account());
    }
    lab.finish(&mut lab.start());
    lab.compare();
    assert_eq!(lab.count("FROM attempts"), lab.count("FROM jobs"), "each job once\n{}", lab.account());
}

/// A node's clock is two hours ahead: leases are on the store's.
#[test]
fn a_clock_that_is_wrong_does_no_harm() {
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|folder| folder.path());
    let library: Option<PathBuf> =
        libraries.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists());
    let Some(lab) = Lab::new("clock", Turn::Shared) else { return };
    let library = library.expect("libfaketime is installed where the cluster is");
    let lines = format!("export FAKETIME=+2h FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD={}", library.display());
    lab.write(&site(&format!("prologue = \"{lines}\"")));
    let mut controller = lab.start();
    let (task, job) = lab.in_the_middle(1).remove(0);
    assert!(task.environment.iter().any(|(name, _)| name == "FAKETIME"), "{task:?}");
    // One that was killed has its lease until the store's clock says that it is over.
    kill(task.pid);
    lab.finish(&mut controller);
    lab.compare();
    let attempts = lab.query("SELECT job, count(*) AS n FROM attempts GROUP BY job HAVING count(*) > 1");
    assert!(attempts.iter().any(|row| row["job"] == job.as_str()) && attempts.len() <= 2, "{attempts:?}");
}

/// Slurm's controller ends orderly, and hard, right after it took an array; then it is away for a while.
#[test]
fn slurms_controller_may_forget() {
    let Some(lab) = Lab::slow("forgetful", Turn::Alone) else { return };
    let mut controller = lab.start();
    let submitted = || lab.log().matches("submitted").count();
    lab.until("the teacher is submitted", 60 * SECONDS, || (submitted() >= 1).then_some(()));
    cluster("stop", &["ctl"]);
    cluster("up", &[]);
    lab.until("the students are submitted", 120 * SECONDS, || (submitted() >= 2).then_some(()));
    cluster("stop", &["ctl", "KILL"]);
    thread::sleep(10 * SECONDS);
    assert!(!controller.is_over(), "{}", lab.account());
    cluster("up", &[]);
    lab.finish(&mut controller);
    lab.compare();
}

/// A node's master is killed and comes back. Slurm starts a second copy meanwhile; only the newer one's rows count.
#[test]
fn a_lost_node_does_no_harm() {
    let Some(lab) = Lab::slow("node", Turn::Alone) else { return };
    let mut controller = lab.start();
    let (task, _) = lab.in_the_middle(1).remove(0);
    // The old copy stands still, so that it is there when the new one begins.
    let frozen: Vec<u32> = task.children().into_iter().chain([task.pid]).collect();
    cluster("stop", &[&task.node, "KILL"]);
    frozen.iter().for_each(|pid| signal(*pid, "STOP"));
    lab.until("a second copy trains", 120 * SECONDS, || {
        lab.tasks().into_iter().find(|other| other.name == task.name && other.pid != task.pid)
    });
    thread::sleep(2 * SECONDS);
    frozen.iter().for_each(|pid| signal(*pid, "CONT"));
    lab.until("the old copy leaves by itself", 3 * LEASE, || (!frozen.iter().any(|pid| is_alive(*pid))).then_some(()));
    cluster("up", &[]);
    lab.finish(&mut controller);
    lab.compare();
}

/// A partition whose jobs make way for others.
#[test]
fn who_makes_way_goes_on_later() {
    let Some(lab) = Lab::slow("preempted", Turn::Alone) else { return };
    lab.write("\n[slurm]\ngpus = 1\nmemory = \"300M\"\ntime = \"10\"\npartition = \"low\"\n");
    let mut controller = lab.start();
    lab.in_the_middle(1);
    let all = ["--parsable", "-p", "main", "-N", "2", "--gres=gpu:2", "--wrap", "sleep 6"];
    let other = slurm("sbatch", &all);
    lab.until("they have made way", 60 * SECONDS, || {
        slurm("squeue", &["-h", "-j", other.trim(), "-o", "%T"]).contains("RUNNING").then_some(())
    });
    lab.finish(&mut controller);
    lab.compare();
    assert!(lab.count("FROM attempts WHERE outcome = 'stopped'") >= 1, "{}", lab.account());
}

/// Everything ended while nobody looked, and Slurm has forgotten it.
#[test]
fn what_slurm_has_forgotten_is_known() {
    let Some(lab) = Lab::slow("forgotten", Turn::Alone) else { return };
    cluster("set", &["MinJobAge", "5"]);
    let mut controller = lab.start();
    lab.in_the_middle(2);
    signal(controller.id(), "TERM");
    lab.end(&mut controller);
    lab.until("all tasks have ended", 120 * SECONDS, || lab.is_at_rest().then_some(()));
    let begun = Instant::now();
    lab.until("Slurm has forgotten", 90 * SECONDS, || {
        let all = slurm("squeue", &["-h", "-r", "-t", "all", "-o", "%Z"]);
        (begun.elapsed() > 6 * SECONDS && !all.contains(&*lab.root().to_string_lossy())).then_some(())
    });
    cluster("set", &["MinJobAge", "300"]);
    lab.finish(&mut lab.start());
    lab.compare();
    assert_eq!(lab.count("FROM attempts"), lab.count("FROM jobs"), "{}", lab.account());
}
