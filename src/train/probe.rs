//! How fast this machine trains: a few real steps of a job's student, timed.

use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::model::{Blueprint, Network};
use super::ops::cross_entropy;
use crate::job::{Input, Job};

const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// Floating-point operations a second, on one thread, of the student's forward and backward pass.
pub fn probe(job: &Job) -> Result<f64> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| {
        // The rate hardly depends on them, the memory does.
        let (batch, side) = (job.batch.min(32) as usize, job.resolution.min(64) as usize);
        let blueprint = Blueprint::new(&job.student, job.input());
        let flat = blueprint.scratch(0);
        let images = Tensor::zeros((batch, side, side, job.data.channels as usize), DType::F32, &Device::Cpu)?;
        let targets = Tensor::ones((batch, job.data.classes as usize), DType::F32, &Device::Cpu)?;
        let step = || -> Result<()> {
            let (network, _) = Network::trainable(&job.student, &blueprint, &flat)?;
            cross_entropy(&network.forward(&images)?, &targets)?.backward()?;
            Ok(())
        };
        // The first one fills caches and the allocator.
        step()?;
        let (started, mut steps) = (Instant::now(), 0u32);
        while started.elapsed() < LONG_ENOUGH {
            step()?;
            steps += 1;
        }
        let images = f64::from(steps) * batch as f64;
        let input = Input { resolution: side as u32, ..job.input() };
        Ok(images * job.student.training_flops(input) / started.elapsed().as_secs_f64())
    })
}
