//! Means, intervals and tests. Distributions are `statrs`'s; what is asked of them is here.
//!
//! Values are of one split, in their own unit (accuracies as shares); `p` is always two-sided where no side is named.

use rand::{RngExt, SeedableRng};
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

use super::spec;

/// How much of its distribution an interval leaves out, both sides together.
pub const ALPHA: f64 = 0.05;
/// Means that a bootstrap draws. Its generator always begins alike, so that a figure is the same on every machine.
const RESAMPLES: usize = 10_000;
const SEED: u64 = 0x6469_7374;

/// A confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// A mean difference and how far it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Pairs, or runs of the smaller side.
    pub n: usize,
    pub mean: f64,
    /// Standard error of the mean.
    pub error: f64,
    /// Degrees of freedom: whole for pairs, Welch's for sides of their own.
    pub freedom: f64,
}

/// None for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Of a sample; none for less than two values.
pub fn variance(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    Some(values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0))
}

/// The 95 % interval of a mean over seeds; none below three, where it says next to nothing.
pub fn interval(values: &[f64], kind: spec::Interval) -> Option<Interval> {
    match kind {
        spec::Interval::T => t_interval(values),
        spec::Interval::Bootstrap => bootstrap_interval(values),
    }
}

/// The 95 % interval of the mean of normal values; none below three.
pub fn t_interval(values: &[f64]) -> Option<Interval> {
    if values.len() < 3 {
        return None;
    }
    let mean = mean(values)?;
    let half = t_quantile(values.len() - 1)? * (variance(values)? / values.len() as f64).sqrt();
    Some(Interval { low: mean - half, high: mean + half })
}

/// The middle 95 % of the means of resampled values (percentile bootstrap); none below three.
pub fn bootstrap_interval(values: &[f64]) -> Option<Interval> {
    if values.len() < 3 || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut generator = rand::rngs::Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn = (0..values.len()).map(|_| values[generator.random_range(0..values.len())]);
            drawn.sum::<f64>() / values.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some(Interval { low: quantile(&means, ALPHA / 2.0), high: quantile(&means, 1.0 - ALPHA / 2.0) })
}

/// The 97.5 % quantile of Student's t; none without a degree of freedom.
pub fn t_quantile(freedom: usize) -> Option<f64> {
    Some(student(freedom as f64)?.inverse_cdf(1.0 - ALPHA / 2.0))
}

/// Of values in ascending order, between neighbours by their distance.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() as f64 - 1.0);
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

fn student(freedom: f64) -> Option<StudentsT> {
    StudentsT::new(0.0, 1.0, freedom).ok()
}

impl Difference {
    /// Of pairs; none below two.
    pub fn paired(left: &[f64], right: &[f64]) -> Option<Difference> {
        let differences: Vec<f64> = left.iter().zip(right).map(|(left, right)| left - right).collect();
        let n = differences.len();
        let error = (variance(&differences)? / n as f64).sqrt();
        Some(Difference { n, mean: mean(&differences)?, error, freedom: n as f64 - 1.0 })
    }

    /// Of two groups that share no seeds (Welch); none below two each.
    pub fn welch(left: &[f64], right: &[f64]) -> Option<Difference> {
        let share = |values: &[f64]| Some(variance(values)? / values.len() as f64);
        let (a, b) = (share(left)?, share(right)?);
        let of = |share: f64, values: &[f64]| share.powi(2) / (values.len() as f64 - 1.0);
        let freedom = (a + b).powi(2) / (of(a, left) + of(b, right));
        let mean = mean(left)? - mean(right)?;
        Some(Difference { n: left.len().min(right.len()), mean, error: (a + b).sqrt(), freedom })
    }

    /// The 95 % interval; none without a spread.
    pub fn interval(&self) -> Option<Interval> {
        let half = student(self.freedom)?.inverse_cdf(1.0 - ALPHA / 2.0) * self.error;
        (self.error > 0.0).then_some(Interval { low: self.mean - half, high: self.mean + half })
    }

