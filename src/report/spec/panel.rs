//! Panels of a report, each written with its kind as the key: `duration = { ... }`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::{Axes, Paper, Place, Where};
use crate::report::Value;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "PanelText")]
pub struct Panel {
    pub title: String,
    pub value: Value,
    /// The axes whose places are the lines: `teaching`, or any axis of the experiment. None: the report's `[[series]]`.
    pub series: Vec<String>,
    pub filter: Where,
    /// Series that are left out, by name.
    pub omit: Vec<String>,
    /// Of the value axis.
    pub scale: Scale,
    /// An axis that gives a panel of its own to each of its places.
    pub facet: Option<String>,
    pub papers: Vec<Paper>,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Final value against the length of training, on a logarithmic axis with ticks at the lengths that exist.
    Duration { x: Amount },
    /// Value within runs of one duration; every run of a sweep faint.
    Curves { x: Amount, at: AtEpochs },
    /// Final value against another one, or against what was spent.
    Scatter { x: Horizontal, at: Option<u32> },
    /// A bar a line, at one duration. `from-zero = false` draws dots on an axis that is cut, for a bar that does not begin
    /// at zero would lie.
    Bars { at: AtEpochs, from_zero: bool },
    /// Set as text: lines down, durations across.
    Table { columns: Columns },
}

/// How much training, however it is counted. All but seconds are the same wherever it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Amount {
    #[default]
    Epochs,
    Steps,
    Images,
    /// Of the student alone, forward and backward.
    StudentFlops,
    /// Of student and teacher.
    Flops,
    /// Of the cohort it was in, so that several students share them.
    Seconds,
}

/// What runs from left to right in a `scatter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Horizontal {
    Amount(Amount),
    Value(Value),
}

/// Which duration is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEpochs {
    Longest,
    Epochs(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Columns {
    #[default]
    Epochs,
    /// One column: of each line its longest run.
    Longest,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    #[default]
    Linear,
    Log,
}

impl Amount {
    const ALL: [(&'static str, Amount); 6] = [
        ("epochs", Amount::Epochs),
        ("steps", Amount::Steps),
        ("images", Amount::Images),
        ("student-flops", Amount::StudentFlops),
        ("flops", Amount::Flops),
        ("seconds", Amount::Seconds),
    ];

    /// Under an axis.
    pub fn title(self) -> &'static str {
        match self {
            Amount::Epochs => "epochs of training",
            Amount::Steps => "steps",
            Amount::Images => "images seen",
            Amount::StudentFlops => "FLOPs of the student",
            Amount::Flops => "FLOPs of student and teacher",
            Amount::Seconds => "seconds",
        }
    }
}

impl fmt::Display for Horizontal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Horizontal::Amount(amount) => {
                f.write_str(Amount::ALL.iter().find(|(_, known)| known == amount).map_or("", |(name, _)| name))
            }
            Horizontal::Value(value) => value.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Horizontal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some((_, amount)) = Amount::ALL.iter().find(|(name, _)| *name == text) {
            return Ok(Horizontal::Amount(*amount));
        }
        let amounts = Amount::ALL.map(|(name, _)| format!("`{name}`")).join(", ");
        text.parse().map(Horizontal::Value).map_err(|error| D::Error::custom(format!("{error}; or {amounts}")))
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

/// A panel before it is known to be of exactly one kind. Not serde's flattened enum: that loses the caret.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PanelText {
    title: String,
    facet: Option<String>,
    #[serde(default, rename = "paper")]
    papers: Vec<Paper>,
    duration: Option<Duration>,
    curves: Option<Curves>,
    scatter: Option<Scatter>,
    bars: Option<Bars>,
    table: Option<Table>,
}

macro_rules! kinds {
    ($($name:ident { $($own:tt)* })*) => {$(
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        struct $name {
            value: Value,
            #[serde(default)]
            series: Axes,
            #[serde(default, rename = "where")]
            filter: Where,
            #[serde(default)]
            omit: Vec<String>,
            #[serde(default)]
            scale: Scale,
            $($own)*
        }

        impl $name {
            fn panel(self, kind: Kind) -> Panel {
                let $name { value, series, filter, omit, scale, .. } = self;
                Panel { title: String::new(), value, series: series.0, filter, omit, scale, facet: None, papers: Vec::new(), kind }
            }
        }
    )*};
}

kinds! {
    Duration { #[serde(default)] x: Amount, }
    Curves { at_epochs: AtEpochs, #[serde(default)] x: Amount, }
    Scatter { x: Horizontal, at_epochs: Option<AtEpochs>, }
    Bars { at_epochs: Option<AtEpochs>, from_zero: Option<bool>, }
    Table { #[serde(default)] columns: Columns, }
}

impl TryFrom<PanelText> for Panel {
    type Error = String;

    fn try_from(text: PanelText) -> Result<Self, String> {
        let PanelText { title, facet, papers, duration, curves, scatter, bars, table } = text;
        let mut panels: Vec<Panel> = Vec::new();
        panels.extend(duration.map(|text| (Kind::Duration { x: text.x }, text)).map(|(kind, text)| text.panel(kind)));
        panels.extend(curves.map(|text| {
            let kind = Kind::Curves { x: text.x, at: text.at_epochs };
            text.panel(kind)
        }));
        panels.extend(scatter.map(|text| {
            let at = match text.at_epochs {
                Some(AtEpochs::Epochs(epochs)) => Some(epochs),
                _ => None,
            };
            let kind = Kind::Scatter { x: text.x, at };
            text.panel(kind)
        }));
        panels.extend(bars.map(|text| {
            let at = text.at_epochs.unwrap_or(AtEpochs::Longest);
            let kind = Kind::Bars { at, from_zero: text.from_zero.unwrap_or(true) };
            text.panel(kind)
        }));
        panels.extend(table.map(|text| {
            let kind = Kind::Table { columns: text.columns };
            text.panel(kind)
        }));
        let kinds = "`duration`, `curves`, `scatter`, `bars` or `table`";
        match panels.len() {
            0 => Err(format!("panel `{title}` shows nothing: expected {kinds}")),
            1 => Ok(Panel { title, facet, papers, ..panels.remove(0) }),
            _ => Err(format!("panel `{title}` is of several kinds: expected one of {kinds}")),
        }
    }
}
