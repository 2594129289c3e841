//! The report file: TOML in, [`Report`] out. Whether the experiment has what it names is `select`'s question.

mod claim;
mod panel;
mod published;
mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use claim::{Claim, Expected, Side};
pub use panel::{Amount, AtEpochs, Columns, Horizontal, Kind, Panel, Scale};
pub use published::{Listed, Numbers, Paper, Published};
pub use words::{Axes, Experiments, Place, Where};

use super::{Error, Value, theme};
use crate::job::short_hash;
use crate::store::{Registered, Rows, Wanted};

/// A `reports/*.toml`: its file stem and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// One figure with the numbers behind it, and what is claimed of them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Report {
    /// The file's stem; its outputs lie beside it under the same stem.
    #[serde(skip)]
    pub name: String,
    /// File stems of the experiments it shows: one, or a list.
    #[serde(rename = "experiment")]
    pub experiments: Experiments,
    pub title: String,
    /// Under the title; data, student and teacher where it is left out.
    pub subtitle: Option<String>,
    /// What of the paper it is: `Figure 3`, `Table 1`.
    pub reproduces: Option<String>,
    /// What it asks, in a sentence.
    pub question: Option<String>,
    /// The line whose number stands for the report in lists; the last of the first panel where it is left out.
    pub headline: Option<String>,
    /// The paper's line that stands beside it, where that has another name.
    pub headline_paper: Option<String>,
    /// Panels side by side, 1 to 4; what fits where it is left out.
    pub columns: Option<u8>,
    /// How one of several settings is chosen; without it, a report that would have to choose is refused.
    pub select: Option<Selection>,
    /// Over seeds.
    #[serde(default)]
    pub interval: Interval,
    /// For the claims of this report together.
    #[serde(default)]
    pub correction: Correction,
    /// Top-1 that a teacher must have before anything is decided about its students, 0 to 1.
    pub teacher_gate: Option<f64>,
    /// What places on axes are called: axis, place as in the experiment, name.
    #[serde(default)]
    pub names: BTreeMap<String, BTreeMap<String, String>>,
    /// The lines of panels that name no axis.
    #[serde(default)]
    pub series: Vec<Listed>,
    /// The paper's own numbers, for the panels that have none of their own.
    #[serde(default, rename = "paper")]
    pub papers: Vec<Paper>,
    #[serde(rename = "panel")]
    pub panels: Vec<Panel>,
    #[serde(default, rename = "claim")]
    pub claims: Vec<Claim>,
    /// What the file does not say and the store knows.
    #[serde(skip)]
    pub known: Known,
}

/// What is known of a report's experiments beside their outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its experiments that were never run.
    pub absent: Vec<String>,
    /// When its claims were written down.
    pub registered: Option<Registered>,
    /// Its numbers were written into the store, and not computed.
    pub written_in: bool,
}

/// Choosing one of several settings by validation images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Selection {
    /// Axes whose places are chosen among, separately for each line and duration.
    #[serde(default)]
    pub over: Vec<String>,
    /// Measured on validation images.
    #[serde(default = "validation_accuracy")]
    pub by: Value,
    #[serde(default)]
    pub epoch: Epoch,
}

/// Which epoch of a run is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Epoch {
    #[default]
    Last,
    /// That of the best validation value; stamped on the figure.
    Best,
}

/// How sure a mean over seeds is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interval {
    /// Student's t.
    #[default]
    T,
    /// Percentiles of resampled means.
    Bootstrap,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Correction {
    /// Of Holm: no more than one report in twenty decides any claim falsely.
    #[default]
    Holm,
    None,
}

fn validation_accuracy() -> Value {
    Value::Evaluated(crate::event::Which::Validation, super::Measure::Top1)
}

