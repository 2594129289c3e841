//! `[teachers.NAME]`: a job that is trained first, or a weights file that exists.

use std::fmt;
use std::ops::Range;

use serde::de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::DeValue;

use super::check::Check;
use super::document::{Section, expected, section};
use super::key;
use super::merge::{self, merge};
use super::resolver::Resolver;
use super::text::Fault;
use crate::diagnostic::one_of;
use crate::job::{Data, Ensemble, Model, NetworkSource, Normalization, Teacher, Weights};

/// A teacher that was read.
#[derive(Clone)]
pub(super) struct Known {
    pub source: NetworkSource,
    /// None: the same as its student's.
    pub resolution: Option<u32>,
    /// Where that is known.
    pub classes: Option<u32>,
}

const KEYS: [&str; 5] = ["train", "weights", "model", "normalization", "resolution"];
/// Keys that tell what a weights file holds.
const DESCRIBE: [&str; 2] = ["model", "normalization"];

/// `"equal"`, or one number for each of `teachers`.
pub(super) enum TeacherWeights {
    Equal,
    Each(Vec<f64>),
}

impl<'de> Deserialize<'de> for TeacherWeights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TeacherWeights, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = TeacherWeights;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`equal` or a list of numbers")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<TeacherWeights, E> {
                match name {
                    "equal" => Ok(TeacherWeights::Equal),
                    name => Err(E::unknown_variant(name, &["equal"])),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<TeacherWeights, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(TeacherWeights::Each)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl TeacherWeights {
    /// A single teacher has none. In a mean only their ratios count, so the first becomes 1 and equal ones say nothing:
    /// without this, two jobs that do the same would have two ids.
    pub fn give(&self, teachers: &mut [Teacher], ensemble: Ensemble, check: &Check<'_, '_>) -> Result<(), Fault> {
        let (TeacherWeights::Each(weights), [_, _, ..]) = (self, &*teachers) else { return Ok(()) };
        let count = teachers.len();
        if weights.len() != count {
            let message = format!("there are {count} teachers, and {} weights", weights.len());
            return Err(check.fault("teacher-weights", message).hint("give one to each, in the order of `teachers`"));
        }
        for (index, weight) in weights.iter().enumerate() {
            if !(1e-6..=1e6).contains(weight) {
                let span = check.element_span("teacher-weights", index);
                let fault = Fault::new(span, format!("a teacher's weight is {weight}, but must be from 1e-6 to 1e6"));
                return Err(fault.hint("who is not to be heard is left out of `teachers`"));
            }
        }
        let unit = if ensemble == Ensemble::SumOfKl { 1.0 } else { weights[0] };
        teachers.iter_mut().zip(weights).for_each(|(teacher, weight)| teacher.weight = weight / unit);
        Ok(())
    }
}

impl Known {
    /// What it was trained on, where that is known.
    pub fn data(&self) -> Option<&Data> {
        match &self.source {
            NetworkSource::Job(job) => Some(&job.data),
            NetworkSource::Weights(_) => None,
        }
    }
}

impl<'a> Resolver<'a> {
    /// `span` is where the name is used.
    pub fn teacher(&mut self, name: &str, span: Range<usize>) -> Result<Known, Fault> {
        if let Some(known) = self.teachers.get(name) {
            return Ok(known.clone());
        }
        if let Some(at) = self.open.iter().position(|open| open == name) {
            let circle: Vec<&str> = self.open[at..].iter().map(String::as_str).chain([name]).collect();
            return Err(Fault::new(span, format!("teachers wait for each other: `{}`", circle.join("` -> `")))
                .hint("one of them must learn from labels or come from weights"));
        }
        let Some((_, section)) = self.sections.iter().find(|(key, _)| key.get_ref() == name) else {
            let known: Vec<&str> = self.sections.iter().map(|(key, _)| key.get_ref().as_ref()).collect();
            let hint = match known.as_slice() {
                [] => format!("define it under `[teachers.{name}]`"),
                _ => one_of(name, known),
            };
            return Err(Fault::new(span, format!("teacher `{name}` is not defined")).hint(hint));
        };
        let section = section.clone();
        self.open.push(name.to_owned());
        let known = self.read_teacher(section)?;
        self.open.pop();
        self.teachers.insert(name.to_owned(), known.clone());
        Ok(known)
    }

    fn read_teacher(&mut self, teacher: Section<'a>) -> Result<Known, Fault> {
        let Section { span, table } = teacher;
        if let Some(key) = merge::in_order(&table).find(|key| !KEYS.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let hint = if key::is_job_key(name) {
                format!("job keys of a teacher stand under `train`: `train = {{ {name} = ... }}`")
            } else {
                one_of(name, KEYS)
            };
            return Err(Fault::new(key.span(), format!("unknown key `{name}`")).hint(hint));
        }
        let check = Check { table: &table, header: span.clone() };
        let resolution = match table.get("resolution") {
            None => None,
            Some(value) => {
                let resolution = read_value(value)?;
                check.whole("resolution", resolution, 4, 1024, "it is the side in pixels of what the teacher sees")?;
                Some(resolution)
            }
        };
        let source = match (table.get("train"), table.get("weights")) {
            (Some(train), None) => {
                if let Some(key) = merge::in_order(&table).find(|key| DESCRIBE.contains(&key.get_ref().as_ref())) {
                    let message = format!("`{}` describes a weights file, and there is none", key.get_ref());
                    return Err(Fault::new(key.span(), message).hint("write `student` under `train`"));
                }
                let source = self.read_train(section(train.clone())?, span)?;
                (source, None)
            }
            (None, Some(weights)) => self.read_weights(weights, &check)?,
            (Some(_), Some(weights)) => {
                return Err(Fault::new(weights.span(), "a teacher is either trained or read from weights")
                    .hint("keep one of `train` and `weights`"));
            }
            (None, None) => {
                let fault = Fault::new(span, "this teacher has neither `train` nor `weights`");
                return Err(fault.hint("`train = { epochs = 10 }` trains one like `[base]`, on labels"));
            }
        };
        let (source, classes) = source;
        Ok(Known { source, resolution, classes })
    }

    /// Like `[base]`, but for how a student is taught, on which other images, and what it starts from: a teacher inherits
    /// none of it.
    fn read_train(&mut self, train: Section<'a>, header: Range<usize>) -> Result<NetworkSource, Fault> {
        let objective = match train.table.get("objective").map(Spanned::get_ref) {
            Some(DeValue::String(objective)) => objective.clone(),
            _ => "labels".into(),
        };
        let inherited = self.base.clone();
        for name in key::DISTILLATION.into_iter().chain(["objective", "init", "train-on"]) {
            self.base.table.remove(name);
        }
        let mut table = self.base_for(&objective);
        self.base = inherited;
        if !train.table.contains_key("objective") {
            let objective = Spanned::new(header.clone(), DeValue::String("labels".into()));
            table.insert(Spanned::new(header.clone(), "objective".into()), objective);
        }
        merge(&mut table, &train.table);
        Ok(NetworkSource::Job(std::sync::Arc::new(self.job(&table, header)?)))
    }

    fn read_weights(
        &mut self,
        weights: &Spanned<DeValue<'_>>,
        check: &Check<'_, '_>,
    ) -> Result<(NetworkSource, Option<u32>), Fault> {
        let Some(name) = weights.get_ref().as_str() else {
            let fault = expected("a path", weights.span(), weights.get_ref());
            return Err(fault.hint("for instance `weights = \"teacher.safetensors\"` or `weights = \"hf:owner/name\"`"));
        };
        let model: Option<Model> = check.table.get("model").map(read_value).transpose()?;
        if let Some(model) = &model {
            check.model("model", model, None)?;
        }
        let normalization = check.table.get("normalization").map(read_value).transpose()?;
        if let Some(normalization) = &normalization {
            check.normalization("normalization", normalization)?;
        }
        self.weights_of(name, weights.span(), model, normalization)
    }

    /// A weights file with what is told about it, and by whom: the experiment, or the card beside the file. And the
    /// classes that its card tells.
    pub fn weights_of(
        &mut self,
        name: &str,
        span: Range<usize>,
        model: Option<Model>,
        normalization: Option<Normalization>,
    ) -> Result<(NetworkSource, Option<u32>), Fault> {
        let found = self.weights(name, span.clone())?;
        let card = found.card.as_ref();
        let model = match (model, card) {
            (Some(told), Some(card)) if told != card.model => {
                let message = format!("`{name}` is said to be a {}", told.label());
                return Err(Fault::new(span, message).hint(format!("its card says {}", card.model.label())));
            }
            (Some(told), _) => told,
            (None, Some(card)) => card.model.clone(),
            (None, None) => {
                return Err(Fault::new(span, "`model` is missing: no card beside the weights tells what they are")
                    .hint("say what the file holds: `model = { bit-resnet-small = { depth = 8, width = 16 } }`"));
            }
        };
        let normalization = normalization.or(card.map(|card| card.normalization)).unwrap_or_default();
        let classes = card.map(|card| card.classes);
        Ok((NetworkSource::Weights(Weights { sha256: found.sha256, model, normalization }), classes))
    }
}

fn read_value<'de, T: Deserialize<'de>>(value: &Spanned<DeValue<'de>>) -> Result<T, Fault> {
    T::deserialize(toml::de::ValueDeserializer::from(value.clone())).map_err(|error| {
        let hint = "for instance `resolution = 28` or `model = { bit-resnet-small = { depth = 8, width = 16 } }`";
        Fault::from_toml(&error).or_hint(hint)
    })
}
