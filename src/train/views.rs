//! What teacher and student are shown: the heart of the paper, and of this crate.
//!
//! A teaching mode is two [`Look`]s, one for the teacher and one for the student, and both are pure functions of
//! (seed, epoch, position):
//!
//! | mode | teacher | student |
//! |---|---|---|
//! | `fixed/rs` | asked once: whole image | whole image |
//! | `fixed/cc` | asked once: central crop | own mild crop |
//! | `fixed/ic-ens` | asked once: mean over many inception crops | own inception crop |
//! | `independent/rc`, `/ic` | its crop | another crop |
//! | `consistent/rc`, `/ic` | its crop | the same |
//! | `function-matching` | inception crop, mixed | the same |
//! | `independent-mixup` | inception crop, mixed | the same crop, mixed with a coefficient of its own |
//!
//! The stream of images runs over the ends of epochs: position p of the run shows image `order(p / n)[p % n]` of the n
//! training images, and step s takes positions `s * batch ..`. A view of position p is drawn from p alone: first the
//! flip, then the window, then what augments it; a batch's mixing is drawn from its step. A stream that is replayed begins
//! again after so many steps, and with it all that is drawn. The shared view is the teacher's view; a student that looks for itself draws from a stream of
//! its own, so modes that differ only in the student ask the teacher the same question (see [`crate::plan`]).

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use candle_core::{Device, Tensor};
use rand_distr::{Beta, Distribution};
use rayon::prelude::*;

use super::augment;
use super::data::{DataSet, Shape};
use super::mixing::{Mixed, cut_box, mix, mix_labels};
use super::pool::Pool;
use super::random::{Purpose, Stream};
use super::window::Window;
use crate::job::{Augment, Crop, Decode, Distil, Job, Labels, Mixing, Objective, Resize, Teaching, View};

/// How one network looks at the stream of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub view: View,
    /// Drawn from the student's own stream, not from the one it shares with the teacher.
    pub own_view: bool,
    pub mix: Option<Mix>,
    /// Side in pixels.
    pub resolution: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// p of Beta(p, p).
    pub beta: f64,
    pub own: bool,
    pub how: Mixing,
}

/// What the teacher is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    /// At every step, with this look (each teacher at its own resolution).
    Live(Look),
    /// Once per image, before training.
    Once(Still),
}

/// A view that depends on the image alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Still {
    Window(View),
    /// The mean over so many inception crops.
    InceptionEnsemble {
        crops: u32,
    },
}

/// The teacher's side of a mode, whose images are mixed as `how` says.
pub fn asked(distil: &Distil, how: Mixing) -> Asked {
    // The teacher's resolution is its own; the look only says what is shown.
    let live = |view, mix| Asked::Live(Look { view, own_view: false, mix, resolution: 0 });
    match distil.teaching {
        Teaching::FixedResize => Asked::Once(Still::Window(View::Resize)),
        Teaching::FixedCentralCrop => Asked::Once(Still::Window(View::CentralCrop)),
        Teaching::FixedInceptionEnsemble { crops } => Asked::Once(Still::InceptionEnsemble { crops }),
        Teaching::IndependentMildCrop | Teaching::ConsistentMildCrop => live(View::MildCrop, None),
        Teaching::IndependentInceptionCrop | Teaching::ConsistentInceptionCrop => live(View::InceptionCrop, None),
        Teaching::FunctionMatching { mixup } | Teaching::IndependentMixup { mixup } => {
            live(View::InceptionCrop, Some(Mix { beta: mixup, own: false, how }))
        }
    }
}

/// The student's side of a job.
pub fn student_look(job: &Job) -> Look {
    let how = job.mixing;
    let (view, own_view, mix) = match &job.objective {
        Objective::Labels(Labels { view, mixup, .. }) => {
            (*view, false, (*mixup > 0.0).then_some(Mix { beta: *mixup, own: false, how }))
        }
        Objective::Distil(distil) => match distil.teaching {
            Teaching::FixedResize => (View::Resize, true, None),
            Teaching::FixedCentralCrop | Teaching::IndependentMildCrop => (View::MildCrop, true, None),
            Teaching::FixedInceptionEnsemble { .. } | Teaching::IndependentInceptionCrop => {
                (View::InceptionCrop, true, None)
            }
            Teaching::ConsistentMildCrop => (View::MildCrop, false, None),
            Teaching::ConsistentInceptionCrop => (View::InceptionCrop, false, None),
            Teaching::FunctionMatching { mixup } => {
                (View::InceptionCrop, false, Some(Mix { beta: mixup, own: false, how }))
            }
            Teaching::IndependentMixup { mixup } => {
                (View::InceptionCrop, false, Some(Mix { beta: mixup, own: true, how }))
            }
        },
    };
    Look { view, own_view, mix, resolution: job.resolution }
}

