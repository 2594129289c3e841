//! Runs a [`Graph`] on the CPU: forward, and forward and backward with the gradient of a flat vector of numbers.
//!
//! GroupNorm, LayerNorm, attention and the losses look at one image at a time. So a step does not go through the network
//! layer by layer with the whole batch, whose numbers would go out to memory and come back, but image by image (or a
//! few at a time): forward, loss, backward, everything of it in one thread's cache, no barrier between layers. What a
//! thread needs is one piece of memory planned beforehand (`engine/plan.rs`); it does not grow with the batch, which is why
//! micro-batches need no switch.
//!
//! A batch is cut into *lanes* of fixed size. A lane's images are taken in order by one thread and share a gradient;
//! lanes are summed in order at the end. Sizes follow shapes alone, so the bits do not depend on the number of threads.
//!
//! A network with BatchNorm cannot be run so, for its images meet in every norm, nor can a loss in which they meet: such
//! steps go by `engine/together.rs`.
//!
//! Beside it stands candle: the same networks written with its plain operations are what this one is tested against.

mod plan;
#[cfg(test)]
mod tests;
mod together;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::graph::Graph;
use super::ops::aligned::Aligned;
use super::ops::element::Element;
use super::ops::lanes;
use super::ops::layer::{Backward, Batch, Forward, Layer, Seen, Write};
use super::ops::loss::Loss;
use plan::{Place, Plan};
use together::Together;

/// Pixels or tokens of the coarsest layer that a thread takes at once, about: its weights come from afar, and are used
/// for all of them.
const ROWS: usize = 256;
/// Images taken at once, at most, and the numbers of their plans.
const MOST_AT_ONCE: usize = 4;
const NUMBERS_AT_ONCE: usize = 8 << 20;
/// Lanes of a batch, at most: what a student can use of a machine's threads, and how many gradients are kept.
const MOST_LANES: usize = 16;
/// Numbers of all lanes' gradients together, about.
const LANES: usize = 64 << 20;
const LEAST_LANES: usize = 4;
/// Numbers of a gradient that a thread sums at once.
const PART: usize = 32 << 10;

pub struct Engine<T> {
    graph: Graph<T>,
    plan: Plan,
    /// Images a thread takes at once.
    at_once: usize,
    packed_at: Vec<Range<usize>>,
    packed: Aligned<T>,
    gradient_at: Vec<Range<usize>>,
    lanes: Vec<Aligned<T>>,
    arenas: Mutex<Vec<Aligned<T>>>,
    together: Together<T>,
}

fn at_once<T: Element>(graph: &Graph<T>, plan: &Plan) -> usize {
    let rows = graph.steps.iter().map(|step| step.layer.output().pixels()).filter(|pixels| *pixels > 1).min();
    let most = (NUMBERS_AT_ONCE / plan.numbers_an_image.max(1)).clamp(1, MOST_AT_ONCE);
    (ROWS / rows.unwrap_or(1)).clamp(1, most)
}

fn ranges(lengths: impl Iterator<Item = usize>) -> (Vec<Range<usize>>, usize) {
    let mut end = 0;
    let ranges = lengths.map(|length| {
        let start = end;
        end += length.next_multiple_of(16);
        start..start + length
    });
    (ranges.collect(), end)
}

impl<T: Element> Engine<T> {
    /// For [`Engine::forward`] only.
    pub fn frozen(graph: Graph<T>) -> Engine<T> {
        Engine::new(graph, false)
    }

    /// For [`Engine::step`] too.
    pub fn trainable(graph: Graph<T>) -> Engine<T> {
        Engine::new(graph, true)
    }

    fn new(graph: Graph<T>, training: bool) -> Engine<T> {
        let plan = Plan::new(&graph, training);
        let (packed_at, packed) = ranges(graph.steps.iter().map(|step| step.layer.packed(training)));
        let (gradient_at, _) = ranges(graph.steps.iter().map(|step| if training { step.layer.gradient() } else { 0 }));
        Engine {
            at_once: at_once(&graph, &plan),
            plan,
            packed_at,
            packed: Aligned::zeros(packed),
            gradient_at,
            lanes: Vec::new(),
            arenas: Mutex::new(Vec::new()),
            together: Together::new(&graph),
            graph,
        }
    }

    pub fn graph(&self) -> &Graph<T> {
        &self.graph
    }

    /// Prepares the weights for [`Engine::forward`]; the same `weights` are to be given there.
    pub fn load(&mut self, weights: &[T]) {
        assert_eq!(weights.len(), self.graph.blueprint.len(), "weights of this network");
        let mut rest = &mut self.packed[..];
        let mut at = 0;
        for (step, range) in self.graph.steps.iter().zip(&self.packed_at) {
            let (_, after) = std::mem::take(&mut rest).split_at_mut(range.start - at);
            let (own, after) = after.split_at_mut(range.len());
            (rest, at) = (after, range.end);
            step.layer.pack(weights, own, self.plan.training);
        }
    }

