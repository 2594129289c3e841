//! What steps on a GPU are told, and what they leave behind for the host to look at now and then.

use crate::job::{Distance, Kl, Objective};

/// `struct Status` of `cuda/kernels/weights.cu`, eight bytes a field.
pub const STATUS_BYTES: usize = 8 * 11;

/// What a student's logits are compared with; see [`super::ops::loss::Loss`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// To teachers, where there are any.
    pub distance: Option<Distance>,
    /// Answers for an image.
    pub teachers: usize,
    /// The weight of the labels.
    pub told: f32,
}

/// Where a step finds what it is given: images `[N, S, S, C]`, teachers' logits `[N, K, classes]`, labels `[N, classes]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    pub images: u64,
    pub answers: Option<u64>,
    pub labels: Option<u64>,
}

impl Loss {
    /// Cross-entropy to labels alone.
    pub const LABELS: Loss = Loss { distance: None, teachers: 0, told: 1.0 };

    pub fn kl(temperature: f64) -> Loss {
        Loss { distance: Some(Distance::Kl(Kl::new(temperature))), teachers: 1, told: 0.0 }
    }

    pub fn of(objective: &Objective) -> Loss {
        match objective {
            Objective::Labels(_) => Loss::LABELS,
            Objective::Distil(distil) => Loss {
                distance: Some(distil.distance),
                teachers: distil.weights().len(),
                told: distil.labels.weight as f32,
            },
        }
    }
}

/// Sums over the steps of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    pub loss: f64,
    /// Of the gradients' norms.
    pub norm: f64,
    pub steps: u64,
}

/// What a student's steps left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Status {
    /// Since they were last forgotten.
    pub sums: Sums,
    /// Since it was last taken; and how many steps that were.
    pub seconds: f64,
    pub timed: u64,
    pub last_loss: f64,
    pub last_norm: f64,
    pub failed: Option<Broken>,
}

/// Something was not finite, and nothing moves since.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Broken {
    pub step: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Loss,
    Gradient,
    Weight,
}

impl Status {
    /// From the bytes that the kernels write.
    pub fn read(bytes: &[u8]) -> Status {
        let word = |place: usize| word(bytes, place);
        let number = |place: usize| f64::from_bits(word(place));
        let what = match word(7) {
            1 => What::Loss,
            2 => What::Gradient,
            _ => What::Weight,
        };
        Status {
            sums: Sums { loss: number(0), norm: number(1), steps: word(5) },
            seconds: number(2) * 1e-9,
            timed: word(5),
            last_loss: number(3),
            last_norm: number(4),
            failed: (word(6) > 0).then(|| Broken { step: word(6) - 1, what }),
        }
    }
}

fn word(bytes: &[u8], place: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[8 * place..8 * place + 8]);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_the_kernels_write_it() {
        let words = [1.5f64, 2.5, 3e9, 4.5, 5.5].map(f64::to_bits).into_iter().chain([6, 8, 2, 9, 0, 0]);
        let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        assert_eq!(bytes.len(), STATUS_BYTES);
        let expected = Status {
            sums: Sums { loss: 1.5, norm: 2.5, steps: 6 },
            seconds: 3.0,
            timed: 6,
            last_loss: 4.5,
            last_norm: 5.5,
            failed: Some(Broken { step: 7, what: What::Gradient }),
        };
        assert_eq!(Status::read(&bytes), expected);
    }
}