    /// How often a difference of at most `bound` would come out as large as this one; one-sided.
    pub fn p_above(&self, bound: f64) -> Option<f64> {
        let t = (self.mean - bound) / self.error;
        // Without a spread there is no t.
        if self.error > 0.0 && t.is_finite() { Some(student(self.freedom)?.sf(t)) } else { None }
    }

    /// How often one of at least `bound` would come out as small; one-sided.
    pub fn p_below(&self, bound: f64) -> Option<f64> {
        Some(1.0 - self.p_above(bound)?)
    }

    /// Pairs that would tell this mean from `bound` at the level `alpha`, if the spread stays what it is; none where a
    /// thousand would not.
    pub fn pairs_needed(&self, bound: f64, alpha: f64) -> Option<usize> {
        let spread = self.error * (self.n as f64).sqrt();
        (self.n + 1..=1000).find(|&n| {
            let t = student(n as f64 - 1.0).map(|student| student.inverse_cdf(1.0 - alpha / 2.0));
            t.is_some_and(|t| t * spread / (n as f64).sqrt() <= (self.mean - bound).abs())
        })
    }
}

/// McNemar's exact test: how often chance alone would split the images that only one side has right so unevenly.
pub fn mcnemar(only_left: u64, only_right: u64) -> f64 {
    let (fewer, all) = (only_left.min(only_right), only_left + only_right);
    if all == 0 {
        return 1.0;
    }
    Binomial::new(0.5, all).map_or(1.0, |binomial| (2.0 * binomial.cdf(fewer)).min(1.0))
}

