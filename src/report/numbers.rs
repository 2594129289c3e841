//! A report's numbers, each with the jobs it comes from. Nothing here knows how they are drawn.

use std::collections::BTreeSet;

use crate::job::JobId;

use super::spec::{Amount, Columns, Horizontal, Published, Scale};
use super::statistics::Interval;
use super::value::Value;
use super::verdict::Verdict;

/// A report with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub title: String,
    pub subtitle: String,
    /// Side by side, where the report says so.
    pub columns: Option<u8>,
    pub panels: Vec<Drawn>,
    pub verdicts: Vec<Verdict>,
    /// What the marks mean, how many seeds, what is missing: one sentence each.
    pub footer: Vec<String>,
    pub missing: Vec<String>,
    /// How many jobs it shows, those without values included.
    pub jobs: usize,
}

/// A panel with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    pub title: String,
    pub caption: String,
    pub value: Value,
    pub scale: Scale,
    pub across: Across,
    /// The axis whose places are the series, in words; none where they are listed one by one.
    pub axis: Option<String>,
    pub series: Vec<Series>,
    pub references: Vec<Reference>,
    /// Numbers and intervals that the value axis cannot show: not finite, or not positive on a logarithmic one.
    pub left_out: usize,
    /// All of it is the paper's, nothing ours.
    pub published: bool,
}

/// What runs from left to right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Across {
    /// How long a job was trained, logarithmic.
    Durations(Amount),
    /// Within one job, linear.
    Within(Amount),
    /// Another value of the same job.
    Other(Horizontal),
    /// Lines stand one below the other, and the value runs from left to right.
    Bars { from_zero: bool },
    /// Set as text.
    Table(Columns),
}

/// A line: jobs that a reader compares with those of other lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// As in the experiment file, or as listed.
    pub name: String,
    /// As a reader says it.
    pub shown: String,
    /// The teaching mode whose colour and marks it has.
    pub look: Option<String>,
    /// Its place among all series of this axis in the report, so that all panels give it one colour.
    pub place: usize,
    /// Ascending in epochs, then in seed.
    pub runs: Vec<Run>,
    /// Runs of settings that were not chosen.
    pub others: Vec<Run>,
    /// Ascending in epochs.
    pub means: Vec<Mean>,
    /// Which setting was chosen, for each duration with several.
    pub choices: Vec<Choice>,
    /// The paper's.
    pub published: Vec<Published>,
}

/// A number of one job.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub epochs: u32,
    /// Where it stands from left to right.
    pub x: f64,
    pub seed: u64,
    pub job: JobId,
    pub value: f64,
}

/// Over the runs at the same epochs.
#[derive(Clone, Debug, PartialEq)]
pub struct Mean {
    pub epochs: u32,
    pub x: f64,
    pub n: usize,
    pub value: f64,
    /// From three runs on, where the value axis can show both its ends.
    pub interval: Option<Interval>,
}

/// A setting that was chosen by validation images.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub epochs: u32,
    /// `learning-rate 1e-2, weight-decay 1e-4`
    pub setting: String,
    /// How many there were to choose from, and how many of those had as many runs as any.
    pub settings: usize,
    pub complete: usize,
    /// Others that were exactly as good; the first in the grid is shown.
    pub ties: usize,
    /// Its mean of what it was chosen by.
    pub score: f64,
}

/// A level that is not trained for: a teacher's own accuracy.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub name: String,
    pub value: f64,
    /// Images it was measured on; 0 where others published it.
    pub images: u64,
    /// The jobs that measured it.
    pub jobs: Vec<JobId>,
}

impl Choice {
    /// `learning-rate 1e-2, of 4`
    pub fn told(&self) -> String {
        let ties = match self.ties {
            0 => String::new(),
            1 => "; another one is as good".to_owned(),
            ties => format!("; {ties} others are as good"),
        };
        format!("{}, of {}{ties}", self.setting, self.settings)
    }
}

impl Figure {
    /// Whether nothing of ours can be drawn.
    pub fn is_empty(&self) -> bool {
        self.panels.iter().all(|panel| panel.published || panel.series.iter().all(|series| series.runs.is_empty()))
    }
}

impl Drawn {
    /// Every number of epochs at which something is drawn, ascending; the paper's included.
    pub fn epochs(&self) -> Vec<u32> {
        let runs = self.series.iter().flat_map(|series| &series.runs).map(|run| run.epochs);
        let published = self.series.iter().flat_map(|series| &series.published).filter_map(|number| number.epochs);
        runs.chain(published).collect::<BTreeSet<u32>>().into_iter().collect()
    }
}

impl Series {
    pub fn runs_at(&self, epochs: u32) -> impl Iterator<Item = &Run> {
        let from = self.runs.partition_point(|run| run.epochs < epochs);
        self.runs[from..].iter().take_while(move |run| run.epochs == epochs)
    }

    pub fn mean_at(&self, epochs: u32) -> Option<&Mean> {
        self.means.iter().find(|mean| mean.epochs == epochs)
    }

    pub fn choice_at(&self, epochs: u32) -> Option<&Choice> {
        self.choices.iter().find(|choice| choice.epochs == epochs)
    }

    pub fn published_at(&self, epochs: u32) -> Option<f64> {
        self.published.iter().find(|number| number.epochs == Some(epochs)).map(|number| number.value)
    }

    /// Its runs one job after the other, each with its rows in order.
    pub fn jobs(runs: &[Run]) -> Vec<Vec<&Run>> {
        let mut all: Vec<&Run> = runs.iter().collect();
        all.sort_by(|a, b| (a.seed, &a.job, a.epochs).cmp(&(b.seed, &b.job, b.epochs)));
        all.chunk_by(|a, b| a.job == b.job).map(<[&Run]>::to_vec).collect()
    }
}
