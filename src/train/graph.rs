//! A network as a list of layers over values, made by the architectures in [`super::model`] and run by
//! [`super::engine`].
//!
//! Building it also lists the network's tensors with their names, so there is one description of an architecture. A
//! value is what a layer makes of one image; the input is value 0.

use std::ops::Range;

use crate::job::Precision;

use super::model::{Blueprint, Role};
use super::ops::activation::{Activate, Activation};
use super::ops::conv::Conv;
use super::ops::depthwise::Depthwise;
use super::ops::element::Element;
use super::ops::group_norm::GroupNormRelu;
use super::ops::kernel::Kernel;
use super::ops::layer::{Extent, Layer};
use super::ops::layer_norm::LayerNorm;
use super::ops::linear::Linear;
use super::ops::norm::{Norm, Over};
use super::ops::squeeze_excite::SqueezeExcite;
use super::ops::winograd::Winograd;

/// A value's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(pub usize);

pub struct Step<T> {
    pub layer: Box<dyn Layer<T>>,
    pub x: Value,
    /// Added to the layer's result.
    pub residual: Option<Value>,
    pub y: Value,
}

pub struct Graph<T> {
    pub blueprint: Blueprint,
    pub steps: Vec<Step<T>>,
    /// Of every value.
    pub extents: Vec<Extent>,
    pub output: Value,
}

/// What a convolution is, beyond its channels.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub size: usize,
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
    /// Epsilon of weight standardisation.
    pub standardize: Option<f64>,
    pub bias: bool,
}

impl<T: Element> Graph<T> {
    pub fn new(input: Extent) -> Graph<T> {
        Graph {
            blueprint: Blueprint { tensors: Vec::new() },
            steps: Vec::new(),
            extents: vec![input],
            output: Value(0),
        }
    }

    /// The same network with its matrix products in another precision.
    pub fn with_precision(mut self, precision: Precision) -> Graph<T> {
        for step in &mut self.steps {
            step.layer.set_precision(precision);
        }
        self
    }

    pub fn input(&self) -> Value {
        Value(0)
    }

    pub fn extent(&self, value: Value) -> Extent {
        self.extents[value.0]
    }

    /// Lists a tensor and returns its place in the flat vector.
    pub fn tensor(&mut self, name: String, shape: &[usize], role: Role) -> Range<usize> {
        self.blueprint.add(name, shape, role)
    }

    /// Adds a layer; its value becomes the network's output until another is added.
    pub fn push(&mut self, layer: impl Layer<T> + 'static, x: Value, residual: Option<Value>) -> Value {
        let y = Value(self.extents.len());
        let extent = layer.output();
        if let Some(residual) = residual {
            assert!(layer.adds_residual(), "a {} adds no residual", layer.name());
            assert_eq!(extent, self.extent(residual), "a residual has the shape it is added to");
        }
        self.extents.push(extent);
        self.steps.push(Step { layer: Box::new(layer), x, residual, y });
        self.output = y;
        y
    }

    /// `{name}.weight`, and `{name}.bias` where the window has one.
    pub fn conv(&mut self, name: &str, x: Value, co: usize, window: Window, residual: Option<Value>) -> Value {
        let from = self.extent(x);
        let Window { size, stride, padding, groups, standardize, bias } = window;
        let (ci, per_group) = (from.c / groups, co / groups);
        let weight = self.tensor(format!("{name}.weight"), &[co, ci, size, size], Role::Kernel);
        let bias = bias.then(|| self.tensor(format!("{name}.bias"), &[co], Role::Bias));
        if groups == from.c && co == from.c && groups > 1 {
            let layer = Depthwise { x: from, kh: size, kw: size, stride, padding, weight, bias };
            return self.push(layer, x, residual);
        }
        let kernel = Kernel { ci, co: per_group, kh: size, kw: size, groups, stride, padding, standardize, weight };
        if size == 1 && stride == 1 && groups == 1 {
            return self.push(Linear::new(from, kernel, bias), x, residual);
        }
        if bias.is_none() && Winograd::suits(from, co, &kernel) {
            return self.push(Winograd::new(from, kernel), x, residual);
        }
        let layer = Conv::new(from, co, kernel, bias).expect("an architecture's windows fit its images");
        self.push(layer, x, residual)
    }

