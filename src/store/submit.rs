//! What was handed to a batch system: who hands out, arrays of tasks, and how jobs stand meanwhile.

use std::time::Duration;

use serde::Serialize;

use super::attempt::note;
use super::database::{Row, Sql, sql};
use super::lease::clock;
use super::read::state;
use super::value::Value;
use super::{Error, State, Store, Wish, big};
use crate::job::JobId;

/// Another process that looks after an experiment's tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    pub owner: String,
    pub host: String,
    /// Until its lease ends, by the store's clock.
    pub left: Duration,
}

/// A job's place in an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Task {
    pub tag: String,
    /// The batch system's number of the array; none before it answered.
    pub number: Option<String>,
    pub place: u32,
    #[serde(skip)]
    pub job: JobId,
    /// Epochs that the job had when it was submitted.
    pub epoch: u32,
    /// In the batch system's words.
    pub state: String,
    pub reason: Option<String>,
    pub node: Option<String>,
    pub is_over: bool,
    /// Since it was submitted, by the store's clock.
    #[serde(skip)]
    pub age: Duration,
}

impl Task {
    /// As the batch system's commands take it: `12_3`.
    pub fn name(&self) -> String {
        format!("{}_{}", self.number.as_deref().unwrap_or("?"), self.place)
    }

    /// State, reason and node, in the batch system's words.
    pub fn words(&self) -> String {
        let words = [Some(self.state.as_str()), self.reason.as_deref(), self.node.as_deref()];
        words.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Why it waits.
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or("just submitted")
    }
}

/// How a task was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub tag: String,
    pub place: u32,
    pub state: String,
    pub reason: Option<String>,
    pub node: Option<String>,
    pub is_over: bool,
}

/// How a job stands, for who hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    pub job: JobId,
    pub state: State,
    pub attempt: u32,
    pub wish: Option<Wish>,
    pub message: Option<String>,
    /// It runs, and its owner's lease is not over by the store's clock.
    pub is_held: bool,
    /// Its last epoch with a row.
    pub epoch: u32,
    pub priority: i64,
}

