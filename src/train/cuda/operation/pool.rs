//! Maxima and means over windows.

use anyhow::{Result, ensure};

use super::{Backward, Batch, Forward, Operation, u32_of};
use crate::train::cuda::device::{Address, Argument, Spread};
use crate::train::ops::layer::{Extent, Layer};
use crate::train::ops::pool::{self, Beyond, Kind};

/// A place in a window is kept in a byte, of which one value means none.
const MOST_PLACES: usize = 255;

pub struct Pool {
    batch: Batch,
    layer: pool::Pool,
    y: Extent,
}

impl Pool {
    pub fn new(batch: Batch, layer: &pool::Pool) -> Result<Pool> {
        ensure!(layer.window.pow(2) <= MOST_PLACES, "a window of {0} x {0} is too large for a GPU", layer.window);
        Ok(Pool { batch, y: Layer::<f32>::output(layer), layer: layer.clone() })
    }

    fn window(&self) -> Argument {
        let pool::Pool { x, window, stride, padding, .. } = self.layer;
        Argument::Window([x.h, x.w, x.c, self.y.h, self.y.w, window, window, stride, padding].map(u32_of))
    }

    fn kinds(&self) -> [Argument; 2] {
        [(self.layer.beyond == Beyond::Zeros).into(), (self.layer.kind == Kind::Mean).into()]
    }
}

impl Operation for Pool {
    fn needs_x(&self) -> bool {
        false
    }

    fn kept(&self) -> usize {
        if self.layer.kind == Kind::Max { self.batch.images * self.y.len() } else { 0 }
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let n = self.batch.images * self.y.len();
        let [zeros, mean] = self.kinds();
        let place: Address = call.kept;
        let arguments = [call.x.into(), call.y.into(), place.into(), self.window(), zeros, mean, u32_of(n).into()];
        call.libraries.gpu.launch(self.batch.number, "pool", Spread::over(n), &arguments)
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let n = self.batch.images * self.layer.x.len();
        let [zeros, mean] = self.kinds();
        let arguments =
            [call.dy.into(), call.kept.into(), dx.into(), self.window(), zeros, mean, u32_of(n).into(), add.into()];
        call.libraries.gpu.launch(self.batch.number, "pool_gradient", Spread::over(n), &arguments)
    }
}
