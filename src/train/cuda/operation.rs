//! The CPU engine's operations on the GPU: layer by layer, a whole batch at a time.
//!
//! # Shapes
//! Values are `[N, H, W, C]` in the network's element type; statistics, sums and gradients of parameters are f32. Weights
//! exist twice: the flat f32 vector in timm's order, and the matrices that products read ([`super::weights`]).
//!
//! Nothing here allocates or waits: where everything lies was planned before ([`super::program`]), so a whole step can
//! be recorded and enqueued again in one call. [`super::check`] compares every operation with the CPU's.

mod activation;
mod attention;
mod batch_norm;
mod conv;
mod depthwise;
mod norm;
mod pool;
mod simple;
mod squeeze_excite;
mod tokens;

use std::ops::Range;

use anyhow::Result;

use super::device::{Address, Number};
use super::libraries::Libraries;
use crate::train::ops::layer::Description;
use crate::train::ops::norm::Over;

/// Numbers of a layer in the flat vector, and how products want them.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// `rows` rows of `[channels, taps]`, to be standardised with an epsilon, and laid `[taps, channels]`.
    Matrix { range: Range<usize>, rows: usize, taps: usize, standardize: Option<f64> },
    /// Copied in the element type.
    Copied(Range<usize>),
    /// Read from the flat vector.
    Plain(Range<usize>),
}

impl Parameter {
    pub fn range(&self) -> &Range<usize> {
        let (Parameter::Matrix { range, .. } | Parameter::Copied(range) | Parameter::Plain(range)) = self;
        range
    }
}

/// A network's numbers, or the gradients of them: the flat vector, and the matrices (whose gradients are f32).
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    pub flat: Address,
    pub matrices: Address,
}

impl Numbers {
    /// Of the flat vector.
    pub fn flat(&self, range: &Range<usize>) -> Address {
        self.flat + 4 * range.start as u64
    }
}

pub struct Forward<'a> {
    pub libraries: &'a Libraries,
    pub weights: Numbers,
    pub x: Address,
    /// Added to the result.
    pub residual: Option<Address>,
    pub y: Address,
    pub kept: Address,
    pub scratch: Address,
    /// In a step of training: where a norm over the batch leaves the moments that its running statistics are to take
    /// in ([`super::running`]). Otherwise it is those statistics that it normalises with.
    pub moments: Option<Address>,
}

pub struct Backward<'a> {
    pub libraries: &'a Libraries,
    pub weights: Numbers,
    pub gradient: Numbers,
    /// Whether gradients of parameters are added to what is there: all micro-batches but the first.
    pub add: bool,
    pub x: Address,
    pub kept: Address,
    pub dy: Address,
    /// None where nothing before the layer learns; else its place and whether to add to it.
    pub dx: Option<(Address, bool)>,
    pub scratch: Address,
}

/// One layer for a batch of fixed size.
pub trait Operation {
    /// What learns, in the order of the places given to [`Operation::place`]. The optimiser sees nothing else.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }
    /// Where its matrices and copies lie among the network's, in numbers; for plain parameters it is of no meaning.
    fn place(&mut self, _at: &[usize]) {}
    /// Running means and variances, which do not learn: they take in a batch's moments, laid one after the other at
    /// [`Forward::moments`].
    fn running(&self) -> Option<[Range<usize>; 2]> {
        None
    }
    fn needs_x(&self) -> bool {
        true
    }
    /// Whether gradients of parameters come only together with `dx`.
    fn needs_dx(&self) -> bool {
        false
    }
    /// Bytes kept for the backward pass.
    fn kept(&self) -> usize {
        0
    }
    /// Bytes of scratch, forward and backward.
    fn scratch(&self) -> (usize, usize) {
        (0, 0)
    }
    /// # Errors
    /// The driver's and the libraries'.
    fn forward(&self, call: &Forward<'_>) -> Result<()>;
    /// # Errors
    /// The driver's and the libraries'.
    fn backward(&self, call: &Backward<'_>) -> Result<()>;
}

/// What all operations of a network have in common.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub images: usize,
    pub number: Number,
    /// Whether there is a backward pass.
    pub training: bool,
}

/// The operation of a layer. The network's last layer makes f32, whatever the element type: losses are f32.
///
/// # Errors
/// When a library cannot do it, or the layer is no kind that this engine has.
pub fn operation(
    description: &Description,
    batch: Batch,
    last: bool,
    libraries: &Libraries,
) -> Result<Box<dyn Operation>> {
    Ok(match description {
        Description::Conv { x, y, kernel, bias } => {
            Box::new(conv::Conv::new(batch, (*x, *y), kernel, bias.clone(), last, libraries)?)
        }
        Description::Depthwise(layer) => Box::new(depthwise::Depthwise::new(batch, layer)),
        Description::GroupNormRelu(layer) => Box::new(norm::GroupNorm::relu(batch, layer)?),
        Description::Norm(layer) => match &layer.over {
            Over::Groups(groups) => Box::new(norm::GroupNorm::stored(batch, layer, *groups)?),
            Over::Batch { mean, variance } => {
                Box::new(batch_norm::BatchNorm::new(batch, layer, [mean.clone(), variance.clone()]))
            }
        },
        Description::Activate(layer) => Box::new(activation::Activate::new(batch, layer)),
        Description::SqueezeExcite(layer) => Box::new(squeeze_excite::SqueezeExcite::new(batch, layer)),
        Description::Shortcut(layer) => Box::new(activation::Shortcut::new(batch, layer)),
        Description::Rescale(layer) => Box::new(activation::Rescale::new(batch, layer)),
        Description::LayerNorm(layer) => Box::new(norm::LayerNorm::new(batch, layer)),
        Description::Gelu(layer) => Box::new(simple::Gelu::new(batch, layer)),
        Description::Attention(layer) => Box::new(attention::Attention::new(batch, layer)),
        Description::Pool(layer) => Box::new(pool::Pool::new(batch, layer)?),
        Description::GlobalMean(layer) => Box::new(simple::GlobalMean::new(batch, layer)),
        Description::Tokens(layer) => Box::new(tokens::Tokens::new(batch, layer)),
        Description::FirstToken(layer) => Box::new(tokens::FirstToken::new(batch, layer)),
    })
}

/// How many slices of rows a sum is cut into, and rows of a slice: enough blocks to fill a GPU, rows enough for each.
pub(super) fn slices(rows: usize, columns: usize) -> (usize, usize) {
    let wanted = (1024 / columns.div_ceil(32)).max(1);
    let each = rows.div_ceil(wanted).max(32);
    (rows.div_ceil(each), each)
}

pub(super) fn u32_of(value: usize) -> u32 {
    u32::try_from(value).expect("a layer has fewer than 2^32 numbers in a batch")
}
