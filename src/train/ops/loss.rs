//! Losses from logits, in one pass, and their gradients.
//!
//! # Shapes
//! logits `[N, C]`; a loss is the mean over the batch, a scalar `[]`. Targets are not differentiated: the teacher is
//! frozen and labels are labels.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};

use super::{Element, by_dtype, numbers, tensor, with_numbers};

/// `T² KL(softmax(teacher / T) || softmax(student / T))`, both given as logits (paper.md 1.1; T² as in the released
/// code). In nats, the mean over the batch.
///
/// # Errors
/// When the shapes differ, or the device or type has no implementation.
pub fn kl_divergence(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    student.contiguous()?.apply_op2(&teacher.detach().contiguous()?, SoftTarget::TeacherLogits { temperature })
}

/// `- sum of p log softmax(logits)` against probabilities `p`, in nats, the mean over the batch.
///
/// # Errors
/// When the shapes differ, or the device or type has no implementation.
pub fn cross_entropy(logits: &Tensor, probabilities: &Tensor) -> Result<Tensor> {
    logits.contiguous()?.apply_op2(&probabilities.detach().contiguous()?, SoftTarget::Probabilities)
}

/// Row-wise log-softmax of `logits / temperature`, `classes` a row; in f64, for metrics and tests.
pub fn log_softmax_rows<T: WithDType>(logits: &[T], classes: usize, temperature: f64) -> Vec<f64> {
    let mut result = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(classes) {
        let start = result.len();
        result.extend(row.iter().map(|logit| logit.to_f64() / temperature));
        let row = &mut result[start..];
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum = row.iter().map(|value| (value - most).exp()).sum::<f64>();
        let normaliser = most + sum.ln();
        row.iter_mut().for_each(|value| *value -= normaliser);
    }
    result
}

#[derive(Clone, Copy)]
enum SoftTarget {
    TeacherLogits { temperature: f64 },
    Probabilities,
}

impl SoftTarget {
    fn temperature(self) -> f64 {
        match self {
            SoftTarget::TeacherLogits { temperature } => temperature,
            SoftTarget::Probabilities => 1.0,
        }
    }

    /// log q of the student, and log p and p of the target (log p is zero where the entropy is no part of the loss).
    fn distributions<T: Element>(self, logits: &[T], target: &[T], classes: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let q = log_softmax_rows(logits, classes, self.temperature());
        match self {
            SoftTarget::TeacherLogits { temperature } => {
                let log_p = log_softmax_rows(target, classes, temperature);
                let p = log_p.iter().map(|log| log.exp()).collect();
                (q, log_p, p)
            }
            SoftTarget::Probabilities => {
                let p: Vec<f64> = target.iter().map(|p| p.to_f64()).collect();
                (q, vec![0.0; p.len()], p)
            }
        }
    }
}

fn shapes(a: &[usize], b: &[usize]) -> Result<(usize, usize)> {
    match (a, b) {
        (&[n, c], &[m, d]) if n == m && c == d && n > 0 && c > 0 => Ok((n, c)),
        _ => bail!("loss: expected two tensors of the same shape [N, C], got {a:?} and {b:?}"),
    }
}

impl CustomOp2 for SoftTarget {
    fn name(&self) -> &'static str {
        "soft_target_loss"
    }

    fn cpu_fwd(&self, sl: &CpuStorage, ll: &Layout, st: &CpuStorage, lt: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, c) = shapes(ll.dims(), lt.dims())?;
        let loss = by_dtype!(sl.dtype(), self.name(), T => {
            let (logits, target) = (numbers::<T>(sl, ll, self.name())?, numbers::<T>(st, lt, self.name())?);
            let (log_q, log_p, p) = self.distributions(logits, target, c);
            let sum: f64 = p.iter().zip(log_p.iter().zip(&log_q)).map(|(p, (log_p, log_q))| p * (log_p - log_q)).sum();
            let scale = self.temperature().powi(2) / n as f64;
            T::to_cpu_storage_owned(vec![T::from_f64(scale * sum)])
        });
        Ok((loss, Shape::from(())))
    }

    /// d/dlogits = T² / T (q sum(p) - p) / N
    fn bwd(
        &self,
        logits: &Tensor,
        target: &Tensor,
        _loss: &Tensor,
        dloss: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (n, c) = shapes(logits.dims(), target.dims())?;
        by_dtype!(logits.dtype(), self.name(), T => {
            let scale = dloss.to_scalar::<T>()?.to_f64() * self.temperature() / n as f64;
            let gradient = with_numbers::<T, _>(logits, self.name(), |logits| {
                with_numbers::<T, _>(target, self.name(), |target| {
                    let (log_q, _, p) = self.distributions(logits, target, c);
                    let mut gradient = Vec::with_capacity(n * c);
                    for (log_q, p) in log_q.chunks_exact(c).zip(p.chunks_exact(c)) {
                        let mass: f64 = p.iter().sum();
                        gradient.extend(log_q.iter().zip(p).map(|(q, p)| T::from_f64(scale * (q.exp() * mass - p))));
                    }
                    Ok(gradient)
                })
            })?;
            Ok((Some(tensor(gradient, logits.shape())?), None))
        })
    }
}
