//! Teachers: frozen networks, asked live at every step or once for all.

mod kept;
mod recorded;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{D, Device, Tensor};
use candle_nn::ops::softmax;
use sha2::{Digest, Sha256};

use super::control::Control;
use super::cuda::{self, frozen::Answers};
use super::evaluation::{CHUNK, Evaluated};
use super::model::Blueprint;
use super::moment::Moment;
use super::network::{Answer, Frozen, Machine, Shown, with_numbers};
pub use recorded::Recording;

use super::views::{Asked, Batch, Look, Still, Views, asked};
use super::weights::load_weights;
use crate::digest::hex;
use crate::folder::Folder;
use crate::job::{Distil, Ensemble, Job, NetworkSource, Precision, Teacher};
use crate::plan::Places;

/// At most so much of an answer that takes long is lost.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// The teachers of a cohort.
pub struct Teachers {
    networks: Vec<(Frozen, u32)>,
    ensemble: Ensemble,
    /// Of the networks.
    weights: Vec<f64>,
    asked: Asked,
    /// Answers to every training image, `[images, K * classes]`, where they are asked once.
    answers: Option<Tensor>,
    recording: Option<Recording>,
    /// Where answers lie on a GPU.
    on_gpu: Option<Answers>,
    batch: usize,
    classes: usize,
    /// Numbers of an answer to one image: the classes, of every teacher where the student is given all.
    width: usize,
    precision: Precision,
    /// What the bits of answers depend on besides the question: the machine, and the weights' own bits.
    identity: String,
}

impl Teachers {
    /// Reads the teachers' weights.
    pub fn load(machine: &Machine, job: &Job, distil: &Distil, folder: &Folder, places: &Places) -> Result<Teachers> {
        if matches!(machine, Machine::Cuda(_)) {
            cuda::loss::refuse(distil)?;
        }
        let mut hash = Sha256::new();
        let networks = distil.teachers.iter().map(|teacher| {
            let path = weights_file(&teacher.source, folder, places)?;
            network(machine, job, teacher, &path, &mut hash).map(|network| (network, teacher.resolution))
        });
        let networks = networks.collect::<Result<_>>()?;
        let (batch, classes) = (job.batch as usize, job.data.classes as usize);
        let width = distil.weights().len() * classes;
        let on_gpu = match machine {
            Machine::Cpu(_) => None,
            Machine::Cuda(machine) => Some(Answers::new(machine, batch * width)?),
        };
        Ok(Teachers {
            networks,
            ensemble: distil.ensemble,
            weights: distil.teachers.iter().map(|teacher| teacher.weight).collect(),
            asked: asked(distil, job.mixing),
            answers: None,
            recording: None,
            on_gpu,
            batch,
            classes,
            width,
            precision: job.precision,
            identity: format!("{}\n{}", machine.identity(), hex(&hash.finalize())),
        })
    }

    /// The name of what they answer to the questions of stream `key`: other machines and other weights have others.
    pub fn key(&self, key: &str) -> String {
        format!("{key}\n{}", self.identity)
    }

    /// Numbers of an answer to a batch.
    pub fn numbers(&self) -> usize {
        self.batch * self.width
    }

    /// Takes live answers from `recording` where they are there, and puts them there where not.
    pub fn record(&mut self, recording: Recording) {
        if matches!(self.asked, Asked::Live(_)) {
            self.recording = Some(recording);
        }
    }

    /// Logits for a batch: of the ensemble, or of every teacher where the student compares itself with each.
    ///
    /// # Errors
    /// The machine's, and those of the files of a recorded stream.
    pub fn answer(&mut self, machine: &Machine, moment: &Moment<'_, '_>) -> Result<Answer> {
        match machine {
            Machine::Cpu(_) => self.answer_on_cpu(moment.views, moment.batch).map(Answer::Cpu),
            Machine::Cuda(_) => self.answer_on_gpu(machine, moment).map(Answer::Cuda),
        }
    }

    /// Seconds that a GPU has spent on answers so far; waits for it. On the CPU whoever asks takes the time.
    ///
    /// # Errors
    /// What went wrong on the GPU.
    pub fn seconds(&self) -> Result<f64> {
        self.on_gpu.as_ref().map_or(Ok(0.0), Answers::seconds)
    }

    /// Keeps what is still on its way to a recording.
    ///
    /// # Errors
    /// The GPU's and the file's.
    pub fn finish(&mut self) -> Result<()> {
        match (&mut self.on_gpu, &self.recording) {
            (Some(answers), Some(recording)) => answers.take(true, |step, logits| recording.put(step, logits)),
            _ => Ok(()),
        }
    }

