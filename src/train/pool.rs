//! The images a cohort is trained on: those of one slice, or a mixture of several data sets, and their order.
//!
//! Position p of a run is place `p % n` of epoch `p / n` of n images. Of one set, an epoch is a permutation of it. In a
//! mixture, every set has a fixed number of an epoch's places in proportion to its weight, and is itself gone through by
//! permutations of its own that run on over the ends of epochs, so that none of its images comes twice before all came
//! once. Both are pure functions of (seed, epoch).

use super::data::{DataSet, Images};
use super::random::{Purpose, Stream};
use crate::job::{Job, shares};

pub struct Pool<'a> {
    members: Vec<Member<'a>>,
    count: u32,
    seed: u64,
}

struct Member<'a> {
    images: &'a Images,
    /// Which of them, in their own order.
    chosen: Vec<u32>,
    /// Of the pool's images.
    first: u32,
    /// Places of an epoch.
    share: u32,
}

impl<'a> Pool<'a> {
    /// `train_on` are the data sets of the job's own list, in its order.
    pub fn new(job: &Job, data: &'a DataSet, train_on: &'a [DataSet]) -> Pool<'a> {
        let mut members = Vec::new();
        let mut first = 0;
        let mut add = |images: &'a Images, chosen: Vec<u32>, share: u32| {
            let count = chosen.len() as u32;
            members.push(Member { images, chosen, first, share });
            first += count;
        };
        if job.train_on.is_empty() {
            let (images, chosen) = training_images(job, data);
            let share = chosen.len() as u32;
            add(images, chosen, share);
        } else {
            for ((set, data), share) in job.train_on.iter().zip(train_on).zip(shares(&job.train_on)) {
                let (images, range) = data.slice(&set.slice);
                add(images, (range.start as u32..range.end as u32).collect(), share);
            }
        }
        Pool { members, count: first, seed: job.seed }
    }

    /// Images in all.
    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn channels(&self) -> usize {
        self.members[0].images.channels
    }

    /// An image of the pool: where it is.
    pub fn at(&self, image: u32) -> (&'a Images, usize) {
        let member = self.members.partition_point(|member| member.first <= image) - 1;
        let member = &self.members[member];
        (member.images, member.chosen[(image - member.first) as usize] as usize)
    }

    pub fn label(&self, image: u32) -> u32 {
        let (images, index) = self.at(image);
        images.labels[index]
    }

    /// The images of an epoch in the order they are shown.
    pub fn order(&self, epoch: u64) -> Vec<u32> {
        let order = Stream::new(self.seed, Purpose::Order, epoch).permutation(self.count);
        if self.members.len() == 1 {
            return order;
        }
        let mut images = Vec::with_capacity(self.count as usize);
        for (place, member) in self.members.iter().enumerate() {
            let count = member.chosen.len() as u64;
            let mut round: Option<(u64, Vec<u32>)> = None;
            for running in epoch * u64::from(member.share)..(epoch + 1) * u64::from(member.share) {
                let this = running / count;
                if round.as_ref().is_none_or(|(of, _)| *of != this) {
                    // Epochs and sets are fewer than 2^40 and 2^24.
                    let index = (place as u64) << 40 | this;
                    let permutation = Stream::new(self.seed, Purpose::SetOrder, index).permutation(count as u32);
                    round = Some((this, permutation));
                }
                let Some((_, permutation)) = &round else { continue };
                images.push(member.first + permutation[(running % count) as usize]);
            }
        }
        order.into_iter().map(|place| images[place as usize]).collect()
    }
}

/// The images of `data` that a job without sets of its own is trained on, in their order.
pub fn training_images<'a>(job: &Job, data: &'a DataSet) -> (&'a Images, Vec<u32>) {
    let (images, range) = data.slice(&job.split.train);
    let range = range.start as u32..range.end as u32;
    let chosen = match job.split.per_class {
        None => range.collect(),
        Some(most) => first_of_each_class(&images.labels, range, most.each, data.classes),
    };
    (images, chosen)
}

fn first_of_each_class(labels: &[u32], range: std::ops::Range<u32>, each: u32, classes: u32) -> Vec<u32> {
    let mut counts = vec![0; classes as usize];
    let of_first = |image: &u32| {
        let count: &mut u32 = &mut counts[labels[*image as usize] as usize];
        *count += 1;
        *count <= each
    };
    range.filter(of_first).collect()
}
