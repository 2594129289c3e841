//! One number of each epoch, for who draws thousands of curves: whole rows would take a minute and gigabytes.

use super::database::{Connection, Row, Sql};
use super::pages::Stretch;
use super::read::{Positions, small};
use super::{Error, Outcome};
use crate::event::{Epoch, Evaluation, Which};

/// One number of each evaluation on a split, for epochs before the last.
pub(super) async fn read_column(
    connection: &mut Connection<'_>,
    stretch: &Stretch<'_>,
    split: Which,
    column: &'static str,
    positions: &Positions,
    outcomes: &mut [Outcome],
) -> Result<(), Error> {
    // In whatever order they come: along the keys, that is a job after the other. Sorting a million rows takes longer than
    // reading them.
    let query = Sql::made(format!(
        "SELECT r.job, r.epoch, r.{column} FROM experiment_jobs e JOIN evaluations r ON r.job = e.job AND r.split = $1
         WHERE e.experiment = $2 AND e.ordinal >= $3 AND e.ordinal < $4 AND e.needed = 0"
    ))
    .bind(split.name())
    .bind(stretch.experiment)
    .bind(stretch.places.start)
    .bind(stretch.places.end);
    let (mut job, mut at) = (String::new(), None);
    let take = |row: Row| -> Result<(), Error> {
        let id: &str = row.try_get(0)?;
        if id != job {
            id.clone_into(&mut job);
            at = positions.get(id).copied();
        }
        let Some(outcome) = at.map(|at| &mut outcomes[at]) else { return Ok(()) };
        let (epoch, number): (u32, Option<f64>) = (small(&row, 1)?, row.try_get(2)?);
        let place = match outcome.epochs.binary_search_by_key(&epoch, |row| row.epoch) {
            Ok(place) => place,
            Err(place) => {
                outcome.epochs.insert(place, nothing(epoch));
                place
            }
        };
        let evaluations = &mut outcome.epochs[place].evaluations;
        let evaluation = match evaluations.iter().position(|evaluation| evaluation.split == split) {
            Some(at) => &mut evaluations[at],
            None => {
                evaluations.push(unknown(split));
                let last = evaluations.len() - 1;
                &mut evaluations[last]
            }
        };
        set(evaluation, column, number);
        Ok(())
    };
    query.each(connection, take).await
}

/// The row of an epoch of which nothing was asked but evaluations.
fn nothing(epoch: u32) -> Epoch {
    Epoch {
        epoch,
        step: 0,
        images: 0,
        training_loss: f64::NAN,
        learning_rate: f64::NAN,
        gradient_norm: f64::NAN,
        student_flops: f64::NAN,
        teacher_flops: f64::NAN,
        seconds: f64::NAN,
        images_per_second: f64::NAN,
        evaluations: Vec::with_capacity(1),
    }
}

fn unknown(split: Which) -> Evaluation {
    Evaluation {
        split,
        images: 0,
        loss: f64::NAN,
        top1: f64::NAN,
        top5: f64::NAN,
        kl: None,
        agreement: None,
        agreement5: None,
        distance: None,
        entropy: None,
        teacher_entropy: None,
        calibration_error: None,
        correct: None,
    }
}

fn set(evaluation: &mut Evaluation, column: &str, number: Option<f64>) {
    match column {
        "loss" => evaluation.loss = number.unwrap_or(f64::NAN),
        "top1" => evaluation.top1 = number.unwrap_or(f64::NAN),
        "top5" => evaluation.top5 = number.unwrap_or(f64::NAN),
        "kl" => evaluation.kl = number,
        "agreement" => evaluation.agreement = number,
        "agreement5" => evaluation.agreement5 = number,
        "distance" => evaluation.distance = number,
        "entropy" => evaluation.entropy = number,
        "teacher_entropy" => evaluation.teacher_entropy = number,
        "calibration_error" => evaluation.calibration_error = number,
        _ => {}
    }
}
