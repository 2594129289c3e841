//! A step of a network whose images meet: with BatchNorm, whose moments are those of the whole batch, or in a loss that
//! looks at the whole batch, of which one thread then takes all logits.
//!
//! Between two such layers every lane goes on by itself with all its images. Before one, each lane adds up its share of
//! the sums; they are added in order, so here too the bits do not depend on the number of threads. Memory grows with
//! the batch.

use std::ops::Range;

use rayon::prelude::*;

use super::Engine;
use crate::train::graph::Graph;
use crate::train::ops::aligned::Aligned;
use crate::train::ops::element::Element;
use crate::train::ops::layer::{Batch, Write};
use crate::train::ops::loss::Loss;

/// What is gathered over a batch, and each lane's memory.
pub struct Together<T> {
    /// Sums that each step gathers.
    gathers: Vec<usize>,
    images: usize,
    forward: Vec<Vec<f64>>,
    arenas: Vec<Aligned<T>>,
}

/// One lane's part of a batch.
struct Lane<'a, T> {
    images: &'a [T],
    arena: &'a mut [T],
    gradient: &'a mut [T],
    first: usize,
}

impl<T: Element> Together<T> {
    pub fn new(graph: &Graph<T>) -> Together<T> {
        let gathers: Vec<usize> = graph.steps.iter().map(|step| step.layer.gathers()).collect();
        Together { forward: vec![Vec::new(); gathers.len()], gathers, images: 0, arenas: Vec::new() }
    }

    pub fn is_needed(&self) -> bool {
        self.gathers.iter().any(|sums| *sums > 0)
    }

    /// What a step has gathered for its forward pass.
    pub fn forward(&self, index: usize) -> Option<Batch<'_>> {
        (self.gathers[index] > 0).then(|| Batch { images: self.images, sums: &self.forward[index] })
    }

    /// Runs of steps, each begun by one that gathers, but for the first.
    fn runs(&self) -> Vec<Range<usize>> {
        let gathering = (1..self.gathers.len()).filter(|index| self.gathers[*index] > 0);
        let starts: Vec<usize> = std::iter::once(0).chain(gathering).collect();
        let ends = starts[1..].iter().copied().chain([self.gathers.len()]);
        starts.iter().zip(ends).map(|(start, end)| *start..end).collect()
    }
}

