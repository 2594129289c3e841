//! Whole small networks: the gradient of a step; weights and running statistics after a few steps of each optimiser, and
//! what the network then answers; answers of a teacher that has another range of pixels.

use std::ops::Range;
use std::rc::Rc;

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::{Machine, Row, distance, resolution, rounded, some};
use crate::job::{
    Adam, BitResnet, BitResnetSmall, CifarResnet, Clip, Graft, Input, Job, MobilenetSize, MobilenetV3, Model, Muon,
    Norm, Normalization, Optimizer, Pool, Positions, Precision, Rmsprop, Sgd, Shampoo, Vit,
};
use crate::train::bench::job;
use crate::train::cuda::device::Number;
use crate::train::cuda::frozen::Frozen;
use crate::train::cuda::trained::Trained;
use crate::train::engine::Engine;
use crate::train::model::{Blueprint, Role, graph};
use crate::train::ops::loss;
use crate::train::optimizer::{self, Layout, State};
use crate::train::status::{Given, Loss, Sums};

const IMAGES: usize = 6;
const STEPS: u64 = 4;
/// Roundings that a number of a deep layer goes through, about.
const SLACK: f64 = 8.0;

pub(super) fn networks(machine: &Rc<Machine>, number: Number) -> Result<Vec<Row>> {
    let small = Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 16 });
    let bit = Model::BitResnet(BitResnet { depth: 26, width: 1 });
    let vit = Model::Vit(Vit::new(64, 2, 2, 4));
    let mean_vit = Model::Vit(Vit { pool: Pool::Mean, positions: Positions::SinCos, ..Vit::new(64, 2, 2, 4) });
    let mobilenet = |norm| Model::MobilenetV3(MobilenetV3 { size: MobilenetSize::Small, norm });
    let cifar = Model::CifarResnet(CifarResnet { depth: 20 });
    let adam = Optimizer::Adam(Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-2 });
    let sgd = |nesterov| Optimizer::Sgd(Sgd { momentum: 0.9, nesterov });
    // With epsilons as large as its: nothing is told by directions that hang on the last bits of a gradient.
    let graft = Graft::Rmsprop(Rmsprop { beta2: 0.99, epsilon: 1e-2 });
    let shampoo = Optimizer::Shampoo(Shampoo {
        block: 64,
        every: 2,
        beta2: 0.99,
        momentum: 0.9,
        nesterov: true,
        epsilon: 1e-1,
        graft,
    });
    let inner = Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-2 };
    let muon = Optimizer::Muon(Muon { momentum: 0.95, nesterov: true, iterations: 1, adam: inner });
    let mut rows = Vec::new();
    let mut networks = vec![
        ("bit-resnet-small, adam", small.clone(), 16, adam),
        ("bit-resnet-small, sgd", small.clone(), 16, sgd(false)),
        ("vit, adam", vit, 16, adam),
        ("vit of means, sgd", mean_vit, 16, sgd(false)),
        ("cifar-resnet 20, adam", cifar, 16, adam),
        ("bit-resnet-small, shampoo", small.clone(), 16, shampoo),
        ("bit-resnet-small, muon", small.clone(), 16, muon),
    ];
    // So deep a network of random weights says nothing when numbers have eight bits: its gradient is noise, and so are
    // moments of one pixel of six images.
    if number == Number::F32 {
        networks.push(("bit-resnet 26, nesterov", bit, 64, sgd(true)));
        networks.push(("mobilenet-v3 with groups, adam", mobilenet(Norm::Group), 32, adam));
        networks.push(("mobilenet-v3 with batches, sgd", mobilenet(Norm::Batch), 32, sgd(false)));
    }
    for (name, model, resolution, optimizer) in networks {
        let input = Input::new(3, 10, resolution);
        let precision = if number == Number::F32 { Precision::F32 } else { Precision::Bf16 };
        let job = Job { optimizer, clip: Clip::Norm(0.5), ..job(&model, input, IMAGES as u32, precision) };
        let found = compare(machine, &job, number)?;
        // In single precision a ReLU that switches, or a scale that nothing normalises again, weighs more than the
        // roundings do. Where a network does not know its own numbers any better, nobody can ask more of a GPU.
        let (share, slack) = if number == Number::F32 { (10.0, 4.0) } else { (1.0, 1.0) };
        // A direction hangs on all of a matrix, so one switch moves all of it.
        let directed = matches!(job.optimizer, Optimizer::Shampoo(_) | Optimizer::Muon(_));
        let of_changes = if directed { 10.0 * share } else { share };
        let bounded = |what: &str, error: f64, known: f64, share: f64| {
            Row::new(format!("{name}: {what}"), number, error).within(share, slack * known)
        };
        let whole = |what: &str, error: f64, known: f64| bounded(what, error, known, of_changes);
        rows.push(Row::new(format!("{name}: loss"), number, found.loss));
        rows.push(bounded("gradient", found.gradient, found.known, share));
        rows.push(whole(&format!("change in {STEPS} steps"), found.change, found.known.max(found.resolution)));
        rows.push(whole("answers", found.answers, found.answers_known));
        rows.extend(found.running.map(|running| whole("running statistics", running, 0.0)));
    }
    for (name, model) in [("bit-resnet-small", small), ("mobilenet-v3 with batches", mobilenet(Norm::Batch))] {
        let error = teacher(machine, &model, number)?;
        rows.push(Row::new(format!("{name} with its own range of pixels: answers"), number, error));
    }
    if number == Number::F32 {
        rows.push(Row::new("running statistics of steps that do not count", number, unmoved(machine)?));
    }
    Ok(rows)
}

