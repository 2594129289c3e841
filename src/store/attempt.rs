//! The starts and ends of attempts, as the scheduler sees them; what the workers say is in `take.rs`.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::database::{Connection, Sql, sql};
use super::lease::{Mark, clock};
use super::lock::lock;
use super::{Error, Store, Taken, big};
use crate::event::Failure;
use crate::event::now_ms;
use crate::job::{JobId, short_hash};
use crate::plan::CohortId;

/// Who ran an attempt, where and with what. The same for all attempts of one scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Provenance {
    /// Unique among schedulers: `local:<host>/<pid>/<start>`.
    pub owner: String,
    pub host: String,
    /// Of the scheduler.
    pub pid: u32,
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// Of one worker.
    pub threads: u32,
    pub version: String,
    pub binary_sha256: String,
    /// With `-dirty` behind it where the tree had changes; none where the source is no git checkout.
    pub git_commit: Option<String>,
    /// As typed.
    pub command: String,
    /// How long the cohort of an attempt is expected to take.
    pub expected_ms: Option<u64>,
}

/// How the scheduler ends an attempt whose worker did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Asked to stop; goes on with the next `run`.
    Stopped {
        message: String,
    },
    Failed {
        class: Failure,
        message: String,
    },
}

/// A job that cannot start because one it needs failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub job: JobId,
    /// The job that failed: the root of the chain, not its last link.
    pub by: JobId,
    pub message: String,
}

/// What came of wanting to begin a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is ours, under this attempt.
    Begun(u32),
    Done,
    /// Somebody else is at work on it.
    Theirs,
    /// A person wants it held or cancelled.
    Unwanted,
    /// It is not recorded.
    Unknown,
}

/// Until when a job is its owner's, where nobody says otherwise.
const LEASE: Duration = Duration::from_secs(60);

impl Store {
    /// Begins the next attempt of a job and returns its number.
    ///
    /// # Errors
    /// [`Error::NotStartable`] when the job is not recorded, done, somebody else's, or not to be started.
    pub async fn begin_attempt(&self, job: &JobId, cohort: &CohortId, provenance: &Provenance) -> Result<u32, Error> {
        let claims = self.claim(std::slice::from_ref(job), cohort, provenance, LEASE, &HashMap::new()).await?;
        let why = match claims[0] {
            Claim::Begun(attempt) => return Ok(attempt),
            Claim::Unknown => "it is not in the store",
            Claim::Done => "it is done",
            Claim::Theirs => "somebody else is at work on it",
            Claim::Unwanted => "it is not to be started",
        };
        Err(Error::NotStartable { job: job.to_string(), why })
    }

