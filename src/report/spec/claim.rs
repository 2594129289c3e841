//! What is claimed of an experiment, written down before it runs.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::Place;
use crate::event::Which;
use crate::report::{Measure, Value};

/// Of two groups of jobs, how one stands to the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Claim {
    /// In words.
    pub claim: String,
    /// Who claims it: `Table 3`, a section, a link; ours where it is left out.
    pub source: Option<String>,
    #[serde(default = "accuracy")]
    pub value: Value,
    pub left: Side,
    pub right: Side,
    /// An axis at each of whose places it is claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facet: Option<String>,
    /// What both sides have in common.
    #[serde(default, rename = "where")]
    pub both: Side,
    #[serde(default)]
    pub expect: Expected,
    /// The smallest difference of interest, in the value's unit; of accuracies, 0.002 is 0.2 points.
    #[serde(default)]
    pub smallest: f64,
}

/// Where a side's jobs stand; on the right also `{ teacher = "own" }`. `epochs` may be `longest`, `next-to-longest`,
/// `shortest`, or `best` (by validation images): in what both sides have in common, of the lengths that both have; in a
/// side, of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Side(pub BTreeMap<String, Place>);

/// How left stands to right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    #[default]
    Greater,
    Less,
    /// Nearer than the smallest difference of interest.
    Equal,
    /// Not below by the smallest difference of interest.
    NotLess,
}

fn accuracy() -> Value {
    Value::Evaluated(Which::Test, Measure::Top1)
}

impl Side {
    /// `{ teacher = "own" }`: not jobs, but the level of each student's own teacher.
    pub fn is_teacher(&self) -> bool {
        self.0.get("teacher").is_some_and(|place| place.0 == "own")
    }
}

impl Claim {
    /// The places of a side, what both have included.
    pub fn places<'a>(&'a self, side: &'a Side) -> impl Iterator<Item = (&'a str, &'a Place)> {
        let own = side.0.iter();
        let common = self.both.0.iter().filter(|(axis, _)| !side.0.contains_key(*axis));
        own.chain(common).map(|(axis, place)| (axis.as_str(), place))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !(self.smallest.is_finite() && self.smallest >= 0.0) {
            return Err(format!("`smallest = {}`: expected a difference of 0 or more", self.smallest));
        }
        if matches!(self.expect, Expected::Equal | Expected::NotLess) && self.smallest == 0.0 {
            return Err(format!(
                "claim `{}` expects no difference, which needs `smallest`, the smallest difference of interest",
                self.claim
            ));
        }
        if self.left.is_teacher() || (self.right.is_teacher() && self.right.0.len() > 1) {
            return Err(format!("claim `{}`: `teacher = \"own\"` stands alone, and on the right", self.claim));
        }
        if self.left == self.right {
            return Err(format!(
                "claim `{}` compares jobs with themselves: `left` and `right` are the same",
                self.claim
            ));
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Side {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let places = BTreeMap::<String, Place>::deserialize(deserializer)?;
        if let Some(place) = places.get("seed") {
            return Err(D::Error::custom(format!("`seed = {place}`: seeds are compared in pairs, not chosen")));
        }
        Ok(Side(places))
    }
}
