//! Words of a report file that may be written in several ways.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// A place on an axis as an experiment writes it: `300`, `function-matching`, `["t224"]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place(pub String);

/// Only jobs at these places, and those that stand on no such axis.
pub type Where = BTreeMap<String, Place>;

/// `"fig1-duration"`, or a list of such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experiments(pub Vec<String>);

impl Place {
    /// Equal as text, as numbers (`3e-4` is `0.0003`), or as the same list or table however it is spaced.
    pub fn is(&self, text: &str) -> bool {
        let tight = |text: &str| text.split_whitespace().collect::<String>();
        self.0 == text
            || matches!((self.0.parse::<f64>(), text.parse::<f64>()), (Ok(a), Ok(b)) if a == b)
            || text.starts_with(['{', '[']) && tight(&self.0) == tight(text)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Experiments {
    pub fn first(&self) -> &str {
        self.0.first().map(String::as_str).unwrap_or_default()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Place(match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => text,
            other => other.to_string(),
        }))
    }
}

impl<'de> Deserialize<'de> for Experiments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Experiments;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the file stem of an experiment, or a list of them")
            }
            fn visit_str<E>(self, name: &str) -> Result<Experiments, E> {
                Ok(Experiments(vec![name.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Experiments, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element::<String>()? {
                    names.push(name);
                }
                if names.is_empty() {
                    return Err(serde::de::Error::custom("a report shows at least one experiment"));
                }
                Ok(Experiments(names))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}