    /// Logits `[N, classes]` of images `[N, H, W, C]`.
    pub fn forward(&self, weights: &[T], images: &[T]) -> Vec<T> {
        let (size, classes) = (self.graph.extents[0].len(), self.classes());
        let mut logits = vec![T::ZERO; images.len() / size * classes];
        let some = images.par_chunks(self.at_once * size).zip(logits.par_chunks_mut(self.at_once * classes));
        some.with_max_len(1).for_each(|(images, logits)| {
            self.with_arena(|arena| {
                let count = images.len() / size;
                self.forward_some(0..self.graph.steps.len(), weights, images, arena, None);
                logits.copy_from_slice(&arena[self.plan.at(self.plan.output, count)]);
            });
        });
        logits
    }

    /// The mean loss of a batch; its gradient is written to `gradient`, but for numbers that do not learn.
    pub fn step(&mut self, weights: &[T], images: &[T], loss: Loss<'_, T>, gradient: &mut [T]) -> f64 {
        self.load(weights);
        if self.together.is_needed() || loss.is_of_batch() {
            return self.step_together(weights, images, loss, gradient);
        }
        let (size, classes) = (self.graph.extents[0].len(), self.classes());
        let count = images.len() / size;
        let mut lanes = std::mem::take(&mut self.lanes);
        let per_lane = self.images_of_a_lane(count);
        let length = self.gradient_at.last().map_or(0, |range| range.end);
        lanes.resize_with(count.div_ceil(per_lane), || Aligned::zeros(length));
        let work = lanes.par_iter_mut().zip(images.par_chunks(per_lane * size)).enumerate().with_max_len(1);
        let losses: Vec<f64> = work
            .map(|(lane, (gradient, images))| {
                self.with_arena(|arena| {
                    let mut sum = 0.0;
                    for (part, images) in images.chunks(self.at_once * size).enumerate() {
                        let first = lane * per_lane + part * self.at_once;
                        let rows = images.len() / size;
                        let loss = loss.rows(first..first + rows, classes);
                        let write = if part == 0 { Write::Set } else { Write::Add };
                        sum += self.train_some(weights, images, (loss, 1.0 / count as f64), arena, gradient, write);
                    }
                    sum
                })
            })
            .collect();
        self.collect(weights, &mut lanes, gradient);
        self.lanes = lanes;
        losses.iter().sum::<f64>() / count as f64
    }

    /// Numbers of an answer.
    pub fn classes(&self) -> usize {
        self.graph.extent(self.graph.output).len()
    }

    fn images_of_a_lane(&self, count: usize) -> usize {
        let length = self.gradient_at.last().map_or(1, |range| range.end.max(1));
        let most = (LANES / length).clamp(LEAST_LANES, MOST_LANES);
        count.div_ceil(most).max(1)
    }

    /// Arenas are kept from one call to the next, one a thread.
    fn with_arena<R>(&self, body: impl FnOnce(&mut [T]) -> R) -> R {
        let kept = self.arenas.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut arena = kept.unwrap_or_else(|| Aligned::zeros(self.plan.numbers(self.at_once)));
        let result = body(&mut arena);
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
        result
    }

    /// Runs some steps for some images, whose number they tell.
    fn forward_some(
        &self,
        steps: Range<usize>,
        weights: &[T],
        images: &[T],
        arena: &mut [T],
        together: Option<&Together<T>>,
    ) {
        let count = images.len() / self.graph.extents[0].len();
        for index in steps {
            let (step, place) = (&self.graph.steps[index], &self.plan.steps[index]);
            // A layer may be added to what it reads.
            let same = place.residual == place.x;
            let residual = if same { Place::NONE } else { place.residual };
            let ranges = [place.x, place.lens, residual, place.y, place.kept].map(|p| self.plan.at(p, count));
            let [x, lens, residual, y, kept] = ranges;
            let scratch = self.plan.scratch(count);
            let [x, lens, residual, y, kept, scratch] = apart(arena, [x, lens, residual, y, kept, scratch]);
            let residual = if same { &*x } else { &*residual };
            step.layer.forward(Forward {
                images: count,
                weights,
                packed: &self.packed[self.packed_at[index].clone()],
                x: seen(place, x, lens, images),
                residual: step.residual.is_some().then_some(residual),
                y,
                kept,
                scratch,
                batch: together.and_then(|together| together.forward(index)),
            });
        }
    }

