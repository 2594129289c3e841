//! Taking what workers say, from the pipe or from a spool. The rules of the fence are in the [module above](super).

use serde::Serialize;

use super::attempt::{Ending, end, newest_attempt, note};
use super::database::{Connection, sql};
use super::lock::lock;
use super::{Error, Store, big};
use crate::event::{Epoch, Event, Message, TeacherCheck};
use crate::job::JobId;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Taken {
    Stored,
    /// It was there already.
    Known,
    /// It speaks of the state of an attempt that is no longer the newest.
    Refused {
        newest: u32,
    },
    /// Nobody recorded this job, or began this attempt.
    Unknown,
    /// For the display only.
    Passing,
}

/// Where messages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A worker of this scheduler, whose attempt was begun here.
    Worker,
    /// A job's own file. It may know attempts that the store does not: of a store that was deleted or put back from a
    /// copy. They are entered with what the file says of them.
    Spool,
}

impl Store {
    /// A worker's message.
    pub async fn take(&self, message: &Message) -> Result<Taken, Error> {
        let taken = self.take_all(std::slice::from_ref(message)).await?;
        Ok(taken[0])
    }

    /// Workers' messages in one transaction. One answer a message, in their order.
    pub async fn take_all(&self, messages: &[Message]) -> Result<Vec<Taken>, Error> {
        self.take_from(Source::Worker, messages).await
    }

    /// The messages of one job's spool, in the file's order. Also rows of older attempts, and attempts the store does
    /// not know. A `Finished` is believed of whichever attempt, so leave it out when the student's file is missing;
    /// only for the holder of the scheduler's lock.
    pub async fn take_spool(&self, messages: &[Message]) -> Result<Vec<Taken>, Error> {
        self.take_from(Source::Spool, messages).await
    }

    async fn take_from(&self, source: Source, messages: &[Message]) -> Result<Vec<Taken>, Error> {
        if !messages.iter().any(|message| message.event.is_lasting()) {
            return Ok(vec![Taken::Passing; messages.len()]);
        }
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, messages.iter().map(|message| &message.job)).await?;
        let mut taken = Vec::with_capacity(messages.len());
        for message in messages {
            taken.push(take_one(&mut transaction, source, message).await?);
        }
        transaction.commit().await?;
        Ok(taken)
    }
}

async fn take_one(connection: &mut Connection<'_>, source: Source, message: &Message) -> Result<Taken, Error> {
    let Message { job, attempt, at_ms, event } = message;
    if !event.is_lasting() {
        return Ok(Taken::Passing);
    }
    let Some(newest) = newest_attempt(connection, job).await? else { return Ok(Taken::Unknown) };
    if source == Source::Spool {
        enter_attempt(connection, message, newest).await?;
    } else if *attempt > newest {
        return Ok(Taken::Unknown);
    }
    let late = *attempt < newest;
    let new = match event {
        Event::Epoch(row) => insert_epoch(connection, message, row).await?,
        Event::Teacher(check) => insert_teacher(connection, message, check).await?,
        Event::Finished if source == Source::Spool => {
            let new = write_down(connection, message).await?;
            finish(connection, job, *attempt, *at_ms).await? || new
        }
        _ if late && source == Source::Worker => return Ok(Taken::Refused { newest }),
        // An older attempt's history: of interest, without effect.
        _ if late => write_down(connection, message).await?,
        Event::Finished => {
            let new = write_down(connection, message).await?;
            finish(connection, job, *attempt, *at_ms).await? || new
        }
        Event::Stopped { epoch, step } => {
            let ending = Ending::Stopped { message: format!("after epoch {epoch}, step {step}") };
            write_down(connection, message).await? && end(connection, job, *attempt, *at_ms, &ending).await?
        }
        Event::Failed { class, message: why } => {
            let ending = Ending::Failed { class: *class, message: why.clone() };
            write_down(connection, message).await? && end(connection, job, *attempt, *at_ms, &ending).await?
        }
        Event::Started { .. } | Event::Torn { .. } | Event::Flagged { .. } | Event::Step { .. } => {
            write_down(connection, message).await?
        }
    };
    Ok(if new { Taken::Stored } else { Taken::Known })
}

