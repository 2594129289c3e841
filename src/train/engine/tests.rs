//! What is passed over, and what a thread's memory depends on.

use super::*;
use crate::job::{BitResnetSmall, Input, Model};
use crate::train::model::graph;

/// Layers before the first with parameters have no gradient, and none is asked for.
#[test]
fn what_learns_nothing_is_passed_over() {
    use crate::train::model::Role;
    use crate::train::ops::layer::Extent;
    use crate::train::ops::pool::{Beyond, GlobalMean, Kind, Pool};
    let mut graph = Graph::<f32>::new(Extent { h: 6, w: 6, c: 16 });
    let (x, input) = (graph.extent(graph.input()), graph.input());
    let pool = Pool { x, kind: Kind::Mean, window: 2, stride: 2, padding: 0, beyond: Beyond::Nothing };
    let pooled = graph.push(pool, input, None);
    let features = graph.push(GlobalMean { x: graph.extent(pooled) }, pooled, None);
    graph.linear("head", features, 2, Role::Head, None);
    let mut engine = Engine::trainable(graph);
    let (weights, images, targets) = (vec![0.5; 34], vec![0.1; 3 * 6 * 6 * 16], [1.0, 0.0].repeat(3));
    let mut gradient = vec![0.0; 34];
    engine.step(&weights, &images, Loss::cross_entropy(&targets), &mut gradient);
    // Both classes are as likely; features are 0.1.
    assert!((gradient[0] + 0.05).abs() < 1e-6 && (gradient[32] + 0.5).abs() < 1e-6, "{gradient:?}");
}

/// Memory for activations is a thread's, not a batch's: micro-batches of fixed size are how every step is done.
#[test]
fn a_thread_needs_the_same_memory_for_any_batch() {
    let input = Input::new(3, 10, 8);
    let model = Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 16 });
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let used = |batch: usize| {
        let mut engine = Engine::<f32>::trainable(graph(&model, input));
        let weights = engine.graph().blueprint.scratch(0);
        let mut gradient = vec![0.0; weights.len()];
        let (images, targets) = (vec![0.1; batch * 8 * 8 * 3], vec![0.1; batch * 10]);
        let loss = Loss::cross_entropy(&targets);
        pool.install(|| engine.step(&weights, &images, loss, &mut gradient));
        let arenas = engine.arenas.lock().unwrap();
        assert!((1..=2).contains(&arenas.len()), "{} arenas for two threads", arenas.len());
        (arenas[0].len(), engine.lanes.len())
    };
    let ((small, few), (large, many)) = (used(32), used(512));
    assert_eq!(small, large);
    assert!(few <= MOST_LANES && many == MOST_LANES, "{few} and {many} lanes");
}
