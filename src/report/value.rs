//! What can be shown: a number of an epoch's row, by the name it has in a report file.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::event::{Epoch, TeacherCheck, Which};

/// `training-loss`, `learning-rate`, `gradient-norm`, or a measure on a split: `test.top1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    TrainingLoss,
    LearningRate,
    GradientNorm,
    Evaluated(Which, Measure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    Top1,
    Top5,
    Loss,
    Kl,
    Agreement,
    Agreement5,
    Distance,
    Entropy,
    TeacherEntropy,
    CalibrationError,
}

const SPLITS: [Which; 3] = [Which::Train, Which::Validation, Which::Test];
const MEASURES: [(&str, Measure); 10] = [
    ("top1", Measure::Top1),
    ("top5", Measure::Top5),
    ("loss", Measure::Loss),
    ("kl", Measure::Kl),
    ("agreement", Measure::Agreement),
    ("agreement5", Measure::Agreement5),
    ("distance", Measure::Distance),
    ("entropy", Measure::Entropy),
    ("teacher-entropy", Measure::TeacherEntropy),
    ("calibration-error", Measure::CalibrationError),
];

impl Value {
    /// None where the row does not hold it: an epoch without evaluation, a job without a teacher.
    pub fn of(self, row: &Epoch) -> Option<f64> {
        match self {
            Value::TrainingLoss => Some(row.training_loss),
            Value::LearningRate => Some(row.learning_rate),
            Value::GradientNorm => Some(row.gradient_norm),
            Value::Evaluated(split, measure) => {
                let evaluation = row.evaluations.iter().find(|evaluation| evaluation.split == split)?;
                match measure {
                    Measure::Top1 => Some(evaluation.top1),
                    Measure::Top5 => Some(evaluation.top5),
                    Measure::Loss => Some(evaluation.loss),
                    Measure::Kl => evaluation.kl,
                    Measure::Agreement => evaluation.agreement,
                    Measure::Agreement5 => evaluation.agreement5,
                    Measure::Distance => evaluation.distance,
                    Measure::Entropy => evaluation.entropy,
                    Measure::TeacherEntropy => evaluation.teacher_entropy,
                    Measure::CalibrationError => evaluation.calibration_error,
                }
            }
        }
    }

    /// The teacher's own value, where a teacher has one that was measured on the same images.
    pub fn of_teacher(self, check: &TeacherCheck) -> Option<f64> {
        match self {
            Value::Evaluated(split, Measure::Top1) if split == check.split => Some(check.top1),
            Value::Evaluated(split, Measure::Top5) if split == check.split => Some(check.top5),
            _ => None,
        }
    }

    pub fn is_share(self) -> bool {
        use Measure::{Agreement, Agreement5, CalibrationError, Top1, Top5};
        matches!(self, Value::Evaluated(_, Top1 | Top5 | Agreement | Agreement5 | CalibrationError))
    }

    /// Whether more of it is better.
    pub fn is_better_higher(self) -> bool {
        self.is_share() && !matches!(self, Value::Evaluated(_, Measure::CalibrationError))
    }

    /// Where the store has it: the column of a split's evaluations; none for what is not evaluated.
    pub fn column(self) -> Option<(Which, &'static str)> {
        let Value::Evaluated(split, measure) = self else { return None };
        let column = match measure {
            Measure::Top1 => "top1",
            Measure::Top5 => "top5",
            Measure::Loss => "loss",
            Measure::Kl => "kl",
            Measure::Agreement => "agreement",
            Measure::Agreement5 => "agreement5",
            Measure::Distance => "distance",
            Measure::Entropy => "entropy",
            Measure::TeacherEntropy => "teacher_entropy",
            Measure::CalibrationError => "calibration_error",
        };
        Some((split, column))
    }

