//! Random numbers that are a pure function of where they are used.
//!
//! A [`Stream`] is keyed by (seed, purpose, index): whoever asks for the crop of position 17 of epoch 3 gets the same
//! crop, whether or not anyone asked for another before. No generator state is kept, saved or shared, so resume,
//! replay and pairing cost nothing and the number of loader threads cannot matter.
//!
//! Philox 4x32-10 (Salmon et al., SC'11), the counter-based generator of PyTorch's and JAX's GPU code, written out
//! because the published crates keep it behind a stateful interface.

use std::convert::Infallible;

use rand::TryRng;

/// What numbers are drawn for; streams of different purposes never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The order of the images of an epoch; index = epoch.
    Order = 1,
    /// The view shared by teacher and student, or the teacher's own; index = position since the start.
    TeacherView = 2,
    /// The student's own view where it is not shared.
    StudentView = 3,
    /// The shared mixing coefficient, or the teacher's own; index = step.
    TeacherMix = 4,
    /// The student's own mixing coefficient.
    StudentMix = 5,
    /// Initial weights; index = position of the tensor in the network.
    Init = 6,
    /// The crops of `fixed/ic-ens`; index = image * crops + crop.
    FixedCrops = 7,
    /// The order of one set of a mixture; index = set << 40 | round through it.
    SetOrder = 8,
}

/// An endless sequence of numbers at one place.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    /// Block of the sequence, purpose, index (low, high).
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Stream {
        let key = [seed as u32, (seed >> 32) as u32];
        Stream { key, counter: [0, purpose as u32, index as u32, (index >> 32) as u32], block: [0; 4], used: 4 }
    }

    pub fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// In [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        let bits = (u64::from(self.word()) << 32 | u64::from(self.word())) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }

    /// In [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// In 0..n, each equally likely (Lemire's multiplication with rejection).
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "a draw from nothing");
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u64::from(self.word()) * u64::from(n);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }

    pub fn coin(&mut self) -> bool {
        self.word() & 1 == 1
    }

    /// A random order of 0..n (Fisher-Yates).
    pub fn permutation(&mut self, n: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last as usize, self.below(last + 1) as usize);
        }
        order
    }
}

/// For the distributions of `rand_distr`.
impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from(self.word()) << 32 | u64::from(self.word()))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        for bytes in to.chunks_mut(4) {
            let word = self.word().to_le_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
        Ok(())
    }
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that come with the authors' Random123 library.
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn draws_are_uniform_and_streams_apart() {
        let mut counts = [0u32; 6];
        let mut stream = Stream::new(3, Purpose::Order, 0);
        for _ in 0..60_000 {
            counts[stream.below(6) as usize] += 1;
        }
        // 10,000 expected, standard deviation 91.
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        let first = |purpose, index| Stream::new(3, purpose, index).unit();
        assert_ne!(first(Purpose::Order, 0), first(Purpose::TeacherView, 0));
        assert_ne!(first(Purpose::Order, 0), first(Purpose::Order, 1));
        assert_ne!(first(Purpose::Order, 0), first(Purpose::Order, 1 << 32));
        assert_eq!(first(Purpose::Init, 5), first(Purpose::Init, 5));
    }

    #[test]
    fn permutations_hold_everything_once() {
        let mut order = Stream::new(1, Purpose::Order, 9).permutation(1000);
        assert_ne!(order[..10], (0..10).collect::<Vec<_>>()[..]);
        order.sort_unstable();
        assert!(order.iter().copied().eq(0..1000));
    }
}