/// Relative errors.
struct Found {
    loss: f64,
    gradient: f64,
    /// Of what learns, by all steps.
    change: f64,
    /// Of logits after that, of the same weights.
    answers: f64,
    /// Of running statistics, where there are any.
    running: Option<f64>,
    /// How far the oracle's own gradient moves by roundings.
    known: f64,
    /// How far what a step changes moves when the last bits of the weights do.
    resolution: f64,
    /// The same of its answers.
    answers_known: f64,
}

fn compare(machine: &Rc<Machine>, job: &Job, number: Number) -> Result<Found> {
    let mut engine = Engine::<f64>::trainable(graph(&job.student, job.input()));
    let blueprint = engine.graph().blueprint.clone();
    // A head at zero would send nothing back.
    let noise = some(blueprint.len(), 20);
    let start: Vec<f32> = blueprint.scratch(3).iter().zip(noise).map(|(w, n)| w + 0.05 * n as f32).collect();
    let images = rounded(some(IMAGES * engine.graph().extents[0].len(), 21), number);
    let teacher: Vec<f64> = rounded(some(IMAGES * engine.classes(), 22), Number::F32);
    let layout = Layout::new(&blueprint);
    let runs = |role| matches!(role, Role::RunningMean | Role::RunningVariance);
    let places = blueprint.places().filter(|(entry, _)| runs(entry.role));
    let running: Vec<Range<usize>> = places.map(|(_, range)| range).collect();

    let mut weights = start.clone();
    let mut state = State::new(&job.optimizer, &layout);
    let mut first = None;
    for step in 0..STEPS {
        let wide: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
        let mut gradient = vec![0.0; wide.len()];
        let value = engine.step(&wide, &images, loss::Loss::kl(&teacher, 2.0), &mut gradient);
        let narrow: Vec<f32> = gradient.iter().map(|g| *g as f32).collect();
        optimizer::apply(job, step, &layout, &narrow, &mut state, &mut weights);
        let mut settled = wide;
        engine.settle(&mut settled);
        for range in &running {
            range.clone().for_each(|place| weights[place] = settled[place] as f32);
        }
        first.get_or_insert((value, gradient));
    }
    let (expected_loss, expected_gradient) = first.unwrap_or_default();
    // ReLUs switch: how far the gradient moves when each number is moved by a few roundings is how well it can be known.
    let unit = if number == Number::F32 { 2f64.powi(-24) } else { 2f64.powi(-9) };
    let moved = |numbers: &[f64], index| -> Vec<f64> {
        numbers.iter().zip(some(numbers.len(), index)).map(|(x, noise)| x * (1.0 + SLACK * unit * noise)).collect()
    };
    let wide: Vec<f64> = start.iter().map(|w| f64::from(*w)).collect();
    let mut gradient = vec![0.0; wide.len()];
    let target = loss::Loss::kl(&teacher, 2.0);
    engine.step(&moved(&wide, 23), &moved(&images, 24), target, &mut gradient);
    let known = distance(&gradient, &expected_gradient);

    let gpu = &machine.libraries.gpu;
    let state = State::new(&job.optimizer, &layout);
    let mut trained = Trained::new(machine, job, &start, &state, Sums::default())?;
    let narrow: Vec<f32> = images.iter().map(|x| *x as f32).collect();
    let place = gpu.allocate(narrow.len() * number.bytes())?;
    machine.put(&narrow, number, place.address)?;
    let target: Vec<f32> = teacher.iter().map(|x| *x as f32).collect();
    let target = gpu.holding_floats(&target)?;
    let given = Given { images: place.address, answers: Some(target.address), labels: None };
    let mut first = None;
    for step in 0..STEPS {
        trained.step(job, step, given, Loss::kl(2.0), true)?;
        if first.is_none() {
            let status = trained.take()?;
            first = Some((status.last_loss, trained.gradient()?));
        }
    }
    let (found_loss, found_gradient) = first.unwrap_or_default();
    let mut after = start.clone();
    let mut moments = State::new(&job.optimizer, &layout);
    trained.save(&mut after, &mut moments)?;
    let shown = Tensor::from_vec(narrow, (IMAGES, engine.graph().extents[0].len()), &Device::Cpu)?;
    let found_answers = numbers(&trained.forward(&shown)?)?;
    let wide = |numbers: &[f32]| numbers.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    // What changed, not what was there from the beginning.
    let change = |to: &[f32], which: &dyn Fn(usize) -> bool| {
        let places = (0..start.len()).filter(|place| which(*place));
        places.map(|place| f64::from(to[place]) - f64::from(start[place])).collect::<Vec<_>>()
    };
    let runs = |place: usize| running.iter().any(|range| range.contains(&place));
    let learns = |place: usize| !runs(place);
    let changed = |which: &dyn Fn(usize) -> bool| distance(&change(&after, which), &change(&weights, which));
    let own = wide(&after);
    engine.load(&own);
    let answers = engine.forward(&own, &images);
    let (own, moved_images) = (moved(&own, 23), moved(&images, 24));
    engine.load(&own);
    let answers_known = distance(&engine.forward(&own, &moved_images), &answers);
    Ok(Found {
        loss: distance(&[found_loss], &[expected_loss]),
        gradient: distance(&wide(&found_gradient), &expected_gradient),
        change: changed(&learns),
        resolution: resolution(&weights, &change(&weights, &learns)),
        answers: distance(&found_answers, &answers),
        running: (!running.is_empty()).then(|| changed(&runs)),
        answers_known,
        known,
    })
}

