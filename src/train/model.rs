//! Networks: from a shape and a flat vector of numbers to logits.
//!
//! A network's trainable numbers live in one flat `f32` vector, in the order of its [`Blueprint`]; optimiser, clipping
//! and checkpoints work on that. What is done with them is a [`Graph`], which the architectures here make.

mod bit_resnet;
mod bit_resnet_small;
mod cifar_resnet;
mod mobilenet_v3;
#[cfg(test)]
mod tests;
mod vit;

use std::ops::Range;

use rand_distr::{Distribution, StandardNormal};

use super::graph::Graph;
use super::ops::element::Element;
use super::ops::layer::Extent;
use super::ops::rescale::Rescale;
use super::random::{Purpose, Stream};
use crate::job::{Input, Model, Normalization};

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
    /// A linear layer inside a transformer, `[Co, Ci]`.
    Linear,
    /// The last layer's weights, `[classes, features, ...]`.
    Head,
    /// Class token and positions.
    Embedding,
    /// Positions of sines and cosines that do not learn, `[1, T, C]`; before those of the patches, which are a square,
    /// zeros of a class token.
    SinCos {
        class: bool,
    },
    /// Of BatchNorm; moved by the images that are seen, not by the gradient.
    RunningMean,
    RunningVariance,
    Scale,
    Bias,
}

/// The graph of a network.
pub fn graph<T: Element>(model: &Model, input: Input) -> Graph<T> {
    let side = input.resolution as usize;
    let mut graph = Graph::new(Extent { h: side, w: side, c: input.channels as usize });
    rescale(input, &mut graph);
    match model {
        Model::BitResnetSmall(net) => bit_resnet_small::build(net, input, &mut graph),
        Model::BitResnet(net) => bit_resnet::build(net, input, &mut graph),
        Model::Vit(net) => vit::build(net, input, &mut graph),
        Model::MobilenetV3(net) => mobilenet_v3::build(net, input, &mut graph),
        Model::CifarResnet(net) => cifar_resnet::build(net, input, &mut graph),
    }
    graph
}

/// From [-1, 1], which is `2 pixel - 1`, to `(pixel - mean) / std`.
fn rescale<T: Element>(input: Input, graph: &mut Graph<T>) {
    let Normalization { mean, std } = input.normalization;
    if input.normalization == Normalization::default() {
        return;
    }
    let (mut scale, mut shift) = ([1.0; 4], [0.0; 4]);
    for channel in 0..(input.channels as usize).min(3) {
        scale[channel] = 0.5 / std[channel];
        shift[channel] = (0.5 - mean[channel]) / std[channel];
    }
    graph.push(Rescale { x: graph.extent(graph.input()), scale, shift }, graph.input(), None);
}

impl Role {
    /// Whether the gradient moves it.
    pub fn learns(self) -> bool {
        !matches!(self, Role::SinCos { .. } | Role::RunningMean | Role::RunningVariance)
    }
}

impl Blueprint {
    pub fn new(model: &Model, input: Input) -> Blueprint {
        graph::<f32>(model, input).blueprint
    }

    /// Lists a tensor and returns its place in the flat vector.
    pub fn add(&mut self, name: String, shape: &[usize], role: Role) -> Range<usize> {
        let start = self.len();
        self.tensors.push(Entry { name, shape: shape.to_vec(), role });
        start..self.len()
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.tensors.iter().map(Entry::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// How many of them learn.
    pub fn parameters(&self) -> usize {
        self.tensors.iter().filter(|entry| entry.role.learns()).map(Entry::len).sum()
    }

    /// Names of the last layer's tensors.
    pub fn head(&self) -> Vec<String> {
        let weights = self.tensors.iter().filter(|entry| entry.role == Role::Head).map(|entry| &entry.name);
        weights.flat_map(|name| [name.clone(), name.replace(".weight", ".bias")]).collect()
    }

    /// Every tensor with its place in the flat vector.
    pub fn places(&self) -> impl Iterator<Item = (&Entry, Range<usize>)> {
        let mut end = 0;
        self.tensors.iter().map(move |entry| {
            let start = end;
            end += entry.len();
            (entry, start..end)
        })
    }

    /// Random convolutions (lecun-normal: truncated normal of variance 1 / fan-in, as flax has it), norms at one and
    /// zero, the head at zero (paper.md 1.2); a transformer's linear layers and embeddings truncated normal of standard
    /// deviation 0.02 (ViT as in timm). Each tensor has its own stream: the same seed gives two networks equal tensors
    /// where their shapes agree.
    pub fn scratch(&self, seed: u64) -> Vec<f32> {
        let mut flat = Vec::with_capacity(self.len());
        for (index, entry) in self.tensors.iter().enumerate() {
            let deviation = match entry.role {
                Role::Kernel => {
                    let fan_in: usize = entry.shape[1..].iter().product();
                    // The standard deviation of a normal cut off at two of its own is 0.87962566.
                    (1.0 / fan_in as f64).sqrt() / 0.879_625_66
                }
                Role::Linear | Role::Embedding => 0.02,
                _ => {
                    flat.extend(entry.fixed());
                    continue;
                }
            };
            let mut stream = Stream::new(seed, Purpose::Init, index as u64);
            flat.extend((0..entry.len()).map(|_| (deviation * truncated_normal(&mut stream)) as f32));
        }
        flat
    }

    /// Which ranges of the flat vector decay: kernels and the head, not norms, biases or embeddings (paper.md 1.2).
    pub fn decayed(&self) -> Vec<Range<usize>> {
        let decays = |entry: &Entry| matches!(entry.role, Role::Kernel | Role::Linear | Role::Head);
        self.places().filter(|(entry, _)| decays(entry)).map(|(_, range)| range).collect()
    }
}

impl Entry {
    /// What it begins with where that is not random.
    pub fn fixed(&self) -> Vec<f32> {
        match self.role {
            Role::SinCos { class } => vit::sin_cos(self.shape[1] - usize::from(class), self.shape[2], class),
            Role::Scale | Role::RunningVariance => vec![1.0; self.len()],
            _ => vec![0.0; self.len()],
        }
    }

    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn truncated_normal(stream: &mut Stream) -> f64 {
    loop {
        let value: f64 = StandardNormal.sample(stream);
        if value.abs() <= 2.0 {
            return value;
        }
    }
}
