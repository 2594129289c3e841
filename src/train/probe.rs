//! How fast this machine trains: a few real steps of a job's student, timed.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::engine::Engine;
use super::model::graph;
use super::ops::loss::Loss;
use crate::job::{Input, Job};

const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// Floating-point operations of a step, at most: a batch is as large as it may be without making anybody wait.
const STEP: f64 = 12e9;

/// Floating-point operations a second, on one thread, of the student's forward and backward pass.
pub fn probe(job: &Job) -> Result<f64> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| {
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
        let mut step = || engine.step(&weights, &images, Loss::cross_entropy(&targets), &mut gradient);
        // The first one fills caches and the allocator.
        step();
        let (started, mut steps) = (Instant::now(), 0u32);
        while started.elapsed() < LONG_ENOUGH {
            step();
            steps += 1;
        }
        let images = f64::from(steps) * batch as f64;
        Ok(images * job.student.training_flops(input) / started.elapsed().as_secs_f64())
    })
}
