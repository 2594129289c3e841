//! A network planned for the GPU: its operations for a batch of fixed size, and where everything lies.
//!
//! Values, gradients and scratch of a step lie in one piece of memory whose places are shared by what is not needed at
//! the same time, as on the CPU ([`crate::train::engine`]), but for a whole batch: the plan is made once and a step
//! allocates nothing. A gradient that passes a residual connection unchanged keeps its place. Programs take turns, so they
//! share the piece ([`super::machine`]).

use std::ops::Range;
use std::rc::Rc;

use anyhow::{Result, ensure};

use super::device::{Address, Number};
use super::libraries::Libraries;
use super::loss::{self, Beside, Places};
use super::operation::{Backward, Batch, Forward, Numbers, Operation, operation};
use super::running::Running;
use super::weights::Rows;
use crate::train::buffers::Buffers;
use crate::train::graph::Graph;
use crate::train::status::{Given, Loss};

/// Places start at multiples of so many bytes.
const ALIGNMENT: usize = 256;

/// A place in the piece, in bytes.
type Place = usize;

#[derive(Clone, Copy, Default)]
struct StepPlaces {
    /// None for the network's input.
    x: Option<Place>,
    residual: Option<Place>,
    y: Place,
    kept: Place,
    forward_scratch: Place,
    /// None where nothing before learns, and where nobody uses the value.
    dy: Option<Place>,
    dx: Option<(Place, bool)>,
    /// Where `dy` is added for the residual connection.
    added: Option<Place>,
    backward_scratch: Place,
    /// Numbers of `y`.
    numbers: usize,
}

pub struct Program {
    pub libraries: Rc<Libraries>,
    pub number: Number,
    /// Images of a forward pass.
    pub images: usize,
    /// Numbers of an image.
    pub image: usize,
    pub classes: usize,
    /// Numbers of the flat vector.
    pub numbers: usize,
    pub rows: Rows,
    pub running: Running,
    /// Numbers of the flat vector that have no gradient.
    pub fixed: Vec<Range<usize>>,
    operations: Vec<Box<dyn Operation>>,
    places: Vec<StepPlaces>,
    logits: Place,
    slope: Place,
    /// What a step leaves for the optimiser, behind the activations.
    after: After,
    /// Bytes of the piece.
    pub bytes: usize,
}

#[derive(Clone, Copy, Default)]
struct After {
    gradient: Place,
    matrices: Place,
    squares: Place,
    losses: Place,
    moments: Place,
}

impl Program {
    /// `images` are those of a pass; a training step takes a multiple of them.
    ///
    /// # Errors
    /// When the GPU's libraries cannot do some layer.
    pub fn new(
        libraries: &Rc<Libraries>,
        graph: &Graph<f32>,
        number: Number,
        images: usize,
        passes: usize,
        training: bool,
    ) -> Result<Program> {
        let batch = Batch { images, number, training };
        let last = graph.steps.len().saturating_sub(1);
        let mut operations = Vec::new();
        for (index, step) in graph.steps.iter().enumerate() {
            operations.push(operation(&step.layer.describe(), batch, index == last, libraries)?);
        }
        let ends = graph.steps.last().is_some_and(|step| {
            step.y == graph.output
                && matches!(step.layer.describe(), crate::train::ops::layer::Description::Conv { .. })
        });
        ensure!(ends, "a network for the GPU ends with a linear layer");
        let numbers = graph.blueprint.len();
        let rows = Rows::new(&libraries.gpu, &mut operations, numbers, &graph.blueprint.decayed())?;
        let running = Running::new(&libraries.gpu, &operations)?;
        let fixed =
            graph.blueprint.places().filter(|(entry, _)| !entry.role.learns()).map(|(_, range)| range).collect();
        let Planned { places, logits, slope, end } = plan(graph, &operations, batch, training);
        let mut program = Program {
            libraries: Rc::clone(libraries),
            number,
            images,
            image: graph.extents[0].len(),
            classes: graph.extent(graph.output).len(),
            numbers,
            rows,
            running,
            fixed,
            operations,
            places,
            logits,
            slope,
            after: After::default(),
            bytes: end,
        };
        if training {
            let mut place = |bytes: usize| {
                let at = program.bytes.next_multiple_of(ALIGNMENT);
                program.bytes = at + bytes;
                at
            };
            program.after = After {
                gradient: place(4 * numbers),
                matrices: place(4 * program.rows.matrices),
                squares: place(8 * program.rows.count),
                losses: place(4 * images * passes),
                moments: place(4 * program.running.numbers),
            };
        }
        Ok(program)
    }

