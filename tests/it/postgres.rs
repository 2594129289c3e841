//! The store on a PostgreSQL server: what is peculiar to it. The tests of `store.rs` run on both databases.
//!
//! `tests/cluster/postgres.sh up DIR` starts a server; DIR/env then sets what is looked for here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use distillery::event::{Event, Failure};
use distillery::job::{Job, JobId};
use distillery::plan::CohortId;
use distillery::store::{Block, Claim, Ending, Error, Location, Provenance, State, Store, Taken, Wish};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use crate::cli::{distillery, text};
use crate::kill::signal;
use crate::store::{epoch, labels_job, record, says};

/// Where a test has a store of its own, not there yet.
pub struct Place {
    pub folder: TempDir,
    pub location: Location,
}

/// A file, and a schema of the server where there is one.
pub async fn places() -> Vec<Place> {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::from(&folder.path().join("store.sqlite"));
    let mut places = vec![Place { folder, location }];
    places.extend(on_server().await);
    places
}

fn server() -> Option<String> {
    std::env::var("DISTILLERY_TEST_POSTGRES").ok().filter(|url| !url.is_empty())
}

async fn on_server() -> Option<Place> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Some(url) = server() else {
        eprintln!("SKIPPED on PostgreSQL: DISTILLERY_TEST_POSTGRES is not set; see tests/cluster/postgres.sh");
        return None;
    };
    let schema = format!("t{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut admin = PgConnection::connect(&url).await.expect("DISTILLERY_TEST_POSTGRES names a server that is up");
    sqlx::raw_sql(AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")))
        .execute(&mut admin)
        .await
        .unwrap();
    let with = if url.contains('?') { '&' } else { '?' };
    let location = format!("{url}{with}options=-csearch_path%3D{schema}").parse().unwrap();
    Some(Place { folder: tempfile::tempdir().unwrap(), location })
}

fn cohort() -> CohortId {
    serde_json::from_str("\"c\"").unwrap()
}

fn owner(name: &str) -> Provenance {
    Provenance { owner: name.to_owned(), ..Provenance::default() }
}

const LEASE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_at_once_begin_every_job_once() {
    for place in places().await {
        let jobs: Vec<Job> = (0..200).map(|seed| labels_job(seed, 1)).collect();
        let ids: Arc<Vec<JobId>> = Arc::new(jobs.iter().map(Job::id).collect());
        let store = Store::open(&place.location).await.unwrap();
        record(&store, "toy", &jobs.iter().collect::<Vec<_>>(), &[]).await;
        let begun = Instant::now();
        let claimers: Vec<_> = (0..8_usize)
            .map(|worker| {
                let (location, ids) = (place.location.clone(), Arc::clone(&ids));
                tokio::spawn(async move {
                    let store = Store::open_to_work(&location).await.unwrap();
                    let me = owner(&format!("worker {worker}"));
                    let mut mine = Vec::new();
                    // In another order each, some at a time, until there is nothing left to have.
                    let mut order: Vec<usize> = (0..ids.len()).map(|at| (at * 7 + worker * 25) % ids.len()).collect();
                    if worker % 2 == 1 {
                        order.reverse();
                    }
                    for some in order.chunks(3) {
                        let some: Vec<JobId> = some.iter().map(|&at| ids[at].clone()).collect();
                        let claims = store.claim(&some, &cohort(), &me, LEASE, &HashMap::new()).await.unwrap();
                        for (id, claim) in some.into_iter().zip(claims) {
                            match claim {
                                Claim::Begun(attempt) => mine.push((id, attempt)),
                                other => assert_eq!(other, Claim::Theirs),
                            }
                        }
                    }
                    mine
                })
            })
            .collect();
        let mut all = Vec::new();
        for claimer in claimers {
            all.extend(claimer.await.unwrap());
        }
        println!("{}: 200 jobs in {:?}", place.location, begun.elapsed());
        assert!(all.iter().all(|(_, attempt)| *attempt == 1));
        let different: HashSet<&JobId> = all.iter().map(|(id, _)| id).collect();
        assert_eq!((all.len(), different.len()), (200, 200), "each exactly once");
    }
}

/// Everything that writes, on the same jobs at once: nobody waits in a ring, and the fence holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_writes_at_once_waits_in_turn() {
    for place in places().await {
        let jobs: Vec<Job> = (0..30).map(|seed| labels_job(seed, 50)).collect();
        let store = Store::open(&place.location).await.unwrap();
        record(&store, "toy", &jobs.iter().collect::<Vec<_>>(), &[]).await;
        let ids: Vec<JobId> = jobs.iter().map(Job::id).collect();
        let claims = store.claim(&ids, &cohort(), &owner("me"), LEASE, &HashMap::new()).await.unwrap();
        assert!(claims.iter().all(|claim| *claim == Claim::Begun(1)));
        let tasks: Vec<_> = (0..6_u32)
            .map(|worker| {
                let (location, jobs, mut ids) = (place.location.clone(), jobs.clone(), ids.clone());
                tokio::spawn(async move {
                    let store = Store::open_to_work(&location).await.unwrap();
                    for round in 1..=8_u32 {
                        let turn = ((worker * 11 + round * 7) % 30) as usize;
                        ids.rotate_left(turn);
                        match worker {
                            0 => drop(store.renew("me", LEASE).await.unwrap()),
                            1 => drop(store.wish(&ids, (round % 2 == 0).then_some(Wish::Hold)).await.unwrap()),
                            2 => {
                                let blocks = ids.iter().map(|id| Block {
                                    job: id.clone(),
                                    by: ids[0].clone(),
                                    message: "no".to_owned(),
                                });
                                store.block(&blocks.collect::<Vec<_>>()).await.unwrap();
                                store.unblock(&ids).await.unwrap();
                            }
                            3 => record(&store, "other", &jobs.iter().rev().collect::<Vec<_>>(), &[]).await,
                            _ => {
                                let messages: Vec<_> = (0..jobs.len())
                                    .map(|at| &jobs[(at + turn) % jobs.len()])
                                    .map(|job| says(job, 1, i64::from(round), Event::Epoch(epoch(round))))
                                    .collect();
                                let taken = store.take_all(&messages).await.unwrap();
                                assert!(taken.iter().all(|one| matches!(one, Taken::Stored | Taken::Known)));
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let outcomes = store.outcomes("toy").await.unwrap();
        assert!(outcomes.iter().all(|outcome| outcome.state == State::Running && outcome.epochs.len() == 8));
    }
}

/// Of two that end the same attempt at once one does; of two attempts the newer counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_end_is_written_once() {
    for place in places().await {
        let jobs: Vec<Job> = (0..20).map(|seed| labels_job(seed, 2)).collect();
        let store = Store::open(&place.location).await.unwrap();
        record(&store, "toy", &jobs.iter().collect::<Vec<_>>(), &[]).await;
        for job in &jobs {
            store.begin_attempt(&job.id(), &cohort(), &owner("me")).await.unwrap();
        }
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (location, jobs) = (place.location.clone(), jobs.clone());
                tokio::spawn(async move {
                    let store = Store::open_to_work(&location).await.unwrap();
                    let mut stored = 0;
                    for job in &jobs {
                        let ending = Ending::Failed { class: Failure::Lost, message: "gone".to_owned() };
                        let taken = store.end_attempt(&job.id(), 1, &ending).await.unwrap();
                        stored += u32::from(taken == Taken::Stored);
                    }
                    stored
                })
            })
            .collect();
        let mut stored = 0;
        for task in tasks {
            stored += task.await.unwrap();
        }
        assert_eq!(stored, 20);
    }
}

#[tokio::test]
async fn a_transaction_that_is_left_changes_nothing() {
    for place in places().await {
        let job = labels_job(0, 2);
        let store = Store::open(&place.location).await.unwrap();
        record(&store, "toy", &[&job], &[]).await;
        for _ in 0..5 {
            let ending = Ending::Stopped { message: String::new() };
            assert_eq!(store.end_attempt(&job.id(), 7, &ending).await.unwrap(), Taken::Unknown);
        }
        assert_eq!(store.begin_attempt(&job.id(), &cohort(), &owner("me")).await.unwrap(), 1);
        let other = Store::open_to_work(&place.location).await.unwrap();
        assert_eq!(other.attempts(&job.id()).await.unwrap().len(), 1, "no lock is left behind");
        other.wish(&[job.id()], Some(Wish::Cancel)).await.unwrap();
    }
}

/// Results are files of one folder: who comes with another one is told which.
#[tokio::test]
async fn a_database_belongs_to_one_folder() {
    for place in places().await {
        let store = Store::open(&place.location).await.unwrap();
        assert_eq!(store.settle("a", "/sweeps/a").await.unwrap(), None);
        assert_eq!(store.settle("b", "/sweeps/b").await.unwrap().as_deref(), Some("/sweeps/a"));
        assert_eq!(store.settle("a", "/mounted/elsewhere").await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_said() {
    let nobody: Location = "postgres://tester:secret@127.0.0.1:1/runs".parse().unwrap();
    let error = Store::open(&nobody).await.unwrap_err();
    assert!(matches!(error, Error::NoServer { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("no PostgreSQL server answers at `postgres://tester@127.0.0.1:1/runs`: "), "{text}");
    assert!(text.contains("refused") && !text.contains("secret"), "{text}");

    // As PgBouncer greets.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pooler: Location =
        format!("postgres://me@{}/runs?sslmode=disable", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut length = [0; 4];
        client.read_exact(&mut length).unwrap();
        client.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4]).unwrap();
        let fields = b"SFATAL\0C08P01\0Munsupported startup parameter: extra_float_digits\0\0";
        client.write_all(b"E").unwrap();
        client.write_all(&(fields.len() as u32 + 4).to_be_bytes()).unwrap();
        client.write_all(fields).unwrap();
    });
    let error = Store::open(&pooler).await.unwrap_err();
    assert!(
        matches!(error, Error::Pooler { .. }) && error.to_string().contains("extra_float_digits\nhint"),
        "{error:?}"
    );

    let Some(Place { location, .. }) = on_server().await else { return };
    let url = server().unwrap();
    let (before, after) = url.split_once('@').unwrap();
    let user = before.split(':').nth(1).unwrap().trim_start_matches('/');
    let wrong: Location = format!("postgres://{user}:wrong@{after}").parse().unwrap();
    let error = Store::open_read_only(&wrong).await.unwrap_err();
    assert!(matches!(error, Error::Login { .. }) && error.to_string().contains("PGPASSFILE"), "{error}");
    let (host, _) = url.rsplit_once('/').unwrap();
    let missing: Location = format!("{host}/nowhere").parse().unwrap();
    let error = Store::open(&missing).await.unwrap_err();
    assert!(matches!(error, Error::NoDatabase { .. }) && error.to_string().contains("nowhere"), "{error}");

    // A role that may have no connection at present, and one that may make nothing.
    let mut admin = PgConnection::connect(&url).await.unwrap();
    let role = format!("r{}", std::process::id());
    let sql = format!("CREATE ROLE {role} LOGIN PASSWORD 'word' CONNECTION LIMIT 0");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    let theirs: Location = format!("postgres://{role}:word@{after}").parse().unwrap();
    let error = Store::open_to_work(&theirs).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }) && error.is_away(), "{error:?}");
    sqlx::raw_sql(AssertSqlSafe(format!("ALTER ROLE {role} CONNECTION LIMIT -1"))).execute(&mut admin).await.unwrap();
    // From PostgreSQL 15 on.
    sqlx::raw_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC").execute(&mut admin).await.unwrap();
    let error = Store::open(&theirs).await.unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }) && error.to_string().contains("createdb -O"), "{error:?}");
    sqlx::raw_sql(AssertSqlSafe(format!("DROP ROLE {role}"))).execute(&mut admin).await.unwrap();

    let empty = Store::open_read_only(&location).await.unwrap_err();
    assert!(matches!(empty, Error::Empty { .. }), "{empty:?}");
    Store::open(&location).await.unwrap().close().await.unwrap();
    let mut admin = PgConnection::connect(&url).await.unwrap();
    let schema = location.to_string().rsplit_once("%3D").unwrap().1.to_owned();
    let mut change = async |sql: &str| {
        let sql = format!("SET search_path = {schema}; {sql}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    };
    change("INSERT INTO _sqlx_migrations VALUES (999, 'later', now(), true, '', 1)").await;
    for error in [Store::open(&location).await.unwrap_err(), Store::open_to_work(&location).await.unwrap_err()] {
        assert!(matches!(error, Error::Newer { .. }), "{error:?}");
    }
    change("DELETE FROM _sqlx_migrations WHERE version > 1").await;
    for error in
        [Store::open_read_only(&location).await.unwrap_err(), Store::open_to_work(&location).await.unwrap_err()]
    {
        assert!(matches!(error, Error::Older { .. }), "{error:?}");
    }
}

/// Encrypted, and with whom it should be, where that is asked for.
#[tokio::test]
async fn a_servers_certificate_is_looked_at() {
    let Ok(authority) = std::env::var("DISTILLERY_TEST_POSTGRES_CA") else {
        eprintln!("SKIPPED: DISTILLERY_TEST_POSTGRES_CA is not set; see tests/cluster/postgres.sh");
        return;
    };
    let Some(Place { location, .. }) = on_server().await else { return };
    let url = location.to_string();
    Store::open(&location).await.unwrap();
    let with = |more: &str| -> Location { format!("{url}&{more}").parse().unwrap() };
    let store = Store::open_read_only(&with(&format!("sslmode=verify-full&sslrootcert={authority}"))).await.unwrap();
    let row = store.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await.unwrap();
    assert_eq!(row.rows, [[serde_json::Value::from(true)]]);
    for (more, says) in
        [("sslmode=verify-full", "UnknownIssuer"), ("sslmode=verify-full&sslrootcert=/no/such/file", "No such file")]
    {
        let error = Store::open_read_only(&with(more)).await.unwrap_err();
        assert!(matches!(error, Error::Tls { .. }) && !error.is_away(), "{more}: {error:?}");
        assert!(
            error.to_string().contains(says) && error.to_string().contains("\nhint: `?sslrootcert=FILE`"),
            "{error}"
        );
    }
}

/// A call waits, and the server's process that answers it stands still, so that not even the server's own limit ends it.
#[tokio::test]
async fn a_call_that_hangs_has_an_end() {
    struct Frozen(u32);
    impl Drop for Frozen {
        fn drop(&mut self) {
            signal(self.0, "CONT");
        }
    }

    let Some(Place { location, .. }) = on_server().await else { return };
    assert!(
        location.to_string().contains("@127.0.0.1:"),
        "a process of another machine's cannot be stopped: {location}"
    );
    let store = Arc::new(Store::open(&location).await.unwrap());
    let table = format!("{}.tasks", location.to_string().rsplit_once("%3D").unwrap().1);
    let mut admin = PgConnection::connect(&server().unwrap()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; LOCK TABLE {table}"))).execute(&mut admin).await.unwrap();
    let call = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.tasks(None).await }
    });
    let sql = format!("SELECT pid FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted");
    let pid = loop {
        let pid: Option<i32> = sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_optional(&mut admin).await.unwrap();
        if let Some(pid) = pid {
            break pid;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let frozen = Frozen(pid.try_into().unwrap());
    signal(frozen.0, "STOP");
    // With nothing else to do, the clock goes on to the end of the call's patience by itself.
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let error = call.await.unwrap().unwrap_err();
    let took = begun.elapsed();
    tokio::time::resume();
    assert!(error.is_away() && format!("{error:?}").contains("did not answer for 20 s"), "{error:?}");
    assert!((Duration::from_secs(15)..Duration::from_secs(25)).contains(&took), "{took:?}");
    // That connection is not used again.
    sqlx::raw_sql("ROLLBACK").execute(&mut admin).await.unwrap();
    assert!(store.tasks(None).await.unwrap().is_empty());
}

/// Ended hard for a moment, in the middle of writing: errors until it is back, all of them of the passing kind, and what was
/// answered is there.
#[tokio::test]
async fn a_server_that_crashes_is_waited_for() {
    let Ok(restart) = std::env::var("DISTILLERY_TEST_POSTGRES_RESTART") else {
        eprintln!("SKIPPED: DISTILLERY_TEST_POSTGRES_RESTART is not set; see tests/cluster/postgres.sh");
        return;
    };
    // Other tests have connections to the usual server: this one has its own.
    let folder = tempfile::tempdir().unwrap();
    let script = restart.split(" restart ").next().unwrap().to_owned();
    let at = folder.path().join("server");
    let of = move |verb: &str| {
        let output = Command::new(&script).arg(verb).arg(&at).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let env = of("up");
    let value = |name: &str| {
        let line = env.lines().find_map(|line| line.strip_prefix(&format!("export {name}="))).unwrap();
        line.to_owned()
    };
    let word = std::fs::read_to_string(value("PGPASSFILE")).unwrap();
    let word = word.trim().rsplit(':').next().unwrap();
    let location: Location =
        value("DISTILLERY_TEST_POSTGRES").replace("tester@", &format!("tester:{word}@")).parse().unwrap();
    let job = labels_job(0, 10_000);
    let store = Store::open(&location).await.unwrap();
    record(&store, "toy", &[&job], &[]).await;
    store.begin_attempt(&job.id(), &cohort(), &owner("me")).await.unwrap();
    let (mut written, mut failed) = (0, 0);
    let crash = tokio::task::spawn_blocking({
        let of = of.clone();
        move || {
            std::thread::sleep(Duration::from_millis(300));
            of("restart")
        }
    });
    let (begun, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(30) && !(crash.is_finished() && written > 200) {
        match store.take(&says(&job, 1, 1, Event::Epoch(epoch(written + 1)))).await {
            Ok(taken) => {
                assert!(matches!(taken, Taken::Stored | Taken::Known));
                written += 1;
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            Err(error) => {
                assert!(error.passing().is_some(), "{error:?}");
                failed += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    crash.await.unwrap();
    println!("{written} written, {failed} refused meanwhile, longest wait {longest:?}");
    assert!(longest > Duration::from_millis(300), "the crash was noticed");
    let last = store.progress(&job.id()).await.unwrap().unwrap();
    assert_eq!((last.epoch, last.rows), (written, written));
    drop(store);
    of("down");
}

#[tokio::test]
async fn both_answer_the_same() {
    let mut answers: Vec<BTreeMap<&str, String>> = Vec::new();
    for place in places().await {
        let jobs: Vec<Job> = (0..3).map(|seed| labels_job(seed, 2)).collect();
        let store = Store::open(&place.location).await.unwrap();
        for name in ["b_toy", "B toy", "a-toy", "aa"] {
            record(&store, name, &jobs.iter().collect::<Vec<_>>(), &[]).await;
        }
        for (at, job) in jobs.iter().enumerate() {
            store.begin_attempt(&job.id(), &cohort(), &owner("me")).await.unwrap();
            let mut row = epoch(1);
            row.training_loss = f64::NAN;
            store
                .take_all(&[says(job, 1, 1, Event::Epoch(row)), says(job, 1, 2, Event::Epoch(epoch(2)))])
                .await
                .unwrap();
            if at == 0 {
                store.take(&says(job, 1, 3, Event::Finished)).await.unwrap();
            }
        }
        store.record_claims("aa", "r", "h", "t").await.unwrap();
        store.record_claims("none", "r", "h", "t").await.unwrap();
        let claimed = store.registered("aa", "r", "h").await.unwrap().unwrap();
        let reader = Store::open_read_only(&place.location).await.unwrap();
        let names: Vec<String> = reader.experiments().await.unwrap().into_iter().map(|one| one.name).collect();
        let spent = reader.spent("aa").await.unwrap();
        let order: Vec<JobId> = reader.standings().await.unwrap().into_iter().map(|one| one.id).collect();
        let progress = reader.progress(&jobs[1].id()).await.unwrap().unwrap();
        let curve = reader.curve(&jobs[1].id(), 10).await.unwrap();
        answers.push(BTreeMap::from([
            ("names", format!("{names:?}")),
            ("claims", format!("{} {}", claimed.begun, claimed.jobs)),
            ("spent", format!("{:?}", spent.iter().map(|one| (one.jobs, one.seconds)).collect::<Vec<_>>())),
            ("order", format!("{order:?}")),
            ("outcomes", format!("{:?}", reader.outcomes("aa").await.unwrap())),
            ("last", format!("{:?}", reader.last_rows("aa").await.unwrap())),
            ("progress", format!("{:?} {} {:?}", progress.epoch, progress.rows, progress.training_loss)),
            ("curve", format!("{curve:?}")),
            ("rate", format!("{:?}", reader.flops_per_second().await.unwrap().is_some())),
            ("kinds", format!("{}", reader.flops_per_second_by_kind().await.unwrap().len())),
            ("expected", format!("{:?}", reader.expectations().await.unwrap())),
            ("events", format!("{}", reader.events(&jobs[0].id()).await.unwrap().len())),
            ("recent", format!("{}", reader.recent(10).await.unwrap().len())),
            ("command", format!("{:?}", reader.last_command("aa").await.unwrap())),
            ("flags", format!("{:?}", reader.flags("aa").await.unwrap())),
            ("running", format!("{:?}", reader.running().await.unwrap().len())),
            ("owners", format!("{:?}", reader.owners().await.unwrap())),
            ("unusual", format!("{}", reader.unusual().await.unwrap().len())),
            ("after", format!("{}", reader.validation_after(&[1, 2]).await.unwrap().len())),
            ("pages", format!("{}", reader.pages("aa", &[jobs[0].id()].into()).await.unwrap().len())),
        ]));
        store.wish(&[jobs[2].id()], None).await.unwrap();
        store.retry(&[jobs[2].id()]).await.unwrap();
        store.prioritize(&[jobs[2].id()], 3).await.unwrap();
        store.halve(&jobs[1].id(), "slow").await.unwrap();
        store.note(&[(jobs[1].id(), 1)], "memory", "{}").await.unwrap();
        store.record_memory(&[(jobs[1].id(), 1)], 5).await.unwrap();
        store.register(&owner("me"), "aa", 2).await.unwrap();
        assert_eq!(store.order("me").await.unwrap(), None);
        store.rest(&[jobs[1].id()], "me", LEASE).await.unwrap();
        assert_eq!(store.interrupt_orphans("me").await.unwrap(), 2);
        store.unregister("me").await.unwrap();
        assert_eq!(store.schedulers().await.unwrap().len(), 1);
        assert_eq!(store.forget_schedulers(i64::MAX).await.unwrap(), 1);
    }
    if let [file, server] = answers.as_slice() {
        for (what, answer) in file {
            assert_eq!(answer, &server[what], "{what}");
        }
    }
}

/// What a folder was run with is known there from then on, and nothing secret is.
#[test]
fn a_folder_remembers_its_store() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("runs");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("store.url"), "postgres://me@127.0.0.1:1/runs\n").unwrap();
    let said = |arguments: &[&str]| {
        let output = distillery(place.path(), arguments);
        (output.status.code(), text(&output.stderr))
    };
    let unreachable = "error: no PostgreSQL server answers at `postgres://me@127.0.0.1:1/runs`";
    for arguments in [vec!["status"], vec!["status", "--store", "postgres://me:secret@127.0.0.1:1/runs"]] {
        let (code, message) = said(&arguments);
        assert!(code == Some(1) && message.starts_with(unreachable) && !message.contains("secret"), "{message}");
    }
    let (code, message) = said(&["status", "--store", "postgres://me@elsewhere/runs"]);
    assert_eq!(code, Some(2));
    assert!(message.contains("was run with the store `postgres://me@127.0.0.1:1/runs`"), "{message}");
    let (code, message) = said(&["status", "--folder", "new", "--store", "mysql://me:secret@host/runs"]);
    assert_eq!(code, Some(2));
    assert!(message.contains("`mysql` is neither") && !message.contains("secret"), "{message}");
}
