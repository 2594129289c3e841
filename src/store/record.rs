//! Writing down what an experiment asks for, before anything of it runs.

use std::collections::BTreeMap;

use super::database::{Sql, sql};
use super::{Error, Store, big};
use crate::event::now_ms;
use crate::job::{Job, JobId, Objective};

/// Rows of one INSERT; with 12 columns far below SQLite's 32,766 parameters.
const ROWS: usize = 1000;

/// A job of a grid and its place on the grid's axes.
pub type Listed<'a> = (JobId, &'a Job, &'a BTreeMap<String, String>);

impl Store {
    /// Puts the experiment's jobs into the store, those only `needed` as teachers too. Jobs that are there already,
    /// from whichever experiment, stay as they are; what an earlier text of this experiment asked for is no longer
    /// listed under it, but kept.
    pub async fn record_experiment(
        &self,
        name: &str,
        hash: &str,
        title: Option<&str>,
        text: &str,
        jobs: &[Listed<'_>],
        needed: &[(JobId, &Job)],
    ) -> Result<(), Error> {
        let now = now_ms();
        let none = BTreeMap::new();
        let rows: Vec<Row<'_>> = jobs
            .iter()
            .map(|(id, job, axes)| Row { id, job, axes, needed: false })
            .chain(needed.iter().map(|(id, job)| Row { id, job, axes: &none, needed: true }))
            .collect();

        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        sql("INSERT INTO experiments (name, hash, title, text, recorded_ms) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, title = excluded.title, text = excluded.text,
                 recorded_ms = excluded.recorded_ms")
        .bind(name)
        .bind(hash)
        .bind(title)
        .bind(text)
        .bind(now)
        .execute(&mut transaction)
        .await?;
        sql("DELETE FROM experiment_jobs WHERE experiment = $1").bind(name).execute(&mut transaction).await?;
        // Two who put the same jobs in at once wait for each other in turn if both do it in the same order.
        let mut sorted: Vec<&Row<'_>> = rows.iter().collect();
        sorted.sort_by_key(|row| row.id.as_str());
        for rows in sorted.chunks(ROWS) {
            insert_jobs(rows, now).execute(&mut transaction).await?;
        }
        for (chunk, rows) in rows.chunks(ROWS).enumerate() {
            insert_places(name, chunk * ROWS, rows).execute(&mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

struct Row<'a> {
    id: &'a JobId,
    job: &'a Job,
    axes: &'a BTreeMap<String, String>,
    needed: bool,
}

fn insert_jobs(rows: &[&Row<'_>], now: i64) -> Sql {
    let values = rows.iter().map(|Row { id, job, .. }| {
        [
            id.as_str().into(),
            job.canonical_text().into(),
            job.data.name.as_str().into(),
            job.student.label().into(),
            job.teaching_name().into(),
            i64::from(job.epochs).into(),
            i64::from(job.batch).into(),
            i64::from(job.resolution).into(),
            job.learning_rate.into(),
            job.weight_decay.into(),
            temperature(job).into(),
            big(job.seed).into(),
            now.into(),
        ]
    });
    let head =
        "INSERT INTO jobs (id, text, data, student, teaching, epochs, batch, resolution, learning_rate, weight_decay,
         temperature, seed, created_ms)";
    Sql::rows(head, values, "ON CONFLICT (id) DO NOTHING")
}

fn insert_places(experiment: &str, first: usize, rows: &[Row<'_>]) -> Sql {
    let values = rows.iter().enumerate().map(|(position, row)| {
        [
            experiment.into(),
            row.id.as_str().into(),
            big((first + position) as u64).into(),
            serde_json::json!(row.axes).to_string().into(),
            i64::from(row.needed).into(),
        ]
    });
    // A grid may reach one job on two ways; the first is the one that is shown.
    let tail = "ON CONFLICT (experiment, job) DO NOTHING";
    Sql::rows("INSERT INTO experiment_jobs (experiment, job, ordinal, axes, needed)", values, tail)
}

fn temperature(job: &Job) -> Option<f64> {
    match &job.objective {
        Objective::Labels(_) => None,
        Objective::Distil(distil) => distil.distance.temperature(),
    }
}
