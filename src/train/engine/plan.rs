//! Where a thread's numbers lie: every value, gradient and kept array of a network in one piece of memory, places
//! shared by what is not needed at the same time.
//!
//! Time is counted in steps: forward 0, 1, ... and then backward. A gradient that passes a residual connection
//! unchanged keeps its place, so the sum at the connection's other end is the only addition.

use std::ops::Range;

use crate::train::buffers::Buffers;
use crate::train::graph::{Graph, Value};
use crate::train::ops::element::Element;
use crate::train::ops::layer::Write;

/// Numbers of a cache line.
const ALIGN: usize = 16;

/// A place for one image's numbers; with several images they lie one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    start: usize,
    len: usize,
}

impl Place {
    pub const NONE: Place = Place { start: 0, len: 0 };
}

pub struct StepPlace {
    /// Where what the layer reads is stored; none for the network's input.
    pub x: Place,
    /// The lens it is read through.
    pub lens: Place,
    pub residual: Place,
    pub y: Place,
    pub kept: Place,
    pub dy: Place,
    pub dx: Place,
    pub dx_write: Option<Write>,
    /// Where `dy` is added for the residual connection.
    pub residual_gradient: Option<Place>,
}

pub struct Plan {
    pub training: bool,
    pub steps: Vec<StepPlace>,
    pub output: Place,
    pub output_gradient: Place,
    pub numbers_an_image: usize,
    scratch: usize,
}

/// What a step's backward pass uses.
#[derive(Clone, Copy, Default)]
struct BackwardBuffers {
    dy: Option<usize>,
    dx: Option<usize>,
    dx_write: Option<Write>,
    /// Where `dy` is added for the residual connection.
    added: Option<usize>,
}

fn place_in(buffers: &Buffers, buffer: Option<usize>, len: usize) -> Place {
    buffer.map_or(Place::NONE, |buffer| Place { start: buffers.start(buffer), len })
}

impl Plan {
    pub fn new<T: Element>(graph: &Graph<T>, training: bool) -> Plan {
        let count = graph.steps.len();
        let mut buffers = Buffers::new(ALIGN);
        // Values are stored under their own number, lenses under that of what they show, with the step that made them.
        let mut stored: Vec<Option<usize>> = vec![None; graph.extents.len()];
        let mut shows: Vec<Value> = (0..graph.extents.len()).map(Value).collect();
        let mut made_by: Vec<Option<usize>> = vec![None; graph.extents.len()];
        let mut kept = Vec::with_capacity(count);
        // The input's gradient is nobody's business; nor is that of what depends on no parameter.
        let mut learns = vec![false; graph.extents.len()];
        for (time, step) in graph.steps.iter().enumerate() {
            let backward = 2 * count - time;
            let base = shows[step.x.0];
            if let Some(buffer) = stored[base.0] {
                buffers.use_at(buffer, time);
                if training && step.layer.needs_x() {
                    buffers.use_at(buffer, backward);
                }
            }
            if let Some(lens) = made_by[step.x.0].filter(|_| base != step.x) {
                let lens: usize = kept[lens];
                buffers.use_at(lens, time);
                if training {
                    buffers.use_at(lens, backward);
                }
            }
            if let Some(residual) = step.residual {
                assert!(shows[residual.0] == residual, "a residual is stored");
                buffers.use_at(stored[residual.0].expect("a residual is no input"), time);
            }
            let own = buffers.add(step.layer.kept(), time);
            if training {
                buffers.use_at(own, backward);
            }
            kept.push(own);
            made_by[step.y.0] = Some(time);
            learns[step.y.0] = learns[step.x.0]
                || step.residual.is_some_and(|residual| learns[residual.0])
                || !step.layer.parameters().is_empty();
            if step.layer.is_lens() {
                shows[step.y.0] = base;
            } else {
                stored[step.y.0] = Some(buffers.add(graph.extent(step.y).len(), time));
            }
        }
        let output = stored[graph.output.0].expect("the output is stored");
        buffers.use_at(output, count);

        let mut gradients: Vec<Option<usize>> = vec![None; graph.extents.len()];
        let mut plans: Vec<BackwardBuffers> = Vec::new();
        if training {
            gradients[graph.output.0] = Some(buffers.add(graph.extent(graph.output).len(), count));
            for (index, step) in graph.steps.iter().enumerate().rev() {
                let time = 2 * count - index;
                // Nothing before here learns, and what nobody uses has no gradient.
                let Some(dy) = gradients[step.y.0] else {
                    plans.push(BackwardBuffers::default());
                    continue;
                };
                buffers.use_at(dy, time);
                let mut dx_write = None;
                // A norm's gradient is made together with dx, wherever it leads.
                if learns[step.x.0] || step.layer.is_lens() {
                    let extent = graph.extent(step.x).len();
                    dx_write = Some(if gradients[step.x.0].is_some() { Write::Add } else { Write::Set });
                    let dx = *gradients[step.x.0].get_or_insert_with(|| buffers.add(extent, time));
                    buffers.use_at(dx, time);
                }
                let mut added = None;
                if let Some(residual) = step.residual {
                    match gradients[residual.0] {
                        Some(buffer) => {
                            buffers.use_at(buffer, time);
                            added = Some(buffer);
                        }
                        None => gradients[residual.0] = Some(dy),
                    }
                }
                let dx = dx_write.and(gradients[step.x.0]);
                plans.push(BackwardBuffers { dy: Some(dy), dx, dx_write, added });
            }
            plans.reverse();
        }
        let numbers_an_image = buffers.place();
        let place_of = |value: Value| place_in(&buffers, stored[value.0], graph.extent(value).len());
        let steps = graph.steps.iter().enumerate().map(|(index, step)| {
            let base = shows[step.x.0];
            let BackwardBuffers { dy, dx, dx_write, added } = plans.get(index).copied().unwrap_or_default();
            let y = graph.extent(step.y).len();
            let lens = made_by[step.x.0].filter(|_| base != step.x);
            StepPlace {
                x: place_of(base),
                lens: lens.map_or(Place::NONE, |of| place_in(&buffers, Some(kept[of]), graph.steps[of].layer.kept())),
                residual: step.residual.map_or(Place::NONE, place_of),
                y: place_of(step.y),
                kept: place_in(&buffers, Some(kept[index]), step.layer.kept()),
                dy: place_in(&buffers, dy, y),
                dx: place_in(&buffers, dx, graph.extent(step.x).len()),
                dx_write,
                residual_gradient: added.map(|buffer| place_in(&buffers, Some(buffer), y)),
            }
        });
        Plan {
            training,
            steps: steps.collect(),
            output: place_of(graph.output),
            output_gradient: place_in(&buffers, gradients[graph.output.0], graph.extent(graph.output).len()),
            numbers_an_image,
            scratch: graph.steps.iter().map(|step| step.layer.scratch(1)).max().unwrap_or(0),
        }
    }

    /// Where `images` images' numbers of a place lie.
    pub fn at(&self, place: Place, images: usize) -> Range<usize> {
        if place.len == 0 {
            return 0..0;
        }
        place.start * images..place.start * images + place.len * images
    }

    /// What a layer may use for itself.
    pub fn scratch(&self, images: usize) -> Range<usize> {
        let start = self.numbers_an_image * images;
        start..start + self.scratch
    }

    /// What a thread needs that takes so many images at once.
    pub fn numbers(&self, images: usize) -> usize {
        self.numbers_an_image * images + self.scratch
    }
}