    /// Begins the next attempt of those of `jobs` that may be begun, in one transaction, and leases them. `dead` are
    /// attempts whose owners are known to be gone, if nothing has moved since.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn claim(
        &self,
        jobs: &[JobId],
        cohort: &CohortId,
        provenance: &Provenance,
        lease: Duration,
        dead: &HashMap<JobId, Mark>,
    ) -> Result<Vec<Claim>, Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        let now = clock(&mut transaction).await?;
        let lease_until = now + big(lease.as_millis() as u64);
        let mut claims = Vec::with_capacity(jobs.len());
        for job in jobs {
            let dead = dead.get(job).copied();
            claims.push(begin_one(&mut transaction, job, cohort, provenance, (now, lease_until), dead).await?);
        }
        transaction.commit().await?;
        Ok(claims)
    }

    /// Ends an attempt in the worker's stead. An attempt that ended already stays as it is.
    pub async fn end_attempt(&self, job: &JobId, attempt: u32, ending: &Ending) -> Result<Taken, Error> {
        let now = now_ms();
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, [job]).await?;
        let newest = newest_attempt(&mut transaction, job).await?;
        match newest {
            None => return Ok(Taken::Unknown),
            Some(newest) if attempt < newest => return Ok(Taken::Refused { newest }),
            Some(newest) if attempt > newest => return Ok(Taken::Unknown),
            Some(_) => {}
        }
        if !end(&mut transaction, job, attempt, now, ending).await? {
            return Ok(Taken::Known);
        }
        let (kind, text) = match ending {
            Ending::Stopped { message } => ("stopped", serde_json::json!({ "message": message })),
            Ending::Failed { class, message } => {
                ("failed", serde_json::json!({ "class": class.name(), "message": message }))
            }
        };
        note(&mut transaction, job, Some(attempt), now, kind, &text.to_string()).await?;
        transaction.commit().await?;
        Ok(Taken::Stored)
    }

    /// Writes down that jobs cannot start. Jobs that are done or running meanwhile stay as they are.
    pub async fn block(&self, blocks: &[Block]) -> Result<(), Error> {
        let now = now_ms();
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, blocks.iter().map(|block| &block.job)).await?;
        for Block { job, by, message } in blocks {
            let changed = sql("UPDATE jobs SET state = 'blocked', message = $1, blocked_by = $2
                 WHERE id = $3 AND state NOT IN ('done', 'running')")
            .bind(message)
            .bind(by.as_str())
            .bind(job.as_str())
            .execute(&mut transaction)
            .await?;
            if changed > 0 {
                let text = serde_json::json!({ "by": by, "message": message }).to_string();
                note(&mut transaction, job, None, now, "blocked", &text).await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Makes those of `jobs` that are blocked open again: their needs will be tried anew.
    pub async fn unblock(&self, jobs: &[JobId]) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let blocked: Vec<String> = sql("SELECT id FROM jobs WHERE state = 'blocked'").column(&mut connection).await?;
        if blocked.is_empty() {
            return Ok(());
        }
        let blocked: std::collections::BTreeSet<String> = blocked.into_iter().collect();
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, jobs).await?;
        for job in jobs.iter().filter(|job| blocked.contains(job.as_str())) {
            sql(
                "UPDATE jobs SET state = 'open', message = NULL, blocked_by = NULL WHERE id = $1 AND state = 'blocked'",
            )
            .bind(job.as_str())
            .execute(&mut transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Jobs whose result is gone from the folder: they are to be done again. Their rows stay, and are met again.
    pub async fn reopen(&self, jobs: &[JobId]) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, jobs).await?;
        for job in jobs {
            sql("UPDATE jobs SET state = 'open' WHERE id = $1 AND state = 'done'")
                .bind(job.as_str())
                .execute(&mut transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Of a job that `$2` may begin at the time `$6`; the mark of whoever is known to be gone is `$4` and `$5`.
const MAY_BEGIN: &str = "state <> 'done' AND wish IS NULL
    AND (state <> 'running' OR owner IS NULL OR owner = $2 OR attempt = $4 AND COALESCE(lease_until_ms, -1) = $5)
    AND (retry_at_ms IS NULL OR retry_at_ms <= $6 OR owner = $2)";

/// How often, and how far apart, a free job is looked at that another transaction has at the moment.
const LOOKS: u32 = 60;
const GLANCE: Duration = Duration::from_millis(50);

/// The lease is a condition of the one statement that takes it: who comes second changes nothing.
async fn begin_one(
    connection: &mut Connection<'_>,
    job: &JobId,
    cohort: &CohortId,
    provenance: &Provenance,
    (now, lease_until): (i64, i64),
    dead: Option<Mark>,
) -> Result<Claim, Error> {
    let conditions = |sql: Sql| {
        sql.bind(job.as_str())
            .bind(&provenance.owner)
            .bind(lease_until)
            .bind(dead.map(|(attempt, _)| i64::from(attempt)))
            .bind(dead.map(|(_, lease)| lease.unwrap_or(-1)))
            .bind(now)
    };
    // Where several transactions write at once, a row that another has at the moment is not waited for: it may be taking it.
    let this = if connection.is_postgres() {
        format!("id = (SELECT id FROM jobs WHERE id = $1 AND {MAY_BEGIN} FOR NO KEY UPDATE SKIP LOCKED)")
    } else {
        format!("id = $1 AND {MAY_BEGIN}")
    };
    let mut row = None;
    for _ in 0..LOOKS {
        let take = format!(
            "UPDATE jobs SET attempt = attempt + 1, state = 'running', message = NULL, blocked_by = NULL, owner = $2,
                 lease_until_ms = $3, retry_at_ms = NULL WHERE {this} RETURNING attempt"
        );
        row = conditions(Sql::made(take)).fetch_optional(connection).await?;
        if row.is_some() || !connection.is_postgres() {
            break;
        }
        // Free, and yet not to be had: somebody wrote something else about it just now.
        let free = format!("SELECT id FROM jobs WHERE id = $1 AND {MAY_BEGIN} AND $3 >= 0");
        if conditions(Sql::made(free)).fetch_optional(connection).await?.is_none() {
            break;
        }
        tokio::time::sleep(GLANCE).await;
    }
    let Some(row) = row else {
        let row =
            sql("SELECT state, wish FROM jobs WHERE id = $1").bind(job.as_str()).fetch_optional(connection).await?;
        let Some(row) = row else { return Ok(Claim::Unknown) };
        let (state, wish): (&str, Option<&str>) = (row.try_get(0)?, row.try_get(1)?);
        return Ok(match (state, wish) {
            ("done", _) => Claim::Done,
            (_, Some(_)) => Claim::Unwanted,
            (_, None) => Claim::Theirs,
        });
    };
    let attempt: i64 = row.try_get(0)?;
    sql("UPDATE attempts SET outcome = 'stopped', ended_ms = $1, message = 'a newer attempt was begun'
         WHERE job = $2 AND ended_ms IS NULL")
    .bind(now)
    .bind(job.as_str())
    .execute(connection)
    .await?;
    sql("INSERT INTO attempts (job, attempt, owner, cohort, host, pid, device, threads, version, binary_sha256,
             git_commit, command, started_ms, expected_seconds)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)")
    .bind(job.as_str())
    .bind(attempt)
    .bind(&provenance.owner)
    .bind(cohort.as_str())
    .bind(&provenance.host)
    .bind(i64::from(provenance.pid))
    .bind(&provenance.device)
    .bind(i64::from(provenance.threads))
    .bind(&provenance.version)
    .bind(&provenance.binary_sha256)
    .bind(&provenance.git_commit)
    .bind(&provenance.command)
    .bind(now)
    .bind(provenance.expected_ms.map(|expected| expected as f64 / 1e3))
    .execute(connection)
    .await?;
    Ok(Claim::Begun(u32::try_from(attempt).unwrap_or(u32::MAX)))
}

/// None for a job that is not recorded, 0 before its first attempt.
pub(super) async fn newest_attempt(connection: &mut Connection<'_>, job: &JobId) -> Result<Option<u32>, Error> {
    let newest: Option<i64> = sql("SELECT attempt FROM jobs WHERE id = $1").bind(job.as_str()).cell(connection).await?;
    Ok(newest.map(|newest| u32::try_from(newest).unwrap_or(u32::MAX)))
}

/// Ends the job's newest attempt, unless it is ended. Whether it did.
pub(super) async fn end(
    connection: &mut Connection<'_>,
    job: &JobId,
    attempt: u32,
    at_ms: i64,
    ending: &Ending,
) -> Result<bool, Error> {
    let (outcome, state, class, message) = match ending {
        Ending::Stopped { message } => ("stopped", "interrupted", None, message),
        Ending::Failed { class, message } => ("failed", "failed", Some(class.name()), message),
    };
    let changed = sql("UPDATE attempts SET ended_ms = $1, outcome = $2, failure = $3, message = $4
         WHERE job = $5 AND attempt = $6 AND ended_ms IS NULL")
    .bind(at_ms)
    .bind(outcome)
    .bind(class)
    .bind(message)
    .bind(job.as_str())
    .bind(i64::from(attempt))
    .execute(connection)
    .await?;
    if changed == 0 {
        return Ok(false);
    }
    sql(
        // Why a person, or halving, wanted it ended stays.
        "UPDATE jobs SET state = $1, owner = NULL, lease_until_ms = NULL,
             message = COALESCE($2, CASE WHEN wish = 'cancel' THEN message END)
         WHERE id = $3",
    )
    .bind(state)
    .bind(class.map(|_| message))
    .bind(job.as_str())
    .execute(connection)
    .await?;
    Ok(true)
}

/// Appends to the events, once: the id is the hash of all there is to the event. Whether it was new.
pub(super) async fn note(
    connection: &mut Connection<'_>,
    job: &JobId,
    attempt: Option<u32>,
    at_ms: i64,
    kind: &str,
    text: &str,
) -> Result<bool, Error> {
    let id = short_hash("distillery event 1\n", &format!("{job}\n{attempt:?}\n{at_ms}\n{kind}\n{text}"));
    let inserted = sql("INSERT INTO events (id, at_ms, job, attempt, kind, text) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO NOTHING")
    .bind(id)
    .bind(at_ms)
    .bind(job.as_str())
    .bind(attempt.map(i64::from))
    .bind(kind)
    .bind(text)
    .execute(connection)
    .await?;
    Ok(inserted > 0)
}
