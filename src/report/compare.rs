//! Two groups of jobs against each other, and all settings of an experiment in order: for the terminal.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::{JobId, short_hash};
use crate::store::Outcome;

use super::Value;
use super::spec;
use super::statistics::{self, Interval};
use super::verdict::{Group, Measured, compared};

/// Axes that do not tell settings apart.
const NOT_A_SETTING: [&str; 2] = ["seed", "experiment"];

/// Left and right, each over its seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub sides: [Over; 2],
    /// Where all of the left stand at one place and all of the right at another: axis, left, right.
    pub differ: Vec<(String, String, String)>,
    /// None with one run a side.
    pub measured: Option<Measured>,
    /// With one run a side: how they differ image by image, where that is known.
    pub images: Option<String>,
}

/// Runs over seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Over {
    pub runs: Vec<(u64, f64, JobId)>,
    pub mean: f64,
    pub interval: Option<Interval>,
}

/// One setting among others.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Places on the axes of the grid, without the seed.
    pub places: BTreeMap<String, String>,
    /// What it is ranked by, and what is reported; over the same runs.
    pub by: Over,
    pub value: Option<Over>,
    /// FLOPs of a run, student and teacher, a mean over seeds.
    pub flops: f64,
    pub seconds: f64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("no job of the {side} side has `{value}` yet\nhint: {jobs} selected, none of them done with that value")]
    Nothing { side: &'static str, value: Value, jobs: usize },
    #[error(
        "jobs {one} and {other} of the {side} side have the same seed and differ in {axes}\nhint: select more narrowly: a mean over what differs would hide it"
    )]
    Mixed { side: &'static str, one: JobId, other: JobId, axes: String },
}

/// # Errors
/// Where a side has no value, or two runs of one seed.
pub fn compare(value: Value, left: &[&Outcome], right: &[&Outcome]) -> Result<Comparison, Error> {
    let groups = [group(value, left, "left")?, group(value, right, "right")?];
    let [a, b] = &groups;
    let images = super::verdict::by_image(value, a, b).map(|images| images.told());
    Ok(Comparison { sides: groups.each_ref().map(over), differ: differ(a, b), measured: compared(value, a, b), images })
}

/// All settings with a finished run, best first.
pub fn ranking(by: Value, value: Value, outcomes: &[Outcome]) -> Vec<Ranked> {
    let mut settings: Vec<(BTreeMap<String, String>, Vec<&Outcome>)> = Vec::new();
    for outcome in outcomes {
        let mut places = places(outcome);
        places.retain(|axis, _| !NOT_A_SETTING.contains(&axis.as_str()));
        match settings.iter_mut().find(|(known, _)| *known == places) {
            Some((_, jobs)) => jobs.push(outcome),
            None => settings.push((places, vec![outcome])),
        }
    }
    let mut ranked: Vec<Ranked> = settings
        .into_iter()
        .filter_map(|(places, jobs)| {
            let rows = |of: fn(&crate::event::Epoch, &Outcome) -> f64| {
                let rows = jobs.iter().filter_map(|outcome| Some(of(outcome.last()?, outcome)));
                statistics::mean(&rows.collect::<Vec<_>>()).unwrap_or(f64::NAN)
            };
            Some(Ranked {
                flops: rows(|row, _| row.student_flops + row.teacher_flops),
                seconds: rows(|_, outcome| outcome.seconds),
                by: over(&group(by, &jobs, "left").ok()?),
                value: group(value, &jobs, "left").ok().map(|group| over(&group)),
                places,
            })
        })
        .collect();
    let sign = if by.is_better_higher() { -1.0 } else { 1.0 };
    // What is no number is last.
    let key = |ranked: &Ranked| if ranked.by.mean.is_finite() { sign * ranked.by.mean } else { f64::INFINITY };
    ranked.sort_by(|a, b| key(a).total_cmp(&key(b)));
    ranked
}

