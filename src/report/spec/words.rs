//! Words of a report file that may be written in several ways.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// A place on an axis as an experiment writes it: `300`, `function-matching`, `["t224"]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place(pub String);

/// Between alternatives.
const OR: &str = " | ";

/// Only jobs at these places, and those that stand on no such axis.
pub type Where = BTreeMap<String, Place>;

/// File stems of experiments: `"fig1-duration"`, or a list of such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experiments(pub Vec<String>);

/// Axes whose places together are the lines: `"teaching"`, or a list of such.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axes(pub Vec<String>);

impl Place {
    /// Equal as text, as numbers (`3e-4` is `0.0003`), as the same list or table however it is spaced, or as the kind of a
    /// choice with settings: `sgd` is `{ sgd = { momentum = 0.9 } }`.
    ///
    /// Places between ` | ` are alternatives: what stands for one thing has another name in each size.
    pub fn is(&self, text: &str) -> bool {
        if self.0 == text {
            return true;
        }
        if self.0.contains(OR) {
            return self.0.split(OR).any(|place| Place(place.to_owned()).is(text));
        }
        let tight = |text: &str| text.split_whitespace().collect::<String>();
        let of_kind = |text: &str| {
            let rest = text.strip_prefix('{').and_then(|inner| inner.trim_start().strip_prefix(self.0.as_str()));
            rest.is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        match text.as_bytes().first() {
            Some(b'{') => of_kind(text) || tight(&self.0) == tight(text),
            Some(b'[') => tight(&self.0) == tight(text),
            _ => matches!((self.0.parse::<f64>(), text.parse::<f64>()), (Ok(a), Ok(b)) if a == b),
        }
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
        one_or_more(deserializer, "the file stem of an experiment, or a list of them").map(Experiments)
    }
}

impl<'de> Deserialize<'de> for Axes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_more(deserializer, "an axis, or a list of them").map(Axes)
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D, expected: &'static str) -> Result<Vec<String>, D::Error> {
    struct OneOrMore(&'static str);
    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E>(self, name: &str) -> Result<Vec<String>, E> {
            Ok(vec![name.to_owned()])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = list.next_element::<String>()? {
                names.push(name);
            }
            if names.is_empty() {
                return Err(serde::de::Error::custom(format!("the list is empty: expected {}", self.0)));
            }
            Ok(names)
        }
    }
    deserializer.deserialize_any(OneOrMore(expected))
}
