//! GELU and the mean over all pixels.

use anyhow::Result;

use super::{Backward, Batch, Forward, Operation, u32_of};
use crate::train::cuda::device::Spread;
use crate::train::ops::layer::Extent;
use crate::train::ops::{gelu, pool};

pub struct Gelu {
    batch: Batch,
    numbers: usize,
}

impl Gelu {
    pub fn new(batch: Batch, layer: &gelu::Gelu) -> Gelu {
        Gelu { batch, numbers: batch.images * layer.x.len() }
    }
}

impl Operation for Gelu {
    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let arguments = [call.x.into(), call.y.into(), (self.numbers as u64).into()];
        call.libraries.gpu.launch(self.batch.number, "gelu", Spread::over(self.numbers), &arguments)
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let arguments = [call.x.into(), call.dy.into(), dx.into(), (self.numbers as u64).into(), add.into()];
        call.libraries.gpu.launch(self.batch.number, "gelu_gradient", Spread::over(self.numbers), &arguments)
    }
}

pub struct GlobalMean {
    batch: Batch,
    x: Extent,
}

impl GlobalMean {
    pub fn new(batch: Batch, layer: &pool::GlobalMean) -> GlobalMean {
        GlobalMean { batch, x: layer.x }
    }
}

impl Operation for GlobalMean {
    fn needs_x(&self) -> bool {
        false
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let arguments = [call.x.into(), call.y.into(), u32_of(self.x.pixels()).into(), u32_of(self.x.c).into()];
        let spread = Spread::blocks([self.x.c.div_ceil(32), self.batch.images, 1], 256);
        call.libraries.gpu.launch(self.batch.number, "global_mean", spread, &arguments)
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let n = self.batch.images * self.x.len();
        let arguments = [
            call.dy.into(),
            dx.into(),
            u32_of(self.x.pixels()).into(),
            u32_of(self.x.c).into(),
            u32_of(n).into(),
            add.into(),
        ];
        call.libraries.gpu.launch(self.batch.number, "global_mean_gradient", Spread::over(n), &arguments)
    }
}
