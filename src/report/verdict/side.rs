//! The runs of one side of a claim, and what forbids to compare two sides.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Epoch, Which};
use crate::report::select::{choose, place_on, row_of, stands_at};
use crate::report::spec::{Claim, Place, Report, Side};
use crate::report::value::{Measure, Value};
use crate::report::{statistics, words};
use crate::store::Outcome;

use super::Ruling;

/// Runs that differ in nothing but their seed.
#[derive(Clone, Debug, Default)]
pub struct Group<'a> {
    pub runs: BTreeMap<u64, Run<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    pub value: f64,
    /// Images it was measured on.
    pub images: u64,
    pub outcome: &'a Outcome,
}

impl<'a> Group<'a> {
    /// Of each job the number in the row that is reported; jobs without one are left out.
    ///
    /// # Errors
    /// Two jobs of one seed: they differ in more than that.
    pub fn gather(
        value: Value,
        outcomes: impl IntoIterator<Item = &'a Outcome>,
        row: impl Fn(&'a Outcome) -> Option<&'a Epoch>,
    ) -> Result<Group<'a>, [&'a Outcome; 2]> {
        let mut group = Group::default();
        for outcome in outcomes {
            let Some(row) = row(outcome) else { continue };
            let Some(number) = value.of(row) else { continue };
            let measured = row.evaluations.iter().find(|evaluation| Some(evaluation.split) == value.split());
            let images = measured.map_or(0, |evaluation| evaluation.images);
            if let Some(other) = group.runs.insert(outcome.job.seed, Run { value: number, images, outcome }) {
                return Err([other.outcome, outcome]);
            }
        }
        Ok(group)
    }

    fn mean(&self) -> f64 {
        let values: Vec<f64> = self.runs.values().map(|run| run.value).collect();
        statistics::mean(&values).unwrap_or(f64::NAN)
    }

    fn images(&self) -> u64 {
        self.runs.values().map(|run| run.images).min().unwrap_or(0)
    }
}

/// Left and right. Where right is the teacher, each run of left is compared with the level of its own.
pub fn sides<'a>(report: &Report, claim: &Claim, points: &[&'a Outcome]) -> Result<[Group<'a>; 2], Ruling> {
    if claim.right.is_teacher() {
        let [left, _] = sides(report, &Claim { right: claim.left.clone(), ..claim.clone() }, points)?;
        let level = |run: &Run<'a>| {
            let mut checks = run.outcome.teachers.iter().filter(|check| Some(check.split) == claim.value.split());
            let whole = checks.clone().find(|check| check.teacher.is_none()).or(checks.next());
            let value = whole.and_then(|check| claim.value.of_teacher(check));
            value.ok_or_else(|| Ruling::NoData(format!("the teacher has no `{}`", claim.value)))
        };
        let runs = left.runs.iter().map(|(seed, run)| Ok((*seed, Run { value: level(run)?, ..*run })));
        let right = Group { runs: runs.collect::<Result<_, _>>()? };
        return Ok([left, right]);
    }
    let all = [&claim.left, &claim.right].map(|side| without_length(claim, side, points));
    let lengths = all.each_ref().map(|outcomes| outcomes.iter().map(|o| o.job.epochs).collect::<BTreeSet<u32>>());
    let asked = [&claim.left, &claim.right].map(|side| length(claim, side));
    // A length that both have in common is one that both have; a side's own is its own.
    let alike = claim.both.0.contains_key("epochs");
    let shared: BTreeSet<u32> = lengths[0].intersection(&lengths[1]).copied().collect();
    for (side, outcomes) in [&claim.left, &claim.right].into_iter().zip(&all) {
        if outcomes.is_empty() {
            return Err(Ruling::NoData(nowhere(claim, side, points)));
        }
    }
    let mut groups = Vec::new();
    for ((outcomes, own), asked) in all.into_iter().zip(&lengths).zip(asked) {
        let lengths = if alike { &shared } else { own };
        let epochs = match asked.map(|place| place.0.as_str()) {
            None => None,
            Some("longest") => Some(lengths.last().copied().unwrap_or(0)),
            Some("best") => best_length(report, &outcomes),
            Some("next-to-longest") => Some(lengths.iter().rev().nth(1).copied().unwrap_or(0)),
            Some("shortest") => Some(lengths.first().copied().unwrap_or(0)),
            Some(text) => Some(text.parse().unwrap_or(0)),
        };
        let outcomes =
            outcomes.into_iter().filter(|outcome| epochs.is_none_or(|at| outcome.job.epochs == at)).collect();
        groups.push(group(report, claim, outcomes)?);
    }
    let right = groups.pop().unwrap_or_default();
    Ok([groups.pop().unwrap_or_default(), right])
}

/// The length whose runs are best on validation images, among those with as many finished runs as any; the first of equals.
fn best_length(report: &Report, outcomes: &[&Outcome]) -> Option<u32> {
    let by = Value::Evaluated(Which::Validation, Measure::Top1);
    let mut lengths: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for outcome in choose(report, outcomes).chosen {
        if let Some(value) = row_of(report, outcome).and_then(|row| by.of(row)) {
            lengths.entry(outcome.job.epochs).or_default().push(value);
        }
    }
    let most = lengths.values().map(Vec::len).max()?;
    let means = lengths.iter().filter(|(_, values)| values.len() == most);
    let means = means.filter_map(|(epochs, values)| Some((*epochs, statistics::mean(values)?)));
    means.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(epochs, _)| epochs)
}