    /// Where so many bytes lie that are needed from the gradient to the update, and how long the piece is then: where
    /// activations were, or behind all else where they were fewer.
    pub fn between(&self, bytes: usize) -> (usize, usize) {
        if bytes <= self.after.gradient {
            return (0, self.bytes);
        }
        let at = self.bytes.next_multiple_of(ALIGNMENT);
        (at, at + bytes)
    }

    /// Where a pass leaves its logits `[images, classes]`, f32.
    pub fn logits(&self, piece: Address) -> Address {
        piece + self.logits as u64
    }

    /// Gradients of the step before, flat and in the layout of the matrices.
    pub fn gradient(&self, piece: Address) -> Numbers {
        let after = self.after;
        Numbers { flat: piece + after.gradient as u64, matrices: piece + after.matrices as u64 }
    }

    /// Sums of squares of the gradient's rows, f64; losses of the images, f32.
    pub fn sums(&self, piece: Address) -> (Address, Address) {
        (piece + self.after.squares as u64, piece + self.after.losses as u64)
    }

    /// Where a step leaves the moments of its batch.
    pub fn moments(&self, piece: Address) -> Address {
        piece + self.after.moments as u64
    }

    /// Logits of `images` images at `images`, in [`Program::logits`]: a network's answer, with running statistics.
    ///
    /// # Errors
    /// The driver's and the libraries'.
    pub fn answer(&self, piece: Address, weights: Numbers, images: Address) -> Result<()> {
        self.forward(piece, weights, images, None)
    }

    fn forward(&self, piece: Address, weights: Numbers, images: Address, moments: Option<Address>) -> Result<()> {
        let at = |place: Place| piece + place as u64;
        for (index, (operation, place)) in self.operations.iter().zip(&self.places).enumerate() {
            operation.forward(&Forward {
                libraries: &self.libraries,
                weights,
                x: place.x.map_or(images, at),
                residual: place.residual.map(at),
                y: at(place.y),
                kept: at(place.kept),
                scratch: at(place.forward_scratch),
                moments: moments.and_then(|moments| self.running.of(index, moments)),
            })?;
        }
        Ok(())
    }

    /// Losses and the gradient of their mean over `passes` passes, of what lies one after the other.
    ///
    /// # Errors
    /// The driver's and the libraries'.
    pub fn train(
        &self,
        piece: Address,
        weights: Numbers,
        given: Given,
        (loss, beside): (Loss, &Beside),
        passes: usize,
    ) -> Result<()> {
        let gpu = &self.libraries.gpu;
        let (squares, losses) = self.sums(piece);
        let gradient = self.gradient(piece);
        for pass in 0..passes {
            let from = given.images + (pass * self.images * self.image * self.number.bytes()) as u64;
            self.forward(piece, weights, from, Some(self.moments(piece)))?;
            let first = (pass * self.images) as u64;
            let row = 4 * self.classes as u64;
            let places = Places {
                logits: self.logits(piece),
                answers: given.answers.map(|answers| answers + first * row * loss.teachers as u64),
                labels: given.labels.map(|labels| labels + first * row),
                losses: losses + 4 * first,
                slope: piece + self.slope as u64,
            };
            let share = 1.0 / (self.images * passes) as f32;
            loss::launch(gpu, self.number, loss, &places, beside, (self.images, self.classes), share)?;
            self.backward(piece, weights, gradient, from, pass > 0)?;
        }
        let arguments = [
            self.rows.table().into(),
            weights.flat.into(),
            gradient.matrices.into(),
            gradient.flat.into(),
            squares.into(),
        ];
        gpu.launch(self.number, "collect_rows", self.rows.spread(), &arguments)
    }

    fn backward(&self, piece: Address, weights: Numbers, gradient: Numbers, images: Address, add: bool) -> Result<()> {
        let at = |place: Place| piece + place as u64;
        for (operation, place) in self.operations.iter().zip(&self.places).rev() {
            let Some(dy) = place.dy else { continue };
            operation.backward(&Backward {
                libraries: &self.libraries,
                weights,
                gradient,
                add,
                x: place.x.map_or(images, at),
                kept: at(place.kept),
                dy: at(dy),
                dx: place.dx.map(|(dx, add)| (at(dx), add)),
                scratch: at(place.backward_scratch),
            })?;
            if let Some(to) = place.added {
                self.libraries.add(self.number, at(dy), at(to), place.numbers)?;
            }
        }
        Ok(())
    }
}

struct Planned {
    places: Vec<StepPlaces>,
    logits: Place,
    slope: Place,
    end: usize,
}

/// Buffers of one step.
#[derive(Clone, Copy, Default)]
struct StepBuffers {
    kept: usize,
    forward_scratch: usize,
    dy: Option<usize>,
    dx: Option<(usize, bool)>,
    added: Option<usize>,
    backward_scratch: usize,
}

