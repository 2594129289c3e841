//! What is asked about jobs one by one while they run or after they failed: attempts, events, how far they are.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::database::{Row, sql};
use super::read::{count, json, small};
use super::{Error, Store};
use crate::event::Event;
use crate::job::{Job, JobId};

/// One start of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attempt {
    pub job: JobId,
    pub attempt: u32,
    pub owner: String,
    pub cohort: Option<String>,
    pub host: Option<String>,
    /// Of the scheduler.
    pub pid: Option<u32>,
    pub device: Option<String>,
    pub started_ms: i64,
    pub ended_ms: Option<i64>,
    pub outcome: Option<String>,
    pub failure: Option<String>,
    pub message: Option<String>,
    pub memory_bytes: Option<u64>,
}

/// An event as it was written down.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Noted {
    pub at_ms: i64,
    pub job: JobId,
    pub attempt: Option<u32>,
    pub kind: String,
    /// JSON.
    pub text: String,
}

/// A process that starts workers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scheduler {
    pub owner: String,
    pub host: String,
    pub pid: u32,
    pub experiment: Option<String>,
    pub command: Option<String>,
    pub slots: u32,
    pub started_ms: i64,
    pub seen_ms: i64,
    pub ended_ms: Option<i64>,
    pub wish: Option<String>,
}

/// How far a job is: its last epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    pub epoch: u32,
    pub at_ms: i64,
    pub training_loss: Option<f64>,
    pub images_per_second: Option<f64>,
    /// Of the last evaluation, 0 to 1.
    pub validation: Option<f64>,
    /// Rows of the newest attempt, and when the first of them was written.
    pub rows: u32,
    pub first_ms: i64,
}

/// The last numbers of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct LastRow {
    pub job: JobId,
    /// 0 before the first is over.
    pub epoch: u32,
    /// Top-1 of the last evaluation, 0 to 1.
    pub validation: Option<f64>,
    pub test: Option<f64>,
}

/// A job's numbers over time, thinned out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    pub training_loss: Vec<f64>,
    /// Top-1 on the validation images, 0 to 1.
    pub validation: Vec<f64>,
}

impl Store {
    /// A job's resolved text, if it is recorded.
    pub async fn job(&self, id: &JobId) -> Result<Option<Job>, Error> {
        let text: Option<String> =
            sql("SELECT text FROM jobs WHERE id = $1").bind(id.as_str()).cell(&mut self.connection().await?).await?;
        text.map(|text| json(&text, || format!("the text of job `{id}`"))).transpose()
    }

    /// The resolved texts of all recorded jobs.
    pub async fn jobs(&self) -> Result<Vec<Job>, Error> {
        let rows = sql("SELECT id, text FROM jobs").fetch_all(&mut self.connection().await?).await?;
        let job = |row: &Row| -> Result<Job, Error> {
            let id: &str = row.try_get(0)?;
            json(row.try_get(1)?, || format!("the text of job `{id}`"))
        };
        rows.iter().map(job).collect()
    }

    /// All starts of a job, from the first.
    pub async fn attempts(&self, job: &JobId) -> Result<Vec<Attempt>, Error> {
        let rows = sql(ATTEMPTS_OF_A_JOB).bind(job.as_str()).fetch_all(&mut self.connection().await?).await?;
        rows.iter().map(attempt).collect()
    }

    /// The attempts that have no end, of jobs that run: from the oldest.
    pub async fn running(&self) -> Result<Vec<Attempt>, Error> {
        let rows = sql(RUNNING_ATTEMPTS).fetch_all(&mut self.connection().await?).await?;
        rows.iter().map(attempt).collect()
    }

    /// The jobs that an attempt finished which was started since.
    pub async fn finished_since(&self, started_ms: i64) -> Result<BTreeSet<JobId>, Error> {
        let ids: Vec<String> = sql("SELECT job FROM attempts WHERE outcome = 'finished' AND started_ms >= $1")
            .bind(started_ms)
            .column(&mut self.connection().await?)
            .await?;
        Ok(ids.into_iter().map(JobId::from_stored).collect())
    }

    /// What happened to a job, from the first.
    pub async fn events(&self, job: &JobId) -> Result<Vec<Noted>, Error> {
        let rows = sql(
            "SELECT at_ms, job, attempt, kind, text FROM events WHERE job = $1 AND kind NOT IN ('epoch', 'teacher')
             ORDER BY at_ms, id",
        )
        .bind(job.as_str())
        .fetch_all(&mut self.connection().await?)
        .await?;
        rows.iter().map(noted).collect()
    }

