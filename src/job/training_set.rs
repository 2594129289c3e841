//! Images that a student is shown, of other data than it is measured on (paper, Figure 6).

use serde::{Deserialize, Serialize};

use super::{Data, Slice};

/// One of the sets of a mixture.
///
/// An epoch has as many images as all sets together. Each set fills a share of its places in proportion to `weight`, and
/// is itself gone through from end to end before an image comes again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrainingSet {
    pub data: Data,
    pub slice: Slice,
    /// Relative to the others'. By default the number of images, which makes an epoch every image once.
    pub weight: f64,
}

/// How many places of an epoch each set has: all of them in proportion to the weights, rounded so that nothing is left
/// over (largest remainders, the first of equals).
pub fn shares(sets: &[TrainingSet]) -> Vec<u32> {
    let all: u64 = sets.iter().map(|set| set.slice.len()).sum();
    let weights: f64 = sets.iter().map(|set| set.weight).sum();
    let exact: Vec<f64> = sets.iter().map(|set| all as f64 * set.weight / weights).collect();
    let mut shares: Vec<u32> = exact.iter().map(|share| share.floor() as u32).collect();
    let mut order: Vec<usize> = (0..sets.len()).collect();
    order.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()));
    let left = all - shares.iter().map(|share| u64::from(*share)).sum::<u64>();
    order.into_iter().take(left as usize).for_each(|set| shares[set] += 1);
    shares
}
