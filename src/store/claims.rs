//! Where a report's numbers come from: on what they were computed; and what reports claim of an experiment, written down when it is run, so that a reader can see whether a claim is older than
//! the numbers that speak of it.

use std::time::{Duration, UNIX_EPOCH};

use super::database::sql;
use super::{Error, Store};
use crate::event::now_ms;

/// When claims were first written down, and how far the experiment had run by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    pub recorded_ms: i64,
    /// Jobs that had begun.
    pub begun: u64,
    pub jobs: u64,
}

/// Attempts on one kind of device by one version of the program, of one experiment or several.
#[derive(Clone, Debug, PartialEq)]
pub struct Spent {
    pub device: String,
    pub threads: Option<u32>,
    /// With the commit, where that is known.
    pub version: String,
    pub jobs: u64,
    /// Of whole cohorts' epochs: students side by side share them.
    pub seconds: f64,
    /// Days of the first start and the last end.
    pub days: [String; 2],
}

impl Registered {
    /// `2026-11-26`, in UTC.
    pub fn day(&self) -> String {
        day(self.recorded_ms)
    }
}

fn day(at_ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

impl Store {
    /// The first time counts; claims that were changed are others.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn record_claims(&self, experiment: &str, report: &str, hash: &str, text: &str) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        sql("INSERT INTO claims (experiment, report, hash, text, recorded_ms, begun, jobs)
             SELECT $1, $2, $3, $4, $5, sum(CASE WHEN j.attempt > 0 THEN 1 ELSE 0 END), count(*)
             FROM experiment_jobs e JOIN jobs j ON j.id = e.job WHERE e.experiment = $1 AND e.needed = 0
             HAVING count(*) > 0
             ON CONFLICT DO NOTHING")
        .bind(experiment)
        .bind(report)
        .bind(hash)
        .bind(text)
        .bind(now_ms())
        .execute(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// What an experiment's jobs and those they need were computed on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn spent(&self, experiment: &str) -> Result<Vec<Spent>, Error> {
        let rows = sql("SELECT coalesce(a.device, ''), a.threads, coalesce(a.version, ''), coalesce(a.git_commit, ''),
                 count(DISTINCT a.job), min(a.started_ms), max(coalesce(a.ended_ms, a.started_ms)),
                 sum((SELECT sum(r.seconds) FROM epochs r WHERE r.job = a.job AND r.attempt = a.attempt))
             FROM experiment_jobs e JOIN attempts a ON a.job = e.job WHERE e.experiment = $1
             GROUP BY 1, 2, 3, 4 ORDER BY 6")
        .bind(experiment)
        .fetch_all(&mut self.connection().await?)
        .await?;
        let spent = rows.iter().map(|row| {
            let (version, commit): (String, String) = (row.try_get(2)?, row.try_get(3)?);
            let threads: Option<i64> = row.try_get(1)?;
            Ok(Spent {
                device: row.try_get(0)?,
                threads: threads.and_then(|threads| u32::try_from(threads).ok()),
                version: if commit.is_empty() { version } else { format!("{version} ({commit:.10})") },
                jobs: u64::try_from(row.try_get::<i64>(4)?).unwrap_or(0),
                seconds: row.try_get::<Option<f64>>(7)?.unwrap_or(0.0),
                days: [day(row.try_get(5)?), day(row.try_get(6)?)],
            })
        });
        spent.collect()
    }

    /// None where these claims were never written down.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn registered(&self, experiment: &str, report: &str, hash: &str) -> Result<Option<Registered>, Error> {
        let row =
            sql("SELECT recorded_ms, begun, jobs FROM claims WHERE experiment = $1 AND report = $2 AND hash = $3")
                .bind(experiment)
                .bind(report)
                .bind(hash)
                .fetch_optional(&mut self.connection().await?)
                .await?;
        row.map(|row| {
            let count = |column: usize| Ok::<u64, Error>(u64::try_from(row.try_get::<i64>(column)?).unwrap_or(0));
            Ok(Registered { recorded_ms: row.try_get(0)?, begun: count(1)?, jobs: count(2)? })
        })
        .transpose()
    }
}
