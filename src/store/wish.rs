//! What people ask of jobs and of schedulers while they run. Whoever runs reads it and acts on it; nothing is done here.

use serde_json::{Value, json};

use super::attempt::note;
use super::database::{Sql, sql};
use super::lock::lock;
use super::{Error, Store};
use crate::event::now_ms;
use crate::job::JobId;

/// What is asked of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Not to be started.
    Hold,
    /// Not to be started, and to be saved and left if it runs.
    Cancel,
}

/// What is asked of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerWish {
    /// Start nothing more; what runs goes on to its end.
    Drain,
    /// Save and end.
    Stop,
    /// End at once.
    Now,
}

impl Wish {
    /// As it stands in the store.
    pub fn name(self) -> &'static str {
        match self {
            Wish::Hold => "hold",
            Wish::Cancel => "cancel",
        }
    }
}

impl SchedulerWish {
    /// As it stands in the store.
    pub fn name(self) -> &'static str {
        match self {
            SchedulerWish::Drain => "drain",
            SchedulerWish::Stop => "stop",
            SchedulerWish::Now => "now",
        }
    }
}

impl Store {
    /// Sets or, with none, takes back what is asked of jobs. Those that are done stay as they are. Returns the jobs that
    /// changed.
    pub async fn wish(&self, jobs: &[JobId], wish: Option<Wish>) -> Result<Vec<JobId>, Error> {
        let wish = wish.map(Wish::name);
        let change = "UPDATE jobs SET wish = $2
                      WHERE id = $1 AND state <> 'done' AND COALESCE(wish, '') <> COALESCE($2, '')";
        self.ask(jobs, &json!({ "wish": wish }), |job| sql(change).bind(job.as_str()).bind(wish)).await
    }

    /// Who goes first: higher numbers. Returns the jobs that changed.
    pub async fn prioritize(&self, jobs: &[JobId], priority: i64) -> Result<Vec<JobId>, Error> {
        let change = "UPDATE jobs SET priority = $2 WHERE id = $1 AND state <> 'done' AND priority <> $2";
        self.ask(jobs, &json!({ "priority": priority }), |job| sql(change).bind(job.as_str()).bind(priority)).await
    }

    /// Jobs that failed or are blocked become open; jobs that were cancelled, or wait for their next try, may start at
    /// once. Returns the jobs that changed.
    pub async fn retry(&self, jobs: &[JobId]) -> Result<Vec<JobId>, Error> {
        let change = "UPDATE jobs SET message = NULL,
                          blocked_by = NULL, retry_at_ms = NULL,
                          wish = CASE WHEN wish = 'cancel' THEN NULL ELSE wish END,
                          state = CASE WHEN state IN ('failed', 'blocked') THEN 'open' ELSE state END
                      WHERE id = $1 AND (state IN ('failed', 'blocked') OR wish = 'cancel' OR retry_at_ms IS NOT NULL)
                          AND state <> 'done'";
        self.ask(jobs, &json!({ "retry": true }), |job| sql(change).bind(job.as_str())).await
    }

    /// Makes a change of each job, all in one transaction, and writes down of whom it was one.
    async fn ask(&self, jobs: &[JobId], what: &Value, change: impl Fn(&JobId) -> Sql) -> Result<Vec<JobId>, Error> {
        let text = what.to_string();
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, jobs).await?;
        let mut changed = Vec::new();
        for job in jobs {
            if change(job).execute(&mut transaction).await? > 0 {
                note(&mut transaction, job, None, now_ms(), "asked", &text).await?;
                changed.push(job.clone());
            }
        }
        transaction.commit().await?;
        Ok(changed)
    }

    /// Asks every scheduler that has not ended. Returns how many that are.
    pub async fn ask_schedulers(&self, wish: SchedulerWish) -> Result<u64, Error> {
        let rows = sql("UPDATE schedulers SET wish = $1 WHERE ended_ms IS NULL")
            .bind(wish.name())
            .execute(&mut self.connection().await?)
            .await?;
        Ok(rows)
    }

    /// Takes out schedulers that ended, or were last seen, before `before_ms`. Returns how many.
    pub async fn forget_schedulers(&self, before_ms: i64) -> Result<u64, Error> {
        let rows = sql("DELETE FROM schedulers WHERE COALESCE(ended_ms, seen_ms) < $1")
            .bind(before_ms)
            .execute(&mut self.connection().await?)
            .await?;
        Ok(rows)
    }
}
