//! Losses on the GPU: which kernels a loss takes, and what they need beside targets.

use anyhow::{Result, ensure};

use super::buffer::Buffer;
use super::device::{Address, Gpu, Number, Spread};
use super::operation::u32_of;
use crate::job::{Distance, Distil, Ensemble, Job, Objective};
use crate::train::status::Loss;

/// Threads of a row.
const THREADS: usize = 128;
/// `MOST_TEACHERS` of `kernels/loss.cu`.
const MOST_TEACHERS: usize = 16;
/// Bytes of a `struct Line` of `kernels/relation.cu`.
const LINE: usize = 20;

/// What a student's loss needs of its own.
#[derive(Default)]
pub struct Beside {
    /// Of teachers, f32, where they are not all 1.
    weights: Option<Buffer>,
    relations: Option<Buffer>,
}

/// Where the numbers of a loss lie: logits `[N, C]`, teachers' `[N, K, C]`, labels `[N, C]`, losses `[N]`, all f32, and the
/// gradient `[N, C]` of the element type.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    pub logits: Address,
    pub answers: Option<Address>,
    pub labels: Option<Address>,
    pub losses: Address,
    pub slope: Address,
}

impl Beside {
    /// # Errors
    /// When there is too little memory.
    pub fn new(gpu: &std::rc::Rc<Gpu>, job: &Job) -> Result<Beside> {
        let Objective::Distil(distil) = &job.objective else { return Ok(Beside::default()) };
        let weights: Vec<f32> = distil.weights().iter().map(|weight| *weight as f32).collect();
        let weighted = distil.ensemble == Ensemble::SumOfKl;
        let bytes = bytes(Loss::of(&job.objective), job.batch as usize, job.data.classes as usize);
        Ok(Beside {
            weights: weighted.then(|| gpu.holding_floats(&weights)).transpose()?,
            relations: (bytes > 0).then(|| gpu.allocate(bytes)).transpose()?,
        })
    }

    /// For a loss of no job, of a batch of so many images.
    ///
    /// # Errors
    /// When there is too little memory.
    pub fn of(gpu: &std::rc::Rc<Gpu>, loss: Loss, weights: &[f32], images: usize, classes: usize) -> Result<Beside> {
        let bytes = bytes(loss, images, classes);
        Ok(Beside {
            weights: Some(gpu.holding_floats(weights)?),
            relations: (bytes > 0).then(|| gpu.allocate(bytes)).transpose()?,
        })
    }
}

/// Says what a GPU's kernels cannot do, before anything is begun.
///
/// # Errors
/// When they cannot.
pub fn refuse(distil: &Distil) -> Result<()> {
    let count = distil.weights().len();
    ensure!(
        count <= MOST_TEACHERS,
        "on a GPU a student compares itself with at most {MOST_TEACHERS} teachers one by one, and there are {count}\n\
         hint: `ensemble = \"mean-probabilities\"` makes one of them, or say `--device cpu`"
    );
    Ok(())
}

/// Bytes of a buffer that a loss takes for itself.
pub fn bytes(loss: Loss, images: usize, classes: usize) -> usize {
    match loss.distance {
        Some(Distance::Dist(_)) => LINE * (images + classes) + 3 * 4 * images * classes,
        _ => 0,
    }
}

/// Losses of so many images, and `share` times their gradients. Of a loss of the batch they are the whole batch.
///
/// # Errors
/// The driver's, and what the kernels cannot do.
pub fn launch(
    gpu: &Gpu,
    number: Number,
    loss: Loss,
    places: &Places,
    beside: &Beside,
    (images, classes): (usize, usize),
    share: f32,
) -> Result<()> {
    let temperature = loss.distance.and_then(|distance| distance.temperature()).unwrap_or(1.0);
    let squared = (temperature * temperature) as f32;
    let mut slope_of = 0;
    let (kind, factor, first, second) = match loss.distance {
        None => (0u32, 1.0, 0.0f32, 0.0f32),
        Some(Distance::Kl(kl)) => (1, kl.factor() as f32, 0.0, 0.0),
        Some(Distance::Squared) => (2, 1.0, 0.0, 0.0),
        Some(Distance::Euclidean) => (3, 1.0, 0.0, 0.0),
        Some(Distance::PseudoLabels(of)) => (4, 1.0, of.smoothing as f32, 0.0),
        Some(Distance::Dkd(dkd)) => (5, squared, dkd.alpha as f32, dkd.beta as f32),
        Some(Distance::Dist(dist)) => {
            let inverse = (1.0 / temperature) as f32;
            let start = beside.relations.as_ref().map_or(0, |buffer| buffer.address);
            ensure!(start > 0, "a loss of the batch has room for its relations");
            let numbers = (4 * images * classes) as u64;
            // Numbers first: they begin at a multiple of 4 whatever their count.
            let (student, teacher) = (start, start + numbers);
            slope_of = start + 2 * numbers;
            let rows = start + 3 * numbers;
            let columns = rows + (LINE * images) as u64;
            let answers = places.answers.unwrap_or(0);
            let arguments = [
                places.logits.into(),
                answers.into(),
                student.into(),
                teacher.into(),
                rows.into(),
                u32_of(classes).into(),
                inverse.into(),
            ];
            gpu.launch(number, "relation_rows", Spread::blocks([images, 1, 1], THREADS), &arguments)?;
            let arguments =
                [student.into(), teacher.into(), columns.into(), u32_of(images).into(), u32_of(classes).into()];
            gpu.launch(number, "relation_columns", Spread::blocks([classes, 1, 1], THREADS), &arguments)?;
            let arguments = [
                student.into(),
                teacher.into(),
                rows.into(),
                columns.into(),
                slope_of.into(),
                places.losses.into(),
                u32_of(classes).into(),
                inverse.into(),
                squared.into(),
                (dist.beta as f32).into(),
                (dist.gamma as f32).into(),
            ];
            gpu.launch(number, "relation_slope", Spread::blocks([images, 1, 1], THREADS), &arguments)?;
            (6, 1.0, 0.0, 0.0)
        }
    };
    let arguments = [
        places.logits.into(),
        places.answers.unwrap_or(0).into(),
        places.labels.unwrap_or(0).into(),
        beside.weights.as_ref().map_or(0, |buffer| buffer.address).into(),
        slope_of.into(),
        places.losses.into(),
        places.slope.into(),
        u32_of(classes).into(),
        kind.into(),
        u32_of(loss.teachers).into(),
        (temperature as f32).into(),
        factor.into(),
        first.into(),
        second.into(),
        loss.told.into(),
        share.into(),
    ];
    gpu.launch(number, "loss_rows", Spread::blocks([images, 1, 1], THREADS), &arguments)
}
