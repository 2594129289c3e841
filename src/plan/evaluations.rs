//! After which epochs a student is measured.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Always after the last; before it, in even steps or in even steps of the logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluations {
    /// Epochs, at least 1.
    Every(u32),
    /// So many from 1 to 10, from 10 to 100 and so on, at least 1: for long runs, whose beginnings change fastest.
    PerDecade(u32),
}

impl Evaluations {
    /// Whether the epoch, counted from 1, is one of them in a run of `epochs`.
    pub fn is_due(self, epoch: u32, epochs: u32) -> bool {
        epoch == epochs
            || match self {
                Evaluations::Every(every) => epoch.is_multiple_of(every),
                Evaluations::PerDecade(count) => {
                    let step = |k: f64| 10f64.powf(k / f64::from(count)).round();
                    let near = (f64::from(epoch).log10() * f64::from(count)).round();
                    // Rounding moves an epoch by less than a step, but where steps are shorter than epochs.
                    [near - 1.0, near, near + 1.0].into_iter().any(|k| k >= 0.0 && step(k) == f64::from(epoch))
                }
            }
    }
}

impl Serialize for Evaluations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Evaluations::Every(every) => serializer.serialize_u32(*every),
            Evaluations::PerDecade(count) => serializer.collect_map([("per-decade", count)]),
        }
    }
}

/// A number of epochs, or `{ per-decade = 10 }`. By hand, for an untagged enum would lose where a wrong word stands.
impl<'de> Deserialize<'de> for Evaluations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Evaluations, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Evaluations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of epochs, 1 or more, or `{ per-decade = 10 }`")
            }

            fn visit_i64<E: Error>(self, epochs: i64) -> Result<Evaluations, E> {
                let epochs = u32::try_from(epochs).ok().filter(|epochs| *epochs > 0);
                epochs.map(Evaluations::Every).ok_or_else(|| E::custom("`evaluate-every` is at least 1 epoch"))
            }

            fn visit_u64<E: Error>(self, epochs: u64) -> Result<Evaluations, E> {
                self.visit_i64(i64::try_from(epochs).unwrap_or(i64::MAX))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Evaluations, A::Error> {
                #[derive(Deserialize)]
                #[serde(rename_all = "kebab-case")]
                enum Word {
                    PerDecade,
                }
                let Some(Word::PerDecade) = map.next_key()? else {
                    return Err(A::Error::custom("`evaluate-every` is a number of epochs, or `{ per-decade = 10 }`"));
                };
                let count: u32 = map.next_value()?;
                if count == 0 || map.next_key::<Word>()?.is_some() {
                    return Err(A::Error::custom("`per-decade` is at least 1, and stands alone"));
                }
                Ok(Evaluations::PerDecade(count))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(evaluations: Evaluations, epochs: u32) -> Vec<u32> {
        (1..=epochs).filter(|epoch| evaluations.is_due(*epoch, epochs)).collect()
    }

    #[test]
    fn epochs_are_evenly_apart_or_their_logarithms_are() {
        assert_eq!(all(Evaluations::Every(3), 10), [3, 6, 9, 10]);
        assert_eq!(all(Evaluations::PerDecade(3), 47), [1, 2, 5, 10, 22, 46, 47]);
        assert_eq!(all(Evaluations::PerDecade(1), 1_000), [1, 10, 100, 1_000]);
        // More than there are: each once.
        assert_eq!(all(Evaluations::PerDecade(1_000), 20), (1..=20).collect::<Vec<_>>());
        assert_eq!(all(Evaluations::PerDecade(10), 1_000_000).len(), 58);
    }

    #[test]
    fn both_kinds_are_written_as_they_are_read() {
        for (text, evaluations) in [("5", Evaluations::Every(5)), ("{\"per-decade\":4}", Evaluations::PerDecade(4))] {
            assert_eq!(serde_json::from_str::<Evaluations>(text).unwrap(), evaluations);
            assert_eq!(serde_json::to_string(&evaluations).unwrap(), text);
        }
        for wrong in ["0", "-1", "\"often\"", "{}", "{\"per-decade\":0}", "{\"per-year\":1}"] {
            assert!(serde_json::from_str::<Evaluations>(wrong).is_err(), "{wrong}");
        }
    }
}