/// The 95 % interval of the mean over images of a difference that is known for each image, by resampling images.
pub fn bootstrap_over_images(differences: &[f64]) -> Option<Interval> {
    let n = differences.len();
    if n < 3 {
        return None;
    }
    // Differences take few values (-1, 0, 1 with one seed): how often each is drawn is all that matters, so that a draw
    // costs as much as there are values and not as many as there are images.
    let mut sorted = differences.to_vec();
    sorted.sort_by(f64::total_cmp);
    let groups: Vec<(f64, f64)> =
        sorted.chunk_by(|a, b| a == b).map(|group| (group[0], group.len() as f64 / n as f64)).collect();
    let mut generator = rand::rngs::Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut means: Vec<f64> = (0..RESAMPLES / 5)
        .map(|_| {
            let (mut left, mut remains, mut sum) = (n as u64, 1.0, 0.0);
            for &(value, share) in &groups {
                let chance = (share / remains).clamp(0.0, 1.0);
                let drawn = rand_distr::Binomial::new(left, chance)
                    .map_or(0, |binomial| rand_distr::Distribution::sample(&binomial, &mut generator));
                sum += value * drawn as f64;
                left -= drawn;
                remains -= share;
            }
            sum / n as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some(Interval { low: quantile(&means, ALPHA / 2.0), high: quantile(&means, 1.0 - ALPHA / 2.0) })
}

/// Holm's step-down correction of several p-values, in their order.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut largest: f64 = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        largest = largest.max(((p.len() - rank) as f64 * p[index]).min(1.0));
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against scipy 1.17 and statsmodels 0.14: `ttest_rel`, `ttest_ind(equal_var=False)`, `binomtest`,
    /// `mcnemar(exact=True)`, `multipletests(method="holm")`, `t.interval`, `bootstrap(method="percentile")`.
    #[test]
    fn as_others_compute_it() {
        const A: &[f64] = &[0.8412, 0.839, 0.8455];
        const B: &[f64] = &[0.829, 0.8315, 0.8322];
        const C: &[f64] = &[0.71, 0.733, 0.7205, 0.7199, 0.7312];
        const D: &[f64] = &[0.702, 0.729, 0.7215, 0.711, 0.724];
        const E: &[f64] = &[0.5, 0.9, 0.7, 0.65, 0.61, 0.72, 0.58, 0.66];
        const F: &[f64] = &[0.49, 0.83, 0.74, 0.6, 0.66, 0.7, 0.52, 0.61];
        type Test = fn(&[f64], &[f64]) -> Option<Difference>;
        type Case = (Test, &'static [f64], &'static [f64], [f64; 3]);
        let cases: [Case; 6] = [
            (Difference::paired, A, B, [0.02516076472306447, 0.003347404216723371, 0.018652595783276577]),
            (Difference::paired, C, D, [0.039839821818531136, 0.0004082281815289265, 0.010431771818471079]),
            (Difference::paired, E, F, [0.22799369578468376, -0.016783373677544337, 0.05928337367754435]),
            (Difference::welch, A, D, [2.0561800176340064e-06, 0.11103847587214519, 0.13776152412785495]),
            (Difference::welch, C, F, [0.08850576398793675, -0.015410010618300024, 0.17375001061830017]),
            (Difference::welch, E, B, [0.005305567716063222, -0.2644198457222223, -0.06738015427777777]),
        ];
        for (test, left, right, [p, low, high]) in cases {
            let difference = test(left, right).unwrap();
            let sides = [difference.p_above(0.0).unwrap(), difference.p_below(0.0).unwrap()];
            assert!((2.0 * sides[0].min(sides[1]) / p - 1.0).abs() < 1e-6, "{difference:?}: {sides:?} for {p}");
            let interval = difference.interval().unwrap();
            assert!((interval.low - low).abs() < 1e-9 && (interval.high - high).abs() < 1e-9, "{interval:?}");
        }
        let discordant = [
            (0, 0, 1.0),
            (5, 5, 1.0),
            (3, 12, 0.03515625),
            (40, 61, 0.046044066929342785),
            (700, 612, 0.016278345620440816),
            (60_000, 60_900, 0.00972316581415882),
        ];
        for (left, right, p) in discordant {
            assert!((mcnemar(left, right) / p - 1.0).abs() < 1e-6, "{left}, {right}: {} for {p}", mcnemar(left, right));
            assert_eq!(mcnemar(left, right), mcnemar(right, left));
        }
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near(&holm(&[0.01, 0.04, 0.03, 0.005]), &[0.03, 0.06, 0.06, 0.02]));
        assert!(near(&holm(&[0.2, 0.02, 0.9]), &[0.4, 0.06, 0.9]));
        let ten = [A, B, &[0.851, 0.8475, 0.8401, 0.8366]].concat();
        let t = t_interval(&ten).unwrap();
        assert!(
            near(&[t.low, t.high], &[0.834182212650082, 0.8445377873499182]) || (t.low - 0.8341822126).abs() < 1e-9
        );
        // Resampled: as near as ten thousand draws come to two hundred thousand.
        let drawn = bootstrap_interval(&ten).unwrap();
        assert!((drawn.low - 0.83517).abs() < 2e-4 && (drawn.high - 0.84363).abs() < 2e-4, "{drawn:?}");
        let images = [vec![1.0; 60], vec![-1.0; 41], vec![0.0; 1899]].concat();
        let over = bootstrap_over_images(&images).unwrap();
        assert!((over.low + 0.0005).abs() < 6e-4 && (over.high - 0.0195).abs() < 6e-4, "{over:?}");
    }

    #[test]
    fn too_little_to_say_anything() {
        assert_eq!(Difference::paired(&[0.5], &[0.4]), None);
        assert_eq!(Difference::welch(&[0.5], &[0.4, 0.3]), None);
        let same = Difference::paired(&[0.5, 0.75], &[0.25, 0.5]).unwrap();
        assert_eq!((same.interval(), same.p_above(0.0), same.mean), (None, None, 0.25));
        assert_eq!((bootstrap_interval(&[1.0, 2.0]), variance(&[1.0]), mean(&[])), (None, None, None));
        assert!(holm(&[]).is_empty());
    }
}
