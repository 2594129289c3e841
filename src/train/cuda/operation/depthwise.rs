//! Depthwise convolution.

use anyhow::Result;

use super::{Backward, Batch, Forward, Operation, Parameter, slices, u32_of};
use crate::train::cuda::device::{Argument, Spread};
use crate::train::ops::depthwise;
use crate::train::ops::layer::{Extent, Layer};

pub struct Depthwise {
    batch: Batch,
    layer: depthwise::Depthwise,
    y: Extent,
    weight_at: usize,
}

impl Depthwise {
    pub fn new(batch: Batch, layer: &depthwise::Depthwise) -> Depthwise {
        Depthwise { batch, y: Layer::<f32>::output(layer), layer: layer.clone(), weight_at: 0 }
    }

    fn window(&self) -> Argument {
        let depthwise::Depthwise { x, kh, kw, stride, padding, .. } = self.layer;
        Argument::Window([x.h, x.w, x.c, self.y.h, self.y.w, kh, kw, stride, padding].map(u32_of))
    }

    fn taps(&self) -> usize {
        self.layer.kh * self.layer.kw
    }

    fn rows(&self) -> usize {
        self.batch.images * self.y.pixels()
    }

    /// The window's places are spread over blocks too.
    fn slices(&self) -> (usize, usize) {
        slices(self.rows(), self.layer.x.c * self.taps())
    }

    /// Scratch is shared by the sums of weights and of the bias.
    fn bias_slices(&self) -> (usize, usize) {
        slices(self.rows(), self.y.c)
    }
}

impl Operation for Depthwise {
    fn parameters(&self) -> Vec<Parameter> {
        let depthwise::Depthwise { x, ref weight, ref bias, .. } = self.layer;
        let matrix = Parameter::Matrix { range: weight.clone(), rows: x.c, taps: self.taps(), standardize: None };
        std::iter::once(matrix).chain(bias.clone().map(Parameter::Plain)).collect()
    }

    fn place(&mut self, at: &[usize]) {
        self.weight_at = at[0];
    }

    fn scratch(&self) -> (usize, usize) {
        let weights = self.slices().0 * self.y.c * self.taps() * 4;
        (0, weights.max(self.bias_slices().0 * self.y.c * 4))
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let n = self.rows() * self.y.c;
        let w = call.weights.matrices + (self.weight_at * self.batch.number.bytes()) as u64;
        let bias = self.layer.bias.as_ref().map_or(0, |range| call.weights.flat(range));
        let arguments = [call.x.into(), w.into(), bias.into(), call.y.into(), self.window(), u32_of(n).into()];
        call.libraries.gpu.launch(self.batch.number, "depthwise", Spread::over(n), &arguments)?;
        match call.residual {
            Some(residual) => call.libraries.add(self.batch.number, residual, call.y, n),
            None => Ok(()),
        }
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let (number, gpu, c) = (self.batch.number, &call.libraries.gpu, self.y.c);
        let (slices, each) = self.slices();
        let arguments = [
            call.x.into(),
            call.dy.into(),
            call.scratch.into(),
            self.window(),
            u32_of(self.rows()).into(),
            u32_of(each).into(),
        ];
        let spread = Spread::blocks([c.div_ceil(32), self.taps(), slices], 256);
        gpu.launch(number, "depthwise_weights", spread, &arguments)?;
        let to = call.gradient.matrices + 4 * self.weight_at as u64;
        let weights = c * self.taps();
        call.libraries.sum_parts(call.scratch, to, (slices, weights, weights), call.add)?;
        if let Some(bias) = &self.layer.bias {
            call.libraries.column_sums(number, call.dy, (self.rows(), c), call.scratch)?;
            let to = call.gradient.flat(bias);
            call.libraries.sum_parts(call.scratch, to, (self.bias_slices().0, c, c), call.add)?;
        }
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let w = call.weights.matrices + (self.weight_at * number.bytes()) as u64;
        let n = self.batch.images * self.layer.x.len();
        let arguments = [call.dy.into(), w.into(), dx.into(), self.window(), u32_of(n).into(), add.into()];
        gpu.launch(number, "depthwise_gradient", Spread::over(n), &arguments)
    }
}
