//! What the numbers say of a claim: supported, contradicted, or undecided.
//!
//! Compared are means over seeds of the reported epoch, after the report's selection by validation images. Where both sides
//! have the same seeds they saw the same views, so differences are taken seed by seed; else the sides are compared as two
//! groups (Welch). With `smallest` the smallest difference of interest, and an interval of 95 %:
//!
//! | expected | supported | contradicted |
//! |---|---|---|
//! | greater | all of the interval above 0, and its mean at least `smallest` | all of it below `smallest` |
//! | less | the same, left and right exchanged | |
//! | equal | all of it within `smallest` of 0 | all of it farther away |
//! | not less | all of it above `-smallest` | all of it below |
//!
//! A claim is decided only if its p-value still is at most 0.05 after Holm's correction for all claims of the report, so that
//! twenty claims do not support one by luck. Where numbers cannot decide whatever they are, none is given: with one seed,
//! at chance, at the ceiling, with a teacher below the gate.

mod images;
mod side;

use crate::job::JobId;
use crate::store::Outcome;

use super::footer::grouped;
use super::select::places_of;
use super::spec::{Claim, Correction, Epoch, Expected, Place, Report};
use super::statistics::{self, ALPHA, Difference, Interval};
use super::value::Value;
use super::words::signed;

pub use images::{Images, by_image};
pub use side::Group;

/// A claim and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub claim: String,
    pub source: Option<String>,
    pub value: Value,
    pub expected: Expected,
    pub smallest: f64,
    pub measured: Option<Measured>,
    pub ruling: Ruling,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    Supported,
    Contradicted,
    /// With this many more seeds it would be decided, if mean and spread stay what they are; none: not with a thousand.
    Undecided {
        more: Option<usize>,
    },
    /// Why nothing can be decided.
    Refused(String),
    /// What is missing.
    NoData(String),
}

/// The two sides of a claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub left: f64,
    pub right: f64,
    /// How long each side was trained; none where its runs differ in that.
    pub epochs: [Option<u32>; 2],
    /// Seed by seed, or as two groups.
    pub paired: bool,
    pub difference: Difference,
    pub interval: Option<Interval>,
    /// Two-sided, corrected.
    pub p: Option<f64>,
    /// Over images, where they are known one by one.
    pub images: Option<Images>,
    pub left_jobs: Vec<JobId>,
    pub right_jobs: Vec<JobId>,
}

/// One-sided p-values for and against a claim.
struct Evidence {
    supports: f64,
    contradicts: f64,
}

pub fn verdicts(report: &Report, points: &[&Outcome]) -> Vec<Verdict> {
    let claims: Vec<Claim> = report.claims.iter().flat_map(|claim| faceted(report, claim, points)).collect();
    let judged: Vec<Result<Measured, Ruling>> = claims.iter().map(|claim| measured(report, claim, points)).collect();
    let evidence: Vec<Option<Evidence>> =
        claims.iter().zip(&judged).map(|(claim, judged)| evidence(claim, &judged.as_ref().ok()?.difference)).collect();
    // What cannot be judged yet counts as a claim all the same: whoever judges early is not judged by less.
    let p: Vec<f64> = evidence
        .iter()
        .map(|evidence| match evidence {
            Some(evidence) => (2.0 * evidence.supports.min(evidence.contradicts)).min(1.0),
            None => 1.0,
        })
        .collect();
    let corrected = match report.correction {
        Correction::Holm => statistics::holm(&p),
        Correction::None => p.clone(),
    };
    let corrected = p.into_iter().zip(corrected);
    let claims = claims.iter().zip(judged).zip(evidence).zip(corrected);
    claims
        .map(|(((claim, judged), evidence), corrected)| {
            let p = evidence.as_ref().map(|_| corrected);
            let (measured, ruling) = match judged {
                Err(ruling) => (None, ruling),
                Ok(measured) => {
                    let ruling = ruling(claim, &measured.difference, evidence, p);
                    (Some(Measured { p: p.map(|(_, corrected)| corrected), ..measured }), ruling)
                }
            };
            Verdict {
                claim: claim.claim.clone(),
                source: claim.source.clone(),
                value: claim.value,
                expected: claim.expect,
                smallest: claim.smallest,
                measured,
                ruling,
            }
        })
        .collect()
}

