//! A network's answers measured: against labels, and against a teacher.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::event::{Evaluation, Which};
use crate::train::ops::loss::log_softmax_rows;

/// Bins of a calibration error, as in arXiv 1706.04599.
const BINS: usize = 15;

/// The answers to one split and what they are compared with.
pub struct Answers<'a> {
    /// `[N, classes]`, row by row.
    pub logits: &'a [f32],
    pub labels: &'a [u32],
    pub classes: usize,
}

impl Answers<'_> {
    /// Shares of the images whose label is the first, or among the five first, of the answers.
    pub fn accuracy(&self) -> (f64, f64) {
        let (mut first, mut five) = (0u64, 0u64);
        for (row, label) in self.logits.chunks_exact(self.classes).zip(self.labels) {
            let rank = rank(row, *label as usize);
            first += u64::from(rank == 0);
            five += u64::from(rank < 5);
        }
        let n = self.labels.len() as f64;
        (first as f64 / n, five as f64 / n)
    }

    /// Of each class, how many images there are and how many are answered right.
    pub fn by_class(&self) -> Vec<(u64, u64)> {
        let mut counts = vec![(0, 0); self.classes];
        for (row, label) in self.logits.chunks_exact(self.classes).zip(self.labels) {
            let (images, right) = &mut counts[*label as usize];
            *images += 1;
            *right += u64::from(rank(row, *label as usize) == 0);
        }
        counts
    }

    /// Of each image, the answer and its probability.
    pub fn predictions(&self) -> Vec<(usize, f64)> {
        self.predictions_by(&log_softmax_rows(self.logits, self.classes, 1.0))
    }

    /// The same, given the logarithms of the probabilities.
    fn predictions_by(&self, log_q: &[f64]) -> Vec<(usize, f64)> {
        let rows = self.logits.chunks_exact(self.classes).zip(log_q.chunks_exact(self.classes));
        let predicted = |(row, log_q): (&[f32], &[f64])| {
            let class = first(row);
            (class, log_q[class].exp())
        };
        rows.map(predicted).collect()
    }

    /// The share of images where the teacher's answer is among the student's first `k` (paper.md 1.8).
    pub fn agreement_at(&self, k: usize, teacher: &[f32]) -> f64 {
        let pairs = self.logits.chunks_exact(self.classes).zip(teacher.chunks_exact(self.classes));
        pairs.filter(|(student, teacher)| rank(student, first(teacher)) < k).count() as f64 / self.labels.len() as f64
    }

    /// The mean Euclidean distance between both networks' logits.
    pub fn distance(&self, teacher: &[f32]) -> f64 {
        let pairs = self.logits.chunks_exact(self.classes).zip(teacher.chunks_exact(self.classes));
        let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
        let lengths = pairs.map(|(a, b)| a.iter().zip(b).map(square).sum::<f64>().sqrt());
        lengths.sum::<f64>() / self.labels.len() as f64
    }

    /// How far confidence is from accuracy: the mean over bins of confidence, weighted by how many images fall into them.
    fn calibration_error(&self, log_q: &[f64]) -> f64 {
        let mut bins = [(0.0, 0.0); BINS];
        for ((class, probability), label) in self.predictions_by(log_q).into_iter().zip(self.labels) {
            // A bin has its upper end.
            let bin = ((probability * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            bins[bin].0 += probability;
            bins[bin].1 += f64::from(u8::from(class == *label as usize));
        }
        bins.iter().map(|(confidence, right): &(f64, f64)| (confidence - right).abs()).sum::<f64>()
            / self.labels.len() as f64
    }

    /// Which images are answered right, as [`Evaluation::correct`] has it.
    pub fn correct(&self) -> String {
        let mut bits = vec![0u8; self.labels.len().div_ceil(8)];
        let rows = self.logits.chunks_exact(self.classes).zip(self.labels);
        for (i, (row, label)) in rows.enumerate() {
            bits[i / 8] |= u8::from(rank(row, *label as usize) == 0) << (i % 8);
        }
        STANDARD.encode(bits)
    }

    /// Everything an epoch's row says of a split. `teacher` holds the teacher's logits for the same images. Which images
    /// are answered right is said in the last.
    pub fn evaluate(&self, split: Which, teacher: Option<&[f32]>, is_last: bool) -> Evaluation {
        let n = self.labels.len() as f64;
        let log_q = log_softmax_rows(self.logits, self.classes, 1.0);
        let log_p = teacher.map(|teacher| log_softmax_rows(teacher, self.classes, 1.0));
        let rows = log_q.chunks_exact(self.classes);
        // From zero, which has no sign then.
        let loss = 0.0 - rows.zip(self.labels).map(|(row, label)| row[*label as usize]).sum::<f64>() / n;
        let (top1, top5) = self.accuracy();
        let divergence = |log_p: &Vec<f64>| log_p.iter().zip(&log_q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>() / n;
        let entropy = |log: &Vec<f64>| -log.iter().map(|log| log.exp() * log).sum::<f64>() / n;
        Evaluation {
            split,
            images: self.labels.len() as u64,
            loss,
            top1,
            top5,
            kl: log_p.as_ref().map(divergence),
            agreement: teacher.map(|teacher| self.agreement_at(1, teacher)),
            agreement5: teacher.map(|teacher| self.agreement_at(5, teacher)),
            distance: teacher.map(|teacher| self.distance(teacher)),
            entropy: Some(entropy(&log_q)),
            teacher_entropy: log_p.as_ref().map(entropy),
            calibration_error: Some(self.calibration_error(&log_q)),
            correct: is_last.then(|| self.correct()),
        }
    }
}

/// Position of `class` in the answer's order. Equal logits go by class number: an untrained head's zeros all answer
/// class 0 rather than every class.
fn rank(row: &[f32], class: usize) -> usize {
    let own = row[class];
    // Nothing compares to a NaN: without this, a broken network would be right about everything.
    if own.is_nan() {
        return row.len();
    }
    row.iter().enumerate().filter(|(other, logit)| **logit > own || (**logit == own && *other < class)).count()
}

fn first(row: &[f32]) -> usize {
    (0..row.len()).find(|class| rank(row, *class) == 0).unwrap_or(0)
}

/// Whether an accuracy is within three standard errors of guessing, or below.
pub fn is_chance(top1: f64, images: u64, classes: u32) -> bool {
    let chance = 1.0 / f64::from(classes);
    top1 <= chance + 3.0 * (chance * (1.0 - chance) / images as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_by_hand() {
        // Softmax of (ln 1, ln 3) is (1/4, 3/4); of (ln 3, ln 1) its reverse.
        let (a, b) = (0f32, 3f32.ln());
        let answers = Answers { logits: &[a, b, b, a, a, b], labels: &[1, 1, 1], classes: 2 };
        let teacher = [a, b, a, b, a, b];
        let evaluation = answers.evaluate(Which::Test, Some(&teacher), true);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        close(evaluation.top1, 2.0 / 3.0);
        close(evaluation.top5, 1.0);
        close(evaluation.loss, -(0.75f64.ln() * 2.0 + 0.25f64.ln()) / 3.0);
        close(evaluation.agreement.unwrap(), 2.0 / 3.0);
        close(answers.agreement_at(1, &teacher), 2.0 / 3.0);
        close(answers.agreement_at(2, &teacher), 1.0);
        assert_eq!(answers.by_class(), [(0, 0), (3, 2)]);
        assert_eq!(answers.predictions().iter().map(|(class, _)| *class).collect::<Vec<_>>(), [1, 0, 1]);
        close(answers.predictions()[0].1, 0.75);
        close(answers.distance(&teacher), f64::from(b) * 2f64.sqrt() / 3.0);
        // KL((1/4, 3/4) || (3/4, 1/4)) on one image of three.
        close(evaluation.kl.unwrap(), (0.25 * (1.0f64 / 3.0).ln() + 0.75 * 3f64.ln()) / 3.0);
        close(evaluation.agreement5.unwrap(), 1.0);
        close(evaluation.distance.unwrap(), answers.distance(&teacher));
        let entropy = -(0.25 * 0.25f64.ln() + 0.75 * 0.75f64.ln());
        close(evaluation.entropy.unwrap(), entropy);
        close(evaluation.teacher_entropy.unwrap(), entropy);
        // Three confidences of 3/4 in one bin, two of them right.
        close(evaluation.calibration_error.unwrap(), 3.0 / 4.0 - 2.0 / 3.0);
        // The first and the third: bits 0 and 2.
        assert_eq!(evaluation.correct.as_deref(), Some("BQ=="));
        assert_eq!(answers.evaluate(Which::Test, None, false).correct, None);
    }

    #[test]
    fn every_bin_of_confidence_counts_by_its_images() {
        let confident = (0.99f32 / 0.01).ln();
        // Sure and right, sure and wrong, and a coin that comes up right.
        let answers = Answers { logits: &[confident, 0.0, confident, 0.0, 0.0, 0.0], labels: &[0, 1, 0], classes: 2 };
        let expected = ((0.99 * 2.0 - 1.0) + (1.0 - 0.5)) / 3.0;
        assert!((answers.evaluate(Which::Test, None, false).calibration_error.unwrap() - expected).abs() < 1e-6);
    }

    #[test]
    fn ties_go_by_class() {
        let answers = Answers { logits: &[0.0; 20], labels: &[0, 7], classes: 10 };
        assert_eq!(answers.accuracy(), (0.5, 0.5));
    }

    #[test]
    fn chance_has_a_margin() {
        assert!(is_chance(0.10, 1000, 10));
        assert!(is_chance(0.128, 1000, 10));
        assert!(!is_chance(0.13, 1000, 10));
    }
}
