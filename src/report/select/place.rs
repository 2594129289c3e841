//! Where a job stands on an axis.

use std::collections::BTreeSet;

use crate::job::{Init, Job, JobId, Optimizer};
use crate::report::spec::Place;
use crate::store::Outcome;

/// Axes that every job stands on, grid or not.
pub const TEACHING: &str = "teaching";
pub const EPOCHS: &str = "epochs";
/// `T224 → S160`: of the teachers and of the student.
pub const RESOLUTIONS: &str = "resolutions";
/// The experiment's file stem, where a report shows several.
pub const EXPERIMENT: &str = "experiment";
/// Of jobs that stand on no such axis.
const NONE: &str = "none";

/// The jobs of a report, and what their grids vary.
pub struct Ground<'a> {
    pub points: Vec<&'a Outcome>,
    axes: BTreeSet<&'a str>,
}

impl<'a> Ground<'a> {
    /// Without teachers that are trained only because students need them, which stand on no axis, and each job once.
    pub fn new(outcomes: &'a [Outcome]) -> Ground<'a> {
        let needed: BTreeSet<JobId> =
            outcomes.iter().flat_map(|outcome| outcome.job.needs()).map(|needed| needed.id()).collect();
        let mut seen: BTreeSet<(&JobId, Option<&String>)> = BTreeSet::new();
        let points: Vec<&Outcome> = outcomes
            .iter()
            .filter(|outcome| !(outcome.axes.keys().all(|axis| axis == EXPERIMENT) && needed.contains(&outcome.id)))
            .filter(|outcome| seen.insert((&outcome.id, outcome.axes.get(EXPERIMENT))))
            .collect();
        let axes = points.iter().flat_map(|outcome| outcome.axes.keys().map(String::as_str)).collect();
        Ground { points, axes }
    }

    /// Names of the axes that jobs stand on, for whoever named another.
    pub fn known(&self) -> BTreeSet<&'a str> {
        self.axes.iter().copied().chain([TEACHING, EPOCHS]).collect()
    }

    /// The place on an axis of the grid, as it is written there. What no grid varies is asked of the job itself.
    pub fn place_on(&self, outcome: &Outcome, axis: &str) -> Option<String> {
        place_on(outcome, axis).or_else(|| attribute(&outcome.job, axis).filter(|_| !self.axes.contains(axis)))
    }
}

/// The place on an axis of the grid; the way of teaching, the epochs and the resolutions of every job.
pub fn place_on(outcome: &Outcome, axis: &str) -> Option<String> {
    match (axis, outcome.axes.get(axis)) {
        (TEACHING, _) => Some(outcome.job.teaching_name().to_owned()),
        (RESOLUTIONS, None) => Some(resolutions(&outcome.job)),
        (_, Some(place)) => Some(place.clone()),
        (EPOCHS, None) => Some(outcome.job.epochs.to_string()),
        (_, None) => None,
    }
}

/// Whether a job stands just there, on the grid or by what it is; `none` is nowhere.
pub fn stands_at(outcome: &Outcome, axis: &str, place: &Place) -> bool {
    let (on_grid, own) = (place_on(outcome, axis), attribute(&outcome.job, axis));
    if on_grid.is_none() && own.is_none() {
        return place.is(NONE);
    }
    match place.0.strip_prefix("not ") {
        Some(other) => {
            let other = Place(other.to_owned());
            ![on_grid, own].into_iter().flatten().any(|at| other.is(&at))
        }
        None => on_grid.is_some_and(|at| place.is(&at)) || own.is_some_and(|at| place.is(&at)),
    }
}

/// Every place that jobs stand at on an axis, or are; in the order of the jobs.
pub fn places_of(points: &[&Outcome], axis: &str) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    for outcome in points {
        let place = place_on(outcome, axis).or_else(|| attribute(&outcome.job, axis));
        if let Some(place) = place.filter(|place| !places.contains(place)) {
            places.push(place);
        }
    }
    places
}

/// What a job is, in the word that an experiment has for it.
fn attribute(job: &Job, axis: &str) -> Option<String> {
    Some(match axis {
        "data" => job.data.name.clone(),
        "student" => job.student.label(),
        "optimizer" => match job.optimizer {
            Optimizer::Adam(_) => "adam",
            Optimizer::Sgd(_) => "sgd",
            Optimizer::Shampoo(_) => "shampoo",
            Optimizer::Muon(_) => "muon",
        }
        .to_owned(),
        "init" => if matches!(job.init, Init::Scratch) { "scratch" } else { "trained" }.to_owned(),
        "resolution" => job.resolution.to_string(),
        "batch" => job.batch.to_string(),
        _ => return None,
    })
}

fn resolutions(job: &Job) -> String {
    let teachers: Vec<String> = job.teachers().iter().map(|teacher| teacher.resolution.to_string()).collect();
    match teachers.as_slice() {
        [] => format!("S{}", job.resolution),
        _ => format!("T{} → S{}", teachers.join("+"), job.resolution),
    }
}
