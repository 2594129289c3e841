//! Squeeze and excite. All between the means over pixels and the gate is f32, and small.

use anyhow::Result;

use super::{Backward, Batch, Forward, Operation, Parameter, u32_of};
use crate::train::cuda::device::{Address, Spread};
use crate::train::ops::squeeze_excite;

/// `TOGETHER` of `kernels/squeeze_excite.cu`.
const TOGETHER: usize = 4;
/// Parts of what is kept, and of scratch, start at multiples of so many bytes: vectors are read from there.
const ALIGNMENT: usize = 256;

pub struct SqueezeExcite {
    batch: Batch,
    layer: squeeze_excite::SqueezeExcite,
}

/// Numbers of all images by channel, by hidden place, and by channel again.
struct Parts {
    means: Address,
    hidden: Address,
    raw: Address,
}

impl SqueezeExcite {
    pub fn new(batch: Batch, layer: &squeeze_excite::SqueezeExcite) -> SqueezeExcite {
        SqueezeExcite { batch, layer: layer.clone() }
    }

    /// Bytes of a part with one number for each image and channel, and for each image and hidden place.
    fn bytes(&self) -> (usize, usize) {
        let of = |each: usize| (self.batch.images * each * size_of::<f32>()).next_multiple_of(ALIGNMENT);
        (of(self.layer.x.c), of(self.layer.hidden))
    }

    fn parts(&self, at: Address) -> Parts {
        let (channels, hidden) = self.bytes();
        Parts { means: at, hidden: at + channels as u64, raw: at + (channels + hidden) as u64 }
    }

    fn total(&self) -> usize {
        let (channels, hidden) = self.bytes();
        2 * channels + hidden
    }

    fn vectors(&self) -> (bool, usize) {
        let n = self.batch.images * self.layer.x.len();
        if self.layer.x.c.is_multiple_of(8) { (true, n / 8) } else { (false, n) }
    }

    fn squeezing(&self) -> Spread {
        Spread::blocks([self.layer.x.c.div_ceil(32), self.batch.images, 1], 256)
    }

    fn exciting(&self) -> Spread {
        Spread::blocks([self.batch.images.div_ceil(TOGETHER), 1, 1], 256)
    }
}

impl Operation for SqueezeExcite {
    fn parameters(&self) -> Vec<Parameter> {
        let squeeze_excite::SqueezeExcite { reduce, expand, .. } = &self.layer;
        [&reduce.0, &reduce.1, &expand.0, &expand.1].map(|range| Parameter::Plain(range.clone())).to_vec()
    }

    fn kept(&self) -> usize {
        self.total()
    }

    fn scratch(&self) -> (usize, usize) {
        (0, self.total())
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let (gpu, number) = (&call.libraries.gpu, self.batch.number);
        let squeeze_excite::SqueezeExcite { x, hidden, ref reduce, ref expand } = self.layer;
        let (pixels, c) = (u32_of(x.pixels()), u32_of(x.c));
        let kept = self.parts(call.kept);
        let arguments = [call.x.into(), 0u64.into(), kept.raw.into(), kept.means.into(), pixels.into(), c.into()];
        gpu.launch(number, "squeeze", self.squeezing(), &arguments)?;
        let flat = |range| call.weights.flat(range).into();
        let arguments = [
            kept.means.into(),
            flat(&reduce.0),
            flat(&reduce.1),
            flat(&expand.0),
            flat(&expand.1),
            kept.hidden.into(),
            kept.raw.into(),
            u32_of(self.batch.images).into(),
            c.into(),
            u32_of(hidden).into(),
        ];
        gpu.launch(number, "excite", self.exciting(), &arguments)?;
        let (eights, n) = self.vectors();
        let arguments = [call.x.into(), kept.raw.into(), call.y.into(), pixels.into(), c.into(), u32_of(n).into()];
        gpu.launch(number, if eights { "gate_8" } else { "gate_1" }, Spread::over(n), &arguments)
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let (gpu, number) = (&call.libraries.gpu, self.batch.number);
        let squeeze_excite::SqueezeExcite { x, hidden, ref reduce, ref expand } = self.layer;
        let (images, pixels, c, r) = (u32_of(self.batch.images), u32_of(x.pixels()), u32_of(x.c), u32_of(hidden));
        let (kept, gradient) = (self.parts(call.kept), self.parts(call.scratch));
        let arguments = [call.x.into(), call.dy.into(), kept.raw.into(), gradient.raw.into(), pixels.into(), c.into()];
        gpu.launch(number, "squeeze", self.squeezing(), &arguments)?;
        let arguments = [
            gradient.raw.into(),
            kept.hidden.into(),
            call.weights.flat(&reduce.0).into(),
            call.weights.flat(&expand.0).into(),
            gradient.hidden.into(),
            gradient.means.into(),
            images.into(),
            c.into(),
            r.into(),
            pixels.into(),
        ];
        gpu.launch(number, "excite_gradient", self.exciting(), &arguments)?;
        let layers = [(gradient.raw, kept.hidden, expand, (c, r)), (gradient.hidden, kept.means, reduce, (r, c))];
        for (slope, read, (weight, bias), (rows, columns)) in layers {
            let arguments = [
                slope.into(),
                read.into(),
                call.gradient.flat(weight).into(),
                call.gradient.flat(bias).into(),
                images.into(),
                rows.into(),
                columns.into(),
                call.add.into(),
            ];
            gpu.launch(number, "outer_sums", Spread::over(weight.len()), &arguments)?;
        }
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let (eights, n) = self.vectors();
        let arguments = [
            call.dy.into(),
            kept.raw.into(),
            gradient.means.into(),
            dx.into(),
            pixels.into(),
            c.into(),
            u32_of(n).into(),
            add.into(),
        ];
        let name = if eights { "gate_gradient_8" } else { "gate_gradient_1" };
        gpu.launch(number, name, Spread::over(n), &arguments)
    }
}
