//! Single layers, forward and backward, at the shapes of the workloads W1 to W3 (`cargo bench --bench ops`).
//!
//! One step of a graph of one layer: forward, backward with both gradients, weights packed and gradients collected, on one
//! thread. `benches/torch/ops.py` times the same in PyTorch and puts the two side by side.

use distillery::train::engine::Engine;
use distillery::train::graph::{Graph, Value, Window};
use distillery::train::model::Role;
use distillery::train::ops::attention::Attention;
use distillery::train::ops::gelu::Gelu;
use distillery::train::ops::layer::Extent;
use distillery::train::ops::loss::Loss;
use distillery::train::ops::pool::{Beyond, GlobalMean, Kind, Pool};
use distillery::train::ops::tokens::Tokens;

fn main() {
    // As `distillery worker` does.
    distillery::train::memory::keep_freed_pages();
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("the first pool");
    divan::main();
}

/// Every layer sits behind one that makes its input's gradient needed, and is pooled to a few logits.
fn time(
    bencher: divan::Bencher,
    images: usize,
    (side, wide, c): (usize, usize, usize),
    build: impl Fn(&mut Graph<f32>, Value),
) {
    let extent = Extent { h: side, w: wide, c };
    let mut graph = Graph::new(extent);
    let positions = graph.tensor("shift".into(), &[side, wide, c], Role::Embedding);
    let x = graph.push(Tokens { x: extent, class: None, positions, learned: true }, graph.input(), None);
    build(&mut graph, x);
    let last = graph.output;
    graph.push(GlobalMean { x: graph.extent(last) }, last, None);
    let classes = graph.extent(graph.output).len();
    let numbers = |n: usize| (0..n).map(|i| (i * 37 % 1009) as f32 / 504.5 - 1.0).collect::<Vec<f32>>();
    let (weights, inputs) = (numbers(graph.blueprint.len()), numbers(images * extent.len()));
    let target = vec![1.0 / classes as f32; images * classes];
    let mut gradient = vec![0.0; weights.len()];
    let mut engine = Engine::trainable(graph);
    bencher.bench_local(|| engine.step(&weights, &inputs, Loss::cross_entropy(&target), &mut gradient));
}

fn window(size: usize, stride: usize) -> Window {
    Window { size, stride, padding: size / 2, groups: 1, standardize: None, bias: false }
}

#[divan::bench(args = ["16x32", "32x32", "64x8", "128x8"])]
fn conv3x3(bencher: divan::Bencher, shape: &str) {
    let (c, side) = shape.split_once('x').expect("channels and side");
    let (c, side): (usize, usize) = (c.parse().expect("channels"), side.parse().expect("side"));
    time(bencher, 32, (side, side, c), |graph, x| {
        graph.conv("conv", x, c, window(3, 1), None);
    });
}

#[divan::bench]
fn conv3x3_stride2(bencher: divan::Bencher) {
    time(bencher, 32, (32, 32, 32), |graph, x| {
        graph.conv("conv", x, 64, window(3, 2), None);
    });
}

#[divan::bench]
fn conv1x1(bencher: divan::Bencher) {
    time(bencher, 4, (28, 28, 256), |graph, x| {
        graph.conv("conv", x, 128, window(1, 1), None);
    });
}

#[divan::bench]
fn depthwise(bencher: divan::Bencher) {
    time(bencher, 8, (28, 28, 96), |graph, x| {
        graph.conv("conv", x, 96, Window { groups: 96, ..window(3, 1) }, None);
    });
}

#[divan::bench]
fn group_norm_relu(bencher: divan::Bencher) {
    time(bencher, 32, (32, 32, 16), |graph, x| {
        graph.group_norm_relu("norm", x, 8, 1e-5);
    });
}

#[divan::bench]
fn layer_norm(bencher: divan::Bencher) {
    time(bencher, 32, (65, 1, 192), |graph, x| {
        graph.layer_norm("norm", x, 1e-6);
    });
}

#[divan::bench]
fn linear(bencher: divan::Bencher) {
    time(bencher, 32, (65, 1, 192), |graph, x| {
        graph.linear("linear", x, 768, Role::Linear, None);
    });
}

#[divan::bench]
fn gelu(bencher: divan::Bencher) {
    time(bencher, 32, (65, 1, 768), |graph, x| {
        graph.push(Gelu { x: graph.extent(x) }, x, None);
    });
}

#[divan::bench]
fn attention(bencher: divan::Bencher) {
    time(bencher, 32, (65, 1, 576), |graph, x| {
        graph.push(Attention { x: graph.extent(x), heads: 3 }, x, None);
    });
}

#[divan::bench]
fn max_pool(bencher: divan::Bencher) {
    time(bencher, 4, (112, 112, 64), |graph, x| {
        let beyond = Beyond::Zeros;
        let pool = Pool { x: graph.extent(x), kind: Kind::Max, window: 3, stride: 2, padding: 1, beyond };
        graph.push(pool, x, None);
    });
}
