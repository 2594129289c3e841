//! Class token, positions, and the choice of the first token.

use anyhow::Result;

use super::{Backward, Batch, Forward, Operation, Parameter, slices, u32_of};
use crate::train::cuda::device::Spread;
use crate::train::ops::layer::Extent;
use crate::train::ops::tokens;

pub struct Tokens {
    batch: Batch,
    layer: tokens::Tokens,
}

impl Tokens {
    pub fn new(batch: Batch, layer: &tokens::Tokens) -> Tokens {
        Tokens { batch, layer: layer.clone() }
    }

    fn before(&self) -> usize {
        usize::from(self.layer.class.is_some())
    }

    /// Numbers of one image's result.
    fn length(&self) -> usize {
        self.layer.x.len() + self.before() * self.layer.x.c
    }
}

impl Operation for Tokens {
    fn parameters(&self) -> Vec<Parameter> {
        let positions = self.layer.learned.then_some(&self.layer.positions);
        self.layer.class.iter().chain(positions).cloned().map(Parameter::Plain).collect()
    }

    fn needs_x(&self) -> bool {
        false
    }

    fn scratch(&self) -> (usize, usize) {
        (0, slices(self.batch.images, self.length()).0 * self.length() * size_of::<f32>())
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let (x, n) = (self.layer.x, self.batch.images * self.length());
        let class = self.layer.class.as_ref().map_or(0, |range| call.weights.flat(range));
        let arguments = [
            call.x.into(),
            class.into(),
            call.weights.flat(&self.layer.positions).into(),
            call.y.into(),
            u32_of(x.pixels()).into(),
            u32_of(x.c).into(),
            u32_of(self.before()).into(),
            u32_of(n).into(),
        ];
        call.libraries.gpu.launch(self.batch.number, "tokens", Spread::over(n), &arguments)
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let (x, length) = (self.layer.x, self.length());
        let parts = slices(self.batch.images, length).0;
        if !self.parameters().is_empty() {
            call.libraries.column_sums(self.batch.number, call.dy, (self.batch.images, length), call.scratch)?;
        }
        if self.layer.learned {
            let to = call.gradient.flat(&self.layer.positions);
            call.libraries.sum_parts(call.scratch, to, (parts, length, length), call.add)?;
        }
        if let Some(class) = &self.layer.class {
            call.libraries.sum_parts(call.scratch, call.gradient.flat(class), (parts, length, x.c), call.add)?;
        }
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let n = self.batch.images * x.len();
        let arguments = [
            call.dy.into(),
            dx.into(),
            u32_of(x.pixels()).into(),
            u32_of(x.c).into(),
            u32_of(self.before()).into(),
            u32_of(n).into(),
            add.into(),
        ];
        call.libraries.gpu.launch(self.batch.number, "tokens_gradient", Spread::over(n), &arguments)
    }
}

pub struct FirstToken {
    batch: Batch,
    x: Extent,
}

impl FirstToken {
    pub fn new(batch: Batch, layer: &tokens::FirstToken) -> FirstToken {
        FirstToken { batch, x: layer.x }
    }
}

impl Operation for FirstToken {
    fn needs_x(&self) -> bool {
        false
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let n = self.batch.images * self.x.c;
        let (tokens, c) = (u32_of(self.x.pixels()), u32_of(self.x.c));
        let arguments = [call.x.into(), call.y.into(), tokens.into(), c.into(), u32_of(n).into()];
        call.libraries.gpu.launch(self.batch.number, "first_token", Spread::over(n), &arguments)
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let n = self.batch.images * self.x.len();
        let (tokens, c) = (u32_of(self.x.pixels()), u32_of(self.x.c));
        let arguments = [call.dy.into(), dx.into(), tokens.into(), c.into(), u32_of(n).into(), add.into()];
        call.libraries.gpu.launch(self.batch.number, "first_token_gradient", Spread::over(n), &arguments)
    }
}
