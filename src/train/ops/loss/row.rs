//! Losses of one image: a row of logits `[C]`, in f64. Each returns its value and adds `weight` times its gradient to
//! `slope`.

use crate::job::{Distance, Dkd, Kl};

/// `true_class` is there where the distance needs it.
pub(super) fn distance(
    distance: &Distance,
    logits: &[f64],
    teacher: &[f64],
    true_class: Option<usize>,
    weight: f64,
    slope: &mut [f64],
) -> f64 {
    match distance {
        Distance::Kl(of) => kl(of, logits, teacher, weight, slope),
        Distance::Squared => squared(logits, teacher, 2.0 * weight, slope),
        Distance::Euclidean => {
            let length = squared(logits, teacher, 0.0, slope).sqrt();
            if length > 0.0 {
                squared(logits, teacher, weight / length, slope);
            }
            length
        }
        Distance::PseudoLabels(of) => {
            let mut target = vec![of.smoothing / logits.len() as f64; logits.len()];
            target[largest(teacher)] += 1.0 - of.smoothing;
            cross_entropy(logits, &target, weight, slope)
        }
        Distance::Dkd(of) => {
            let true_class = true_class.expect("who is measured by it is given labels");
            decoupled(of, logits, teacher, true_class, weight, slope)
        }
        Distance::Dist(_) => unreachable!("it is no distance of one image"),
    }
}

/// `factor KL(softmax(teacher / T) || softmax(logits / T))`: the gradient is `factor / T (q - p)`.
fn kl(of: &Kl, logits: &[f64], teacher: &[f64], weight: f64, slope: &mut [f64]) -> f64 {
    let (temperature, factor) = (of.temperature, of.factor());
    let q = Normaliser::new(logits.iter().copied(), temperature);
    let p = Normaliser::new(teacher.iter().copied(), temperature);
    let mut sum = 0.0;
    for ((logit, teacher), slope) in logits.iter().zip(teacher).zip(slope) {
        let (log_q, log_p) = (q.log_probability(*logit), p.log_probability(*teacher));
        sum += log_p.exp() * (log_p - log_q);
        *slope += weight * factor / temperature * (log_q.exp() - log_p.exp());
    }
    factor * sum
}

/// `- sum of p log softmax(logits)`; the gradient is `q sum(p) - p`.
pub(super) fn cross_entropy(logits: &[f64], target: &[f64], weight: f64, slope: &mut [f64]) -> f64 {
    let q = Normaliser::new(logits.iter().copied(), 1.0);
    let mass: f64 = target.iter().sum();
    let mut sum = 0.0;
    for ((logit, p), slope) in logits.iter().zip(target).zip(slope) {
        let log_q = q.log_probability(*logit);
        sum -= p * log_q;
        *slope += weight * (log_q.exp() * mass - p);
    }
    sum
}

/// The sum of squared differences; adds `twice` times the differences, which are half its gradient.
fn squared(logits: &[f64], teacher: &[f64], twice: f64, slope: &mut [f64]) -> f64 {
    let mut sum = 0.0;
    for ((logit, teacher), slope) in logits.iter().zip(teacher).zip(slope) {
        let difference = logit - teacher;
        sum += difference * difference;
        *slope += twice * difference;
    }
    sum
}

/// With t the true class, q the student's and p the teacher's probabilities, and those of the others among themselves
/// `q^ = q / (1 - q_t)`, the gradient of the first part is `q_t - p_t` at t and `(p_t - q_t) q^` elsewhere, that of the
/// second `q^ - p^` there; all times T.
fn decoupled(of: &Dkd, logits: &[f64], teacher: &[f64], t: usize, weight: f64, slope: &mut [f64]) -> f64 {
    let temperature = of.temperature;
    let others = |row: &[f64]| {
        let others = row.iter().enumerate().filter(move |(class, _)| *class != t).map(|(_, logit)| *logit);
        Normaliser::new(others, temperature)
    };
    let (q, q_others) = (Normaliser::new(logits.iter().copied(), temperature), others(logits));
    let (p, p_others) = (Normaliser::new(teacher.iter().copied(), temperature), others(teacher));
    let (log_q, log_p) = (q.log_probability(logits[t]), p.log_probability(teacher[t]));
    // Logarithms of 1 - q_t and 1 - p_t, without that difference.
    let (log_not_q, log_not_p) = (q_others.log_sum - q.log_sum, p_others.log_sum - p.log_sum);
    let first = log_p.exp() * (log_p - log_q) + log_not_p.exp() * (log_not_p - log_not_q);
    let difference = log_q.exp() - log_p.exp();
    let mut second = 0.0;
    for (class, ((logit, teacher), slope)) in logits.iter().zip(teacher).zip(slope).enumerate() {
        let gradient = if class == t {
            of.alpha * difference
        } else {
            let (log_q, log_p) = (q_others.log_probability(*logit), p_others.log_probability(*teacher));
            second += log_p.exp() * (log_p - log_q);
            of.beta * (log_q.exp() - log_p.exp()) - of.alpha * difference * log_q.exp()
        };
        *slope += weight * temperature * gradient;
    }
    temperature * temperature * (of.alpha * first + of.beta * second)
}

/// The place of the largest number, the first of equal ones.
pub(super) fn largest(row: &[f64]) -> usize {
    row.iter().enumerate().fold(0, |best, (place, x)| if *x > row[best] { place } else { best })
}

/// Of a row of logits: log-softmax of `logits / temperature` is `logit / temperature - log_sum`.
#[derive(Clone, Copy)]
pub(super) struct Normaliser {
    temperature: f64,
    log_sum: f64,
}

impl Normaliser {
    pub(super) fn new(logits: impl Iterator<Item = f64> + Clone, temperature: f64) -> Normaliser {
        let most = logits.clone().fold(f64::NEG_INFINITY, f64::max) / temperature;
        let sum: f64 = logits.map(|logit| (logit / temperature - most).exp()).sum();
        Normaliser { temperature, log_sum: most + sum.ln() }
    }

    pub(super) fn log_probability(&self, logit: f64) -> f64 {
        logit / self.temperature - self.log_sum
    }
}