fn group<'a>(value: Value, outcomes: &[&'a Outcome], side: &'static str) -> Result<Group<'a>, Error> {
    let mut seen = BTreeSet::new();
    let once = outcomes.iter().copied().filter(|outcome| seen.insert(&outcome.id));
    let group = Group::gather(value, once, Outcome::last).map_err(|[one, other]| {
        let (a, b) = (places(one), places(other));
        let axes: BTreeSet<&String> = a.keys().chain(b.keys()).filter(|axis| a.get(*axis) != b.get(*axis)).collect();
        let axes = axes.into_iter().map(|axis| format!("`{axis}`")).collect::<Vec<_>>().join(", ");
        let axes = if axes.is_empty() { "what no axis tells".to_owned() } else { axes };
        Error::Mixed { side, one: one.id.clone(), other: other.id.clone(), axes }
    })?;
    if group.runs.is_empty() {
        return Err(Error::Nothing { side, value, jobs: outcomes.len() });
    }
    Ok(group)
}

fn over(group: &Group) -> Over {
    let values: Vec<f64> = group.runs.values().map(|run| run.value).collect();
    Over {
        runs: group.runs.iter().map(|(seed, run)| (*seed, run.value, run.outcome.id.clone())).collect(),
        mean: statistics::mean(&values).unwrap_or(f64::NAN),
        interval: statistics::interval(&values, spec::Interval::T),
    }
}

/// Axes, and what every job has.
fn places(outcome: &Outcome) -> BTreeMap<String, String> {
    let mut places = outcome.axes.clone();
    places.insert("teaching".to_owned(), outcome.job.teaching_name().to_owned());
    places.insert("epochs".to_owned(), outcome.job.epochs.to_string());
    places
}

/// Where all jobs of the left say one thing and all of the right another: by the jobs themselves, for two experiments have
/// other axes.
fn differ(left: &Group, right: &Group) -> Vec<(String, String, String)> {
    let of = |group: &Group| -> Vec<BTreeMap<String, String>> {
        group.runs.values().map(|run| facts(run.outcome)).collect()
    };
    let (a, b) = (of(left), of(right));
    let keys: BTreeSet<&String> = a.iter().chain(&b).flat_map(BTreeMap::keys).collect();
    let one = |all: &[BTreeMap<String, String>], key: &str| -> Option<String> {
        let mut said: Vec<Option<&String>> = all.iter().map(|facts| facts.get(key)).collect();
        said.dedup();
        (said.len() == 1).then(|| said[0].map_or("–".to_owned(), Clone::clone))
    };
    keys.into_iter()
        .filter_map(|key| Some((key.clone(), one(&a, key)?, one(&b, key)?)))
        .filter(|(_, left, right)| left != right)
        .collect()
}

/// What a job says of itself, a line each, without its seed; its teachers and what it starts from by their hashes.
fn facts(outcome: &Outcome) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut open = vec![(String::new(), serde_json::to_value(&outcome.job).unwrap_or_default())];
    while let Some((path, value)) = open.pop() {
        match value {
            serde_json::Value::Object(map) if !["source", "seed"].iter().any(|end| path.ends_with(end)) => {
                let below = |key: String| if path.is_empty() { key } else { format!("{path}.{key}") };
                open.extend(map.into_iter().map(|(key, value)| (below(key), value)));
            }
            serde_json::Value::Array(list) if path.ends_with("teachers") => {
                let each = list.into_iter().enumerate().map(|(index, value)| (format!("{path}.{index}"), value));
                open.extend(each);
            }
            other => {
                let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
                let text = if text.len() > 60 { short_hash("", &text) } else { text };
                facts.insert(path, text);
            }
        }
    }
    facts.remove("seed");
    // The way of teaching in one word, instead of where the words differ.
    facts.retain(|key, _| !key.contains(".teaching"));
    facts.insert("teaching".to_owned(), super::words::shown("teaching", outcome.job.teaching_name()));
    facts
}
