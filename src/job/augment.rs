//! What is done to a view beyond window and flip.

use serde::{Deserialize, Serialize};

/// Random operations on the pixels of a view (not in the paper). Both choices draw from the same 14 kinds of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Augment {
    #[default]
    Off,
    /// So many operations one after the other, all of one strength (arXiv 1909.13719).
    RandAugment {
        operations: u32,
        /// 0 to [`Augment::STRONGEST`].
        magnitude: u32,
    },
    /// One operation of random strength, from wider ranges (arXiv 2103.10158).
    TrivialAugment,
}

impl Augment {
    /// Strengths are counted from 0 to this.
    pub const STRONGEST: u32 = 30;

    pub fn is_off(&self) -> bool {
        *self == Augment::Off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_other_choices_are() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Written {
            augment: Augment,
        }
        let read = |text: &str| toml::from_str::<Written>(text).map(|written| written.augment);
        let rand_augment = Augment::RandAugment { operations: 2, magnitude: 9 };
        assert_eq!(read("augment = \"off\"").unwrap(), Augment::default());
        assert_eq!(read("augment = \"trivial-augment\"").unwrap(), Augment::TrivialAugment);
        assert_eq!(read("augment = { rand-augment = { operations = 2, magnitude = 9 } }").unwrap(), rand_augment);
        assert!(read("augment = { rand-augment = { operations = 2, magnitude = 9, bins = 31 } }").is_err());
        assert!(Augment::Off.is_off() && !rand_augment.is_off());
    }
}