/// A claim for each place of its facet; itself where it has none, or jobs are all at one place.
fn faceted(report: &Report, claim: &Claim, points: &[&Outcome]) -> Vec<Claim> {
    let Some(axis) = &claim.facet else { return vec![claim.clone()] };
    let places = places_of(points, axis);
    if places.len() < 2 {
        return vec![claim.clone()];
    }
    let at = |place: String| {
        let name = report.shown(axis, &place);
        let mut own = Claim { claim: format!("{name}: {}", claim.claim), facet: None, ..claim.clone() };
        own.both.0.insert(axis.clone(), Place(place));
        own
    };
    places.into_iter().map(at).collect()
}

/// `p` before and after the correction.
fn ruling(claim: &Claim, difference: &Difference, evidence: Option<Evidence>, p: Option<(f64, f64)>) -> Ruling {
    let (Some(evidence), Some((raw, p))) = (evidence, p) else {
        return Ruling::Refused("every seed gives the same difference: there is no spread to judge it by".to_owned());
    };
    if p <= ALPHA {
        return if evidence.supports < evidence.contradicts { Ruling::Supported } else { Ruling::Contradicted };
    }
    let (mean, smallest) = (difference.mean, claim.smallest);
    let bound = match claim.expect {
        Expected::Greater => {
            if mean >= smallest {
                0.0
            } else {
                smallest
            }
        }
        Expected::Less => {
            if -mean >= smallest {
                0.0
            } else {
                -smallest
            }
        }
        Expected::Equal => smallest.copysign(mean),
        Expected::NotLess => -smallest,
    };
    // As strict as the correction is now.
    let alpha = if raw > 0.0 { ALPHA * raw / p } else { ALPHA };
    Ruling::Undecided { more: difference.pairs_needed(bound, alpha).map(|pairs| pairs - difference.n) }
}

/// None where differences have no spread.
fn evidence(claim: &Claim, difference: &Difference) -> Option<Evidence> {
    let (mean, smallest) = (difference.mean, claim.smallest);
    let (above, below) = (|bound| difference.p_above(bound), |bound| difference.p_below(bound));
    let (supports, contradicts) = match claim.expect {
        Expected::Greater => (if mean >= smallest { above(0.0)? } else { 1.0 }, below(smallest)?),
        Expected::Less => (if -mean >= smallest { below(0.0)? } else { 1.0 }, above(-smallest)?),
        Expected::Equal => (above(-smallest)?.max(below(smallest)?), above(smallest)?.min(below(-smallest)?)),
        Expected::NotLess => (above(-smallest)?, below(-smallest)?),
    };
    Some(Evidence { supports, contradicts })
}

fn measured(report: &Report, claim: &Claim, points: &[&Outcome]) -> Result<Measured, Ruling> {
    let [left, right] = side::sides(report, claim, points)?;
    side::refuse(report, claim, &left, &right)?;
    let mut measured = compared(claim.value, &left, &right).ok_or_else(|| {
        let images = by_image(claim.value, &left, &right).filter(|_| report.epoch() == Epoch::Last);
        let images = images.map_or(String::new(), |images| format!("; image by image, {}", images.told()));
        Ruling::Refused(format!(
            "one seed a side (n = 1): a difference of two runs says nothing about the next two{images}"
        ))
    })?;
    if claim.right.is_teacher() || report.epoch() == Epoch::Best {
        // A teacher's answers are not kept image by image, nor a student's but those of its last epoch.
        measured.images = None;
    }
    if claim.right.is_teacher() {
        measured.right_jobs = Vec::new();
    }
    Ok(measured)
}

/// Two groups of runs against each other; none where there is no more than one of each.
pub fn compared(value: Value, left: &Group, right: &Group) -> Option<Measured> {
    let pairs: Vec<u64> = left.runs.keys().filter(|seed| right.runs.contains_key(seed)).copied().collect();
    let paired = pairs.len() > 1;
    let values = |group: &Group| -> Vec<f64> {
        let runs = group.runs.iter().filter(|(seed, _)| !paired || pairs.contains(seed));
        runs.map(|(_, run)| run.value).collect()
    };
    let (a, b) = (values(left), values(right));
    let difference = if paired { Difference::paired(&a, &b) } else { Difference::welch(&a, &b) }?;
    let jobs = |group: &Group| group.runs.values().map(|run| run.outcome.id.clone()).collect();
    let epochs = |group: &Group| {
        let mut lengths: Vec<u32> = group.runs.values().map(|run| run.outcome.job.epochs).collect();
        lengths.dedup();
        if let [one] = lengths[..] { Some(one) } else { None }
    };
    Some(Measured {
        left: statistics::mean(&a)?,
        right: statistics::mean(&b)?,
        epochs: [epochs(left), epochs(right)],
        paired,
        difference,
        interval: difference.interval(),
        p: difference.p_above(0.0).map(|above| 2.0 * above.min(1.0 - above)),
        images: by_image(value, left, right),
        left_jobs: jobs(left),
        right_jobs: jobs(right),
    })
}