    /// Forward and backward for a few images; the sum of their losses.
    fn train_some(
        &self,
        weights: &[T],
        images: &[T],
        (loss, share): (Loss<'_, T>, f64),
        arena: &mut [T],
        gradient: &mut [T],
        write: Write,
    ) -> f64 {
        let all = 0..self.graph.steps.len();
        self.forward_some(all.clone(), weights, images, arena, None);
        let sum = self.evaluate(images, loss, share, arena);
        for index in all.rev() {
            self.backward_one(index, weights, images, arena, gradient, write, None);
        }
        sum
    }

    /// The sum of the losses of images that went forward, and the slope of each times `share`.
    fn evaluate(&self, images: &[T], loss: Loss<'_, T>, share: f64, arena: &mut [T]) -> f64 {
        let count = images.len() / self.graph.extents[0].len();
        let (logits, slope) = (self.plan.at(self.plan.output, count), self.plan.at(self.plan.output_gradient, count));
        let [logits, slope] = apart(arena, [logits, slope]);
        loss.evaluate(logits, self.classes(), share, slope)
    }

    /// Calls `run` with what a step's backward pass works on, where there is one.
    #[expect(clippy::too_many_arguments, reason = "all that a step works on")]
    fn with_backward(
        &self,
        index: usize,
        weights: &[T],
        images: &[T],
        arena: &mut [T],
        gradient: &mut [T],
        write: Write,
        batch: Option<Batch<'_>>,
        run: impl FnOnce(&dyn Layer<T>, Backward<'_, T>),
    ) {
        let count = images.len() / self.graph.extents[0].len();
        let (step, place) = (&self.graph.steps[index], &self.plan.steps[index]);
        if place.dy == Place::NONE {
            return;
        }
        // What is not looked at may have made room for something else.
        let x = if step.layer.needs_x() { place.x } else { Place::NONE };
        let ranges = [x, place.lens, place.kept, place.dy, place.dx].map(|p| self.plan.at(p, count));
        let [x, lens, kept, dy, dx] = ranges;
        let scratch = self.plan.scratch(count);
        let [x, lens, kept, dy, dx, scratch] = apart(arena, [x, lens, kept, dy, dx, scratch]);
        let call = Backward {
            images: count,
            weights,
            packed: &self.packed[self.packed_at[index].clone()],
            x: seen(place, x, lens, images),
            kept,
            dy,
            dx: place.dx_write.map(|write| (dx, write)),
            gradient: &mut gradient[self.gradient_at[index].clone()],
            gradient_write: write,
            scratch,
            batch,
        };
        run(step.layer.as_ref(), call);
    }

    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn backward_one(
        &self,
        index: usize,
        weights: &[T],
        images: &[T],
        arena: &mut [T],
        gradient: &mut [T],
        write: Write,
        batch: Option<Batch<'_>>,
    ) {
        self.with_backward(index, weights, images, arena, gradient, write, batch, |layer, call| layer.backward(call));
        if let Some(to) = self.plan.steps[index].residual_gradient {
            let count = images.len() / self.graph.extents[0].len();
            let [dy, to] = apart(arena, [self.plan.steps[index].dy, to].map(|p| self.plan.at(p, count)));
            lanes::add(to, dy);
        }
    }

    /// From the layers' layouts to the flat vector's, all lanes summed, in order, into the first.
    fn collect(&self, weights: &[T], lanes: &mut [Aligned<T>], gradient: &mut [T]) {
        let Some((sum, rest)) = lanes.split_first_mut() else { return };
        sum.par_chunks_mut(PART).enumerate().for_each(|(part, sum)| {
            for lane in rest.iter() {
                lanes::add(sum, &lane[part * PART..][..sum.len()]);
            }
        });
        let mut own = Vec::new();
        for (step, at) in self.graph.steps.iter().zip(&self.gradient_at) {
            let parameters = step.layer.parameters();
            let native = &sum[at.clone()];
            match &parameters[..] {
                [] => {}
                // Neighbours in the flat vector, as layers' tensors mostly are, need no detour.
                [first, .., last] | [first @ last] if contiguous(&parameters) => {
                    step.layer.collect(weights, native, &mut gradient[first.start..last.end]);
                }
                _ => {
                    own.resize(parameters.iter().map(Range::len).sum(), T::ZERO);
                    step.layer.collect(weights, native, &mut own);
                    let mut rest = &own[..];
                    for range in parameters {
                        let (part, after) = rest.split_at(range.len());
                        gradient[range].copy_from_slice(part);
                        rest = after;
                    }
                }
            }
        }
    }
}

fn contiguous(ranges: &[Range<usize>]) -> bool {
    ranges.windows(2).all(|pair| pair[0].end == pair[1].start)
}

fn seen<'a, T>(place: &plan::StepPlace, x: &'a [T], lens: &'a [T], images: &'a [T]) -> Seen<'a, T> {
    let numbers = if place.x == Place::NONE { images } else { x };
    Seen { numbers, lens: (place.lens != Place::NONE).then_some(lens) }
}

/// Several parts of one arena at once.
fn apart<T, const N: usize>(arena: &mut [T], ranges: [Range<usize>; N]) -> [&mut [T]; N] {
    arena.get_disjoint_mut(ranges).expect("what a step uses is planned apart")
}
