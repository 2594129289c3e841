//! How fast computing was, and how far expectations of it were off: what the price of a plan is made of.

use std::collections::HashMap;

use super::database::sql;
use super::read::small;
use super::{Error, Store};

impl Store {
    /// What one thread computed in a second, over all epochs kept; none where there are none yet.
    pub async fn flops_per_second(&self) -> Result<Option<f64>, Error> {
        let mut connection = self.connection().await?;
        // Of each job the sums of its latest epoch, which count from its start.
        let row = sql("SELECT sum(flops), sum(seconds) FROM (
                 SELECT max(e.student_flops + e.teacher_flops) AS flops, sum(e.seconds * a.threads) AS seconds
                 FROM epochs e JOIN attempts a ON a.job = e.job AND a.attempt = e.attempt
                 WHERE a.threads IS NOT NULL GROUP BY e.job
             ) AS spent")
        .fetch_one(&mut connection)
        .await?;
        let (flops, seconds): (Option<f64>, Option<f64>) = (row.try_get(0)?, row.try_get(1)?);
        Ok(flops.zip(seconds).filter(|(flops, seconds)| *flops > 0.0 && *seconds > 0.0).map(|(f, s)| f / s))
    }

    /// The same of each kind of student: label, resolution and batch.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn flops_per_second_by_kind(&self) -> Result<HashMap<(String, u32, u32), f64>, Error> {
        let rows = sql("SELECT student, resolution, batch, sum(flops), sum(seconds) FROM (
                 SELECT j.student, j.resolution, j.batch, max(e.student_flops + e.teacher_flops) AS flops,
                     sum(e.seconds * a.threads) AS seconds
                 FROM epochs e JOIN attempts a ON a.job = e.job AND a.attempt = e.attempt JOIN jobs j ON j.id = e.job
                 WHERE a.threads IS NOT NULL AND a.device = 'cpu' GROUP BY e.job, j.student, j.resolution, j.batch
             ) AS spent GROUP BY student, resolution, batch")
        .fetch_all(&mut self.connection().await?)
        .await?;
        let mut rates = HashMap::new();
        for row in rows {
            let (flops, seconds): (Option<f64>, Option<f64>) = (row.try_get(3)?, row.try_get(4)?);
            if let Some((flops, seconds)) = flops.zip(seconds).filter(|(flops, seconds)| *flops > 0.0 && *seconds > 0.0)
            {
                rates.insert((row.try_get(0)?, small(&row, 1)?, small(&row, 2)?), flops / seconds);
            }
        }
        Ok(rates)
    }

    /// How long cohorts took that came to their end in one attempt, as a share of how long they were expected to take.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn expectations(&self) -> Result<Vec<f64>, Error> {
        let shares: Vec<f64> =
            sql("SELECT (max(ended_ms) - min(started_ms)) / 1000.0 / max(expected_seconds) FROM attempts
             WHERE outcome = 'finished' AND attempt = 1 AND expected_seconds > 0 GROUP BY cohort, owner")
            .column(&mut self.connection().await?)
            .await?;
        Ok(shares)
    }
}
