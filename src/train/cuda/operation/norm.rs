//! GroupNorm with an activation, and LayerNorm.

use std::ops::Range;

use anyhow::{Result, ensure};

use super::{Backward, Batch, Forward, Numbers, Operation, Parameter, slices, u32_of};
use crate::train::cuda::device::{Address, Argument, Spread};
use crate::train::ops::activation::Activation;
use crate::train::ops::group_norm::GroupNormRelu;
use crate::train::ops::layer::Extent;
use crate::train::ops::{layer_norm, norm};

/// A block reads so many neighbouring channels at least: what memory hands out at once.
const LEAST_CHANNELS: usize = 16;
const THREADS: usize = 512;
const MOST_THREADS: usize = 1024;
/// What a kernel has without asking for more.
const MOST_SHARED_BYTES: usize = 48 << 10;

pub struct GroupNorm {
    batch: Batch,
    x: Extent,
    groups: usize,
    activation: Activation,
    eps: f64,
    weight: Range<usize>,
    bias: Range<usize>,
    /// Channels of a group, and of a block.
    each: usize,
    chunk: usize,
    eights: bool,
    spread: Spread,
}

impl GroupNorm {
    pub fn relu(batch: Batch, layer: &GroupNormRelu) -> Result<GroupNorm> {
        let GroupNormRelu { x, groups, eps, ref weight, ref bias } = *layer;
        GroupNorm::new(batch, (x, groups), Activation::Relu, eps, [weight, bias])
    }

    pub fn stored(batch: Batch, layer: &norm::Norm, groups: usize) -> Result<GroupNorm> {
        let norm::Norm { x, activation, eps, ref weight, ref bias, .. } = *layer;
        GroupNorm::new(batch, (x, groups), activation, eps, [weight, bias])
    }

    fn new(
        batch: Batch,
        (x, groups): (Extent, usize),
        activation: Activation,
        eps: f64,
        [weight, bias]: [&Range<usize>; 2],
    ) -> Result<GroupNorm> {
        let c = x.c;
        let each = c / groups;
        // As few groups as are wide enough together, and vectors of eight if there is a way.
        let wide = (1..=groups).filter(|some| groups.is_multiple_of(*some)).map(|some| some * each);
        let wide: Vec<usize> = wide.filter(|channels| *channels >= LEAST_CHANNELS).collect();
        let chunk = wide.iter().find(|channels| channels.is_multiple_of(8)).or(wide.first()).copied().unwrap_or(c);
        let eights = chunk.is_multiple_of(8);
        let lanes = if eights { chunk / 8 } else { chunk };
        // Enough threads for one to take each group.
        let least = (chunk / each).div_ceil(lanes).next_power_of_two();
        let most = (THREADS / lanes).max(1).min(x.pixels().next_power_of_two());
        let rows = (1 << most.ilog2()).max(least);
        let spread = Spread {
            blocks: [c / chunk, batch.images, 1],
            threads: lanes * rows,
            shared: 2 * rows * chunk * size_of::<f32>(),
        };
        let fits = spread.threads <= MOST_THREADS && spread.shared <= MOST_SHARED_BYTES;
        ensure!(fits, "groups of {each} channels are too wide for a GPU's block");
        let (weight, bias) = (weight.clone(), bias.clone());
        Ok(GroupNorm { batch, x, groups, activation, eps, weight, bias, each, chunk, eights, spread })
    }

    /// Whether its kernels are told an activation and a residual, which those with ReLU know.
    fn told(&self) -> bool {
        self.activation != Activation::Relu
    }

    /// Of kernels for vectors of eight and for single numbers.
    fn choose(&self, with_relu: [&'static str; 2], told: [&'static str; 2]) -> &'static str {
        let [eights, ones] = if self.told() { told } else { with_relu };
        if self.eights { eights } else { ones }
    }

    fn read(&self, x: Address, weights: Numbers, kept: Address) -> [Argument; 4] {
        [x, weights.flat(&self.weight), weights.flat(&self.bias), kept].map(Argument::from)
    }

    fn sizes(&self) -> [Argument; 4] {
        [self.x.c, self.chunk, self.each, self.x.pixels()].map(|number| u32_of(number).into())
    }
}

impl Operation for GroupNorm {
    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter::Plain(self.weight.clone()), Parameter::Plain(self.bias.clone())]
    }

    fn needs_dx(&self) -> bool {
        true
    }

    fn kept(&self) -> usize {
        self.batch.images * self.groups * 2 * size_of::<f32>()
    }

    fn scratch(&self) -> (usize, usize) {
        (0, self.batch.images * 2 * self.x.c * size_of::<f32>())
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let given = self.told().then(|| Argument::from(call.residual.unwrap_or(0)));
        let activation = self.told().then(|| Argument::from(self.activation));
        let arguments = [
            &self.read(call.x, call.weights, call.kept)[..],
            given.as_slice(),
            &[call.y.into()],
            &self.sizes(),
            &[(self.eps as f32).into()],
            activation.as_slice(),
        ];
        let name = self.choose(["group_norm_relu_8", "group_norm_relu_1"], ["group_norm_8", "group_norm_1"]);
        call.libraries.gpu.launch(self.batch.number, name, self.spread, &arguments.concat())
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let (dx, add) = call.dx.expect("a norm's gradient is made together with dx");
        let activation = self.told().then(|| Argument::from(self.activation));
        let arguments = [
            &self.read(call.x, call.weights, call.kept)[..],
            &[call.dy, dx, call.scratch].map(Argument::from),
            &self.sizes(),
            activation.as_slice(),
            &[add.into()],
        ];
        let name = self.choose(
            ["group_norm_relu_gradient_8", "group_norm_relu_gradient_1"],
            ["group_norm_gradient_8", "group_norm_gradient_1"],
        );
        call.libraries.gpu.launch(self.batch.number, name, self.spread, &arguments.concat())?;
        parameters(call, self.batch.images, self.x.c, &self.weight, &self.bias)
    }
}

/// Sums `parts` shares of the gradients of weight and bias, `[parts, 2, C]` in scratch.
fn parameters(call: &Backward<'_>, parts: usize, c: usize, weight: &Range<usize>, bias: &Range<usize>) -> Result<()> {
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