pub(super) fn read(source: &Source) -> Result<Report, Error> {
    let malformed = |message: String| Error::Malformed { name: source.name.clone(), message };
    let mut report: Report = toml::from_str(&source.text).map_err(|error| malformed(error.to_string()))?;
    if report.panels.is_empty() {
        return Err(malformed("it has no panel\nhint: add `[[panel]]`".to_owned()));
    }
    if let Some(panel) = report.panels.iter().find(|panel| panel.series.is_empty() && report.series.is_empty()) {
        return Err(malformed(format!(
            "panel `{}` does not say what its lines are\nhint: name an axis, `series = \"teaching\"`, or list them in \
             `[[series]]`",
            panel.title
        )));
    }
    if let Some(select) = &report.select
        && select.by.split() != Some(crate::event::Which::Validation)
    {
        return Err(malformed(format!(
            "`select.by = \"{}\"` would choose by what is reported\nhint: choose by a value on validation images, such \
             as `validation.top1`",
            select.by
        )));
    }
    if let Some(axis) = report.over().iter().find(|axis| ["seed", "epochs"].contains(&axis.as_str())) {
        return Err(malformed(format!(
            "`select.over` names `{axis}`\nhint: choose among settings; seeds are averaged, and every length is shown"
        )));
    }
    if let Some(level) =
        report.papers.iter().chain(report.panels.iter().flat_map(|panel| &panel.papers)).find_map(|paper| paper.teacher)
        && level <= 1.0
    {
        return Err(malformed(format!("`teacher = {level}` of `[[paper]]`: expected percent, such as 83.0")));
    }
    if let Some(columns) = report.columns.filter(|columns| !(1..=4).contains(columns)) {
        return Err(malformed(format!("`columns = {columns}`: expected 1 to 4")));
    }
    if let Some(gate) = report.teacher_gate.filter(|gate| !(0.0..1.0).contains(gate)) {
        return Err(malformed(format!("`teacher-gate = {gate}` is no share: expected 0 to 1, such as 0.85")));
    }
    for listed in &report.series {
        let Some(look) = listed.look.as_ref().filter(|look| !theme::looks().any(|known| known == *look)) else {
            continue;
        };
        let known = theme::looks().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
        return Err(malformed(format!(
            "`look = \"{look}\"` of `{}` is no teaching mode\nhint: there are {known}",
            listed.name
        )));
    }
    report.claims.iter().try_for_each(Claim::check).map_err(malformed)?;
    report.name.clone_from(&source.name);
    Ok(report)
}

impl Report {
    /// What it needs of a job's rows.
    pub fn rows(&self) -> Rows {
        // Which epoch is the best one is known before any value is looked up, and of that one everything may be.
        if self.epoch() == Epoch::Best {
            return Rows::All;
        }
        let mut wanted = Wanted::default();
        for panel in &self.panels {
            let Kind::Curves { x, .. } = panel.kind else { continue };
            match panel.value.column() {
                Some(column) => _ = wanted.evaluations.insert(column),
                None => wanted.training = true,
            }
            wanted.training |= x != Amount::Epochs;
        }
        if wanted == Wanted::default() { Rows::Last } else { Rows::Some(wanted) }
    }

    pub fn epoch(&self) -> Epoch {
        self.select.as_ref().map(|select| select.epoch).unwrap_or_default()
    }

    /// Its claims, and all that decides about them, as a text that is the same however they are written.
    pub fn claims_text(&self) -> String {
        let decided_by = (&self.experiments.0, &self.select, self.correction, self.teacher_gate);
        serde_json::to_string(&(&self.claims, decided_by)).unwrap_or_default()
    }

    /// Of the claims together with the experiment they are of.
    pub fn claims_hash(&self, experiment: &str) -> String {
        short_hash("distillery claims 1\n", &format!("{experiment}\n{}", self.claims_text()))
    }

    /// The axes it chooses among.
    pub fn over(&self) -> &[String] {
        self.select.as_ref().map(|select| select.over.as_slice()).unwrap_or_default()
    }

    /// The paper's numbers for a panel: its own, or the report's, where they are of the same value.
    pub fn papers_of<'a>(&'a self, panel: &'a Panel) -> Vec<&'a Paper> {
        let papers = if panel.papers.is_empty() { &self.papers } else { &panel.papers };
        papers.iter().filter(|paper| paper.value == panel.value).collect()
    }

    /// A place on an axis as a reader says it: by its name here, or in plain words.
    pub fn shown(&self, axis: &str, place: &str) -> String {
        self.name_of(axis, place).map_or_else(|| super::words::shown(axis, place), str::to_owned)
    }

    /// What a place on an axis is called here.
    pub fn name_of(&self, axis: &str, place: &str) -> Option<&str> {
        let names = self.names.get(axis)?;
        names.iter().find(|(known, _)| Place((*known).clone()).is(place)).map(|(_, name)| name.as_str())
    }
}
