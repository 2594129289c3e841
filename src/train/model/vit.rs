//! Vision transformer: patches, a class token, learned positions, pre-norm blocks of attention and a two-layer
//! perceptron four times as wide, a last norm on the class token, linear head (Dosovitskiy et al., arXiv 2010.11929).

use super::Role;
use crate::job::{Input, Vit};
use crate::train::graph::{Graph, Window};
use crate::train::ops::attention::Attention;
use crate::train::ops::element::Element;
use crate::train::ops::gelu::Gelu;
use crate::train::ops::tokens::{FirstToken, Tokens};

const NORM_EPS: f64 = 1e-6;

pub(super) fn build<T: Element>(net: &Vit, input: Input, graph: &mut Graph<T>) {
    let (width, patch) = (net.width as usize, net.patch as usize);
    let patches = (input.resolution as usize / patch).pow(2);
    let class = graph.tensor("cls_token".into(), &[1, 1, width], Role::Embedding);
    let positions = graph.tensor("pos_embed".into(), &[1, 1 + patches, width], Role::Embedding);
    let window = Window { size: patch, stride: patch, padding: 0, groups: 1, standardize: None, bias: true };
    let x = graph.conv("patch_embed.proj", graph.input(), width, window, None);
    let mut x = graph.push(Tokens { x: graph.extent(x), class: Some(class), positions }, x, None);
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
    // The norm looks at each token by itself, so the others need none.
    let first = graph.push(FirstToken { x: graph.extent(x) }, x, None);
    let norm = graph.layer_norm("norm", first, NORM_EPS);
    graph.linear("head", norm, input.classes as usize, Role::Head, None);
}