fn sum_in_order(parts: Vec<Vec<f64>>) -> Vec<f64> {
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_default();
    for part in parts {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    sum
}

impl<T: Element> Engine<T> {
    /// As [`Engine::step`]; the weights are loaded.
    pub(super) fn step_together(&mut self, weights: &[T], images: &[T], loss: Loss<'_, T>, gradient: &mut [T]) -> f64 {
        let (size, classes) = (self.graph.extents[0].len(), self.classes());
        let count = images.len() / size;
        let per_lane = self.images_of_a_lane(count);
        let (mut gradients, mut arenas) = (std::mem::take(&mut self.lanes), std::mem::take(&mut self.together.arenas));
        let length = self.gradient_at.last().map_or(0, |range| range.end);
        gradients.resize_with(count.div_ceil(per_lane), || Aligned::zeros(length));
        let numbers = self.plan.numbers(per_lane);
        if arenas.first().is_some_and(|arena| arena.len() < numbers) {
            arenas.clear();
        }
        arenas.resize_with(gradients.len(), || Aligned::zeros(numbers));
        let parts = images.chunks(per_lane * size).zip(&mut arenas).zip(&mut gradients).enumerate();
        let mut lanes: Vec<Lane<'_, T>> = parts
            .map(|(lane, ((images, arena), gradient))| Lane { images, arena, gradient, first: lane * per_lane })
            .collect();
        self.together.images = count;

        for run in self.together.runs() {
            if self.together.gathers[run.start] > 0 {
                self.together.forward[run.start] = self.gather(run.start, &mut lanes);
            }
            lanes.par_iter_mut().with_max_len(1).for_each(|lane| {
                self.forward_some(run.clone(), weights, lane.images, lane.arena, Some(&self.together));
            });
        }
        let share = 1.0 / count as f64;
        let sum: f64 = if loss.is_of_batch() {
            self.evaluate_together(loss, share, &mut lanes)
        } else {
            let sums = lanes.par_iter_mut().with_max_len(1).map(|lane| {
                let loss = loss.rows(lane.first..lane.first + lane.images.len() / size, classes);
                self.evaluate(lane.images, loss, share, lane.arena)
            });
            sums.collect::<Vec<f64>>().iter().sum()
        };
        for run in self.together.runs().into_iter().rev() {
            let gathers = self.together.gathers[run.start] > 0;
            let alone = run.start + usize::from(gathers)..run.end;
            lanes.par_iter_mut().with_max_len(1).for_each(|lane| {
                for index in alone.clone().rev() {
                    let Lane { images, arena, gradient, .. } = lane;
                    self.backward_one(index, weights, images, arena, gradient, Write::Set, None);
                }
            });
            if gathers {
                self.backward_gathered(run.start, weights, count, &mut lanes);
            }
        }
        self.collect(weights, &mut gradients, gradient);
        (self.lanes, self.together.arenas) = (gradients, arenas);
        sum / count as f64
    }

    /// As [`Engine::evaluate`], for the images of all lanes at once.
    fn evaluate_together(&self, loss: Loss<'_, T>, share: f64, lanes: &mut [Lane<'_, T>]) -> f64 {
        let count = |lane: &Lane<'_, T>| lane.images.len() / self.graph.extents[0].len();
        let mut logits = Vec::new();
        for lane in lanes.iter() {
            logits.extend_from_slice(&lane.arena[self.plan.at(self.plan.output, count(lane))]);
        }
        let mut slope = vec![T::ZERO; logits.len()];
        let sum = loss.evaluate(&logits, self.classes(), share, &mut slope);
        let mut rest = &slope[..];
        for lane in lanes {
            let place = self.plan.at(self.plan.output_gradient, count(lane));
            let (own, after) = rest.split_at(place.len());
            lane.arena[place].copy_from_slice(own);
            rest = after;
        }
        sum
    }

    fn gather(&self, index: usize, lanes: &mut [Lane<'_, T>]) -> Vec<f64> {
        let (layer, place) = (&self.graph.steps[index].layer, &self.plan.steps[index]);
        let parts = lanes.par_iter_mut().with_max_len(1).map(|lane| {
            let count = lane.images.len() / self.graph.extents[0].len();
            let mut sums = vec![0.0; self.together.gathers[index]];
            let ranges = [self.plan.at(place.x, count), self.plan.scratch(count)];
            let [x, scratch] = super::apart(lane.arena, ranges);
            layer.gather(super::seen(place, x, &[], lane.images), scratch, &mut sums);
            sums
        });
        sum_in_order(parts.collect())
    }

    fn backward_gathered(&self, index: usize, weights: &[T], count: usize, lanes: &mut [Lane<'_, T>]) {
        let parts = lanes.par_iter_mut().with_max_len(1).map(|lane| {
            let mut sums = vec![0.0; self.together.gathers[index]];
            let Lane { images, arena, gradient, .. } = lane;
            self.with_backward(index, weights, images, arena, gradient, Write::Set, None, |layer, call| {
                layer.gather_backward(call, &mut sums);
            });
            sums
        });
        let sums = sum_in_order(parts.collect());
        lanes.par_iter_mut().with_max_len(1).for_each(|lane| {
            let Lane { images, arena, gradient, .. } = lane;
            let batch = Some(Batch { images: count, sums: &sums });
            self.backward_one(index, weights, images, arena, gradient, Write::Add, batch);
        });
    }

    /// Takes the moments of the last [`Engine::step`]'s batch into the running statistics among its weights, where the
    /// network has any.
    pub fn settle(&self, weights: &mut [T]) {
        for (index, step) in self.graph.steps.iter().enumerate() {
            if let Some(batch) = self.together.forward(index).filter(|batch| !batch.sums.is_empty()) {
                step.layer.settle(&batch, weights);
            }
        }
    }
}
