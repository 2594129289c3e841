//! The report file: TOML in, [`Report`] out. Whether the experiment has what it names is `select`'s question.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};

use super::{Error, Value};

/// A `reports/*.toml`: its file stem and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// One figure with the numbers behind it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Report {
    /// The file's stem; its outputs lie beside it under the same stem.
    #[serde(skip)]
    pub name: String,
    /// File stem of the experiment it shows.
    pub experiment: String,
    pub title: String,
    /// Under the title; data, student and teacher where it is left out.
    pub subtitle: Option<String>,
    #[serde(rename = "panel")]
    pub panels: Vec<Panel>,
}

/// One panel, written with its kind as the key: `duration = { ... }`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "PanelText")]
pub struct Panel {
    pub title: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Duration(Duration),
    Curves(Curves),
}

/// Final value against epochs of training, on a logarithmic axis with ticks at the durations that exist.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Duration {
    pub value: Value,
    /// The axis whose places are the lines: `teaching`, or any axis of the experiment.
    pub series: String,
    /// Only jobs at these places, and those that stand on no such axis.
    #[serde(default, rename = "where")]
    pub filter: BTreeMap<String, Place>,
    /// Series that are left out, by name.
    #[serde(default)]
    pub omit: Vec<String>,
    #[serde(default)]
    pub scale: Scale,
}

/// Value against the epoch, within runs of one duration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Curves {
    pub value: Value,
    pub series: String,
    pub at_epochs: AtEpochs,
    #[serde(default, rename = "where")]
    pub filter: BTreeMap<String, Place>,
    #[serde(default)]
    pub omit: Vec<String>,
    #[serde(default)]
    pub scale: Scale,
}

/// Which duration a panel of curves shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEpochs {
    Longest,
    Epochs(u32),
}

/// Of the value axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    #[default]
    Linear,
    Log,
}

/// A place on an axis as it is written: a string, a number or a truth value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(pub String);

pub(super) fn read(source: &Source) -> Result<Report, Error> {
    let malformed = |message: String| Error::Malformed { name: source.name.clone(), message };
    let mut report: Report = toml::from_str(&source.text).map_err(|error| malformed(error.to_string()))?;
    if report.panels.is_empty() {
        return Err(malformed("it has no panel\nhint: add `[[panel]]`".to_owned()));
    }
    report.name.clone_from(&source.name);
    Ok(report)
}

impl Report {
    /// Whether it shows more of a job than its end.
    pub fn has_curves(&self) -> bool {
        self.panels.iter().any(|panel| matches!(panel.kind, Kind::Curves(_)))
    }
}

impl Panel {
    pub fn value(&self) -> Value {
        match &self.kind {
            Kind::Duration(duration) => duration.value,
            Kind::Curves(curves) => curves.value,
        }
    }

    pub fn series(&self) -> &str {
        match &self.kind {
            Kind::Duration(duration) => &duration.series,
            Kind::Curves(curves) => &curves.series,
        }
    }

    pub fn filter(&self) -> &BTreeMap<String, Place> {
        match &self.kind {
            Kind::Duration(duration) => &duration.filter,
            Kind::Curves(curves) => &curves.filter,
        }
    }

    pub fn omit(&self) -> &[String] {
        match &self.kind {
            Kind::Duration(duration) => &duration.omit,
            Kind::Curves(curves) => &curves.omit,
        }
    }

    pub fn scale(&self) -> Scale {
        match &self.kind {
            Kind::Duration(duration) => duration.scale,
            Kind::Curves(curves) => curves.scale,
        }
    }
}

impl Place {
    /// Equal as text or as numbers: `3e-4` is `0.0003`.
    pub fn is(&self, text: &str) -> bool {
        self.0 == text || matches!((self.0.parse::<f64>(), text.parse::<f64>()), (Ok(a), Ok(b)) if a == b)
    }
}

/// A panel before it is known to be of exactly one kind. Not serde's flattened enum: that loses the caret.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PanelText {
    title: String,
    duration: Option<Duration>,
    curves: Option<Curves>,
}

impl TryFrom<PanelText> for Panel {
    type Error = String;

    fn try_from(text: PanelText) -> Result<Self, String> {
        let kind = match (text.duration, text.curves) {
            (Some(duration), None) => Kind::Duration(duration),
            (None, Some(curves)) => Kind::Curves(curves),
            (None, None) => {
                return Err(format!("panel `{}` shows nothing: expected `duration` or `curves`", text.title));
            }
            (Some(_), Some(_)) => {
                return Err(format!("panel `{}` has both `duration` and `curves`: expected one", text.title));
            }
        };
        Ok(Panel { title: text.title, kind })
    }
}

impl<'de> Deserialize<'de> for AtEpochs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Place::deserialize(deserializer)?.0.as_str() {
            "longest" => Ok(AtEpochs::Longest),
            text => match text.parse() {
                Ok(epochs @ 1..) => Ok(AtEpochs::Epochs(epochs)),
                _ => Err(D::Error::custom(format!("`{text}` is no duration: expected `longest` or epochs"))),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyPlace;
        impl Visitor<'_> for AnyPlace {
            type Value = Place;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }
            fn visit_str<E>(self, text: &str) -> Result<Place, E> {
                Ok(Place(text.to_owned()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Place, E> {
                Ok(Place(number.to_string()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Place, E> {
                Ok(Place(number.to_string()))
            }
            fn visit_bool<E>(self, truth: bool) -> Result<Place, E> {
                Ok(Place(truth.to_string()))
            }
        }
        deserializer.deserialize_any(AnyPlace)
    }
}