async fn enter_attempt(connection: &mut Connection<'_>, message: &Message, newest: u32) -> Result<(), Error> {
    let attempt = i64::from(message.attempt);
    let entered = sql("INSERT INTO attempts (job, attempt, owner, started_ms) VALUES ($1, $2, 'spool', $3)
         ON CONFLICT (job, attempt) DO NOTHING")
    .bind(message.job.as_str())
    .bind(attempt)
    .bind(message.at_ms)
    .execute(connection)
    .await?;
    if entered > 0 && message.attempt > newest {
        sql("UPDATE jobs SET attempt = $1, state = 'interrupted' WHERE id = $2 AND state <> 'done'")
            .bind(attempt)
            .bind(message.job.as_str())
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// The job is done, whatever was believed before: its result is on disk. Whether that was news.
async fn finish(connection: &mut Connection<'_>, job: &JobId, attempt: u32, at_ms: i64) -> Result<bool, Error> {
    let changed =
        sql("UPDATE jobs SET state = 'done', message = NULL, blocked_by = NULL, owner = NULL, lease_until_ms = NULL
         WHERE id = $1 AND state <> 'done'")
        .bind(job.as_str())
        .execute(connection)
        .await?;
    if changed == 0 {
        return Ok(false);
    }
    sql("UPDATE attempts SET ended_ms = $1, outcome = 'finished', failure = NULL, message = NULL
         WHERE job = $2 AND attempt = $3")
    .bind(at_ms)
    .bind(job.as_str())
    .bind(i64::from(attempt))
    .execute(connection)
    .await?;
    Ok(true)
}

async fn write_down(connection: &mut Connection<'_>, message: &Message) -> Result<bool, Error> {
    let text = serde_json::json!(message.event).to_string();
    note(connection, &message.job, Some(message.attempt), message.at_ms, kind(&message.event), &text).await
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Started { .. } => "started",
        Event::Teacher(_) => "teacher",
        Event::Epoch(_) => "epoch",
        Event::Torn { .. } => "torn",
        Event::Flagged { .. } => "flagged",
        Event::Step { .. } => "step",
        Event::Finished => "finished",
        Event::Stopped { .. } => "stopped",
        Event::Failed { .. } => "failed",
    }
}

async fn insert_epoch(connection: &mut Connection<'_>, message: &Message, row: &Epoch) -> Result<bool, Error> {
    let inserted = sql(
        "INSERT INTO epochs (job, epoch, attempt, at_ms, step, images, training_loss, learning_rate, gradient_norm,
             student_flops, teacher_flops, seconds, images_per_second)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (job, epoch) DO NOTHING",
    )
    .bind(message.job.as_str())
    .bind(i64::from(row.epoch))
    .bind(i64::from(message.attempt))
    .bind(message.at_ms)
    .bind(big(row.step))
    .bind(big(row.images))
    .bind(row.training_loss)
    .bind(row.learning_rate)
    .bind(row.gradient_norm)
    .bind(row.student_flops)
    .bind(row.teacher_flops)
    .bind(row.seconds)
    .bind(row.images_per_second)
    .execute(connection)
    .await?;
    let mut new = inserted > 0;
    for evaluation in &row.evaluations {
        let inserted = sql(
            "INSERT INTO evaluations (job, epoch, split, images, loss, top1, top5, kl, agreement, agreement5, distance,
                 entropy, teacher_entropy, calibration_error, correct)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             ON CONFLICT (job, epoch, split) DO NOTHING",
        )
        .bind(message.job.as_str())
        .bind(i64::from(row.epoch))
        .bind(evaluation.split.name())
        .bind(big(evaluation.images))
        .bind(evaluation.loss)
        .bind(evaluation.top1)
        .bind(evaluation.top5)
        .bind(evaluation.kl)
        .bind(evaluation.agreement)
        .bind(evaluation.agreement5)
        .bind(evaluation.distance)
        .bind(evaluation.entropy)
        .bind(evaluation.teacher_entropy)
        .bind(evaluation.calibration_error)
        .bind(&evaluation.correct)
        .execute(connection)
        .await?;
        // A resumed run may evaluate more often than the first: rows of an epoch that is known, but new themselves.
        new |= inserted > 0;
    }
    Ok(new)
}

async fn insert_teacher(
    connection: &mut Connection<'_>,
    message: &Message,
    check: &TeacherCheck,
) -> Result<bool, Error> {
    let inserted = sql(
        "INSERT INTO teachers (job, teacher, split, attempt, images, top1, top5) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (job, teacher, split) DO NOTHING",
    )
    .bind(message.job.as_str())
    .bind(check.teacher.map_or(-1, i64::from))
    .bind(check.split.name())
    .bind(i64::from(message.attempt))
    .bind(big(check.images))
    .bind(check.top1)
    .bind(check.top5)
    .execute(connection)
    .await?;
    Ok(inserted > 0)
}
