//! Losses from logits and their gradients, in one pass over a row.
//!
//! # Shapes
//! logits `[N, C]`; a loss is the mean over the batch. Targets are not differentiated: the teacher is frozen and labels
//! are labels.

use super::element::Element;

/// What a student's logits are compared with. Targets are `[N, C]`.
#[derive(Clone, Copy, Debug)]
pub enum Loss<'a, T> {
    /// `T² KL(softmax(teacher / T) || softmax(student / T))`, both given as logits (paper.md 1.1; T² as in the released
    /// code).
    Kl { teacher: &'a [T], temperature: f64 },
    /// `- sum of p log softmax(logits)` against probabilities `p`.
    CrossEntropy { probabilities: &'a [T] },
}

impl<'a, T: Element> Loss<'a, T> {
    /// The part of some images of the batch, given as a range of its rows.
    pub fn rows(&self, rows: std::ops::Range<usize>, classes: usize) -> Loss<'a, T> {
        let range = rows.start * classes..rows.end * classes;
        match *self {
            Loss::Kl { teacher, temperature } => Loss::Kl { teacher: &teacher[range], temperature },
            Loss::CrossEntropy { probabilities } => Loss::CrossEntropy { probabilities: &probabilities[range] },
        }
    }

    /// The sum of the rows' losses, in nats. Writes `share` times the gradient of each row's loss to `gradient`.
    ///
    /// d/dlogits = T² / T (q sum(p) - p), with q the student's and p the target's probabilities at temperature T.
    pub fn evaluate(&self, logits: &[T], classes: usize, share: f64, gradient: &mut [T]) -> f64 {
        let (target, temperature) = match *self {
            Loss::Kl { teacher, temperature } => (teacher, temperature),
            Loss::CrossEntropy { probabilities } => (probabilities, 1.0),
        };
        assert!(logits.len() == target.len() && logits.len() == gradient.len(), "logits, target and gradient match");
        let rows = logits.chunks_exact(classes).zip(target.chunks_exact(classes));
        let mut sum = 0.0;
        for ((logits, target), gradient) in rows.zip(gradient.chunks_exact_mut(classes)) {
            let q = Normaliser::new(logits, temperature);
            let p = matches!(self, Loss::Kl { .. }).then(|| Normaliser::new(target, temperature));
            let mass: f64 = match p {
                Some(_) => 1.0,
                None => target.iter().map(|p| p.to_f64()).sum(),
            };
            for ((logit, target), gradient) in logits.iter().zip(target).zip(gradient) {
                let log_q = q.log_probability(*logit);
                // Log p is no part of a cross-entropy.
                let (p, log_p) = match &p {
                    Some(p) => {
                        let log = p.log_probability(*target);
                        (log.exp(), log)
                    }
                    None => (target.to_f64(), 0.0),
                };
                sum += p * (log_p - log_q);
                *gradient = T::from_f64(share * temperature * (log_q.exp() * mass - p));
            }
        }
        sum * temperature * temperature
    }
}

/// Of a row of logits: log-softmax of `logits / temperature` is `logit / temperature - normaliser`; in f64.
struct Normaliser {
    temperature: f64,
    log_sum: f64,
}

impl Normaliser {
    fn new<T: Element>(logits: &[T], temperature: f64) -> Normaliser {
        let most = logits.iter().map(|logit| logit.to_f64()).fold(f64::NEG_INFINITY, f64::max) / temperature;
        let sum: f64 = logits.iter().map(|logit| (logit.to_f64() / temperature - most).exp()).sum();
        Normaliser { temperature, log_sum: most + sum.ln() }
    }

    fn log_probability<T: Element>(&self, logit: T) -> f64 {
        logit.to_f64() / self.temperature - self.log_sum
    }
}

/// Row-wise log-softmax of `logits / temperature`, `classes` a row; in f64, for metrics.
pub fn log_softmax_rows<T: Element>(logits: &[T], classes: usize, temperature: f64) -> Vec<f64> {
    let rows = logits.chunks_exact(classes);
    rows.flat_map(|row| {
        let normaliser = Normaliser::new(row, temperature);
        row.iter().map(move |logit| normaliser.log_probability(*logit))
    })
    .collect()
}
