//! Losses from logits and their gradients.
//!
//! # Shapes
//! Logits `[N, C]`, teachers' `[N, K, C]`, labels' probabilities `[N, C]`; a loss is the mean over the batch. Targets are
//! not differentiated: the teacher is frozen and labels are labels.
//!
//! All but one are sums over images, so a batch may be cut anywhere. That one ([`Loss::is_of_batch`]) must see the whole
//! batch at once.

mod relation;
mod row;

use super::element::Element;
use crate::job::{Distance, Distil, Kl};
use row::Normaliser;

/// What a student's logits are compared with: teachers, labels, or both.
#[derive(Clone, Copy, Debug)]
pub struct Loss<'a, T> {
    pub teachers: Option<Teachers<'a, T>>,
    pub labels: Option<Labels<'a, T>>,
}

/// The answers of teachers, each with the weight of its distance.
#[derive(Clone, Copy, Debug)]
pub struct Teachers<'a, T> {
    /// Logits `[N, K, C]` of the K of them.
    pub logits: &'a [T],
    /// `[K]`. Distances but the KL have one teacher, of weight 1.
    pub weights: &'a [f64],
    pub distance: Distance,
}

#[derive(Clone, Copy, Debug)]
pub struct Labels<'a, T> {
    /// `[N, C]`; what needs the true class takes the likeliest.
    pub probabilities: &'a [T],
    /// Of the cross-entropy `- sum of p log softmax(logits)`; the distance to teachers has the rest of 1.
    pub weight: f64,
}

impl<'a, T: Element> Loss<'a, T> {
    /// `T² KL(softmax(teacher / T) || softmax(student / T))`, both given as logits `[N, C]` (paper.md 1.1).
    pub fn kl(teacher: &'a [T], temperature: f64) -> Loss<'a, T> {
        let teachers = Teachers { logits: teacher, weights: &[1.0], distance: Distance::Kl(Kl::new(temperature)) };
        Loss { teachers: Some(teachers), labels: None }
    }

    /// Cross-entropy against probabilities `[N, C]`, no teacher.
    pub fn cross_entropy(probabilities: &'a [T]) -> Loss<'a, T> {
        Loss { teachers: None, labels: Some(Labels { probabilities, weight: 1.0 }) }
    }

    /// A distilled student's; `weights` are those of [`Distil::weights`].
    pub fn distil(distil: &Distil, weights: &'a [f64], teachers: &'a [T], labels: Option<&'a [T]>) -> Loss<'a, T> {
        let labels = labels.map(|probabilities| Labels { probabilities, weight: distil.labels.weight });
        Loss { teachers: Some(Teachers { logits: teachers, weights, distance: distil.distance }), labels }
    }

    /// Whether the images of a batch cannot be told apart in it: then only all of them can be evaluated.
    pub fn is_of_batch(&self) -> bool {
        self.teachers.is_some_and(|teachers| teachers.distance.is_of_batch())
    }

    /// The part of some images of the batch, given as a range of its rows.
    pub fn rows(&self, rows: std::ops::Range<usize>, classes: usize) -> Loss<'a, T> {
        let of = |numbers: usize| rows.start * numbers..rows.end * numbers;
        Loss {
            teachers: self.teachers.map(|teachers| Teachers {
                logits: &teachers.logits[of(teachers.weights.len() * classes)],
                ..teachers
            }),
            labels: self.labels.map(|labels| Labels { probabilities: &labels.probabilities[of(classes)], ..labels }),
        }
    }

    /// The sum of the rows' losses (of a loss of the batch, the rows times the loss). Writes `share` times the gradient of
    /// that sum to `gradient` `[N, C]`.
    pub fn evaluate(&self, logits: &[T], classes: usize, share: f64, gradient: &mut [T]) -> f64 {
        let count = logits.len() / classes;
        let answers = self.teachers.map_or(0, |teachers| teachers.weights.len());
        assert!(
            logits.len() == gradient.len()
                && self.teachers.is_none_or(|teachers| teachers.logits.len() == answers * logits.len())
                && self.labels.is_none_or(|labels| labels.probabilities.len() == logits.len()),
            "logits, targets and gradient match"
        );
        let told = self.labels.map_or(0.0, |labels| labels.weight);
        let taught = if self.teachers.is_some() { 1.0 - told } else { 0.0 };
        let wide = |numbers: &[T]| numbers.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
        let (mut sum, mut batch) = (0.0, None);
        if let Some(Teachers { logits: teacher, distance: Distance::Dist(dist), .. }) = self.teachers {
            let mut slopes = vec![0.0; logits.len()];
            let value = relation::dist(&dist, &wide(logits), &wide(teacher), classes, &mut slopes);
            sum += taught * count as f64 * value;
            batch = Some(slopes);
        }
        let mut slope = vec![0.0; classes];
        for (place, (logits, gradient)) in
            logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).enumerate()
        {
            let logits = wide(logits);
            let target = self.labels.map(|labels| wide(&labels.probabilities[place * classes..][..classes]));
            match &batch {
                Some(slopes) => {
                    slope
                        .iter_mut()
                        .zip(&slopes[place * classes..])
                        .for_each(|(to, x)| *to = taught * count as f64 * x);
                }
                None => slope.fill(0.0),
            }
            if let (Some(teachers), None) = (self.teachers, &batch) {
                let answers = &teachers.logits[place * answers * classes..][..answers * classes];
                for (answer, weight) in answers.chunks_exact(classes).zip(teachers.weights) {
                    let of = taught * weight;
                    let true_class = target.as_deref().map(row::largest);
                    sum += of * row::distance(&teachers.distance, &logits, &wide(answer), true_class, of, &mut slope);
                }
            }
            if let Some(target) = target.filter(|_| told > 0.0) {
                sum += told * row::cross_entropy(&logits, &target, told, &mut slope);
            }
            gradient.iter_mut().zip(&slope).for_each(|(to, slope)| *to = T::from_f64(share * slope));
        }
        sum
    }
}

/// Row-wise log-softmax of `logits / temperature`, `classes` a row; in f64, for metrics.
pub fn log_softmax_rows<T: Element>(logits: &[T], classes: usize, temperature: f64) -> Vec<f64> {
    let rows = logits.chunks_exact(classes);
    rows.flat_map(|row| {
        let row: Vec<f64> = row.iter().map(|logit| logit.to_f64()).collect();
        let normaliser = Normaliser::new(row.iter().copied(), temperature);
        row.into_iter().map(move |logit| normaliser.log_probability(logit))
    })
    .collect()
}
