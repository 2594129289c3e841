//! Jobs of the store, chosen by what was typed.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Usage;
use crate::diagnostic::Report;
use crate::select::{Selection, Subject};
use crate::store::{Standing, State, Store, Wish};

impl Subject for Standing {
    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn values(&self, key: &str) -> Vec<String> {
        let own = match key {
            "id" => self.id.to_string(),
            "mode" => self.teaching.clone(),
            "student" => self.student.clone(),
            "data" => self.data.clone(),
            "seed" => self.seed.to_string(),
            "epochs" => self.epochs.to_string(),
            "resolution" => self.resolution.to_string(),
            "batch" => self.batch.to_string(),
            "learning-rate" => self.learning_rate.to_string(),
            "weight-decay" => self.weight_decay.to_string(),
            "priority" => self.priority.to_string(),
            "temperature" => return self.temperature.iter().map(f64::to_string).collect(),
            "cohort" => return self.cohort.iter().cloned().collect(),
            "message" => return self.message.iter().cloned().collect(),
            "experiment" => return self.experiments.iter().map(|place| place.experiment.clone()).collect(),
            // A job that is held is still one that is open, or runs.
            "state" => {
                let wish = self.wish.filter(|_| self.state != State::Done).map(|wish| match wish {
                    Wish::Hold => "held",
                    Wish::Cancel => "cancelled",
                });
                return std::iter::once(self.state.name()).chain(wish).map(str::to_owned).collect();
            }
            axis => {
                let places = self.experiments.iter().filter_map(|place| place.axes.get(axis));
                return places.map(|value| value.trim_matches('"').to_owned()).collect();
            }
        };
        vec![own]
    }

    fn label(&self) -> String {
        Standing::label(self)
    }
}

/// The jobs that are meant, in the order of experiments and grids.
///
/// # Errors
/// When the words cannot be understood, or name a job that is none.
pub fn choose<'a>(words: &[String], all: &'a [Standing]) -> Result<Vec<&'a Standing>> {
    let places = all.iter().flat_map(|standing| &standing.experiments);
    let axes: BTreeSet<&str> = places.flat_map(|place| place.axes.keys()).map(String::as_str).collect();
    let axes: Vec<&str> = axes.into_iter().collect();
    Ok(Selection::parse(words)?.choose(all, &axes)?)
}

/// The one job that is meant.
///
/// # Errors
/// As [`choose`], and when there are none or several.
pub async fn one(store: &Store, word: &str) -> Result<Standing> {
    let all = store.standings().await?;
    match choose(&[word.to_owned()], &all)?.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            Err(Usage(format!("no job is `{word}`\nhint: `distillery status NAME` lists those of an experiment"))
                .into())
        }
        several => {
            let some: Vec<String> = several.iter().take(8).map(|one| format!("{} {}", one.id, one.label())).collect();
            let report = Report::new(format!("`{word}` are {} jobs, and one is wanted", several.len()));
            Err(report.hint(format!("for instance one of\n{}", some.join("\n"))).into())
        }
    }
}