impl Store {
    /// Takes or renews the right to hand out an experiment's tasks. `gone` is an owner who is known to be. Else who has it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn take_control(
        &self,
        experiment: &str,
        (owner, host): (&str, &str),
        lease: Duration,
        gone: Option<&str>,
    ) -> Result<Option<Controller>, Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        let now = clock(&mut transaction).await?;
        // One statement: of two that come at once the second sees the first's row.
        let taken = sql("INSERT INTO controllers (experiment, owner, host, lease_until_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (experiment) DO UPDATE
             SET owner = excluded.owner, host = excluded.host, lease_until_ms = excluded.lease_until_ms
             WHERE controllers.owner = excluded.owner OR controllers.owner = $5 OR controllers.lease_until_ms < $6")
        .bind(experiment)
        .bind(owner)
        .bind(host)
        .bind(now + big(lease.as_millis() as u64))
        .bind(gone)
        .bind(now)
        .execute(&mut transaction)
        .await?;
        let row = sql("SELECT owner, host, lease_until_ms FROM controllers WHERE experiment = $1")
            .bind(experiment)
            .fetch_one(&mut transaction)
            .await?;
        let until: i64 = row.try_get(2)?;
        let (other, host) = (row.try_get(0)?, row.try_get(1)?);
        transaction.commit().await?;
        let left = Duration::from_millis(u64::try_from(until - now).unwrap_or(0));
        Ok((taken == 0).then_some(Controller { owner: other, host, left }))
    }

    /// Who has the right to hand out an experiment's tasks at present.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn controller(&self, experiment: &str) -> Result<Option<Controller>, Error> {
        let mut connection = self.connection().await?;
        let now = clock(&mut connection).await?;
        let row =
            sql("SELECT owner, host, lease_until_ms FROM controllers WHERE experiment = $1 AND lease_until_ms >= $2")
                .bind(experiment)
                .bind(now)
                .fetch_optional(&mut connection)
                .await?;
        row.map(|row| {
            Ok(Controller { owner: row.try_get(0)?, host: row.try_get(1)?, left: since(now, row.try_get(2)?) })
        })
        .transpose()
    }

    /// Binds the store to a folder, by the name that lies in it; or says to which other it is bound.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn settle(&self, id: &str, folder: &str) -> Result<Option<String>, Error> {
        let mut connection = self.connection().await?;
        sql("INSERT INTO homes (id, folder) SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM homes)")
            .bind(id)
            .bind(folder)
            .execute(&mut connection)
            .await?;
        let row = sql("SELECT id, folder FROM homes ORDER BY folder").fetch_one(&mut connection).await?;
        let (there, other): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        Ok((there != id).then_some(other))
    }

    /// Gives that right back.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn leave_control(&self, owner: &str) -> Result<(), Error> {
        sql("DELETE FROM controllers WHERE owner = $1").bind(owner).execute(&mut self.connection().await?).await?;
        Ok(())
    }

    /// Writes down an array that is about to be handed over: of each place its jobs, and how far they are.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn begin_submission(
        &self,
        tag: &str,
        experiment: &str,
        manifest: &str,
        tasks: &[(u32, JobId, u32)],
    ) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        let now = clock(&mut transaction).await?;
        sql("INSERT INTO submissions (tag, experiment, manifest, submitted_ms) VALUES ($1, $2, $3, $4)")
            .bind(tag)
            .bind(experiment)
            .bind(manifest)
            .bind(now)
            .execute(&mut transaction)
            .await?;
        // A statement has room for some thousands of values.
        for part in tasks.chunks(1000) {
            let rows = part.iter().map(|(place, job, epoch)| -> [Value; 5] {
                [
                    tag.into(),
                    i64::from(*place).into(),
                    job.as_str().into(),
                    i64::from(*epoch).into(),
                    "SUBMITTED".into(),
                ]
            });
            Sql::rows("INSERT INTO tasks (tag, place, job, epoch, state)", rows, "").execute(&mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Writes down the number that the batch system gave an array.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn name_submission(&self, tag: &str, number: &str) -> Result<(), Error> {
        sql("UPDATE submissions SET number = $1 WHERE tag = $2")
            .bind(number)
            .bind(tag)
            .execute(&mut self.connection().await?)
            .await?;
        Ok(())
    }

    /// Forgets an array that never came to be.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn drop_submission(&self, tag: &str) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        sql("DELETE FROM tasks WHERE tag = $1").bind(tag).execute(&mut transaction).await?;
        sql("DELETE FROM submissions WHERE tag = $1").bind(tag).execute(&mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// All tasks of an experiment, or of all, in the order of submission.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tasks(&self, experiment: Option<&str>) -> Result<Vec<Task>, Error> {
        let mut connection = self.connection().await?;
        let now = clock(&mut connection).await?;
        let rows = sql(
            "SELECT t.tag, s.number, t.place, t.job, t.epoch, t.state, t.reason, t.node, t.ended_ms, s.submitted_ms
             FROM tasks t JOIN submissions s ON s.tag = t.tag
             WHERE $1 IS NULL OR s.experiment = $1 ORDER BY s.submitted_ms, t.tag, t.place, t.job",
        )
        .bind(experiment)
        .fetch_all(&mut connection)
        .await?;
        rows.iter().map(|row| task(row, now)).collect()
    }

    /// Writes down how tasks were seen.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn see(&self, sights: &[Sight]) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        let now = clock(&mut transaction).await?;
        for sight in sights {
            sql("UPDATE tasks SET state = $1, reason = $2, node = COALESCE($3, node),
                 ended_ms = CASE WHEN $4 = 1 THEN COALESCE(ended_ms, $5) END
                 WHERE tag = $6 AND place = $7")
            .bind(sight.state.as_str())
            .bind(sight.reason.as_deref())
            .bind(sight.node.as_deref())
            .bind(i64::from(sight.is_over))
            .bind(now)
            .bind(sight.tag.as_str())
            .bind(i64::from(sight.place))
            .execute(&mut transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// How an experiment's jobs stand, those it needs with them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stands(&self, experiment: &str) -> Result<Vec<Stand>, Error> {
        let mut connection = self.connection().await?;
        let now = clock(&mut connection).await?;
        // The last epoch is looked up for each: there may be many millions of them.
        let rows = sql("SELECT j.id, j.state, j.attempt, j.wish, j.message, j.lease_until_ms,
                 (SELECT MAX(epoch) FROM epochs WHERE job = j.id), j.priority
             FROM experiment_jobs x JOIN jobs j ON j.id = x.job WHERE x.experiment = $1")
        .bind(experiment)
        .fetch_all(&mut connection)
        .await?;
        rows.iter().map(|row| stand(row, now)).collect()
    }

    /// Frees those of `jobs` that run, if their owner's lease is over by the store's clock, or he is an earlier start of the
    /// task `again`. Only after the spools were read. Returns how many there were.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn take_over(&self, jobs: &[JobId], again: Option<&str>) -> Result<u64, Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        let now = clock(&mut transaction).await?;
        let mut jobs: Vec<&JobId> = jobs.iter().collect();
        // Always in the same order, or two that do this at once could wait for each other.
        jobs.sort();
        let mut freed = 0;
        for job in jobs {
            let changed =
                sql("UPDATE jobs SET state = 'interrupted', message = NULL, owner = NULL, lease_until_ms = NULL
                 WHERE id = $1 AND state = 'running'
                     AND (COALESCE(lease_until_ms, 0) < $2 OR SUBSTR(COALESCE(owner, ''), 1, LENGTH($3)) = $3)")
                .bind(job.as_str())
                .bind(now)
                // No owner's name begins so.
                .bind(again.unwrap_or("\n"))
                .execute(&mut transaction)
                .await?;
            if changed == 0 {
                continue;
            }
            freed += 1;
            sql("UPDATE attempts SET outcome = 'stopped', ended_ms = $1, message = 'its task ended without a word'
                 WHERE job = $2 AND ended_ms IS NULL")
            .bind(now)
            .bind(job.as_str())
            .execute(&mut transaction)
            .await?;
            let text = serde_json::json!({ "message": "its task ended without a word" }).to_string();
            note(&mut transaction, job, None, now, "stopped", &text).await?;
        }
        transaction.commit().await?;
        Ok(freed)
    }

    /// Gives jobs up that nothing brings forward.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn give_up(&self, jobs: &[JobId], why: &str) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        let now = clock(&mut transaction).await?;
        for job in jobs {
            let changed = sql(
                "UPDATE jobs SET state = 'failed', message = $1 WHERE id = $2 AND state NOT IN ('done', 'running')",
            )
            .bind(why)
            .bind(job.as_str())
            .execute(&mut transaction)
            .await?;
            if changed > 0 {
                let text = serde_json::json!({ "class": "lost", "message": why }).to_string();
                note(&mut transaction, job, None, now, "failed", &text).await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }
}

fn since(then: i64, now: i64) -> Duration {
    Duration::from_millis(u64::try_from(now - then).unwrap_or(0))
}

fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn task(row: &Row, now: i64) -> Result<Task, Error> {
    let ended: Option<i64> = row.try_get(8)?;
    Ok(Task {
        tag: row.try_get(0)?,
        number: row.try_get(1)?,
        place: small(row.try_get(2)?),
        job: JobId::from_stored(row.try_get(3)?),
        epoch: small(row.try_get(4)?),
        state: row.try_get(5)?,
        reason: row.try_get(6)?,
        node: row.try_get(7)?,
        is_over: ended.is_some(),
        age: since(row.try_get(9)?, now),
    })
}

fn stand(row: &Row, now: i64) -> Result<Stand, Error> {
    let wish: Option<&str> = row.try_get(3)?;
    let (lease, epoch): (Option<i64>, Option<i64>) = (row.try_get(5)?, row.try_get(6)?);
    let state = state(row, 1)?;
    Ok(Stand {
        job: JobId::from_stored(row.try_get(0)?),
        state,
        attempt: small(row.try_get(2)?),
        wish: wish.map(|wish| if wish == "cancel" { Wish::Cancel } else { Wish::Hold }),
        message: row.try_get(4)?,
        is_held: state == State::Running && lease.is_some_and(|until| until >= now),
        epoch: epoch.map_or(0, small),
        priority: row.try_get(7)?,
    })
}
