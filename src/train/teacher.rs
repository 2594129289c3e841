//! Teachers: frozen networks, asked live at every step or once for all.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{D, Device, Tensor};
use candle_nn::ops::softmax;

use super::checkpoint::load_weights;
use super::model::{Blueprint, Network};
use super::views::{Asked, Batch, Look, Still, Views, asked};
use crate::folder::Folder;
use crate::job::{Distil, Ensemble, Input, Job, Teacher, TeacherSource};
use crate::plan::Places;

/// Images a forward pass outside training takes at once.
const CHUNK: usize = 250;

/// The teachers of a cohort.
pub struct Teachers {
    networks: Vec<(Network, u32)>,
    ensemble: Ensemble,
    asked: Asked,
    /// Answers to every training image, `[images, classes]`, where they are asked once.
    answers: Option<Tensor>,
}

impl Teachers {
    /// Reads the teachers' weights.
    pub fn load(job: &Job, distil: &Distil, folder: &Folder, places: &Places) -> Result<Teachers> {
        let networks = distil.teachers.iter().map(|teacher| {
            let path = match &teacher.source {
                TeacherSource::Job(job) => folder.student(&job.id()),
                TeacherSource::Weights(weights) => {
                    let place = places.get(&weights.sha256);
                    place.context("the teacher's weights have no place on this machine")?.clone()
                }
            };
            network(job, teacher, &path).map(|network| (network, teacher.resolution))
        });
        Ok(Teachers {
            networks: networks.collect::<Result<_>>()?,
            ensemble: distil.ensemble,
            asked: asked(distil),
            answers: None,
        })
    }

    /// Logits for a batch, `[N, classes]`.
    pub fn answer(&mut self, views: &Views, batch: &Batch) -> Result<Tensor> {
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
                self.combine(logits)
            }
            Asked::Once(still) => {
                if self.answers.is_none() {
                    self.answers = Some(self.answer_all(views, still)?);
                }
                let answers = self.answers.as_ref().context("the answers were just made")?;
                let images = Tensor::new(&batch.images[..], &Device::Cpu)?;
                Ok(answers.index_select(&images, 0)?)
            }
        }
    }

    /// What each teacher, and if there are several their ensemble, answers to images `[N, S, S, C]` given for each
    /// resolution by `show`; teachers first.
    pub fn answer_each(&self, show: impl Fn(u32) -> candle_core::Result<Tensor>) -> Result<(Vec<Tensor>, Tensor)> {
        let mut each = Vec::new();
        for (network, resolution) in &self.networks {
            each.push(in_chunks(network, &show(*resolution)?)?);
        }
        let together = self.combine(each.clone())?;
        Ok((each, together))
    }

    fn answer_all(&self, views: &Views, still: Still) -> Result<Tensor> {
        let mut chunks = Vec::new();
        let count = views.count();
        for start in (0..count).step_by(CHUNK) {
            let range = start..(start + CHUNK as u32).min(count);
            let answer = |crop: u32| -> Result<Tensor> {
                let mut logits = Vec::new();
                for (network, resolution) in &self.networks {
                    logits.push(network.forward(&views.still(range.clone(), still, crop, *resolution)?)?);
                }
                self.combine(logits)
            };
            chunks.push(match still {
                Still::Window(_) => answer(0)?,
                // The mean of probabilities: the paper does not say which mean (paper.md 3.2), and a mean of logits
                // would let one confused crop outvote the rest.
                Still::InceptionEnsemble { crops } => mean_probabilities((0..crops).map(answer))?,
            });
        }
        Ok(Tensor::cat(&chunks, 0)?)
    }

    fn combine(&self, mut logits: Vec<Tensor>) -> Result<Tensor> {
        if logits.len() == 1 {
            return Ok(logits.remove(0));
        }
        match self.ensemble {
            Ensemble::MeanLogits => {
                let count = logits.len() as f64;
                let mut sum = logits.remove(0);
                for logits in &logits {
                    sum = (sum + logits)?;
                }
                Ok((sum / count)?)
            }
            Ensemble::MeanProbabilities => mean_probabilities(logits.into_iter().map(Ok)),
        }
    }
}

/// The logarithm of the mean of softmax(logits), which are logits again; the sum is taken in the given order.
fn mean_probabilities(answers: impl Iterator<Item = Result<Tensor>>) -> Result<Tensor> {
    let (mut sum, mut count): (Option<Tensor>, _) = (None, 0.0);
    for answer in answers {
        let probabilities = softmax(&answer?, D::Minus1)?;
        sum = Some(match sum {
            None => probabilities,
            Some(sum) => (sum + probabilities)?,
        });
        count += 1.0;
    }
    // A probability below what f32 can tell from zero stays finite as a logit.
    Ok((sum.context("an ensemble has members")? / count)?.maximum(1e-30)?.log()?)
}

/// Logits of many images, a chunk at a time.
pub fn in_chunks(network: &Network, images: &Tensor) -> Result<Tensor> {
    let count = images.dim(0)?;
    let mut logits = Vec::new();
    for start in (0..count).step_by(CHUNK) {
        logits.push(network.forward(&images.narrow(0, start, CHUNK.min(count - start))?)?);
    }
    Ok(Tensor::cat(&logits, 0)?)
}

fn network(job: &Job, teacher: &Teacher, path: &Path) -> Result<Network> {
    let model = teacher.source.model();
    let blueprint = Blueprint::new(model, Input { resolution: teacher.resolution, ..job.input() });
    let flat = load_weights(path, &blueprint)?;
    Ok(Network::frozen(model, &blueprint, &flat)?)
}
