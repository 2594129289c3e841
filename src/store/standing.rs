//! Where every job stands: what verbs that choose among jobs need to know, without texts and numbers.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::database::{Connection, Row, sql};
use super::read::{json, small, state};
use super::{Error, State, Store, Wish};
use crate::event::now_ms;
use crate::job::JobId;

/// A job among others.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    pub id: JobId,
    pub data: String,
    pub student: String,
    pub teaching: String,
    pub epochs: u32,
    pub batch: u32,
    pub resolution: u32,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub temperature: Option<f64>,
    pub seed: u64,
    pub state: State,
    #[serde(serialize_with = "wish_name")]
    pub wish: Option<Wish>,
    pub priority: i64,
    /// Why it failed or is blocked.
    pub message: Option<String>,
    pub blocked_by: Option<JobId>,
    pub lease_until_ms: Option<i64>,
    pub retry_at_ms: Option<i64>,
    /// Of the newest attempt, where there is one.
    pub cohort: Option<String>,
    pub experiments: Vec<Place>,
}

/// A job's place in an experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
    pub experiment: String,
    /// Only a teacher of what is in the grid.
    pub needed: bool,
    pub axes: BTreeMap<String, String>,
}

impl Standing {
    /// The state in a person's words: what is neither done nor running may be held or cancelled.
    pub fn shown(&self) -> &'static str {
        match (self.state, self.wish) {
            (State::Done | State::Running, _) | (_, None) => self.state.name(),
            (_, Some(Wish::Hold)) => "held",
            (_, Some(Wish::Cancel)) => "cancelled",
        }
    }

    /// Whether somebody's lease on it is not over.
    pub fn is_leased(&self) -> bool {
        self.lease_until_ms.is_some_and(|until| until > now_ms())
    }

    /// `function-matching, 20 epochs, learning rate 0.003, seed 0`.
    pub fn label(&self) -> String {
        let Standing { teaching, epochs, learning_rate, seed, .. } = self;
        // A rate of 1e30 has many digits otherwise.
        format!("{teaching}, {epochs} epochs, learning rate {learning_rate:?}, seed {seed}")
    }
}

impl Store {
    /// Every recorded job, in the order of experiments and their grids.
    pub async fn standings(&self) -> Result<Vec<Standing>, Error> {
        let mut connection = self.connection().await?;
        let mut places = places(&mut connection).await?;
        let rows = sql("SELECT j.id, j.data, j.student, j.teaching, j.epochs, j.batch, j.resolution, j.learning_rate,
                 j.weight_decay, j.temperature, j.seed, j.state, j.wish, j.priority, j.message, j.blocked_by,
                 j.lease_until_ms, j.retry_at_ms, a.cohort
             FROM jobs j LEFT JOIN attempts a ON a.job = j.id AND a.attempt = j.attempt")
        .fetch_all(&mut connection)
        .await?;
        let mut standings = Vec::with_capacity(rows.len());
        for row in &rows {
            let place = places.remove(row.try_get::<&str>(0)?);
            let (order, experiments) = place.unwrap_or((usize::MAX, Vec::new()));
            standings.push((order, standing(row, experiments)?));
        }
        standings.sort_by_key(|(order, _)| *order);
        Ok(standings.into_iter().map(|(_, standing)| standing).collect())
    }
}

/// Of each job its places, and which of all jobs it is.
async fn places(connection: &mut Connection<'_>) -> Result<HashMap<String, (usize, Vec<Place>)>, Error> {
    let rows = sql(
        "SELECT e.job, e.experiment, e.needed, e.axes FROM experiment_jobs e JOIN experiments x ON x.name = e.experiment
         ORDER BY x.recorded_ms, e.experiment, e.needed DESC, e.ordinal",
    )
    .fetch_all(connection)
    .await?;
    let mut places: HashMap<String, (usize, Vec<Place>)> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let job: String = row.try_get(0)?;
        let axes = json(row.try_get(3)?, || format!("the axes of job `{job}`"))?;
        let place = Place { experiment: row.try_get(1)?, needed: row.try_get::<i64>(2)? != 0, axes };
        let order = places.len();
        places.entry(job).or_insert_with(|| (order, Vec::new())).1.push(place);
    }
    Ok(places)
}

fn standing(row: &Row, experiments: Vec<Place>) -> Result<Standing, Error> {
    let id = |column: usize| -> Result<Option<JobId>, Error> {
        Ok(row.try_get::<Option<String>>(column)?.map(JobId::from_stored))
    };
    let wish: Option<&str> = row.try_get(12)?;
    Ok(Standing {
        id: JobId::from_stored(row.try_get(0)?),
        data: row.try_get(1)?,
        student: row.try_get(2)?,
        teaching: row.try_get(3)?,
        epochs: small(row, 4)?,
        batch: small(row, 5)?,
        resolution: small(row, 6)?,
        learning_rate: row.try_get(7)?,
        weight_decay: row.try_get(8)?,
        temperature: row.try_get(9)?,
        seed: u64::try_from(row.try_get::<i64>(10)?).unwrap_or(0),
        state: state(row, 11)?,
        wish: [Wish::Hold, Wish::Cancel].into_iter().find(|one| Some(one.name()) == wish),
        priority: row.try_get(13)?,
        message: row.try_get(14)?,
        blocked_by: id(15)?,
        lease_until_ms: row.try_get(16)?,
        retry_at_ms: row.try_get(17)?,
        cohort: row.try_get(18)?,
        experiments,
    })
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn wish_name<S: serde::Serializer>(wish: &Option<Wish>, serializer: S) -> Result<S::Ok, S::Error> {
    wish.map(Wish::name).serialize(serializer)
}
