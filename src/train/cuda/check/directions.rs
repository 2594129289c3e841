//! Directions of Shampoo and Muon over several steps: what they change, and all of their state, against the CPU's rule on
//! the very gradients that the GPU made.

use std::rc::Rc;

use anyhow::{Context, Result};

use super::{Machine, Row, distance, resolution, some};
use crate::job::{
    Adagrad, Adam, Clip, Decay, Graft, Input, Job, Model, Muon, Optimizer, Positions, Precision, Rmsprop, Shampoo, Vit,
};
use crate::train::bench::job;
use crate::train::cuda::buffer::Buffer;
use crate::train::cuda::device::Number;
use crate::train::cuda::trained::Trained;
use crate::train::model::Blueprint;
use crate::train::optimizer::{self, Layout, State};
use crate::train::status::{Given, Loss, Sums};

const IMAGES: usize = 3;
const SIDE: usize = 8;
const CLASSES: usize = 10;
const STEPS: u64 = 5;

pub(super) fn directions(machine: &Rc<Machine>) -> Result<Vec<Row>> {
    let graft = Graft::Rmsprop(Rmsprop { beta2: 0.99, epsilon: 1e-3 });
    // Blocks whose last ones are smaller, of one tile.
    let shampoo = Shampoo { block: 10, every: 1, beta2: 0.9, momentum: 0.9, nesterov: true, epsilon: 1e-2, graft };
    let adagrad = Graft::Adagrad(Adagrad { epsilon: 1e-3 });
    let sums = Shampoo { every: 3, beta2: 1.0, nesterov: false, graft: adagrad, ..shampoo };
    // Of several tiles, and sides that no tile divides.
    let large = Shampoo { block: 100, every: 3, graft: Graft::Sgd, ..shampoo };
    let adam = Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-3 };
    let muon = Muon { momentum: 0.9, nesterov: true, iterations: 5, adam };
    let few = Muon { nesterov: false, iterations: 2, ..muon };
    let mut rows = Vec::new();
    for (name, optimizer, decay, heads) in [
        ("shampoo, rmsprop", Optimizer::Shampoo(shampoo), Decay::Schedule, 1),
        ("shampoo of sums, adagrad, every 3", Optimizer::Shampoo(sums), Decay::Gradient, 1),
        ("shampoo of large blocks, sgd, every 3", Optimizer::Shampoo(large), Decay::LearningRate, 5),
        ("muon, nesterov", Optimizer::Muon(muon), Decay::Gradient, 5),
        ("muon of 2 iterations", Optimizer::Muon(few), Decay::Schedule, 1),
    ] {
        let case = Case::new(machine, optimizer, decay, heads)?;
        let row = |what: &str, error| Row::new(format!("direction of {name}: {what}"), Number::F32, error);
        let begin = State::new(&optimizer, &case.layout);
        let found = case.follow(machine, &begin, STEPS).with_context(|| format!("`{name}`"))?;
        rows.push(row("changes", found.changes).within(1.0, 4.0 * found.resolution));
        rows.push(row("state", found.state));
        if heads == 1 {
            rows.push(row("from a checkpoint", case.resume(machine)?));
            rows.push(row("of a step that is not finite", case.fail(machine)?));
            // Whose matrices but the head have no gradient at first.
            let case = Case { start: case.zero_head(), ..case };
            rows.push(row("from a head at zero", case.follow(machine, &begin, 2)?.worst()));
        }
    }
    // Statistics that have no root: it stays what it was, or is not a number.
    let case = Case::new(machine, Optimizer::Shampoo(shampoo), Decay::Schedule, 1)?;
    for (name, value, steps) in [("a negative eigenvalue", -1e3, 2), ("what is not a number", f32::NAN, 1)] {
        let mut begin = State::new(&case.job.optimizer, &case.layout);
        begin.moments[1].1[0] = value;
        let found = case.follow(machine, &begin, steps)?;
        rows.push(Row::new(format!("direction of shampoo with {name}"), Number::F32, found.worst()));
    }
    Ok(rows)
}

/// A small network with fixed positions and matrices of both orientations, and what it learns from.
struct Case {
    job: Job,
    layout: Layout,
    start: Vec<f32>,
    images: [Buffer; 2],
    bad: Buffer,
    labels: Buffer,
}

struct Found {
    changes: f64,
    /// The largest of all vectors'.
    state: f64,
    /// How far the changes of a step move when the last bits of the weights do.
    resolution: f64,
}

impl Found {
    fn worst(&self) -> f64 {
        self.changes.max(self.state)
    }
}

