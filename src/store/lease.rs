//! Whose a job is: leases that schedulers take and renew, what people wish of jobs, and who the schedulers are.
//!
//! A lease says that its owner works on a job until a time on the store's clock, which he moves on while he lives. Nobody
//! takes a lease away by comparing that time with a clock of his own: clocks jump. Who wants a job that another has looks
//! twice, a lease's length apart by a clock that only goes forward, and takes it if nothing moved ([`Tenure::mark`]); the
//! statement that takes it names the attempt that was looked at. On one host it is faster: a scheduler holds a lock on a
//! file as long as it lives, and what belongs to one that is gone is free at once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::attempt::note;
use super::database::{Connection, Row, sql};
use super::lock::{lock, lock_where};
use super::read::state;
use super::{Error, SchedulerWish, State, Store, Wish, big};
use crate::job::JobId;
use crate::store::Provenance;

/// What moves while an owner lives: his attempt, and until when it is his.
pub type Mark = (u32, Option<i64>);

/// Whose a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    pub job: JobId,
    pub state: State,
    pub attempt: u32,
    pub owner: Option<String>,
    pub lease_until_ms: Option<i64>,
    pub wish: Option<Wish>,
    pub priority: i64,
    pub message: Option<String>,
}

impl Tenure {
    pub fn mark(&self) -> Mark {
        (self.attempt, self.lease_until_ms)
    }
}

