//! Vision transformer: patches, a class token or none, positions, pre-norm blocks of attention and a two-layer perceptron
//! four times as wide, a last norm on the class token or on all tokens before their mean, linear head (Dosovitskiy et
//! al., arXiv 2010.11929).

use super::Role;
use crate::job::{Input, Pool, Positions, Vit};
use crate::train::graph::{Graph, Window};
use crate::train::ops::attention::Attention;
use crate::train::ops::element::Element;
use crate::train::ops::gelu::Gelu;
use crate::train::ops::pool::GlobalMean;
use crate::train::ops::tokens::{FirstToken, Tokens};

const NORM_EPS: f64 = 1e-6;

pub(super) fn build<T: Element>(net: &Vit, input: Input, graph: &mut Graph<T>) {
    let (width, patch) = (net.width as usize, net.patch as usize);
    let patches = (input.resolution as usize / patch).pow(2);
    let has_class = net.pool == Pool::ClassToken;
    let class = has_class.then(|| graph.tensor("cls_token".into(), &[1, 1, width], Role::Embedding));
    let learned = net.positions == Positions::Learned;
    let role = if learned { Role::Embedding } else { Role::SinCos { class: has_class } };
    let positions = graph.tensor("pos_embed".into(), &[1, usize::from(has_class) + patches, width], role);
    let window = Window { size: patch, stride: patch, padding: 0, groups: 1, standardize: None, bias: true };
    let x = graph.conv("patch_embed.proj", graph.output, width, window, None);
    let mut x = graph.push(Tokens { x: graph.extent(x), class, positions, learned }, x, None);
    for index in 0..net.depth {
        let name = |part: &str| format!("blocks.{index}.{part}");
        let norm = graph.layer_norm(&name("norm1"), x, NORM_EPS);
        let joint = graph.linear(&name("attn.qkv"), norm, 3 * width, Role::Linear, None);
        let attention = Attention { x: graph.extent(joint), heads: net.heads as usize };
        let mixed = graph.push(attention, joint, None);
        x = graph.linear(&name("attn.proj"), mixed, width, Role::Linear, Some(x));
        let norm = graph.layer_norm(&name("norm2"), x, NORM_EPS);
        let hidden = graph.linear(&name("mlp.fc1"), norm, 4 * width, Role::Linear, None);
        let active = graph.push(Gelu { x: graph.extent(hidden) }, hidden, None);
        x = graph.linear(&name("mlp.fc2"), active, width, Role::Linear, Some(x));
    }
    let features = match net.pool {
        Pool::ClassToken => {
            // The norm looks at each token by itself, so the others need none.
            let first = graph.push(FirstToken { x: graph.extent(x) }, x, None);
            graph.layer_norm("norm", first, NORM_EPS)
        }
        Pool::Mean => {
            let norm = graph.layer_norm("norm", x, NORM_EPS);
            graph.push(GlobalMean { x: graph.extent(norm) }, norm, None)
        }
    };
    graph.linear("head", features, input.classes as usize, Role::Head, None);
}

/// Sines and cosines of a patch's column and row at `width / 4` frequencies from 1 to 1 / 10,000, patches of a square.
pub(super) fn sin_cos(patches: usize, width: usize, class: bool) -> Vec<f32> {
    let (side, quarter) = (patches.isqrt(), width / 4);
    let mut flat = vec![0.0; if class { width } else { 0 }];
    for patch in 0..patches {
        let (row, column) = ((patch / side) as f64, (patch % side) as f64);
        let frequency = |index: usize| 10_000f64.powf(-(index as f64) / (quarter.max(2) - 1) as f64);
        for place in [column, row] {
            flat.extend((0..quarter).map(|index| (place * frequency(index)).sin() as f32));
            flat.extend((0..quarter).map(|index| (place * frequency(index)).cos() as f32));
        }
    }
    flat
}