impl Ruling {
    /// The one word of it.
    pub fn word(&self) -> &'static str {
        match self {
            Ruling::Supported => "supported",
            Ruling::Contradicted => "contradicted",
            Ruling::Undecided { .. } => "undecided",
            Ruling::Refused(_) => "not decided",
            Ruling::NoData(_) => "no data",
        }
    }

    /// What stands behind the word: how many seeds would decide, or why nothing can.
    pub fn reason(&self) -> Option<String> {
        match self {
            Ruling::Supported | Ruling::Contradicted => None,
            Ruling::Undecided { more: Some(more) } => Some(format!("about {} would decide", more_seeds(*more))),
            Ruling::Undecided { more: None } => Some("a thousand seeds would not decide".to_owned()),
            Ruling::Refused(reason) | Ruling::NoData(reason) => Some(reason.clone()),
        }
    }
}

fn more_seeds(more: usize) -> String {
    if more == 1 { "1 more seed".to_owned() } else { format!("{more} more seeds") }
}

impl Verdict {
    /// `supported`, or `undecided (about 4 more seeds would decide)`.
    pub fn outcome(&self) -> String {
        let word = self.ruling.word();
        self.ruling.reason().map_or(word.to_owned(), |reason| format!("{word} ({reason})"))
    }

    /// `+4.3 points, +1.2 to +7.4 (n = 3 pairs)`; none where nothing was measured.
    pub fn numbers(&self) -> Option<String> {
        Some(self.measured.as_ref()?.numbers(self.value))
    }

    /// `+2.1 to +6.4 points over 2,000 images`: how far images, not seeds, leave it open; none where they are not known
    /// one by one.
    pub fn by_image(&self) -> Option<String> {
        let images = self.measured.as_ref()?.images?;
        Some(images.told())
    }

    /// What left is expected to be to right, in words.
    pub fn expectation(&self) -> String {
        let (factor, decimals, unit) = unit(self.value, self.smallest);
        let smallest = format!("{:.decimals$}{unit}", factor * self.smallest);
        match self.expected {
            Expected::Greater if self.smallest > 0.0 => format!("more by at least {smallest}"),
            Expected::Less if self.smallest > 0.0 => format!("less by at least {smallest}"),
            Expected::Greater => "more".to_owned(),
            Expected::Less => "less".to_owned(),
            Expected::Equal => format!("within {smallest}"),
            Expected::NotLess => format!("not less by {smallest}"),
        }
    }
}

impl Measured {
    pub fn numbers(&self, value: Value) -> String {
        let (factor, decimals, unit) = unit(value, self.difference.mean);
        let number = |number: f64| signed(factor * number, decimals);
        let interval = self
            .interval
            .map_or(String::new(), |Interval { low, high }| format!(", {} to {}", number(low), number(high)));
        let n =
            if self.paired { format!("{} pairs", self.difference.n) } else { format!("{} each", self.difference.n) };
        let of = |epochs: u32| grouped(u64::from(epochs));
        let length = match self.epochs {
            [Some(left), Some(right)] if left == right => format!(", {} epochs", of(left)),
            [Some(left), Some(right)] => format!(", {} against {} epochs", of(left), of(right)),
            _ => String::new(),
        };
        format!("{}{unit}{interval} (n = {n}{length})", number(self.difference.mean))
    }
}

/// Factor, decimals and unit of differences: points of a share, else three digits of the value's own.
fn unit(value: Value, size: f64) -> (f64, usize, &'static str) {
    if value.is_share() {
        return (100.0, 1, " points");
    }
    let magnitude = if size == 0.0 { 0 } else { size.abs().log10().floor() as i32 };
    (1.0, usize::try_from(2 - magnitude).unwrap_or(0).min(9), "")
}