fn plan(graph: &Graph<f32>, operations: &[Box<dyn Operation>], batch: Batch, training: bool) -> Planned {
    let count = graph.steps.len();
    let mut buffers = Buffers::new(ALIGNMENT);
    let mut stored: Vec<Option<usize>> = vec![None; graph.extents.len()];
    let mut steps = vec![StepBuffers::default(); count];
    let mut learns = vec![false; graph.extents.len()];
    let length = |value: usize| batch.images * graph.extents[value].len();
    for (time, (step, operation)) in graph.steps.iter().zip(operations).enumerate() {
        let backward = 2 * count - time;
        for read in [Some(step.x), step.residual].into_iter().flatten() {
            if let Some(buffer) = stored[read.0] {
                buffers.use_at(buffer, time);
            }
        }
        if let (Some(buffer), true, true) = (stored[step.x.0], training, operation.needs_x()) {
            buffers.use_at(buffer, backward);
        }
        steps[time].kept = buffers.add(operation.kept(), time);
        if training {
            buffers.use_at(steps[time].kept, backward);
        }
        let (forward_scratch, backward_scratch) = operation.scratch();
        steps[time].forward_scratch = buffers.add(forward_scratch, time);
        steps[time].backward_scratch = buffers.add(if training { backward_scratch } else { 0 }, backward);
        learns[step.y.0] = learns[step.x.0]
            || step.residual.is_some_and(|residual| learns[residual.0])
            || !operation.parameters().is_empty();
        let number = if step.y == graph.output { Number::F32 } else { batch.number };
        stored[step.y.0] = Some(buffers.add(length(step.y.0) * number.bytes(), time));
    }
    let logits = stored[graph.output.0].expect("the output is made by a step");
    buffers.use_at(logits, count);

    let mut gradients: Vec<Option<usize>> = vec![None; graph.extents.len()];
    let mut slope = None;
    if training {
        let bytes = |value: usize| length(value) * batch.number.bytes();
        slope = Some(buffers.add(bytes(graph.output.0), count));
        gradients[graph.output.0] = slope;
        for (time, (step, operation)) in graph.steps.iter().zip(operations).enumerate().rev() {
            let backward = 2 * count - time;
            let Some(dy) = gradients[step.y.0] else { continue };
            buffers.use_at(dy, backward);
            steps[time].dy = Some(dy);
            if learns[step.x.0] || operation.needs_dx() {
                let add = gradients[step.x.0].is_some();
                let dx = *gradients[step.x.0].get_or_insert_with(|| buffers.add(bytes(step.x.0), backward));
                buffers.use_at(dx, backward);
                steps[time].dx = Some((dx, add));
            }
            if let Some(residual) = step.residual {
                match gradients[residual.0] {
                    Some(buffer) => {
                        buffers.use_at(buffer, backward);
                        steps[time].added = Some(buffer);
                    }
                    None => gradients[residual.0] = Some(dy),
                }
            }
        }
    }
    let end = buffers.place();
    let place = |buffer: usize| buffers.start(buffer);
    let of = |value: usize| stored[value].map(place);
    let places = graph.steps.iter().zip(&steps).map(|(step, own)| StepPlaces {
        x: of(step.x.0),
        residual: step.residual.and_then(|residual| of(residual.0)),
        y: of(step.y.0).expect("every step's value is stored"),
        kept: place(own.kept),
        forward_scratch: place(own.forward_scratch),
        dy: own.dy.map(place),
        dx: own.dx.map(|(dx, add)| (place(dx), add)),
        added: own.added.map(place),
        backward_scratch: place(own.backward_scratch),
        numbers: length(step.y.0),
    });
    Planned { places: places.collect(), logits: place(logits), slope: slope.map_or(0, place), end }
}

/// Passes that a batch is cut into: the fewest that divide it, such that `fits` says yes to the images of one.
pub fn passes(batch: usize, mut fits: impl FnMut(usize) -> Result<bool>) -> Result<Option<usize>> {
    for passes in (1..=batch).filter(|passes| batch.is_multiple_of(*passes)) {
        if fits(batch / passes)? {
            return Ok(Some(passes));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_evenly_and_as_little_as_possible() {
        assert_eq!(passes(48, |images| Ok(images <= 20)).unwrap(), Some(3));
        assert_eq!(passes(7, |images| Ok(images <= 6)).unwrap(), Some(7));
        assert_eq!(passes(7, |_| Ok(true)).unwrap(), Some(1));
        assert_eq!(passes(7, |_| Ok(false)).unwrap(), None);
    }
}
