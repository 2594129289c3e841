//! What looks at numbers one by one: activations by themselves, rescaled pixels, shortcuts without parameters.

use anyhow::Result;

use super::{Backward, Batch, Forward, Operation, u32_of};
use crate::train::cuda::device::{Address, Argument, Channels, Spread};
use crate::train::ops::activation::{self, Activation};
use crate::train::ops::{rescale, shortcut};

pub struct Activate {
    batch: Batch,
    activation: Activation,
    numbers: usize,
}

impl Activate {
    pub fn new(batch: Batch, layer: &activation::Activate) -> Activate {
        Activate { batch, activation: layer.activation, numbers: batch.images * layer.x.len() }
    }

    fn eights(&self) -> bool {
        self.numbers.is_multiple_of(8)
    }

    /// How many numbers or vectors there are.
    fn count(&self) -> usize {
        if self.eights() { self.numbers / 8 } else { self.numbers }
    }
}

impl Operation for Activate {
    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let arguments = [call.x.into(), call.y.into(), self.activation.into(), (self.count() as u64).into()];
        let name = if self.eights() { "activate_8" } else { "activate_1" };
        call.libraries.gpu.launch(self.batch.number, name, Spread::over(self.count()), &arguments)
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let arguments = [
            call.x.into(),
            call.dy.into(),
            dx.into(),
            self.activation.into(),
            (self.count() as u64).into(),
            add.into(),
        ];
        let name = if self.eights() { "activate_gradient_8" } else { "activate_gradient_1" };
        call.libraries.gpu.launch(self.batch.number, name, Spread::over(self.count()), &arguments)
    }
}

pub struct Rescale {
    batch: Batch,
    layer: rescale::Rescale,
}

impl Rescale {
    pub fn new(batch: Batch, layer: &rescale::Rescale) -> Rescale {
        Rescale { batch, layer: layer.clone() }
    }

    /// `to (+)= from scale + shift`
    fn arguments(&self, from: Address, to: Address, shift: [f64; 4], add: bool) -> [Argument; 5] {
        let scale = self.layer.scale.map(|scale| scale as f32);
        let shift = shift.map(|shift| shift as f32);
        let channels = Channels { scale, shift, count: u32_of(self.layer.x.c) };
        [from.into(), to.into(), Argument::Channels(channels), (self.numbers() as u64).into(), add.into()]
    }

    fn numbers(&self) -> usize {
        self.batch.images * self.layer.x.len()
    }
}

impl Operation for Rescale {
    fn needs_x(&self) -> bool {
        false
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let arguments = self.arguments(call.x, call.y, self.layer.shift, false);
        call.libraries.gpu.launch(self.batch.number, "rescale", Spread::over(self.numbers()), &arguments)
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let arguments = self.arguments(call.dy, dx, [0.0; 4], add);
        call.libraries.gpu.launch(self.batch.number, "rescale", Spread::over(self.numbers()), &arguments)
    }
}

pub struct Shortcut {
    batch: Batch,
    layer: shortcut::Shortcut,
}

impl Shortcut {
    pub fn new(batch: Batch, layer: &shortcut::Shortcut) -> Shortcut {
        Shortcut { batch, layer: layer.clone() }
    }

    /// For `n` numbers of `to`.
    fn arguments(&self, from: Address, to: Address, n: usize) -> Vec<Argument> {
        let shortcut::Shortcut { x, stride, channels } = self.layer;
        let numbers = [x.h, x.w, x.c, stride, channels, self.layer.before(), n];
        let numbers = numbers.into_iter().map(|number| u32_of(number).into());
        [from.into(), to.into()].into_iter().chain(numbers).collect()
    }
}

impl Operation for Shortcut {
    fn needs_x(&self) -> bool {
        false
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let n = self.batch.images * self.layer.y().len();
        let arguments = self.arguments(call.x, call.y, n);
        call.libraries.gpu.launch(self.batch.number, "shortcut", Spread::over(n), &arguments)
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let n = self.batch.images * self.layer.x.len();
        let mut arguments = self.arguments(call.dy, dx, n);
        arguments.push(add.into());
        call.libraries.gpu.launch(self.batch.number, "shortcut_gradient", Spread::over(n), &arguments)
    }
}