    /// Whether it only means something beside a teacher, so that jobs without one are not missing it.
    pub fn needs_teacher(self) -> bool {
        use Measure::{Agreement, Agreement5, Distance, Kl, TeacherEntropy};
        matches!(self, Value::Evaluated(_, Kl | Agreement | Agreement5 | Distance | TeacherEntropy))
    }

    pub fn split(self) -> Option<Which> {
        match self {
            Value::Evaluated(split, _) => Some(split),
            _ => None,
        }
    }

    /// The line under a panel's title: what is measured, on what, in which unit.
    pub fn caption(self) -> String {
        match self {
            Value::TrainingLoss => "mean over training views, nats".to_owned(),
            Value::LearningRate => "learning rate".to_owned(),
            Value::GradientNorm => "gradient norm before clipping".to_owned(),
            Value::Evaluated(split, measure) => {
                let split = split.name();
                match measure {
                    Measure::Top1 => format!("top-1, {split} images"),
                    Measure::Top5 => format!("top-5, {split} images"),
                    Measure::Loss => format!("cross-entropy, {split} images, nats"),
                    Measure::Kl => format!("KL to the teacher, {split} images, nats"),
                    Measure::Agreement => format!("same first class as the teacher, {split} images"),
                    Measure::Agreement5 => format!("teacher's first class among five, {split} images"),
                    Measure::Distance => format!("logits to the teacher's, {split} images"),
                    Measure::Entropy => format!("entropy, {split} images, nats"),
                    Measure::TeacherEntropy => format!("the teacher's entropy, {split} images, nats"),
                    Measure::CalibrationError => format!("calibration error, {split} images"),
                }
            }
        }
    }

    /// For tables: percent with one decimal without its sign, else three significant digits.
    pub fn table_text(self, value: f64) -> String {
        self.table_text_beside(value, value)
    }

    /// With its unit: `84.3 %`, `0.298`.
    pub fn full_text(self, value: f64) -> String {
        let unit = if self.is_share() { "\u{a0}%" } else { "" };
        format!("{}{unit}", self.table_text(value))
    }

    /// With as many decimals as `main` has: `0.299 ± 0.008`.
    pub fn table_text_beside(self, main: f64, value: f64) -> String {
        if self.is_share() {
            return format!("{:.1}", 100.0 * value);
        }
        if main != 0.0 && (main.abs() < 1e-3 || main.abs() >= 1e5) {
            return format!("{value:.2e}");
        }
        let magnitude = if main == 0.0 { 0 } else { main.abs().log10().floor() as i32 };
        let decimals = usize::try_from(2 - magnitude).unwrap_or(0);
        format!("{value:.decimals$}")
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::TrainingLoss => f.write_str("training-loss"),
            Value::LearningRate => f.write_str("learning-rate"),
            Value::GradientNorm => f.write_str("gradient-norm"),
            Value::Evaluated(split, measure) => {
                let name = MEASURES.iter().find(|(_, known)| known == measure).map_or("", |(name, _)| name);
                write!(f, "{}.{name}", split.name())
            }
        }
    }
}

impl FromStr for Value {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            let measures: Vec<String> = MEASURES.iter().map(|(name, _)| format!("`{name}`")).collect();
            format!(
                "`{text}` is no value: expected `training-loss`, `learning-rate`, `gradient-norm`, or one of {} on a \
                 split, such as `test.top1`",
                measures.join(", ")
            )
        };
        match text {
            "training-loss" => return Ok(Value::TrainingLoss),
            "learning-rate" => return Ok(Value::LearningRate),
            "gradient-norm" => return Ok(Value::GradientNorm),
            _ => {}
        }
        let (split, measure) = text.split_once('.').ok_or_else(unknown)?;
        let split = SPLITS.into_iter().find(|known| known.name() == split).ok_or_else(unknown)?;
        let (_, measure) = MEASURES.into_iter().find(|(name, _)| *name == measure).ok_or_else(unknown)?;
        Ok(Value::Evaluated(split, measure))
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