    /// The newest events that a person may want to know of, newest first, at most `most`.
    pub async fn recent(&self, most: u32) -> Result<Vec<Noted>, Error> {
        let rows = sql("SELECT e.at_ms, e.job, e.attempt, e.kind, e.text FROM events e
             WHERE e.kind IN ('finished', 'failed', 'flagged', 'torn', 'blocked', 'stopped', 'asked')
             ORDER BY e.at_ms DESC, e.id LIMIT $1")
        .bind(i64::from(most))
        .fetch_all(&mut self.connection().await?)
        .await?;
        rows.iter().map(noted).collect()
    }

    /// All schedulers the store knows, from the oldest.
    pub async fn schedulers(&self) -> Result<Vec<Scheduler>, Error> {
        let rows = sql(
            "SELECT owner, host, pid, experiment, command, slots, started_ms, seen_ms, ended_ms, wish FROM schedulers
             ORDER BY started_ms",
        )
        .fetch_all(&mut self.connection().await?)
        .await?;
        let scheduler = |row: &Row| -> Result<Scheduler, Error> {
            Ok(Scheduler {
                owner: row.try_get(0)?,
                host: row.try_get(1)?,
                pid: small(row, 2)?,
                experiment: row.try_get(3)?,
                command: row.try_get(4)?,
                slots: small(row, 5)?,
                started_ms: row.try_get(6)?,
                seen_ms: row.try_get(7)?,
                ended_ms: row.try_get(8)?,
                wish: row.try_get(9)?,
            })
        };
        rows.iter().map(scheduler).collect()
    }

    /// The command that last ran an experiment, where that is known.
    pub async fn last_command(&self, experiment: &str) -> Result<Option<String>, Error> {
        let mut connection = self.connection().await?;
        let own: Option<String> = sql("SELECT command FROM schedulers WHERE experiment = $1 AND command IS NOT NULL
                 AND owner NOT LIKE 'slurm:%' AND owner NOT LIKE 'task:%'
             ORDER BY started_ms DESC LIMIT 1")
        .bind(experiment)
        .cell(&mut connection)
        .await?;
        if own.is_some() {
            return Ok(own);
        }
        // Of an older store. A job may have been run for another experiment, so it must name this one.
        Ok(sql("SELECT a.command FROM experiment_jobs e JOIN attempts a ON a.job = e.job
             WHERE e.experiment = $1 AND a.command LIKE '%' || $1 || '%' ORDER BY a.started_ms DESC LIMIT 1")
        .bind(experiment)
        .cell(&mut connection)
        .await?)
    }

    /// How far a job is; none before its first epoch is over.
    pub async fn progress(&self, job: &JobId) -> Result<Option<Progress>, Error> {
        let mut connection = self.connection().await?;
        let last = sql("SELECT e.epoch, e.at_ms, e.training_loss, e.images_per_second,
                 (SELECT v.top1 FROM evaluations v WHERE v.job = e.job AND v.split = 'validation'
                  ORDER BY v.epoch DESC LIMIT 1),
                 (SELECT count(*) FROM epochs r WHERE r.job = e.job AND r.attempt = e.attempt),
                 (SELECT min(r.at_ms) FROM epochs r WHERE r.job = e.job AND r.attempt = e.attempt)
             FROM epochs e WHERE e.job = $1 ORDER BY e.epoch DESC LIMIT 1")
        .bind(job.as_str())
        .fetch_optional(&mut connection)
        .await?;
        let Some(row) = last else { return Ok(None) };
        Ok(Some(Progress {
            epoch: small(&row, 0)?,
            at_ms: row.try_get(1)?,
            training_loss: row.try_get(2)?,
            images_per_second: row.try_get(3)?,
            validation: row.try_get(4)?,
            rows: small(&row, 5)?,
            first_ms: row.try_get(6)?,
        }))
    }

    /// The last numbers of the jobs in an experiment's grid, in its order.
    pub async fn last_rows(&self, experiment: &str) -> Result<Vec<LastRow>, Error> {
        let rows = sql("SELECT e.job, (SELECT max(r.epoch) FROM epochs r WHERE r.job = e.job),
                 (SELECT v.top1 FROM evaluations v WHERE v.job = e.job AND v.split = 'validation'
                  ORDER BY v.epoch DESC LIMIT 1),
                 (SELECT v.top1 FROM evaluations v WHERE v.job = e.job AND v.split = 'test'
                  ORDER BY v.epoch DESC LIMIT 1)
             FROM experiment_jobs e WHERE e.experiment = $1 AND e.needed = 0 ORDER BY e.ordinal")
        .bind(experiment)
        .fetch_all(&mut self.connection().await?)
        .await?;
        let last = |row: &Row| -> Result<LastRow, Error> {
            let epoch: Option<i64> = row.try_get(1)?;
            Ok(LastRow {
                job: JobId::from_stored(row.try_get(0)?),
                epoch: epoch.and_then(|epoch| u32::try_from(epoch).ok()).unwrap_or(0),
                validation: row.try_get(2)?,
                test: row.try_get(3)?,
            })
        };
        rows.iter().map(last).collect()
    }

    /// What a reader should know of the evaluations of an experiment's jobs, in words; each once.
    pub async fn flags(&self, experiment: &str) -> Result<BTreeMap<JobId, BTreeSet<String>>, Error> {
        let rows = sql("SELECT r.job, r.text FROM experiment_jobs e JOIN events r ON r.job = e.job
             WHERE e.experiment = $1 AND r.kind = 'flagged' ORDER BY r.at_ms, r.id")
        .bind(experiment)
        .fetch_all(&mut self.connection().await?)
        .await?;
        let mut flags: BTreeMap<JobId, BTreeSet<String>> = BTreeMap::new();
        for row in &rows {
            let job: String = row.try_get(0)?;
            if let Event::Flagged { message, .. } = json(row.try_get(1)?, || format!("an event of job `{job}`"))? {
                flags.entry(JobId::from_stored(job)).or_default().insert(message);
            }
        }
        Ok(flags)
    }

    /// A job's curves in about `points` points each.
    pub async fn curve(&self, job: &JobId, points: u32) -> Result<Curve, Error> {
        let mut connection = self.connection().await?;
        let losses: Vec<f64> =
            sql("SELECT training_loss FROM epochs WHERE job = $1 AND training_loss IS NOT NULL ORDER BY epoch")
                .bind(job.as_str())
                .column(&mut connection)
                .await?;
        let shares: Vec<f64> = sql(
            "SELECT top1 FROM evaluations WHERE job = $1 AND split = 'validation' AND top1 IS NOT NULL ORDER BY epoch",
        )
        .bind(job.as_str())
        .column(&mut connection)
        .await?;
        let points = points.max(1) as usize;
        Ok(Curve { training_loss: thin(&losses, points), validation: thin(&shares, points) })
    }
}

/// Means of `points` stretches of equal length, so far as there are so many values.
fn thin(values: &[f64], points: usize) -> Vec<f64> {
    if values.len() <= points {
        return values.to_vec();
    }
    let bound = |at: usize| at * values.len() / points;
    let mean = |at: usize| {
        let stretch = &values[bound(at)..bound(at + 1)];
        stretch.iter().sum::<f64>() / stretch.len() as f64
    };
    (0..points).map(mean).collect()
}

const ATTEMPTS_OF_A_JOB: &str = "SELECT job, attempt, owner, cohort, host, pid, device, started_ms, ended_ms, outcome, \
     failure, message, memory_bytes FROM attempts WHERE job = $1 ORDER BY attempt";

const RUNNING_ATTEMPTS: &str = "SELECT a.job, a.attempt, a.owner, a.cohort, a.host, a.pid, a.device, a.started_ms, a.ended_ms, \
     a.outcome, a.failure, a.message, a.memory_bytes FROM jobs j JOIN attempts a ON a.job = j.id AND a.attempt = j.attempt \
     WHERE j.state = 'running' AND a.ended_ms IS NULL ORDER BY a.started_ms, a.cohort, a.job";

fn attempt(row: &Row) -> Result<Attempt, Error> {
    let number = |column: usize| -> Result<Option<i64>, Error> { Ok(row.try_get(column)?) };
    Ok(Attempt {
        job: JobId::from_stored(row.try_get(0)?),
        attempt: small(row, 1)?,
        owner: row.try_get(2)?,
        cohort: row.try_get(3)?,
        host: row.try_get(4)?,
        pid: number(5)?.and_then(|pid| u32::try_from(pid).ok()),
        device: row.try_get(6)?,
        started_ms: row.try_get(7)?,
        ended_ms: row.try_get(8)?,
        outcome: row.try_get(9)?,
        failure: row.try_get(10)?,
        message: row.try_get(11)?,
        memory_bytes: number(12)?.map(|_| count(row, 12)).transpose()?,
    })
}

fn noted(row: &Row) -> Result<Noted, Error> {
    let attempt: Option<i64> = row.try_get(2)?;
    Ok(Noted {
        at_ms: row.try_get(0)?,
        job: JobId::from_stored(row.try_get(1)?),
        attempt: attempt.and_then(|attempt| u32::try_from(attempt).ok()),
        kind: row.try_get(3)?,
        text: row.try_get(4)?,
    })
}