    /// `{name}.weight` `[co, ci]` and `{name}.bias`.
    pub fn linear(&mut self, name: &str, x: Value, co: usize, role: Role, residual: Option<Value>) -> Value {
        let shape = [co, self.extent(x).c];
        self.linear_shaped(name, x, &shape, role, residual)
    }

    /// A linear layer that timm keeps as a 1x1 convolution: `{name}.weight` `[co, ci, 1, 1]` and `{name}.bias`.
    pub fn convolutional_head(&mut self, name: &str, x: Value, co: usize) -> Value {
        let shape = [co, self.extent(x).c, 1, 1];
        self.linear_shaped(name, x, &shape, Role::Head, None)
    }

    fn linear_shaped(&mut self, name: &str, x: Value, shape: &[usize], role: Role, residual: Option<Value>) -> Value {
        let (from, co) = (self.extent(x), shape[0]);
        let weight = self.tensor(format!("{name}.weight"), shape, role);
        let bias = Some(self.tensor(format!("{name}.bias"), &[co], Role::Bias));
        let kernel =
            Kernel { ci: from.c, co, kh: 1, kw: 1, groups: 1, stride: 1, padding: 0, standardize: None, weight };
        self.push(Linear::new(from, kernel, bias), x, residual)
    }

    pub fn group_norm_relu(&mut self, name: &str, x: Value, groups: usize, eps: f64) -> Value {
        let (from, weight, bias) = self.norm(name, x);
        self.push(GroupNormRelu { x: from, groups, eps, weight, bias }, x, None)
    }

    /// GroupNorm whose result is stored; `groups` none is BatchNorm, with `{name}.running_mean` and `.running_var`.
    pub fn stored_norm(
        &mut self,
        name: &str,
        x: Value,
        (groups, eps): (Option<usize>, f64),
        activation: Activation,
        residual: Option<Value>,
    ) -> Value {
        let (from, weight, bias) = self.norm(name, x);
        let over = match groups {
            Some(groups) => Over::Groups(groups),
            None => Over::Batch {
                mean: self.tensor(format!("{name}.running_mean"), &[from.c], Role::RunningMean),
                variance: self.tensor(format!("{name}.running_var"), &[from.c], Role::RunningVariance),
            },
        };
        self.push(Norm { x: from, over, activation, eps, weight, bias }, x, residual)
    }

    pub fn activate(&mut self, x: Value, activation: Activation) -> Value {
        self.push(Activate { x: self.extent(x), activation }, x, None)
    }

    /// `{name}.conv_reduce` and `{name}.conv_expand`, kept as 1x1 convolutions.
    pub fn squeeze_excite(&mut self, name: &str, x: Value, hidden: usize) -> Value {
        let from = self.extent(x);
        let mut pair = |part: &str, ci: usize, co: usize| {
            let weight = self.tensor(format!("{name}.{part}.weight"), &[co, ci, 1, 1], Role::Kernel);
            (weight, self.tensor(format!("{name}.{part}.bias"), &[co], Role::Bias))
        };
        let (reduce, expand) = (pair("conv_reduce", from.c, hidden), pair("conv_expand", hidden, from.c));
        self.push(SqueezeExcite { x: from, hidden, reduce, expand }, x, None)
    }

    pub fn layer_norm(&mut self, name: &str, x: Value, eps: f64) -> Value {
        let (from, weight, bias) = self.norm(name, x);
        self.push(LayerNorm { x: from, eps, weight, bias }, x, None)
    }

    fn norm(&mut self, name: &str, x: Value) -> (Extent, Range<usize>, Range<usize>) {
        let from = self.extent(x);
        let weight = self.tensor(format!("{name}.weight"), &[from.c], Role::Scale);
        let bias = self.tensor(format!("{name}.bias"), &[from.c], Role::Bias);
        (from, weight, bias)
    }

    /// Multiply-adds of one image's forward pass.
    pub fn macs(&self) -> u64 {
        self.steps.iter().map(|step| step.layer.macs()).sum()
    }
}