impl Case {
    fn new(machine: &Machine, optimizer: Optimizer, decay: Decay, heads: u32) -> Result<Case> {
        let positions = Positions::SinCos;
        let model = Model::Vit(Vit { positions, ..Vit::new(16 * heads, 1, heads, 4) });
        let input = Input::new(3, CLASSES as u32, SIDE as u32);
        let job = Job {
            optimizer,
            decay,
            weight_decay: 0.05,
            clip: Clip::Norm(0.25),
            ..job(&model, input, IMAGES as u32, Precision::F32)
        };
        let blueprint = Blueprint::new(&job.student, job.input());
        let noise = some(blueprint.len(), 30);
        let gpu = &machine.libraries.gpu;
        let numbers = |index| some(IMAGES * SIDE * SIDE * 3, index).iter().map(|x| *x as f32).collect::<Vec<_>>();
        let bad = vec![f32::NAN; IMAGES * SIDE * SIDE * 3];
        Ok(Case {
            layout: Layout::new(&blueprint),
            // A head at zero would send nothing back.
            start: blueprint.scratch(3).iter().zip(noise).map(|(w, n)| w + 0.05 * n as f32).collect(),
            images: [gpu.holding_floats(&numbers(31))?, gpu.holding_floats(&numbers(32))?],
            bad: gpu.holding_floats(&bad)?,
            labels: gpu.holding_floats(&[1.0 / CLASSES as f32; CLASSES * IMAGES])?,
            job,
        })
    }

    fn zero_head(&self) -> Vec<f32> {
        let mut start = self.start.clone();
        let heads = self.layout.matrices.iter().filter(|matrix| matrix.head);
        heads.for_each(|matrix| start[matrix.place.clone()].fill(0.0));
        start
    }

    fn begin(&self, machine: &Rc<Machine>, weights: &[f32], state: &State) -> Result<Trained> {
        Trained::new(machine, &self.job, weights, state, Sums::default())
    }

    fn step(&self, trained: &mut Trained, step: u64) -> Result<()> {
        self.step_on(trained, step, &self.images[step as usize % 2])
    }

    fn step_on(&self, trained: &mut Trained, step: u64, images: &Buffer) -> Result<()> {
        let given = Given { images: images.address, answers: None, labels: Some(self.labels.address) };
        trained.step(&self.job, step, given, Loss::LABELS, true)
    }

    fn saved(&self, trained: &Trained) -> Result<(Vec<f32>, State)> {
        let (mut weights, mut state) = (self.start.clone(), State::new(&self.job.optimizer, &self.layout));
        trained.save(&mut weights, &mut state)?;
        Ok((weights, state))
    }

    /// Whatever the gradients are, both sides see the same.
    fn follow(&self, machine: &Rc<Machine>, begin: &State, steps: u64) -> Result<Found> {
        let (mut weights, mut state) = (self.start.clone(), begin.clone());
        let mut trained = self.begin(machine, &weights, &state)?;
        for step in 0..steps {
            self.step(&mut trained, step)?;
            let gradient = trained.gradient()?;
            optimizer::apply(&self.job, step, &self.layout, &gradient, &mut state, &mut weights);
        }
        let found = self.saved(&trained)?;
        let change = |to: &[f32]| to.iter().zip(&self.start).map(|(a, b)| a - b).collect::<Vec<_>>();
        let expected = change(&weights);
        let wide: Vec<f64> = expected.iter().map(|x| f64::from(*x)).collect();
        Ok(Found {
            changes: between(&change(&found.0), &expected),
            state: apart(&found.1, &state),
            resolution: resolution(&weights, &wide),
        })
    }

    /// Whose steps are the same when state and weights were saved between them.
    fn resume(&self, machine: &Rc<Machine>) -> Result<f64> {
        let mut trained = self.begin(machine, &self.start, &State::new(&self.job.optimizer, &self.layout))?;
        for step in 0..2 {
            self.step(&mut trained, step)?;
        }
        let (weights, state) = self.saved(&trained)?;
        let mut resumed = self.begin(machine, &weights, &state)?;
        for step in 2..STEPS {
            self.step(&mut trained, step)?;
            self.step(&mut resumed, step)?;
        }
        let (went_on, resumed) = (self.saved(&trained)?, self.saved(&resumed)?);
        Ok(between(&resumed.0, &went_on.0).max(apart(&resumed.1, &went_on.1)))
    }

    /// What two bad steps, one of which makes roots where that is rare, and a good one after them, move: nothing.
    fn fail(&self, machine: &Rc<Machine>) -> Result<f64> {
        let mut trained = self.begin(machine, &self.start, &State::new(&self.job.optimizer, &self.layout))?;
        for step in 0..2 {
            self.step(&mut trained, step)?;
        }
        let before = self.saved(&trained)?;
        for step in 2..4 {
            self.step_on(&mut trained, step, &self.bad)?;
        }
        self.step(&mut trained, 4)?;
        let after = self.saved(&trained)?;
        Ok(between(&after.0, &before.0).max(apart(&after.1, &before.1)))
    }
}

fn apart(found: &State, expected: &State) -> f64 {
    let vectors = found.moments.iter().zip(&expected.moments);
    vectors.map(|((_, found), (_, expected))| between(found, expected)).fold(0.0, f64::max)
}

/// As [`distance`], but what neither knows is the same.
fn between(found: &[f32], expected: &[f32]) -> f64 {
    let known = found.iter().zip(expected).filter(|(found, expected)| !(found.is_nan() && expected.is_nan()));
    let (found, expected): (Vec<f64>, Vec<f64>) = known.map(|(a, b)| (f64::from(*a), f64::from(*b))).unzip();
    distance(&found, &expected)
}