fn length<'a>(claim: &'a Claim, side: &'a Side) -> Option<&'a Place> {
    claim.places(side).find(|(axis, _)| *axis == "epochs").map(|(_, place)| place)
}

/// Jobs at a side's places, whatever their length, each once.
fn without_length<'a>(claim: &Claim, side: &Side, points: &[&'a Outcome]) -> Vec<&'a Outcome> {
    let mut seen = BTreeSet::new();
    let places: Vec<_> = claim.places(side).filter(|(axis, _)| *axis != "epochs").collect();
    let stands = |outcome: &&Outcome| places.iter().all(|(axis, place)| stands_at(outcome, axis, place));
    points.iter().copied().filter(stands).filter(|outcome| seen.insert(&outcome.id)).collect()
}

/// At which of its places no job is, and where jobs are.
fn nowhere(claim: &Claim, side: &Side, points: &[&Outcome]) -> String {
    let places: Vec<_> = claim.places(side).filter(|(axis, _)| *axis != "epochs").collect();
    let Some((axis, place)) =
        places.iter().find(|(axis, place)| !points.iter().any(|outcome| stands_at(outcome, axis, place)))
    else {
        let all = places.iter().map(|(axis, place)| format!("`{axis} = {place}`")).collect::<Vec<_>>().join(", ");
        return format!("no job stands at {all} together");
    };
    let mut known: Vec<String> = points.iter().filter_map(|outcome| place_on(outcome, axis)).collect();
    known.sort();
    known.dedup();
    known.truncate(6);
    let known = known.iter().map(|place| format!("`{place}`")).collect::<Vec<_>>().join(", ");
    let hint = if known.is_empty() { format!("none stands on an axis `{axis}`") } else { format!("there are {known}") };
    format!("no job stands at `{axis} = {place}`: {hint}")
}

fn group<'a>(report: &Report, claim: &Claim, outcomes: Vec<&'a Outcome>) -> Result<Group<'a>, Ruling> {
    if outcomes.is_empty() {
        return Err(Ruling::NoData("no job stands there".to_owned()));
    }
    let chosen = choose(report, &outcomes).chosen;
    let group = Group::gather(claim.value, chosen, |outcome| row_of(report, outcome)).map_err(|[one, other]| {
        let axes: BTreeSet<&String> = one.axes.keys().chain(other.axes.keys()).collect();
        let differ = axes.into_iter().filter(|axis| one.axes.get(*axis) != other.axes.get(*axis));
        let differ = differ.map(|axis| format!("`{axis}`")).collect::<Vec<_>>().join(", ");
        let (one, other) = (one.id.as_str(), other.id.as_str());
        Ruling::Refused(format!("jobs {one:.8} and {other:.8} of one side and seed differ in {differ}"))
    })?;
    if group.runs.is_empty() {
        let jobs = words::counted(outcomes.len(), "job");
        return Err(Ruling::NoData(format!("none of {jobs} of one side has its final value yet")));
    }
    if group.runs.values().any(|run| !run.value.is_finite()) {
        return Err(Ruling::Refused("a value is not a finite number".to_owned()));
    }
    Ok(group)
}

/// What makes any difference of these sides meaningless.
pub fn refuse(report: &Report, claim: &Claim, left: &Group, right: &Group) -> Result<(), Ruling> {
    let jobs = |group: &Group| group.runs.values().map(|run| run.outcome.id.clone()).collect::<BTreeSet<_>>();
    if !claim.right.is_teacher() && jobs(left) == jobs(right) {
        return Err(Ruling::Refused("both sides are the same jobs".to_owned()));
    }
    let refused = |reason: String| Err(Ruling::Refused(reason));
    let percent = |share: f64| format!("{:.1}\u{a0}%", 100.0 * share);
    if let Value::Evaluated(_, Measure::Top1) = claim.value {
        for group in [left, right] {
            let classes = group.runs.values().map(|run| run.outcome.job.data.classes).max().unwrap_or(0);
            let chance = 1.0 / f64::from(classes.max(1));
            let deviation = (chance * (1.0 - chance) / group.images().max(1) as f64).sqrt();
            if group.mean() <= chance + 3.0 * deviation {
                return refused(format!("one side is at chance ({}): it has not learnt", percent(group.mean())));
            }
        }
    }
    if claim.value.is_share() && claim.value.is_better_higher() {
        let wrong = |group: &Group| (1.0 - group.mean()) * group.images() as f64;
        let (a, b) = (wrong(left), wrong(right));
        if left.images() > 0 && a < 10.0 && b < 10.0 {
            return refused(format!("both sides are at the ceiling: {a:.0} and {b:.0} images are not right"));
        }
    }
    let Some(gate) = report.teacher_gate else { return Ok(()) };
    let runs = left.runs.values().chain(right.runs.values());
    let lowest = runs.filter_map(|run| teacher_of(run.outcome)).min_by(f64::total_cmp);
    match lowest {
        Some(lowest) if lowest < gate => {
            refused(format!("a teacher has {}, below the gate of {}", percent(lowest), percent(gate)))
        }
        _ => Ok(()),
    }
}

/// Top-1 of the worst teacher a student had, or of the ensemble; on validation images where it was measured there.
fn teacher_of(outcome: &Outcome) -> Option<f64> {
    let on = |split: Which| {
        let checks = outcome.teachers.iter().filter(move |check| check.split == split);
        let whole = checks.clone().find(|check| check.teacher.is_none()).map(|check| check.top1);
        whole.or_else(|| checks.map(|check| check.top1).min_by(f64::total_cmp))
    };
    on(Which::Validation).or_else(|| on(Which::Test))
}