    fn answer_on_gpu(&mut self, machine: &Machine, moment: &Moment<'_, '_>) -> Result<u64> {
        let batch = moment.batch;
        let answers = self.on_gpu.as_mut().context("teachers were loaded for a GPU")?;
        if let Some(recording) = &self.recording
            && let Some(logits) = recording.get(batch.step)?
        {
            answers.put(&logits)?;
            return Ok(answers.address());
        }
        match self.asked {
            Asked::Live(look) => {
                answers.begin()?;
                for (place, (network, resolution)) in self.networks.iter().enumerate() {
                    let look = Look { resolution: *resolution, ..look };
                    let (Frozen::Cuda(network), Shown::Cuda(images)) =
                        (network, machine.show(moment, look, self.precision)?)
                    else {
                        anyhow::bail!("teachers were loaded for a GPU")
                    };
                    let voice = Voice::of(self.ensemble, &self.weights, place);
                    network.answer(images, answers.address(), voice)?;
                }
                answers.end()?;
            }
            Asked::Once(_) => {
                let all = self.answers.as_ref().context("the teacher was prepared")?;
                let images = Tensor::new(&batch.images[..], &Device::Cpu)?;
                with_numbers(&all.index_select(&images, 0)?, |logits| answers.put(logits))??;
            }
        }
        if let Some(recording) = &self.recording {
            answers.ask(batch.step)?;
            answers.take(false, |step, logits| recording.put(step, logits))?;
        }
        Ok(answers.address())
    }

    fn answer_on_cpu(&self, views: &Views, batch: &Batch) -> Result<Tensor> {
        let Some(recording) = &self.recording else { return self.ask(views, batch) };
        if let Some(logits) = recording.get(batch.step)? {
            return Ok(Tensor::from_vec(logits, (self.batch, self.width), &Device::Cpu)?);
        }
        let answer = self.ask(views, batch)?;
        with_numbers(&answer, |logits| recording.put(batch.step, logits))??;
        Ok(answer)
    }

    fn ask(&self, views: &Views, batch: &Batch) -> Result<Tensor> {
        match self.asked {
            Asked::Live(look) => {
                let mut shown: Vec<(u32, Tensor)> = Vec::new();
                let mut logits = Vec::new();
                for (network, resolution) in &self.networks {
                    // Teachers of one resolution see one tensor.
                    let images = match shown.iter().find(|(of, _)| of == resolution) {
                        Some((_, images)) => images.clone(),
                        None => {
                            let images = views.show(batch, Look { resolution: *resolution, ..look })?;
                            shown.push((*resolution, images.clone()));
                            images
                        }
                    };
                    logits.push(network.forward(&images)?);
                }
                self.target(logits)
            }
            Asked::Once(_) => {
                let answers = self.answers.as_ref().context("the teacher was prepared")?;
                let images = Tensor::new(&batch.images[..], &Device::Cpu)?;
                Ok(answers.index_select(&images, 0)?)
            }
        }
    }

    /// What a student is given of the teachers' logits `[N, classes]`.
    fn target(&self, logits: Vec<Tensor>) -> Result<Tensor> {
        match self.ensemble {
            Ensemble::SumOfKl => Ok(Tensor::cat(&logits, 1)?),
            Ensemble::MeanLogits | Ensemble::MeanProbabilities => combine(logits, self.ensemble, &self.weights),
        }
    }

    /// What each teacher, and if there are several their ensemble, answers to a split; teachers first.
    ///
    /// # Errors
    /// The machine's, and those of encoded images.
    pub fn answer_all(&self, set: &Evaluated<'_>) -> Result<(Vec<Vec<f32>>, Vec<f32>)> {
        let each =
            self.networks.iter().map(|(network, resolution)| set.logits(*resolution, |some| network.forward(some)));
        let each = each.collect::<Result<Vec<_>>>()?;
        let shape = (set.labels.len(), self.classes);
        let tensors = each.iter().map(|logits| Ok(Tensor::from_slice(logits, shape, &Device::Cpu)?));
        let together = combine(tensors.collect::<Result<_>>()?, self.ensemble, &self.weights)?;
        Ok((each, together.flatten_all()?.to_vec1()?))
    }

    /// Asks what is asked once, before the first step. What was answered is kept in `file` and not asked again.
    ///
    /// False if a stop was asked for on the way.
    pub fn prepare(&mut self, views: &Views, key: &str, file: &Path, control: &Control) -> Result<bool> {
        let Asked::Once(still) = self.asked else { return Ok(true) };
        let mut chunks: Vec<Tensor> = kept::load(file, key).into_iter().collect();
        let mut done = chunks.first().map_or(Ok(0), |answers| answers.dim(0))? as u32;
        let mut saved = Instant::now();
        while done < views.count() {
            let range = done..(done + CHUNK as u32).min(views.count());
            let Some(answers) = self.answer_still(views, still, range.clone(), control)? else {
                kept::save(file, key, &chunks)?;
                return Ok(false);
            };
            chunks.push(answers);
            done = range.end;
            if saved.elapsed() > KEEP_EVERY {
                kept::save(file, key, &chunks)?;
                saved = Instant::now();
            }
        }
        if matches!(still, Still::InceptionEnsemble { .. }) {
            kept::save(file, key, &chunks)?;
        }
        self.answers = Some(Tensor::cat(&chunks, 0)?);
        Ok(true)
    }