impl Store {
    /// Whose jobs are: those of `jobs` that are recorded.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tenures(&self, jobs: &[JobId]) -> Result<Vec<Tenure>, Error> {
        let mut connection = self.connection().await?;
        let mut tenures = Vec::with_capacity(jobs.len());
        for job in jobs {
            let row = sql(
                "SELECT id, state, attempt, owner, lease_until_ms, wish, priority, message FROM jobs WHERE id = $1",
            )
            .bind(job.as_str())
            .fetch_optional(&mut connection)
            .await?;
            tenures.extend(row.as_ref().map(tenure).transpose()?);
        }
        Ok(tenures)
    }

    /// All jobs that are running, wanted otherwise than usual, or more urgent than usual.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn unusual(&self) -> Result<Vec<Tenure>, Error> {
        let rows = sql("SELECT id, state, attempt, owner, lease_until_ms, wish, priority, message FROM jobs
             WHERE state = 'running' OR wish IS NOT NULL OR priority <> 0")
        .fetch_all(&mut self.connection().await?)
        .await?;
        rows.iter().map(tenure).collect()
    }

    /// Moves on all leases of `owner`, and says that he lives. Returns the jobs that are his.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn renew(&self, owner: &str, lease: Duration) -> Result<HashSet<JobId>, Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        lock_where(&mut transaction, "owner = $1 AND state = 'running'", owner).await?;
        let now = clock(&mut transaction).await?;
        let ours: Vec<String> =
            sql("UPDATE jobs SET lease_until_ms = $1 WHERE owner = $2 AND state = 'running' RETURNING id")
                .bind(now + big(lease.as_millis() as u64))
                .bind(owner)
                .column(&mut transaction)
                .await?;
        sql("UPDATE schedulers SET seen_ms = $1 WHERE owner = $2")
            .bind(now)
            .bind(owner)
            .execute(&mut transaction)
            .await?;
        transaction.commit().await?;
        Ok(ours.into_iter().map(JobId::from_stored).collect())
    }

    /// Jobs that failed in a way that may pass: they are `owner`'s to try again after a while, and then anybody's.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn rest(&self, jobs: &[JobId], owner: &str, after: Duration) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, jobs).await?;
        let now = clock(&mut transaction).await?;
        for job in jobs {
            sql("UPDATE jobs SET state = 'interrupted', owner = $1, retry_at_ms = $2
                 WHERE id = $3 AND state NOT IN ('done', 'running')")
            .bind(owner)
            .bind(now + big(after.as_millis() as u64))
            .bind(job.as_str())
            .execute(&mut transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Writes down that this process schedules.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn register(&self, of: &Provenance, experiment: &str, slots: usize) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        let now = clock(&mut transaction).await?;
        sql("INSERT INTO schedulers (owner, host, pid, experiment, command, slots, started_ms, seen_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
             ON CONFLICT (owner) DO UPDATE SET seen_ms = excluded.seen_ms, ended_ms = NULL")
        .bind(&of.owner)
        .bind(&of.host)
        .bind(i64::from(of.pid))
        .bind(experiment)
        .bind(&of.command)
        .bind(big(slots as u64))
        .bind(now)
        .execute(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Writes down that a scheduler ended: itself, or one that was found dead. What it would have tried again later anybody
    /// may try at once.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn unregister(&self, owner: &str) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        lock_where(&mut transaction, "owner = $1 AND state <> 'running'", owner).await?;
        let now = clock(&mut transaction).await?;
        sql("UPDATE schedulers SET ended_ms = $1 WHERE owner = $2 AND ended_ms IS NULL")
            .bind(now)
            .bind(owner)
            .execute(&mut transaction)
            .await?;
        // Nobody waits any more until their time comes, which is one of a clock that may have jumped.
        sql("UPDATE jobs SET owner = NULL, retry_at_ms = NULL WHERE owner = $1 AND state <> 'running'")
            .bind(owner)
            .execute(&mut transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// What a person wants of a scheduler.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn order(&self, owner: &str) -> Result<Option<SchedulerWish>, Error> {
        let word: Option<Option<String>> =
            sql("SELECT wish FROM schedulers WHERE owner = $1").bind(owner).cell(&mut self.connection().await?).await?;
        Ok(word.flatten().and_then(|word| match word.as_str() {
            "drain" => Some(SchedulerWish::Drain),
            "stop" => Some(SchedulerWish::Stop),
            "now" => Some(SchedulerWish::Now),
            _ => None,
        }))
    }

    /// Owners of attempts that have no end yet, with their hosts.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn owners(&self) -> Result<HashMap<String, Option<String>>, Error> {
        let rows = sql("SELECT DISTINCT owner, host FROM attempts WHERE ended_ms IS NULL")
            .fetch_all(&mut self.connection().await?)
            .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Ends the open attempts of an owner who is gone: they are interrupted. Only after the spools were read. Returns how
    /// many there were.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn interrupt_orphans(&self, owner: &str) -> Result<u64, Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        // Also those whose attempt is found ended, or another's, when its turn comes: the statement below looks again.
        lock_where(&mut transaction, "state = 'running' AND id IN (SELECT job FROM attempts WHERE owner = $1)", owner)
            .await?;
        let now = clock(&mut transaction).await?;
        sql("UPDATE jobs SET state = 'interrupted', message = NULL, owner = NULL, lease_until_ms = NULL
             WHERE state = 'running' AND EXISTS (
                 SELECT 1 FROM attempts a
                 WHERE a.job = jobs.id AND a.attempt = jobs.attempt AND a.owner = $1 AND a.ended_ms IS NULL)")
        .bind(owner)
        .execute(&mut transaction)
        .await?;
        let orphans = sql(
            "UPDATE attempts SET outcome = 'stopped', ended_ms = $1, message = 'the scheduler ended without a word'
             WHERE ended_ms IS NULL AND owner = $2",
        )
        .bind(now)
        .bind(owner)
        .execute(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(orphans)
    }

    /// The most that a worker had in memory during an attempt.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn record_memory(&self, attempts: &[(JobId, u32)], bytes: u64) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, attempts.iter().map(|(job, _)| job)).await?;
        for (job, attempt) in attempts {
            sql("UPDATE attempts SET memory_bytes = $1
                 WHERE job = $2 AND attempt = $3 AND (memory_bytes IS NULL OR memory_bytes < $1)")
            .bind(big(bytes))
            .bind(job.as_str())
            .bind(i64::from(*attempt))
            .execute(&mut transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

impl Store {
    /// Shares of the validation images that are right, after these epochs, of all jobs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn validation_after(&self, epochs: &[u32]) -> Result<Vec<(JobId, u32, f64)>, Error> {
        let mut connection = self.connection().await?;
        let mut all = Vec::new();
        for &epoch in epochs {
            let rows =
                sql("SELECT job, top1 FROM evaluations WHERE epoch = $1 AND split = 'validation' AND top1 IS NOT NULL")
                    .bind(i64::from(epoch))
                    .fetch_all(&mut connection)
                    .await?;
            for row in &rows {
                all.push((JobId::from_stored(row.try_get(0)?), epoch, row.try_get(1)?));
            }
        }
        Ok(all)
    }

    /// Writes down that a job is ended early, so that nobody starts it again. Whether that was news.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn halve(&self, job: &JobId, why: &str) -> Result<bool, Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        let changed =
            sql("UPDATE jobs SET wish = 'cancel', message = $1 WHERE id = $2 AND state <> 'done' AND wish IS NULL")
                .bind(why)
                .bind(job.as_str())
                .execute(&mut transaction)
                .await?;
        if changed > 0 {
            let now = clock(&mut transaction).await?;
            let text = serde_json::json!({ "message": why }).to_string();
            note(&mut transaction, job, None, now, "halved", &text).await?;
        }
        transaction.commit().await?;
        Ok(changed > 0)
    }

    /// Writes something down about attempts: `kind` in a word, `text` as JSON.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn note(&self, attempts: &[(JobId, u32)], kind: &str, text: &str) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, attempts.iter().map(|(job, _)| job)).await?;
        let now = clock(&mut transaction).await?;
        for (job, attempt) in attempts {
            note(&mut transaction, job, Some(*attempt), now, kind, text).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Milliseconds since 1970 on the store's clock.
pub(super) async fn clock(connection: &mut Connection<'_>) -> Result<i64, Error> {
    let row = connection
        .either(
            "SELECT CAST(unixepoch('subsec') * 1000 AS BIGINT)",
            "SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)",
        )
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}

fn tenure(row: &Row) -> Result<Tenure, Error> {
    let attempt: i64 = row.try_get(2)?;
    let wish: Option<String> = row.try_get(5)?;
    Ok(Tenure {
        job: JobId::from_stored(row.try_get(0)?),
        state: state(row, 1)?,
        attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
        owner: row.try_get(3)?,
        lease_until_ms: row.try_get(4)?,
        wish: wish.map(|wish| if wish == "cancel" { Wish::Cancel } else { Wish::Hold }),
        priority: row.try_get(6)?,
        message: row.try_get(7)?,
    })
}
