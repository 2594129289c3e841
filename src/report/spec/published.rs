//! Numbers that others published, and lines that are listed one by one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::Where;
use crate::event::Which;
use crate::report::select::stands_at;
use crate::report::{Measure, Value};
use crate::store::Outcome;

/// The paper's own numbers of one value. They are drawn as the paper's and never enter a mean, a choice or a verdict.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Paper {
    /// Where they stand: `Table 3`.
    pub source: String,
    /// The data set they were measured on; where ours were, too, they share an axis.
    pub data: String,
    /// Data, teacher and student in words.
    pub about: String,
    #[serde(default = "accuracy")]
    pub value: Value,
    /// The teacher's level, in percent.
    pub teacher: Option<f64>,
    /// By the names of series: epochs and percent.
    #[serde(default)]
    pub series: BTreeMap<String, Numbers>,
    /// Levels that are not trained for, by name, in percent.
    #[serde(default)]
    pub levels: BTreeMap<String, f64>,
}

/// Ascending in epochs, as shares from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers(pub Vec<Published>);

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// None where a length has no part in it, as for networks of others.
    pub epochs: Option<u32>,
    /// 0 to 1.
    pub value: f64,
}

/// One line, told by where its jobs stand.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Listed {
    pub name: String,
    /// All of these must hold; a line without is one that only others have numbers for.
    #[serde(rename = "where")]
    pub filter: Option<Where>,
    /// The teaching mode whose colour and marks it has.
    pub look: Option<String>,
    /// The paper's numbers: epochs and percent, or one number.
    #[serde(default)]
    pub paper: Numbers,
}

impl Listed {
    /// Whether a job is of this line.
    pub fn has(&self, outcome: &Outcome) -> bool {
        let filter = self.filter.as_ref();
        filter.is_some_and(|filter| filter.iter().all(|(axis, place)| stands_at(outcome, axis, place)))
    }
}

impl Numbers {
    /// The number at this length.
    pub fn at(&self, epochs: u32) -> Option<f64> {
        self.0.iter().find(|number| number.epochs == Some(epochs)).map(|number| number.value)
    }
}

fn accuracy() -> Value {
    Value::Evaluated(Which::Test, Measure::Top1)
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fault = |text: String| D::Error::custom(text);
        let percent = |value: &toml::Value| {
            let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
            number.filter(|number| (0.0..=100.0).contains(number)).map(|number| number / 100.0)
        };
        let wanted = "a number of percent, or `{ 300 = 80.3, 1200 = 81.54 }`, epochs and percent";
        match toml::Value::deserialize(deserializer)? {
            toml::Value::Table(table) => {
                let mut numbers = Vec::new();
                for (epochs, value) in &table {
                    let (Ok(epochs @ 1..), Some(value)) = (epochs.parse::<u32>(), percent(value)) else {
                        return Err(fault(format!("`{epochs} = {value}`: expected {wanted}")));
                    };
                    numbers.push(Published { epochs: Some(epochs), value });
                }
                numbers.sort_by_key(|number| number.epochs);
                Ok(Numbers(numbers))
            }
            value => match percent(&value) {
                Some(value) => Ok(Numbers(vec![Published { epochs: None, value }])),
                None => Err(fault(format!("`{value}`: expected {wanted}"))),
            },
        }
    }
}