    fn answer_still(
        &self,
        views: &Views,
        still: Still,
        range: Range<u32>,
        control: &Control,
    ) -> Result<Option<Tensor>> {
        let answer = |crop: u32| -> Result<Tensor> {
            let mut logits = Vec::new();
            for (network, resolution) in &self.networks {
                logits.push(network.forward(&views.still(range.clone(), still, crop, *resolution)?)?);
            }
            self.target(logits)
        };
        match still {
            Still::Window(_) if control.is_stopped() => Ok(None),
            Still::Window(_) => answer(0).map(Some),
            // The mean of probabilities: the paper does not say which mean (paper.md 3.2), and a mean of logits would
            // let one confused crop outvote the rest.
            Still::InceptionEnsemble { crops } => {
                // Of every teacher by itself where the student is given all.
                let rows = range.len() * self.width / self.classes;
                let answer = |crop| Ok((answer(crop)?.reshape((rows, self.classes))?, 1.0));
                let mut answers = (0..crops).map_while(|crop| (!control.is_stopped()).then(|| answer(crop)));
                let mean = mean_probabilities(&mut answers);
                if control.is_stopped() {
                    return Ok(None);
                }
                Ok(Some(mean?.reshape((range.len(), self.width))?))
            }
        }
    }
}

/// What several teachers answer together, each with its weight.
///
/// # Errors
/// candle's.
pub fn combine(mut logits: Vec<Tensor>, ensemble: Ensemble, weights: &[f64]) -> Result<Tensor> {
    if logits.len() == 1 {
        return Ok(logits.remove(0));
    }
    match ensemble {
        Ensemble::MeanLogits => mean(logits.into_iter().zip(weights).map(|(logits, weight)| Ok((logits, *weight)))),
        Ensemble::MeanProbabilities | Ensemble::SumOfKl => {
            mean_probabilities(logits.into_iter().zip(weights).map(|(logits, weight)| Ok((logits, *weight))))
        }
    }
}

/// The logarithm of the mean of softmax(logits), which are logits again.
fn mean_probabilities(answers: impl Iterator<Item = Result<(Tensor, f64)>>) -> Result<Tensor> {
    let probabilities = answers.map(|answer| {
        let (logits, weight) = answer?;
        Ok((softmax(&logits, D::Minus1)?, weight))
    });
    // A probability below what f32 can tell from zero stays finite as a logit.
    Ok(mean(probabilities)?.maximum(1e-30)?.log()?)
}

/// The weighted mean; the sum is taken in the given order.
fn mean(parts: impl Iterator<Item = Result<(Tensor, f64)>>) -> Result<Tensor> {
    let (mut sum, mut total): (Option<Tensor>, _) = (None, 0.0);
    for part in parts {
        let (numbers, weight) = part?;
        let numbers = if weight == 1.0 { numbers } else { (numbers * weight)? };
        sum = Some(match sum {
            None => numbers,
            Some(sum) => (sum + numbers)?,
        });
        total += weight;
    }
    Ok((sum.context("an ensemble has members")? / total)?)
}

/// One of several teachers, whose answers are taken together on a GPU.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    pub ensemble: Ensemble,
    pub place: usize,
    /// Of teachers.
    pub count: usize,
    pub weight: f64,
    /// The sum of all weights.
    pub total: f64,
}

impl Voice {
    /// The only one.
    pub const ALONE: Voice = Voice { ensemble: Ensemble::MeanLogits, place: 0, count: 1, weight: 1.0, total: 1.0 };

    /// Numbers of all answers to an image.
    pub fn width(&self, classes: usize) -> usize {
        match self.ensemble {
            Ensemble::SumOfKl => self.count * classes,
            Ensemble::MeanLogits | Ensemble::MeanProbabilities => classes,
        }
    }

    /// Number `place` of teachers that have `weights`.
    pub fn of(ensemble: Ensemble, weights: &[f64], place: usize) -> Voice {
        match weights {
            // A mean of one, whatever its weight.
            [_] => Voice::ALONE,
            _ => Voice { ensemble, place, count: weights.len(), weight: weights[place], total: weights.iter().sum() },
        }
    }
}

/// Where a trained network's weights lie on this machine.
pub fn weights_file(source: &NetworkSource, folder: &Folder, places: &Places) -> Result<PathBuf> {
    match source {
        NetworkSource::Job(job) => Ok(folder.student(&job.id())),
        NetworkSource::Weights(weights) => {
            places.weights.get(&weights.sha256).cloned().context("a network's weights have no place on this machine")
        }
    }
}

fn network(machine: &Machine, job: &Job, teacher: &Teacher, path: &Path, hash: &mut Sha256) -> Result<Frozen> {
    let model = teacher.source.model();
    let input = job.teacher_input(teacher);
    let weights = load_weights(path, &Blueprint::new(model, input))?;
    weights.iter().for_each(|weight| hash.update(weight.to_le_bytes()));
    Frozen::new(machine, model, input, job.precision, job.batch, weights)
}