/// What a step without an update, and one that is not finite, move: nothing.
fn unmoved(machine: &Rc<Machine>) -> Result<f64> {
    let model = Model::CifarResnet(CifarResnet { depth: 20 });
    let job = job(&model, Input::new(3, 10, 8), IMAGES as u32, Precision::F32);
    let blueprint = Blueprint::new(&model, job.input());
    let start = blueprint.scratch(3);
    let mut state = State::new(&job.optimizer, &Layout::new(&blueprint));
    let mut trained = Trained::new(machine, &job, &start, &state, Sums::default())?;
    let gpu = &machine.libraries.gpu;
    let numbers = vec![0.5; IMAGES * 8 * 8 * 3];
    let (good, bad) = (gpu.holding_floats(&numbers)?, gpu.holding_floats(&vec![f32::NAN; numbers.len()])?);
    let target = gpu.holding_floats(&[0.1; 10 * IMAGES])?;
    let [good, bad] = [good.address, bad.address].map(|images| {
        let labels = Some(target.address);
        Given { images, answers: None, labels }
    });
    trained.step(&job, 0, good, Loss::LABELS, false)?;
    trained.step(&job, 0, bad, Loss::LABELS, true)?;
    trained.step(&job, 1, good, Loss::LABELS, true)?;
    let mut after = vec![0.0; start.len()];
    trained.save(&mut after, &mut state)?;
    let wide = |numbers: &[f32]| numbers.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    Ok(distance(&wide(&after), &wide(&start)))
}

/// A frozen network that is fed another range of pixels than the views', and has running statistics of its own.
fn teacher(machine: &Rc<Machine>, model: &Model, number: Number) -> Result<f64> {
    let normalization = Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    let input = Input { normalization, ..Input::new(3, 10, 32) };
    let mut engine = Engine::<f64>::frozen(graph(model, input));
    let blueprint = engine.graph().blueprint.clone();
    let noise = some(blueprint.len(), 25);
    let weights: Vec<f32> = blueprint.scratch(4).iter().zip(noise).map(|(w, n)| w + 0.05 * n as f32).collect();
    let images = rounded(some(IMAGES * engine.graph().extents[0].len(), 26), number);
    let wide: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
    engine.load(&wide);
    let precision = if number == Number::F32 { Precision::F32 } else { Precision::Bf16 };
    let frozen = Frozen::new(machine, model, input, precision, IMAGES, &weights)?;
    let narrow: Vec<f32> = images.iter().map(|x| *x as f32).collect();
    let shown = Tensor::from_vec(narrow, (IMAGES, engine.graph().extents[0].len()), &Device::Cpu)?;
    Ok(distance(&numbers(&frozen.forward(&shown)?)?, &engine.forward(&wide, &images)))
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
}
