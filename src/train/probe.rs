//! How fast this machine trains: a few real steps of a job's student, timed.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::memory;
use super::model::graph;
use super::ops::loss::Loss;
use crate::job::{Input, Job};

const LONG_ENOUGH: Duration = Duration::from_millis(500);
/// Of these the quartiles are told: fewer have none.
const LEAST_STEPS: usize = 4;

/// Floating-point operations of a step, at most: a batch is as large as it may be without making anybody wait.
const STEP: f64 = 12e9;

/// What some steps showed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Probe {
    /// Floating-point operations a second on one thread, of the student's forward and backward pass: of a slow step, of the
    /// middle one and of a fast one, which are quartiles.
    pub slow: f64,
    pub middle: f64,
    pub fast: f64,
    /// What one student took in memory, about, where the system says.
    pub bytes: u64,
}

/// Trains a job's student for half a second on one thread.
///
/// # Errors
/// When threads cannot be made.
pub fn probe(job: &Job) -> Result<Probe> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| {
        let before = memory::resident_bytes().unwrap_or(0);
        // The rate hardly depends on them, the memory does.
        let side = job.resolution.min(64) as usize;
        let input = Input { resolution: side as u32, ..job.input() };
        let most = (STEP / job.student.training_flops(input)) as usize;
        let batch = (job.batch as usize).min(32).min(most).max(1);
        let mut engine = Engine::<f32>::trainable(graph(&job.student, input).with_precision(job.precision));
        let weights = engine.graph().blueprint.scratch(0);
        let mut gradient = vec![0.0; weights.len()];
        let images = vec![0.0; batch * side * side * job.data.channels as usize];
        let targets = vec![1.0; batch * job.data.classes as usize];
        let mut step = || {
            let started = Instant::now();
            engine.step(&weights, &images, Loss::cross_entropy(&targets), &mut gradient);
            started.elapsed().as_secs_f64()
        };
        // The first one fills caches and the allocator.
        step();
        let started = Instant::now();
        let mut seconds = Vec::new();
        while started.elapsed() < LONG_ENOUGH || seconds.len() < LEAST_STEPS {
            seconds.push(step());
        }
        seconds.sort_by(f64::total_cmp);
        let flops = batch as f64 * job.student.training_flops(input);
        let at = |quarter: usize| flops / seconds[(seconds.len() - 1) * quarter / 4];
        let moments = 8 * weights.len() as u64;
        let bytes = memory::resident_bytes().unwrap_or(0).saturating_sub(before) + moments;
        Ok(Probe { slow: at(3), middle: at(2), fast: at(1), bytes })
    })
}
