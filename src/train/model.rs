//! Networks: from a shape and a flat vector of numbers to logits.
//!
//! A network's trainable numbers live in one flat `f32` vector, in the order of its [`Blueprint`]; optimiser, clipping
//! and checkpoints work on that. For a forward pass the vector is cut into tensors: variables for a student, plain
//! tensors for a teacher, which then builds no graph.

mod bit_resnet_small;

use candle_core::{Device, Result, Tensor, Var};
use rand_distr::{Distribution, StandardNormal};

use super::random::{Purpose, Stream};
use crate::job::{Input, Model};

/// The tensors of a network, in a fixed order, with timm's names.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    pub tensors: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    pub shape: Vec<usize>,
    pub role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Convolution, `[Co, Ci, Kh, Kw]`.
    Kernel,
    /// The last layer's weights, `[classes, features]`.
    Head,
    Scale,
    Bias,
}

/// A network ready for a forward pass.
pub struct Network {
    model: Model,
    tensors: Vec<Tensor>,
}

impl Blueprint {
    pub fn new(model: &Model, input: Input) -> Blueprint {
        let mut blueprint = Blueprint { tensors: Vec::new() };
        match model {
            Model::BitResnetSmall(net) => bit_resnet_small::describe(net, input, &mut blueprint),
        }
        blueprint
    }

    fn add(&mut self, name: String, shape: &[usize], role: Role) {
        self.tensors.push(Entry { name, shape: shape.to_vec(), role });
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.tensors.iter().map(Entry::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Random convolutions (lecun-normal: truncated normal of variance 1 / fan-in, as flax has it), norms at one and
    /// zero, the head at zero (paper.md 1.2). Each tensor has its own stream: the same seed gives two networks equal
    /// tensors where their shapes agree.
    pub fn scratch(&self, seed: u64) -> Vec<f32> {
        let mut flat = Vec::with_capacity(self.len());
        for (index, entry) in self.tensors.iter().enumerate() {
            match entry.role {
                Role::Kernel => {
                    let fan_in: usize = entry.shape[1..].iter().product();
                    // The standard deviation of a normal cut off at two of its own is 0.87962566.
                    let scale = (1.0 / fan_in as f64).sqrt() / 0.879_625_66;
                    let mut stream = Stream::new(seed, Purpose::Init, index as u64);
                    flat.extend((0..entry.len()).map(|_| (scale * truncated_normal(&mut stream)) as f32));
                }
                Role::Scale => flat.extend(std::iter::repeat_n(1.0, entry.len())),
                Role::Head | Role::Bias => flat.extend(std::iter::repeat_n(0.0, entry.len())),
            }
        }
        flat
    }

    /// Which ranges of the flat vector decay: kernels and the head, not norms or biases (paper.md 1.2).
    pub fn decayed(&self) -> Vec<std::ops::Range<usize>> {
        let mut start = 0;
        let mut ranges = Vec::new();
        for entry in &self.tensors {
            if matches!(entry.role, Role::Kernel | Role::Head) {
                ranges.push(start..start + entry.len());
            }
            start += entry.len();
        }
        ranges
    }
}

impl Entry {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Network {
    /// A student: its variables, in the blueprint's order, collect gradients.
    pub fn trainable(model: &Model, blueprint: &Blueprint, flat: &[f32]) -> Result<(Network, Vec<Var>)> {
        let vars = cut(blueprint, flat, |numbers, shape| Var::from_slice(numbers, shape, &Device::Cpu))?;
        let tensors = vars.iter().map(|var| var.as_tensor().clone()).collect();
        Ok((Network { model: model.clone(), tensors }, vars))
    }

    /// A teacher or a student under evaluation: no graph is built.
    pub fn frozen(model: &Model, blueprint: &Blueprint, flat: &[f32]) -> Result<Network> {
        let tensors = cut(blueprint, flat, |numbers, shape| Tensor::from_slice(numbers, shape, &Device::Cpu))?;
        Ok(Network { model: model.clone(), tensors })
    }

    /// For gradient checks in any float type.
    #[cfg(test)]
    pub fn from_tensors(model: &Model, tensors: Vec<Tensor>) -> Network {
        Network { model: model.clone(), tensors }
    }

    /// Logits `[N, classes]` of images `[N, S, S, C]` in [-1, 1].
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut tensors = Tensors(self.tensors.iter());
        match &self.model {
            Model::BitResnetSmall(net) => bit_resnet_small::forward(net, images, &mut tensors),
        }
    }
}

/// A network's tensors, taken one by one in the blueprint's order.
struct Tensors<'a>(std::slice::Iter<'a, Tensor>);

impl<'a> Tensors<'a> {
    fn take(&mut self) -> &'a Tensor {
        self.0.next().expect("forward takes the tensors that the blueprint of the same model lists")
    }
}

fn cut<T>(blueprint: &Blueprint, flat: &[f32], make: impl Fn(&[f32], &[usize]) -> Result<T>) -> Result<Vec<T>> {
    let mut rest = flat;
    let mut made = Vec::with_capacity(blueprint.tensors.len());
    for entry in &blueprint.tensors {
        let (numbers, after) = rest.split_at(entry.len());
        made.push(make(numbers, &entry.shape)?);
        rest = after;
    }
    Ok(made)
}

fn truncated_normal(stream: &mut Stream) -> f64 {
    loop {
        let value: f64 = StandardNormal.sample(stream);
        if value.abs() <= 2.0 {
            return value;
        }
    }
}
