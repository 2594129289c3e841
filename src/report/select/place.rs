//! Where a job stands on an axis.

use crate::report::spec::Place;
use crate::store::Outcome;

/// Axes that every job stands on, grid or not.
pub const TEACHING: &str = "teaching";
pub const EPOCHS: &str = "epochs";
/// The experiment's file stem, where a report shows several.
pub const EXPERIMENT: &str = "experiment";
/// Of jobs that stand on no such axis.
const NONE: &str = "none";

/// The place on an axis of the grid, as it is written there; the way of teaching and the epochs of every job.
pub fn place_on(outcome: &Outcome, axis: &str) -> Option<String> {
    match (axis, outcome.axes.get(axis)) {
        (TEACHING, _) => Some(outcome.job.teaching_name().to_owned()),
        (_, Some(place)) => Some(place.clone()),
        (EPOCHS, None) => Some(outcome.job.epochs.to_string()),
        (_, None) => None,
    }
}

/// Whether a job stands just there. What the grid does not vary is asked of the job itself; `none` is nowhere.
pub fn stands_at(outcome: &Outcome, axis: &str, place: &Place) -> bool {
    let job = &outcome.job;
    match place_on(outcome, axis) {
        Some(at) => place.is(&at),
        None => match axis {
            "data" => place.is(&job.data.name),
            "resolution" => place.is(&job.resolution.to_string()),
            "batch" => place.is(&job.batch.to_string()),
            "learning-rate" => place.is(&job.learning_rate.to_string()),
            "weight-decay" => place.is(&job.weight_decay.to_string()),
            "student" => place.is(&job.student.label()),
            _ => place.0 == NONE,
        },
    }
}
