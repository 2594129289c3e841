//! Two groups of runs compared image by image, from the bits that say which images are right.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::event::{Evaluation, Which};
use crate::report::footer::grouped;
use crate::report::statistics::{self, Interval};
use crate::report::value::{Measure, Value};
use crate::report::words::signed;
use crate::store::Outcome;

use super::Group;

/// How two sides differ on the same images. It speaks of these runs on other images, not of other seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Images {
    pub images: usize,
    pub seeds: usize,
    /// Images that only this side has right, a mean over seeds.
    pub only_left: f64,
    pub only_right: f64,
    /// McNemar's, of a single seed.
    pub p: Option<f64>,
    /// 95 % of the mean difference, by resampling images.
    pub interval: Option<Interval>,
}

impl Images {
    /// `+2.1 to +6.4 points over 2,000 images; only left is right on 91, only right on 12 (McNemar's p 0.000)`
    pub fn told(&self) -> String {
        let images = grouped(self.images as u64);
        let interval = self.interval.map_or(String::new(), |interval| {
            format!(
                "{} to {} points over {images} images; ",
                signed(100.0 * interval.low, 1),
                signed(100.0 * interval.high, 1)
            )
        });
        let p = self.p.map_or(String::new(), |p| {
            if p < 0.001 { " (McNemar's p < 0.001)".to_owned() } else { format!(" (McNemar's p {p:.3})") }
        });
        format!("{interval}only left is right on {:.0}, only right on {:.0}{p}", self.only_left, self.only_right)
    }
}

/// None where a side's images are not known one by one, or the sides have no seed in common.
pub fn by_image(value: Value, left: &Group, right: &Group) -> Option<Images> {
    let Value::Evaluated(split, Measure::Top1) = value else { return None };
    let mut differences: Vec<f64> = Vec::new();
    let (mut seeds, mut only_left, mut only_right) = (0, 0, 0);
    for (seed, run) in &left.runs {
        let Some(other) = right.runs.get(seed) else { continue };
        let (Some(a), Some(b)) = (correct(run.outcome, split), correct(other.outcome, split)) else { continue };
        if a.len() != b.len() || (seeds > 0 && a.len() != differences.len()) {
            return None;
        }
        differences.resize(a.len(), 0.0);
        for ((difference, a), b) in differences.iter_mut().zip(a).zip(b) {
            *difference += f64::from(i8::from(a) - i8::from(b));
            only_left += u64::from(a && !b);
            only_right += u64::from(b && !a);
        }
        seeds += 1;
    }
    if seeds == 0 {
        return None;
    }
    differences.iter_mut().for_each(|difference| *difference /= seeds as f64);
    Some(Images {
        images: differences.len(),
        seeds,
        only_left: only_left as f64 / seeds as f64,
        only_right: only_right as f64 / seeds as f64,
        p: (seeds == 1).then(|| statistics::mcnemar(only_left, only_right)),
        interval: statistics::bootstrap_over_images(&differences),
    })
}

/// A bit an image, of a run's last epoch.
fn correct(outcome: &Outcome, split: Which) -> Option<Vec<bool>> {
    let Evaluation { correct, images, .. } = outcome.final_evaluation(split)?;
    let bytes = STANDARD.decode(correct.as_ref()?).ok()?;
    let bit = |image: usize| bytes.get(image / 8).is_some_and(|byte| byte >> (image % 8) & 1 == 1);
    let images = usize::try_from(*images).ok()?;
    (bytes.len() == images.div_ceil(8)).then(|| (0..images).map(bit).collect())
}
