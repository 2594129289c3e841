//! What readers ask: which jobs are done, how experiments stand, everything a report draws.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::columns::read_column;
use super::database::{Connection, Row, sql};
use super::pages::Stretch;
use super::{Error, Outcome, State, Store};
use crate::event::{Epoch, Evaluation, Event, TeacherCheck, Which};
use crate::job::JobId;

/// How an experiment stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExperimentSummary {
    pub name: String,
    pub title: Option<String>,
    pub hash: String,
    pub recorded_ms: i64,
    /// Of the grid's jobs; states without a job are left out.
    pub jobs: BTreeMap<State, u64>,
    /// Of the jobs that are only teachers of the grid's.
    pub needed: BTreeMap<State, u64>,
}

impl Store {
    /// All jobs that are done, of all experiments.
    pub async fn done(&self) -> Result<BTreeSet<JobId>, Error> {
        self.ids("SELECT id FROM jobs WHERE state = 'done'").await
    }

    /// All jobs that are recorded and not done.
    pub async fn not_done(&self) -> Result<BTreeSet<JobId>, Error> {
        self.ids("SELECT id FROM jobs WHERE state <> 'done'").await
    }

    /// Every experiment that was run, by name.
    pub async fn experiments(&self) -> Result<Vec<ExperimentSummary>, Error> {
        let mut connection = self.connection().await?;
        let rows = sql("SELECT name, title, hash, recorded_ms FROM experiments").fetch_all(&mut connection).await?;
        let mut summaries = Vec::with_capacity(rows.len());
        let mut positions = HashMap::new();
        for row in rows {
            let name: String = row.try_get(0)?;
            positions.insert(name.clone(), summaries.len());
            summaries.push(ExperimentSummary {
                name,
                title: row.try_get(1)?,
                hash: row.try_get(2)?,
                recorded_ms: row.try_get(3)?,
                jobs: BTreeMap::new(),
                needed: BTreeMap::new(),
            });
        }
        let counts =
            sql("SELECT e.experiment, e.needed, j.state, count(*) FROM experiment_jobs e JOIN jobs j ON j.id = e.job
             GROUP BY e.experiment, e.needed, j.state")
            .fetch_all(&mut connection)
            .await?;
        for row in counts {
            let Some(summary) = positions.get(row.try_get::<&str>(0)?).map(|&at| &mut summaries[at]) else {
                continue;
            };
            let needed: i64 = row.try_get(1)?;
            let side = if needed == 0 { &mut summary.jobs } else { &mut summary.needed };
            side.insert(state(&row, 2)?, count(&row, 3)?);
        }
        // Not by the database, which may sort by a language's rules.
        summaries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(summaries)
    }

    /// The grid's jobs of an experiment with all their numbers, in the grid's order; jobs that are only teachers are
    /// not among them. Empty for an experiment that was never run.
    pub async fn outcomes(&self, experiment: &str) -> Result<Vec<Outcome>, Error> {
        self.outcomes_with(experiment, Rows::All).await
    }

    /// The same with fewer numbers: ten thousand jobs have millions of rows, and most readers want the last of each.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn outcomes_with(&self, experiment: &str, which: Rows) -> Result<Vec<Outcome>, Error> {
        read_outcomes(&mut self.connection().await?, &Stretch::whole(experiment), which).await
    }

    async fn ids(&self, text: &'static str) -> Result<BTreeSet<JobId>, Error> {
        let ids: Vec<String> = sql(text).column(&mut self.connection().await?).await?;
        Ok(ids.into_iter().map(JobId::from_stored).collect())
    }
}

/// Of a job's epochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    All,
    /// That of the last epoch, where the job came to its end.
    Last,
    /// The last, and of the others so much: a figure of thousands of curves needs one number of each epoch, and what is not
    /// asked for is not a number in the rows that come back.
    Some(Wanted),
}

/// What of rows before the last is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Everything but evaluations.
    pub training: bool,
    /// Of evaluations these columns.
    pub evaluations: BTreeSet<(Which, &'static str)>,
}

impl Rows {
    /// 1 where only the last row of epochs is needed: what its number is multiplied by.
    fn last_only(&self) -> i64 {
        match self {
            Rows::All => 0,
            Rows::Last => 1,
            Rows::Some(wanted) => i64::from(!wanted.training),
        }
    }
}

