//! What a cohort needs, from the plan: as much as can be worked out, in steps, so that many cohorts fit into one array.

use crate::job::Job;
use crate::plan::{Cohort, Site, cohort_cost};

/// Slurm's minutes: short tasks start sooner, but a task that runs out of time starts again elsewhere.
const STEPS: [u32; 9] = [30, 60, 120, 240, 480, 960, 1440, 2880, 5760];
/// Beside the arithmetic: data sets, evaluations, checkpoints.
const FACTOR: f64 = 2.0;
const START_MINUTES: f64 = 10.0;
const GIB: f64 = (1u64 << 30) as f64;
/// Of main memory: the program, its threads, CUDA's libraries.
const BASE_BYTES: f64 = 2.0 * GIB;
/// Weights, their averages, moments, a checkpoint being written.
const COPIES: f64 = 8.0;
/// More images than this are read as they are needed.
const IMAGES_BYTES: f64 = 48.0 * GIB;

/// What `sbatch` is told of a group of cohorts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resources {
    /// Options in order.
    pub options: Vec<String>,
}

impl Resources {
    /// `flops_per_second`: of one task, where that is known from earlier runs.
    pub fn of(cohort: &Cohort, site: &Site, flops_per_second: Option<f64>) -> Resources {
        let mut options = Vec::new();
        match (&site.gres, site.gpus()) {
            (Some(gres), _) => options.push(format!("--gres={gres}")),
            (None, 0) => {}
            (None, gpus) => options.push(format!("--gres=gpu:{gpus}")),
        }
        options.extend(site.cpus.map(|cpus| format!("--cpus-per-task={cpus}")));
        let memory = site.memory.clone().unwrap_or_else(|| format!("{}G", memory_gib(cohort)));
        options.push(format!("--mem={memory}"));
        let time = site.time.clone().or_else(|| {
            let minutes = cohort_cost(cohort).total() / flops_per_second? / 60.0 * FACTOR + START_MINUTES;
            Some(STEPS.iter().find(|step| f64::from(**step) >= minutes).unwrap_or(&STEPS[STEPS.len() - 1]).to_string())
        });
        options.extend(time.map(|time| format!("--time={time}")));
        Resources { options }
    }
}

/// Main memory that a cohort's worker may take, a power of two.
fn memory_gib(cohort: &Cohort) -> u64 {
    let weights = |job: &Job| 4.0 * COPIES * job.student.parameters(job.input()) as f64;
    let images = |job: &Job| {
        let side = f64::from(job.resolution);
        1.5 * job.train_images() as f64 * side * side * f64::from(job.data.channels)
    };
    let jobs = || cohort.jobs.iter().map(|(_, job)| &**job);
    let bytes =
        BASE_BYTES + jobs().map(weights).sum::<f64>() + jobs().map(images).fold(0.0, f64::max).min(IMAGES_BYTES);
    ((bytes / GIB).ceil() as u64).next_power_of_two()
}