/// The stream of images of a cohort.
pub struct Views<'a> {
    pool: Pool<'a>,
    seed: u64,
    batch: u32,
    flip: bool,
    crop: Crop,
    resize: Resize,
    decode: Decode,
    augment: Augment,
    /// Steps after which everything is shown again.
    cycle: Option<u64>,
    /// The order of the two epochs a batch can touch.
    orders: Mutex<Vec<(u64, Arc<[u32]>)>>,
}

/// The images of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Of the stream, which may have been gone through before.
    pub step: u64,
    /// Each image's place in the pool.
    pub images: Vec<u32>,
    /// Labels, in the same order.
    pub labels: Vec<u32>,
    /// Position of the first image in the run.
    first: u64,
}

impl<'a> Views<'a> {
    /// What `job` shows of its data, or of the sets it is trained on instead.
    pub fn new(job: &Job, data: &'a DataSet, train_on: &'a [DataSet]) -> Views<'a> {
        Views {
            pool: Pool::new(job, data, train_on),
            seed: job.seed,
            batch: job.batch,
            flip: job.flip,
            crop: job.crop.clone(),
            resize: job.resize,
            decode: job.decode,
            augment: job.augment,
            cycle: job.cycle(),
            orders: Mutex::default(),
        }
    }

    /// Images that are trained on.
    pub fn count(&self) -> u32 {
        self.pool.count()
    }

    /// What step `step` shows.
    pub fn batch(&self, step: u64) -> Batch {
        let step = self.cycle.map_or(step, |cycle| step % cycle);
        let count = u64::from(self.pool.count());
        let first = step * u64::from(self.batch);
        let mut images = Vec::with_capacity(self.batch as usize);
        let (mut epoch, mut order) = (first / count, self.order(first / count));
        for position in first..first + u64::from(self.batch) {
            if position / count != epoch {
                epoch = position / count;
                order = self.order(epoch);
            }
            images.push(order[(position % count) as usize]);
        }
        let labels = images.iter().map(|image| self.pool.label(*image)).collect();
        Batch { step, images, labels, first }
    }

    fn order(&self, epoch: u64) -> Arc<[u32]> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = orders.iter().find(|(of, _)| *of == epoch) {
            return Arc::clone(order);
        }
        orders.retain(|(of, _)| of + 1 == epoch);
        let order: Arc<[u32]> = self.pool.order(epoch).into();
        orders.push((epoch, Arc::clone(&order)));
        order
    }

    /// The pixels one look sees of a batch, normalised and mixed: `[N, S, S, C]`, f32 in [-1, 1].
    ///
    /// # Errors
    /// Those of encoded images.
    pub fn show(&self, batch: &Batch, look: Look) -> Result<Tensor> {
        let (side, channels) = (look.resolution as usize, self.pool.channels());
        let size = self.pixels_each(look);
        let mut pixels = vec![0u8; batch.images.len() * size];
        self.pixels(batch, look, &mut pixels)?;
        let shown = normalized(&pixels);
        let shown = match self.mixed(batch, look) {
            None => shown,
            Some(way) => mix(&shown, side, channels, way),
        };
        Ok(Tensor::from_vec(shown, (batch.images.len(), side, side, channels), &Device::Cpu)?)
    }

    /// Numbers of an image as a look shows it.
    pub fn pixels_each(&self, look: Look) -> usize {
        (look.resolution as usize).pow(2) * self.pool.channels()
    }

    /// What one look sees of a batch before it is normalised and mixed: `[N, S, S, C]`, 8 bits each.
    ///
    /// # Errors
    /// Those of encoded images.
    pub fn pixels(&self, batch: &Batch, look: Look, pixels: &mut [u8]) -> Result<()> {
        let purpose = if look.own_view { Purpose::StudentView } else { Purpose::TeacherView };
        let places = pixels.par_chunks_mut(self.pixels_each(look)).zip(&batch.images).enumerate();
        places.try_for_each_init(Vec::new, |scratch, (i, (to, image))| {
            let (images, index) = self.pool.at(*image);
            let mut stream = Stream::new(self.seed, purpose, batch.first + i as u64);
            let flip = stream.coin() && self.flip;
            let window = Window::draw(look.view, &self.crop, images.size_of(index), &mut stream);
            images.view(index, window, self.shape(look.resolution, flip), to)?;
            if !self.augment.is_off() {
                let drawn = augment::draw(&self.augment, &mut stream);
                augment::apply(&drawn, look.resolution as usize, images.channels, to, scratch);
            }
            anyhow::Ok(())
        })
    }

    fn shape(&self, resolution: u32, flip: bool) -> Shape {
        Shape { side: resolution as usize, flip, resize: self.resize, decode: self.decode }
    }

    /// The share of the first image in each mixed pair, in [0.5, 1]; one for the whole batch (paper.md 3.1).
    pub fn coefficient(&self, batch: &Batch, look: Look) -> Option<f64> {
        Some(self.draw_coefficient(batch, look.mix?).0)
    }

    /// How the images of a batch are mixed.
    pub fn mixed(&self, batch: &Batch, look: Look) -> Option<Mixed> {
        let mix = look.mix?;
        let (share, mut stream) = self.draw_coefficient(batch, mix);
        Some(match mix.how {
            Mixing::Mixup => Mixed::Mixup { share },
            Mixing::Cutmix => Mixed::Cutmix { cut: cut_box(share, &mut stream) },
        })
    }

    fn draw_coefficient(&self, batch: &Batch, mix: Mix) -> (f64, Stream) {
        let purpose = if mix.own { Purpose::StudentMix } else { Purpose::TeacherMix };
        let mut stream = Stream::new(self.seed, purpose, batch.step);
        let share = if mix.beta == 1.0 {
            stream.unit()
        } else {
            let beta = Beta::new(mix.beta, mix.beta).expect("the grid lets only positive numbers through");
            beta.sample(&mut stream)
        };
        (share.max(1.0 - share), stream)
    }

    /// The labels of a batch as probabilities `[N, classes]`, mixed as the images are and smoothed.
    pub fn targets(&self, batch: &Batch, look: Look, classes: u32, smoothing: f64) -> Result<Tensor> {
        let classes = classes as usize;
        let share = self.mixed(batch, look).map_or(1.0, |way| way.share(look.resolution as usize));
        let targets = mix_labels(&batch.labels, classes, share, smoothing);
        Ok(Tensor::from_vec(targets, (batch.labels.len(), classes), &Device::Cpu)?)
    }

    /// The still view of training images, for teachers that are asked once; `crop` counts through an ensemble.
    ///
    /// `[N, S, S, C]`, f32 in [-1, 1]; never flipped.
    ///
    /// # Errors
    /// Those of encoded images.
    pub fn still(&self, images: std::ops::Range<u32>, still: Still, crop: u32, resolution: u32) -> Result<Tensor> {
        let (count, side, channels) = (images.len(), resolution as usize, self.pool.channels());
        let mut pixels = vec![0u8; count * side * side * channels];
        pixels.par_chunks_mut(side * side * channels).zip(images).try_for_each(|(to, image)| {
            let (view, place) = match still {
                Still::Window(view) => (view, 0),
                Still::InceptionEnsemble { crops } => {
                    (View::InceptionCrop, u64::from(image) * u64::from(crops) + u64::from(crop))
                }
            };
            let (images, index) = self.pool.at(image);
            let mut stream = Stream::new(self.seed, Purpose::FixedCrops, place);
            let window = Window::draw(view, &self.crop, images.size_of(index), &mut stream);
            images.view(index, window, self.shape(resolution, false), to)
        })?;
        Ok(Tensor::from_vec(normalized(&pixels), (count, side, side, channels), &Device::Cpu)?)
    }
}

/// To [-1, 1] (paper.md 1.8).
pub fn normalized(pixels: &[u8]) -> Vec<f32> {
    pixels.iter().map(|pixel| f32::from(*pixel) / 127.5 - 1.0).collect()
}
