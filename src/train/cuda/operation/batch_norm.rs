//! BatchNorm with an activation, or with a residual added.
//!
//! In a step of training the moments are those of the whole batch, so all of its images must be here
//! ([`super::super::machine`] sees to it). Otherwise the running ones are used.

use std::ops::Range;

use anyhow::Result;

use super::{Backward, Batch, Forward, Numbers, Operation, Parameter, slices, u32_of};
use crate::train::cuda::device::{Address, Argument, Spread};
use crate::train::ops::norm;

/// Vectors of neighbouring channels that a block reads, at most, and its threads.
const LANES: usize = 8;
const LANES_OF_ONE: usize = 32;
const THREADS: usize = 256;

pub struct BatchNorm {
    batch: Batch,
    layer: norm::Norm,
    running: [Range<usize>; 2],
    /// Whether channels are read in vectors of eight.
    eights: bool,
    lanes: usize,
}

impl BatchNorm {
    pub fn new(batch: Batch, layer: &norm::Norm, running: [Range<usize>; 2]) -> BatchNorm {
        let c = layer.x.c;
        let eights = c.is_multiple_of(8);
        let lanes = if eights { LANES.min(c / 8) } else { LANES_OF_ONE.min(c) };
        BatchNorm { batch, layer: layer.clone(), running, eights, lanes }
    }

    fn rows(&self) -> usize {
        self.batch.images * self.layer.x.pixels()
    }

    fn slices(&self) -> (usize, usize) {
        slices(self.rows(), self.layer.x.c)
    }

    /// Bytes of sums over slices, and of the slopes behind them.
    fn sums(&self) -> (usize, usize) {
        let one = 2 * self.layer.x.c * size_of::<f32>();
        (self.slices().0 * one, one)
    }

    fn spread(&self, sums: bool) -> Spread {
        let width = self.lanes * if self.eights { 8 } else { 1 };
        let lines = 1 << (THREADS / self.lanes).ilog2();
        Spread {
            blocks: [self.layer.x.c.div_ceil(width), self.slices().0, 1],
            threads: self.lanes * lines,
            shared: if sums { 2 * lines * width * size_of::<f32>() } else { 0 },
        }
    }

    /// A column of sums has 16 threads.
    fn ending(&self) -> Spread {
        Spread::blocks([self.layer.x.c.div_ceil(32), 1, 1], 512)
    }

    fn choose(&self, eights: &'static str, ones: &'static str) -> &'static str {
        if self.eights { eights } else { ones }
    }

    /// What is normalised, and how.
    fn read(&self, x: Address, weights: Numbers, kept: Address) -> [Argument; 4] {
        [x, weights.flat(&self.layer.weight), weights.flat(&self.layer.bias), kept].map(Argument::from)
    }

    /// Slices, rows, channels.
    fn ends(&self) -> [Argument; 3] {
        [self.slices().0, self.rows(), self.layer.x.c].map(|number| u32_of(number).into())
    }

    /// Rows, rows of a slice, channels, lanes.
    fn sizes(&self) -> [Argument; 4] {
        [self.rows(), self.slices().1, self.layer.x.c, self.lanes].map(|number| u32_of(number).into())
    }
}

impl Operation for BatchNorm {
    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter::Plain(self.layer.weight.clone()), Parameter::Plain(self.layer.bias.clone())]
    }

    fn running(&self) -> Option<[Range<usize>; 2]> {
        Some(self.running.clone())
    }

    fn kept(&self) -> usize {
        2 * self.layer.x.c * size_of::<f32>()
    }

    fn scratch(&self) -> (usize, usize) {
        let (sums, slopes) = self.sums();
        (sums, sums + slopes)
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let (gpu, number) = (&call.libraries.gpu, self.batch.number);
        let norm::Norm { x, eps, activation, .. } = self.layer;
        let eps = eps as f32;
        match call.moments {
            Some(moments) => {
                let arguments = [&[call.x, call.scratch].map(Argument::from)[..], &self.sizes()].concat();
                let name = self.choose("batch_moments_8", "batch_moments_1");
                gpu.launch(number, name, self.spread(true), &arguments)?;
                let places = [call.x, call.scratch, call.kept, moments].map(Argument::from);
                let arguments = [&places[..], &self.ends(), &[eps.into()]].concat();
                gpu.launch(number, "batch_moments_end", self.ending(), &arguments)?;
            }
            None => {
                let [mean, variance] = self.running.each_ref().map(|range| call.weights.flat(range));
                let arguments = [mean.into(), variance.into(), call.kept.into(), u32_of(x.c).into(), eps.into()];
                gpu.launch(number, "batch_running", Spread::over(x.c), &arguments)?;
            }
        }
        let arguments = [
            &self.read(call.x, call.weights, call.kept)[..],
            &[call.residual.unwrap_or(0), call.y].map(Argument::from),
            &self.sizes(),
            &[activation.into()],
        ];
        gpu.launch(number, self.choose("batch_norm_8", "batch_norm_1"), self.spread(false), &arguments.concat())
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let (gpu, number) = (&call.libraries.gpu, self.batch.number);
        let norm::Norm { activation, ref weight, ref bias, .. } = self.layer;
        let slopes = call.scratch + self.sums().0 as u64;
        let read = self.read(call.x, call.weights, call.kept);
        let (dy, partial) = (call.dy.into(), call.scratch.into());
        let arguments = [&read[..], &[dy, partial], &self.sizes(), &[activation.into()]].concat();
        let name = self.choose("batch_norm_sums_8", "batch_norm_sums_1");
        gpu.launch(number, name, self.spread(true), &arguments)?;
        let own = [weight, bias].map(|range| call.gradient.flat(range).into());
        let places = [partial, call.kept.into(), call.weights.flat(weight).into(), slopes.into()];
        let arguments = [&places[..], &own, &self.ends(), &[call.add.into()]].concat();
        gpu.launch(number, "batch_norm_parameters", self.ending(), &arguments)?;
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let places = [slopes.into(), dy, dx.into()];
        let arguments = [&read[..], &places, &self.sizes(), &[activation.into(), add.into()]].concat();
        let name = self.choose("batch_norm_gradient_8", "batch_norm_gradient_1");
        gpu.launch(number, name, self.spread(false), &arguments)
    }
}
