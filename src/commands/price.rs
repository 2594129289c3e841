//! How long a plan will take here: by what the store's epochs took of each kind of student, and by short trials of kinds that
//! were never trained, which are remembered in the user's cache.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::num::NonZero;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use crate::folder::replace;
use crate::job::{Job, short_hash};
use crate::plan::{Plan, cohort_cost, job_cost};
use crate::store::Store;
use crate::train::{self, Probe, data};

/// Kinds that are tried, half a second each, at most; of others the mean is taken.
const MOST_TRIALS: usize = 12;
/// Of expectations and what came of them: fewer say nothing.
const LEAST_EXPECTED: usize = 3;

/// What is known of this machine before a plan is priced.
#[derive(Default)]
pub struct Known {
    /// Floating-point operations a second of one thread, by the store.
    rates: HashMap<Kind, f64>,
    /// Times that came, as shares of what was expected; ascending.
    expectations: Vec<f64>,
}

/// Label of the student, resolution, batch.
type Kind = (String, u32, u32);

/// Of all that is open, on all cores. Evaluations are not counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Price {
    pub seconds: f64,
    /// Half of the times, or, where earlier expectations are known, four of five, should be between these.
    pub least_seconds: f64,
    pub most_seconds: f64,
    pub cores: usize,
    /// Of one core.
    pub flops_per_second: f64,
    /// Kinds of students of which the store knows the rate, and kinds that were tried.
    pub from_store: usize,
    pub from_trials: usize,
    /// Cohorts of which it is known how they came out, and the middle share of time to expectation.
    pub expectations: usize,
    pub share: f64,
    /// Of the cohort that takes most, without images; none where all is from the store.
    pub bytes: Option<u64>,
}

impl Known {
    /// # Errors
    /// When the store cannot be read.
    pub async fn of(store: &Store) -> Result<Known> {
        let mut expectations = store.expectations().await?;
        expectations.sort_by(f64::total_cmp);
        Ok(Known { rates: store.flops_per_second_by_kind().await?, expectations })
    }
}

impl Price {
    /// None where nothing is open.
    ///
    /// # Errors
    /// When trials cannot be made.
    pub fn of(plan: &Plan, known: &Known) -> Result<Option<Price>> {
        let mut kinds: BTreeMap<Kind, &Job> = BTreeMap::new();
        for planned in plan.open() {
            kinds.entry(kind(&planned.job)).or_insert(&planned.job);
        }
        let mut trials = Trials::load();
        let mut rates: HashMap<Kind, Probe> = HashMap::new();
        let (mut from_store, mut from_trials) = (0, 0);
        // The cheapest first: they say most in their half second.
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by(|(_, a), (_, b)| {
            let of = |job: &Job| job.student.training_flops(job.input());
            of(a).total_cmp(&of(b))
        });
        for (kind, job) in kinds {
            let rate = match known.rates.get(&kind) {
                Some(&rate) => {
                    from_store += 1;
                    Probe { slow: rate, middle: rate, fast: rate, bytes: 0 }
                }
                None if from_trials < MOST_TRIALS => {
                    from_trials += 1;
                    trials.get(job)?
                }
                None => continue,
            };
            rates.insert(kind, rate);
        }
        trials.keep();
        if rates.is_empty() {
            return Ok(None);
        }
        let count = rates.len() as f64;
        let mean = |of: fn(&Probe) -> f64| rates.values().map(of).sum::<f64>() / count;
        let usual = Probe { slow: mean(|p| p.slow), middle: mean(|p| p.middle), fast: mean(|p| p.fast), bytes: 0 };
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get).min(plan.cohorts.len()).max(1);
        let (mut seconds, mut flops, mut bytes) = ([0.0; 3], 0.0, 0);
        for cohort in &plan.cohorts {
            let cost = cohort_cost(cohort);
            flops += cost.total();
            let mut held = 0;
            for (_, job) in &cohort.jobs {
                let rate = rates.get(&kind(job)).unwrap_or(&usual);
                held += rate.bytes;
                let own = job_cost(job).student_flops;
                [rate.fast, rate.middle, rate.slow].iter().zip(&mut seconds).for_each(|(rate, sum)| *sum += own / rate);
            }
            bytes = bytes.max(held);
            [usual.fast, usual.middle, usual.slow]
                .iter()
                .zip(&mut seconds)
                .for_each(|(rate, sum)| *sum += cost.teacher_flops / rate);
        }
        let [fast, middle, slow] = seconds.map(|seconds| seconds / cores as f64);
        let expectations = known.expectations.len();
        let (low, share, high) = match expectations {
            ..LEAST_EXPECTED => (1.0, 1.0, 1.0),
            count => {
                let at = |tenth: usize| known.expectations[(count - 1) * tenth / 10];
                (at(1), at(5), at(9))
            }
        };
        Ok(Some(Price {
            seconds: middle * share,
            least_seconds: fast * low,
            most_seconds: slow * high,
            cores,
            flops_per_second: flops / (middle * cores as f64),
            from_store,
            from_trials,
            expectations,
            share,
            bytes: (bytes > 0).then_some(bytes),
        }))
    }
}

fn kind(job: &Job) -> Kind {
    (job.student.label(), job.resolution, job.batch)
}

/// Trials of this machine and version, by what was tried.
struct Trials {
    path: Option<PathBuf>,
    here: BTreeMap<String, Probe>,
    new: bool,
}

impl Trials {
    /// A cache that cannot be read is empty.
    fn load() -> Trials {
        let path = data::cache_folder().map(|folder| folder.join("trials.json"));
        let text = path.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let here = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Trials { path, here, new: false }
    }

    fn get(&mut self, job: &Job) -> Result<Probe> {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
        let tried = format!("{model} {} {:?} {:?} {}", env!("CARGO_PKG_VERSION"), job.student, job.input(), job.batch);
        let key = short_hash("distillery trial 1\n", &format!("{tried} {:?}", job.precision));
        if let Some(probe) = self.here.get(&key) {
            return Ok(*probe);
        }
        let probe = train::probe(job)?;
        self.here.insert(key, probe);
        self.new = true;
        Ok(probe)
    }

    /// One that cannot be written is made again the next time.
    fn keep(&self) {
        if let (true, Some(path)) = (self.new, &self.path)
            && let Ok(text) = serde_json::to_string(&self.here)
        {
            let _ = path.parent().map(fs::create_dir_all);
            let _ = replace(path, text.as_bytes());
        }
    }
}
