//! An experiment's outcomes in pages: for who goes through all of them and keeps none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use super::database::sql;
use super::read::{Rows, read_outcomes, small};
use super::{Error, Outcome, Store};
use crate::job::JobId;

/// Epochs that are read at once, so far as they are not all of one job.
const MOST: i64 = 20_000;

/// Places in an experiment's grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page(Range<i64>);

/// Part of an experiment's grid.
pub(super) struct Stretch<'a> {
    pub experiment: &'a str,
    /// In the grid's order.
    pub places: Range<i64>,
}

impl Stretch<'_> {
    pub fn whole(experiment: &str) -> Stretch<'_> {
        Stretch { experiment, places: 0..i64::MAX }
    }
}

/// When epochs were over, in milliseconds since 1970 on the worker's clock.
pub type Times = BTreeMap<u32, i64>;

impl Store {
    /// The grid of an experiment in pages, but for those that have no job of `chosen`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn pages(&self, experiment: &str, chosen: &BTreeSet<JobId>) -> Result<Vec<Page>, Error> {
        let rows = sql("SELECT e.ordinal, e.job, j.epochs FROM experiment_jobs e JOIN jobs j ON j.id = e.job
             WHERE e.experiment = $1 AND e.needed = 0 ORDER BY e.ordinal")
        .bind(experiment)
        .fetch_all(&mut self.connection().await?)
        .await?;
        let rows: Vec<(i64, String, i64)> = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
            .collect::<Result<_, Error>>()?;
        let mut pages = Vec::new();
        let mut rows = rows.into_iter().peekable();
        while let Some((first, job, epochs)) = rows.next() {
            let (mut end, mut size) = (first + 1, epochs);
            let mut is_wanted = chosen.contains(&JobId::from_stored(job));
            while let Some((place, job, epochs)) = rows.next_if(|(_, _, epochs)| size + epochs <= MOST) {
                (end, size) = (place + 1, size + epochs);
                is_wanted |= chosen.contains(&JobId::from_stored(job));
            }
            if is_wanted {
                pages.push(Page(first..end));
            }
        }
        Ok(pages)
    }

    /// The outcomes of a page in the grid's order, each with the times of its epochs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn page(&self, experiment: &str, page: &Page) -> Result<Vec<(Outcome, Times)>, Error> {
        let mut connection = self.connection().await?;
        let stretch = Stretch { experiment, places: page.0.clone() };
        let outcomes = read_outcomes(&mut connection, &stretch, Rows::All).await?;
        let rows = sql("SELECT r.job, r.epoch, r.at_ms FROM experiment_jobs e JOIN epochs r ON r.job = e.job
             WHERE e.experiment = $1 AND e.ordinal >= $2 AND e.ordinal < $3 AND e.needed = 0")
        .bind(experiment)
        .bind(stretch.places.start)
        .bind(stretch.places.end)
        .fetch_all(&mut connection)
        .await?;
        let mut times: HashMap<String, Times> = HashMap::new();
        for row in &rows {
            let job: &str = row.try_get(0)?;
            if !times.contains_key(job) {
                times.insert(job.to_owned(), Times::new());
            }
            if let Some(times) = times.get_mut(job) {
                times.insert(small(row, 1)?, row.try_get(2)?);
            }
        }
        let with_times = |outcome: Outcome| {
            let times = times.remove(outcome.id.as_str()).unwrap_or_default();
            (outcome, times)
        };
        Ok(outcomes.into_iter().map(with_times).collect())
    }
}
