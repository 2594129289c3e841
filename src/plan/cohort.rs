//! Cohorts: jobs that ask the same teacher the same question share one data stream and one teacher forward.
//!
//! Two jobs belong together when their [`stream_key`]s are equal: teachers and their weights, ensemble rule, data, split, other
//! sets that are trained on, seed, batch, what the teacher is shown and how it is made, its resolution and precision. What the
//! student is and sees, how it learns (its distance and temperature, labels beside it) and for how long is not in the key:
//! the views are pure functions of (seed, epoch, position), so a short job's stream is a prefix of a long one's.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Checkpoints, Device, Evaluations, Places, Planned};
use crate::job::{Distil, Init, Job, JobId, NetworkSource, Objective, Teaching, canonical_text, short_hash};
use crate::source::Keep;

/// A job and its id.
pub type Member = (JobId, Arc<Job>);

/// Jobs that are trained together by one worker on one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Cohort {
    pub id: CohortId,
    /// At least one; same stream key, in the experiment's order.
    pub jobs: Vec<Member>,
    /// Jobs that must be done before this cohort can start.
    pub needs: Vec<JobId>,
}

/// Hash of the stream key and the members.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CohortId(String);

/// What a worker is told: written as JSON to `cohorts/<id>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    pub cohort: CohortId,
    pub students: Vec<Student>,
    pub places: Places,
    pub evaluations: Evaluations,
    /// Training images that are measured, too.
    pub minitrain: u32,
    /// Go on although a teacher is no better than guessing.
    pub allow_teacher_at_chance: bool,
    /// Keep a live teacher's answers on disk, and take those that are there.
    #[serde(default)]
    pub record_teacher: bool,
    #[serde(default)]
    pub images: Keep,
    #[serde(default)]
    pub checkpoints: Checkpoints,
    /// Students that are trained at once, at most; the others come after. As many as fit, where it is none.
    #[serde(default)]
    pub at_once: Option<u32>,
    /// Parts that a batch is cut into, at least, each forward and backward by itself: on a GPU, where memory is short.
    #[serde(default)]
    pub parts: Option<u32>,
    pub threads: u32,
    pub device: Device,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Student {
    pub attempt: u32,
    pub job: Job,
}

/// Jobs with equal keys are trained together. A student that starts from another job's waits for it, so it is not put
/// with that one, nor with others that need not wait.
/// Those that replay a stream go round together.
fn cohort_key(job: &Job) -> String {
    let mut key = stream_key(job);
    if let Init::Trained(trained) = &job.init
        && let NetworkSource::Job(first) = &trained.source
    {
        key += &format!("\nafter {}", first.id());
    }
    if let Some(steps) = job.cycle() {
        key += &format!("\nevery {steps} steps");
    }
    key
}

/// Two jobs with equal keys can share loader and teacher. Canonical JSON, readable in a debugger.
pub fn stream_key(job: &Job) -> String {
    let asked = match &job.objective {
        // Nobody is asked: what is shared is only the loader. Label jobs with equal views go together.
        Objective::Labels(labels) => json!({ "labels": { "view": labels.view, "mixup": labels.mixup } }),
        Objective::Distil(distil) => json!({
            "teachers": distil.teachers,
            "ensemble": distil.ensemble,
            "shown": shown_to_teacher(distil),
        }),
    };
    canonical_text(&json!({
        "data": job.data.sha256,
        "split": job.split,
        "batch": job.batch,
        "seed": job.seed,
        "flip": job.flip,
        "crop": job.crop,
        "train-on": job.train_on,
        "pixels": (job.resize, job.decode, job.augment, job.mixing),
        "precision": job.precision,
        "asked": asked,
    }))
}

/// The teacher's side of the mode: equal for modes that differ only in what the student sees.
fn shown_to_teacher(distil: &Distil) -> serde_json::Value {
    match distil.teaching {
        Teaching::FixedResize => json!({ "fixed": "rs" }),
        Teaching::FixedCentralCrop => json!({ "fixed": "cc" }),
        Teaching::FixedInceptionEnsemble { crops } => json!({ "fixed": "ic", "crops": crops }),
        Teaching::IndependentMildCrop | Teaching::ConsistentMildCrop => json!({ "live": "rc" }),
        Teaching::IndependentInceptionCrop | Teaching::ConsistentInceptionCrop => json!({ "live": "ic" }),
        Teaching::FunctionMatching { mixup } | Teaching::IndependentMixup { mixup } => {
            json!({ "live": "ic", "mixup": mixup })
        }
    }
}

/// The open jobs in cohorts, ordered so that needs come first.
pub(super) fn gather(jobs: &[Planned]) -> Vec<Cohort> {
    // What is in the key is said quickly by most jobs in the same words; only for new words the key itself is made.
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut keys: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<(String, Vec<Member>)> = Vec::new();
    for planned in jobs.iter().filter(|planned| !planned.done) {
        let place = *places.entry(quick_key(&planned.job)).or_insert_with(|| {
            *keys.entry(cohort_key(&planned.job)).or_insert_with_key(|key| {
                groups.push((key.clone(), Vec::new()));
                groups.len() - 1
            })
        });
        groups[place].1.push((planned.id.clone(), Arc::clone(&planned.job)));
    }
    let mut ids: HashMap<*const Job, JobId> = HashMap::new();
    let gather = |(key, jobs): (String, Vec<Member>)| {
        let needs = jobs.iter().flat_map(|(_, job)| job.needs());
        let needs: HashSet<JobId> =
            needs.map(|need| ids.entry(Arc::as_ptr(need)).or_insert_with(|| need.id()).clone()).collect();
        let mut needs: Vec<JobId> = needs.into_iter().collect();
        needs.sort();
        Cohort { id: CohortId::new(&key, &jobs), jobs, needs }
    };
    groups.into_iter().map(gather).collect()
}

/// Equal for jobs with equal cohort keys that were written alike: all that the key is made of, in any order and as it
/// comes.
fn quick_key(job: &Job) -> String {
    let asked = match &job.objective {
        Objective::Labels(labels) => (Some((&labels.view, &labels.mixup)), None),
        Objective::Distil(distil) => (None, Some((&distil.teachers, &distil.ensemble, &distil.teaching))),
    };
    let rest = (&job.train_on, job.resize, job.decode, &job.augment, &job.mixing, job.precision, asked);
    let key = (&job.data.sha256, &job.split, job.batch, job.seed, job.flip, &job.crop, rest, &job.init, job.cycle());
    serde_json::to_string(&key).expect("a job's parts are plain data")
}

impl CohortId {
    fn new(key: &str, jobs: &[Member]) -> CohortId {
        let members: Vec<&str> = jobs.iter().map(|(id, _)| id.as_str()).collect();
        CohortId(short_hash("distillery cohort 1\n", &format!("{key}\n{}", members.join("\n"))))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CohortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