pub(super) async fn read_outcomes(
    connection: &mut Connection<'_>,
    stretch: &Stretch<'_>,
    which: Rows,
) -> Result<Vec<Outcome>, Error> {
    let rows = sql("SELECT j.id, j.text, e.axes, j.state, j.message FROM experiment_jobs e JOIN jobs j ON j.id = e.job
         WHERE e.experiment = $1 AND e.ordinal >= $2 AND e.ordinal < $3 AND e.needed = 0 ORDER BY e.ordinal")
    .bind(stretch.experiment)
    .bind(stretch.places.start)
    .bind(stretch.places.end)
    .fetch_all(connection)
    .await?;
    let mut outcomes = Vec::with_capacity(rows.len());
    let mut positions = HashMap::new();
    for row in rows {
        let id: String = row.try_get(0)?;
        positions.insert(id.clone(), outcomes.len());
        outcomes.push(Outcome {
            job: json(row.try_get(1)?, || format!("the text of job `{id}`"))?,
            axes: json(row.try_get(2)?, || format!("the axes of job `{id}`"))?,
            state: state(&row, 3)?,
            message: row.try_get(4)?,
            epochs: Vec::new(),
            seconds: 0.0,
            teachers: Vec::new(),
            flags: BTreeMap::new(),
            id: JobId::from_stored(id),
        });
    }
    read_epochs(connection, stretch, which.last_only(), &positions, &mut outcomes).await?;
    read_seconds(connection, stretch, &positions, &mut outcomes).await?;
    let last = i64::from(which != Rows::All);
    read_evaluations(connection, stretch, last, &positions, &mut outcomes).await?;
    if let Rows::Some(wanted) = &which {
        for (split, column) in &wanted.evaluations {
            read_column(connection, stretch, *split, column, &positions, &mut outcomes).await?;
        }
    }
    read_teachers(connection, stretch, &positions, &mut outcomes).await?;
    read_flags(connection, stretch, &positions, &mut outcomes).await?;
    Ok(outcomes)
}

/// Place of a job in the list of outcomes.
pub(super) type Positions = HashMap<String, usize>;

// A few statements over the whole experiment and not as many a job: with 10,000 jobs the difference is minutes.

async fn read_epochs(
    connection: &mut Connection<'_>,
    stretch: &Stretch<'_>,
    last: i64,
    positions: &Positions,
    outcomes: &mut [Outcome],
) -> Result<(), Error> {
    let rows = sql(
        "SELECT r.job, r.epoch, r.step, r.images, r.training_loss, r.learning_rate, r.gradient_norm, r.student_flops,
             r.teacher_flops, r.seconds, r.images_per_second
         FROM experiment_jobs e JOIN jobs j ON j.id = e.job JOIN epochs r ON r.job = e.job AND r.epoch >= j.epochs * $4
         WHERE e.experiment = $1 AND e.ordinal >= $2 AND e.ordinal < $3 AND e.needed = 0 ORDER BY r.job, r.epoch",
    )
    .bind(stretch.experiment)
    .bind(stretch.places.start)
    .bind(stretch.places.end)
    .bind(last)
    .fetch_all(connection)
    .await?;
    for row in rows {
        let Some(&at) = positions.get(row.try_get::<&str>(0)?) else { continue };
        outcomes[at].epochs.push(Epoch {
            epoch: small(&row, 1)?,
            step: count(&row, 2)?,
            images: count(&row, 3)?,
            training_loss: number(&row, 4)?,
            learning_rate: number(&row, 5)?,
            gradient_norm: number(&row, 6)?,
            student_flops: number(&row, 7)?,
            teacher_flops: number(&row, 8)?,
            seconds: number(&row, 9)?,
            images_per_second: number(&row, 10)?,
            evaluations: Vec::new(),
        });
    }
    Ok(())
}

async fn read_seconds(
    connection: &mut Connection<'_>,
    stretch: &Stretch<'_>,
    positions: &Positions,
    outcomes: &mut [Outcome],
) -> Result<(), Error> {
    let rows = sql("SELECT r.job, sum(r.seconds) FROM experiment_jobs e JOIN epochs r ON r.job = e.job
         WHERE e.experiment = $1 AND e.ordinal >= $2 AND e.ordinal < $3 AND e.needed = 0 GROUP BY r.job")
    .bind(stretch.experiment)
    .bind(stretch.places.start)
    .bind(stretch.places.end)
    .fetch_all(connection)
    .await?;
    for row in rows {
        let Some(&at) = positions.get(row.try_get::<&str>(0)?) else { continue };
        outcomes[at].seconds = row.try_get::<Option<f64>>(1)?.unwrap_or(0.0);
    }
    Ok(())
}

async fn read_evaluations(
    connection: &mut Connection<'_>,
    stretch: &Stretch<'_>,
    last: i64,
    positions: &Positions,
    outcomes: &mut [Outcome],
) -> Result<(), Error> {
    let rows = sql(
        "SELECT r.job, r.epoch, r.split, r.images, r.loss, r.top1, r.top5, r.kl, r.agreement, r.agreement5, r.distance,
             r.entropy, r.teacher_entropy, r.calibration_error, r.correct
         FROM experiment_jobs e JOIN jobs j ON j.id = e.job JOIN evaluations r ON r.job = e.job
             AND r.epoch >= j.epochs * $4
         WHERE e.experiment = $1 AND e.ordinal >= $2 AND e.ordinal < $3 AND e.needed = 0 ORDER BY r.job, r.epoch",
    )
    .bind(stretch.experiment)
    .bind(stretch.places.start)
    .bind(stretch.places.end)
    .bind(last)
    .fetch_all(connection)
    .await?;
    for row in rows {
        let Some(&at) = positions.get(row.try_get::<&str>(0)?) else { continue };
        let epoch = small(&row, 1)?;
        let epochs = &mut outcomes[at].epochs;
        let Ok(place) = epochs.binary_search_by_key(&epoch, |row| row.epoch) else { continue };
        epochs[place].evaluations.push(Evaluation {
            split: split(&row, 2)?,
            images: count(&row, 3)?,
            loss: number(&row, 4)?,
            top1: number(&row, 5)?,
            top5: number(&row, 6)?,
            kl: row.try_get(7)?,
            agreement: row.try_get(8)?,
            agreement5: row.try_get(9)?,
            distance: row.try_get(10)?,
            entropy: row.try_get(11)?,
            teacher_entropy: row.try_get(12)?,
            calibration_error: row.try_get(13)?,
            correct: row.try_get(14)?,
        });
    }
    // As the worker says them, not as the words sort.
    for epoch in outcomes.iter_mut().flat_map(|outcome| &mut outcome.epochs) {
        epoch.evaluations.sort_by_key(|evaluation| order(evaluation.split));
    }
    Ok(())
}

async fn read_teachers(
    connection: &mut Connection<'_>,
    stretch: &Stretch<'_>,
    positions: &Positions,
    outcomes: &mut [Outcome],
) -> Result<(), Error> {
    let rows = sql("SELECT r.job, r.teacher, r.split, r.images, r.top1, r.top5
         FROM experiment_jobs e JOIN teachers r ON r.job = e.job
         WHERE e.experiment = $1 AND e.ordinal >= $2 AND e.ordinal < $3 AND e.needed = 0 ORDER BY r.job, r.teacher")
    .bind(stretch.experiment)
    .bind(stretch.places.start)
    .bind(stretch.places.end)
    .fetch_all(connection)
    .await?;
    for row in rows {
        let Some(&at) = positions.get(row.try_get::<&str>(0)?) else { continue };
        let teacher: i64 = row.try_get(1)?;
        outcomes[at].teachers.push(TeacherCheck {
            teacher: u32::try_from(teacher).ok(),
            split: split(&row, 2)?,
            images: count(&row, 3)?,
            top1: number(&row, 4)?,
            top5: number(&row, 5)?,
        });
    }
    for outcome in outcomes {
        // The ensemble after its members.
        outcome.teachers.sort_by_key(|check| (check.teacher.unwrap_or(u32::MAX), order(check.split)));
    }
    Ok(())
}

async fn read_flags(
    connection: &mut Connection<'_>,
    stretch: &Stretch<'_>,
    positions: &Positions,
    outcomes: &mut [Outcome],
) -> Result<(), Error> {
    let rows = sql(
        "SELECT r.job, r.text FROM experiment_jobs e JOIN events r ON r.job = e.job
         WHERE e.experiment = $1 AND e.ordinal >= $2 AND e.ordinal < $3 AND e.needed = 0 AND r.kind = 'flagged' ORDER BY r.job, r.at_ms, r.id",
    )
    .bind(stretch.experiment)
    .bind(stretch.places.start)
    .bind(stretch.places.end)
    .fetch_all(connection)
    .await?;
    for row in rows {
        let job: &str = row.try_get(0)?;
        let Some(&at) = positions.get(job) else { continue };
        if let Event::Flagged { flag, message } = json(row.try_get(1)?, || format!("an event of job `{job}`"))? {
            outcomes[at].flags.entry(flag).or_insert(message);
        }
    }
    Ok(())
}

fn order(split: Which) -> u8 {
    match split {
        Which::Train => 0,
        Which::Validation => 1,
        Which::Test => 2,
    }
}

fn split(row: &Row, column: usize) -> Result<Which, Error> {
    let name: &str = row.try_get(column)?;
    [Which::Train, Which::Validation, Which::Test]
        .into_iter()
        .find(|split| split.name() == name)
        .ok_or_else(|| Error::Unreadable { what: format!("the split `{name}`"), source: None })
}

pub(super) fn state(row: &Row, column: usize) -> Result<State, Error> {
    let name: &str = row.try_get(column)?;
    State::ALL
        .into_iter()
        .find(|state| state.name() == name)
        .ok_or_else(|| Error::Unreadable { what: format!("the state `{name}`"), source: None })
}

pub(super) fn json<T: DeserializeOwned>(text: &str, what: impl FnOnce() -> String) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|source| Error::Unreadable { what: what(), source: Some(source) })
}

pub(super) fn count(row: &Row, column: usize) -> Result<u64, Error> {
    let count: i64 = row.try_get(column)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) fn small(row: &Row, column: usize) -> Result<u32, Error> {
    let count: i64 = row.try_get(column)?;
    Ok(u32::try_from(count).unwrap_or(0))
}

/// SQLite keeps what is not a number as NULL.
fn number(row: &Row, column: usize) -> Result<f64, Error> {
    let number: Option<f64> = row.try_get(column)?;
    Ok(number.unwrap_or(f64::NAN))
}
