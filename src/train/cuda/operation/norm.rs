//! GroupNorm with ReLU, and LayerNorm.

use anyhow::{Result, ensure};

use super::{Backward, Batch, Forward, Operation, Parameter, slices, u32_of};
use crate::train::cuda::device::Spread;
use crate::train::ops::group_norm::GroupNormRelu;
use crate::train::ops::layer_norm;

/// A block reads so many neighbouring channels at least: what memory hands out at once.
const LEAST_CHANNELS: usize = 16;
const THREADS: usize = 512;
const MOST_THREADS: usize = 1024;
/// What a kernel has without asking for more.
const MOST_SHARED_BYTES: usize = 48 << 10;

pub struct GroupNorm {
    batch: Batch,
    layer: GroupNormRelu,
    /// Channels of a group, and of a block.
    each: usize,
    chunk: usize,
    eights: bool,
    spread: Spread,
}

impl GroupNorm {
    pub fn new(batch: Batch, layer: &GroupNormRelu) -> Result<GroupNorm> {
        let (c, groups) = (layer.x.c, layer.groups);
        let each = c / groups;
        let together = (1..=groups).find(|some| groups.is_multiple_of(*some) && some * each >= LEAST_CHANNELS);
        let chunk = each * together.unwrap_or(groups);
        let eights = chunk.is_multiple_of(8);
        let lanes = if eights { chunk / 8 } else { chunk };
        // Enough threads for one to take each group.
        let least = (chunk / each).div_ceil(lanes).next_power_of_two();
        let most = (THREADS / lanes).max(1).min(layer.x.pixels().next_power_of_two());
        let rows = (1 << most.ilog2()).max(least);
        let spread = Spread {
            blocks: [c / chunk, batch.images, 1],
            threads: lanes * rows,
            shared: 2 * rows * chunk * size_of::<f32>(),
        };
        let fits = spread.threads <= MOST_THREADS && spread.shared <= MOST_SHARED_BYTES;
        ensure!(fits, "groups of {each} channels are too wide for a GPU's block");
        Ok(GroupNorm { batch, layer: layer.clone(), each, chunk, eights, spread })
    }
}

impl Operation for GroupNorm {
    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter::Plain(self.layer.weight.clone()), Parameter::Plain(self.layer.bias.clone())]
    }

    fn needs_dx(&self) -> bool {
        true
    }

    fn kept(&self) -> usize {
        self.batch.images * self.layer.groups * 2 * size_of::<f32>()
    }

    fn scratch(&self) -> (usize, usize) {
        (0, self.batch.images * 2 * self.layer.x.c * size_of::<f32>())
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let GroupNormRelu { x, eps, ref weight, ref bias, .. } = self.layer;
        let arguments = [
            call.x.into(),
            call.weights.flat(weight).into(),
            call.weights.flat(bias).into(),
            call.kept.into(),
            call.y.into(),
            u32_of(x.c).into(),
            u32_of(self.chunk).into(),
            u32_of(self.each).into(),
            u32_of(x.pixels()).into(),
            (eps as f32).into(),
        ];
        let name = if self.eights { "group_norm_8" } else { "group_norm_1" };
        call.libraries.gpu.launch(self.batch.number, name, self.spread, &arguments)
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let GroupNormRelu { x, ref weight, ref bias, .. } = self.layer;
        let (dx, add) = call.dx.expect("a norm's gradient is made together with dx");
        let arguments = [
            call.x.into(),
            call.weights.flat(weight).into(),
            call.weights.flat(bias).into(),
            call.kept.into(),
            call.dy.into(),
            dx.into(),
            call.scratch.into(),
            u32_of(x.c).into(),
            u32_of(self.chunk).into(),
            u32_of(self.each).into(),
            u32_of(x.pixels()).into(),
            add.into(),
        ];
        let name = if self.eights { "group_norm_gradient_8" } else { "group_norm_gradient_1" };
        call.libraries.gpu.launch(self.batch.number, name, self.spread, &arguments)?;
        parameters(call, self.batch.images, x.c, weight, bias)
    }
}

/// Sums `parts` shares of the gradients of weight and bias, `[parts, 2, C]` in scratch.
fn parameters(
    call: &Backward<'_>,
    parts: usize,
    c: usize,
    weight: &std::ops::Range<usize>,
    bias: &std::ops::Range<usize>,
) -> Result<()> {
    let (libraries, gradient) = (call.libraries, call.gradient);
    if weight.end == bias.start {
        return libraries.sum_parts(call.scratch, gradient.flat(weight), (parts, 2 * c, 2 * c), call.add);
    }
    libraries.sum_parts(call.scratch, gradient.flat(weight), (parts, 2 * c, c), call.add)?;
    libraries.sum_parts(call.scratch + 4 * c as u64, gradient.flat(bias), (parts, 2 * c, c), call.add)
}

pub struct LayerNorm {
    batch: Batch,
    layer: layer_norm::LayerNorm,
}

impl LayerNorm {
    pub fn new(batch: Batch, layer: &layer_norm::LayerNorm) -> LayerNorm {
        LayerNorm { batch, layer: layer.clone() }
    }

    fn rows(&self) -> usize {
        self.batch.images * self.layer.x.pixels()
    }

    /// A warp takes a row.
    fn spread(&self) -> Spread {
        Spread::blocks([self.rows().div_ceil(4), 1, 1], 128)
    }
}

impl Operation for LayerNorm {
    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter::Plain(self.layer.weight.clone()), Parameter::Plain(self.layer.bias.clone())]
    }

    fn kept(&self) -> usize {
        self.rows() * 2 * size_of::<f32>()
    }

    fn scratch(&self) -> (usize, usize) {
        (0, slices(self.rows(), self.layer.x.c).0 * 2 * self.layer.x.c * size_of::<f32>())
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let layer_norm::LayerNorm { x, eps, ref weight, ref bias } = self.layer;
        let arguments = [
            call.x.into(),
            call.weights.flat(weight).into(),
            call.weights.flat(bias).into(),
            call.kept.into(),
            call.y.into(),
            u32_of(self.rows()).into(),
            u32_of(x.c).into(),
            (eps as f32).into(),
        ];
        call.libraries.gpu.launch(self.batch.number, "layer_norm", self.spread(), &arguments)
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let layer_norm::LayerNorm { x, ref weight, ref bias, .. } = self.layer;
        let (rows, c, gpu) = (u32_of(self.rows()), u32_of(x.c), &call.libraries.gpu);
        let (slices, each) = slices(self.rows(), x.c);
        let spread = Spread::blocks([x.c.div_ceil(32), slices, 1], 256);
        let arguments = [
            call.x.into(),
            call.kept.into(),
            call.dy.into(),
            call.scratch.into(),
            rows.into(),
            u32_of(each).into(),
            c.into(),
        ];
        gpu.launch(self.batch.number, "layer_norm_parameters", spread, &arguments)?;
        parameters(call, slices, x.c, weight, bias)?;
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let arguments = [
            call.x.into(),
            call.weights.flat(weight).into(),
            call.kept.into(),
            call.dy.into(),
            dx.into(),
            rows.into(),
            c.into(),
            add.into(),
        ];
        gpu.launch(self.batch.number, "layer_norm_gradient", self.spread(), &arguments)
    }
}
