//! Which images a job has: its data set, the three uses of it, and other sets it is trained on.

use std::fmt;
use std::ops::Range;

use serde::de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer};

use super::FoundData;
use super::check::Check;
use super::resolver::Resolver;
use super::text::Fault;
use crate::job::{Data, Job, Part, PerClass, Slice, SliceText, Split, TrainingSet, shares};
use crate::source::{Origin, Source, Written};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct SplitText {
    train: String,
    validation: String,
    test: String,
    per_class: Option<u32>,
}

/// `"data"`, the name of another set, or a list of sets.
pub(super) enum TrainOn {
    Data,
    Sets(Vec<SetText>),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct SetText {
    data: Written,
    split: Option<String>,
    weight: Option<f64>,
}

impl<'de> Deserialize<'de> for TrainOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TrainOn, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = TrainOn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`data`, the name of a data set, or a list of them")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<TrainOn, E> {
                match name {
                    "data" => Ok(TrainOn::Data),
                    name => match Origin::named(name) {
                        Some(origin) => Ok(TrainOn::Sets(vec![SetText {
                            data: Written(Source::of(origin)),
                            split: None,
                            weight: None,
                        }])),
                        None => Err(E::unknown_variant(name, &["data"])),
                    },
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<TrainOn, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(TrainOn::Sets)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What the job is measured on, and what it is trained on where that is `data` itself.
pub(super) fn split(
    text: &SplitText,
    found: &FoundData,
    (train_on, labels): (&TrainOn, bool),
    resolver: &Resolver<'_>,
    check: &Check<'_, '_>,
) -> Result<Split, Fault> {
    let data = &found.data;
    if data.classes == 0 {
        let fault = check.fault("data", format!("the images of `{}` have no labels", data.name));
        return Err(fault
            .hint("a student is measured on labelled ones; `train-on` takes others: `train-on = [{ data = ... }]`"));
    }
    let paper = |index: usize, path: &str, text: &str| match found.split {
        Some(split) if resolver.texts.is_default(&check.span(path)) => split[index].to_owned(),
        _ => text.to_owned(),
    };
    let texts = [
        ("train", paper(0, "split.train", &text.train)),
        ("validation", paper(1, "split.validation", &text.validation)),
        ("test", paper(2, "split.test", &text.test)),
    ];
    let mut slices = Vec::new();
    for (use_of, text) in &texts {
        if *use_of == "train" && matches!(train_on, TrainOn::Sets(_)) {
            slices.push(Slice::default());
            continue;
        }
        let span = check.span(&format!("split.{use_of}"));
        let slice = slice(text, data, span.clone())?;
        if !found.labelled[slice.part as usize] && (*use_of != "train" || labels) {
            let message = format!("the images of `{}` in `{}` have no labels", slice.part.name(), data.name);
            let with =
                [Part::Train, Part::Validation, Part::Test].into_iter().find(|part| found.labelled[*part as usize]);
            let with = with.map_or("", Part::name);
            return Err(Fault::new(span, message).hint(format!("those of `{with}` have: cut it from there")));
        }
        slices.push(slice);
    }
    for (b, a) in [(1, 0), (2, 0), (2, 1)] {
        if slices[a].overlaps(&slices[b]) {
            let ((a, a_text), (b, b_text)) = (&texts[a], &texts[b]);
            let message = format!("`{a}` and `{b}` share images: `{a_text}` and `{b_text}`");
            return Err(check
                .fault(&format!("split.{b}"), message)
                .hint("what is trained on, selected on and reported must be three different things"));
        }
    }
    let mut slices = slices.into_iter();
    let mut next = || slices.next().unwrap_or_default();
    let (train, validation, test) = (next(), next(), next());
    let per_class = match (text.per_class, train_on) {
        (None, _) => None,
        (Some(_), TrainOn::Sets(_)) => {
            return Err(check
                .fault("split.per-class", "`per-class` counts images of `data`, and `train-on` shows others")
                .hint("cut the others by `split = \"train[:1000]\"` beside them"));
        }
        (Some(each), TrainOn::Data) => Some(per_class(each, &train, found, check)?),
    };
    Ok(Split { train, per_class, validation, test })
}

fn per_class(each: u32, train: &Slice, found: &FoundData, check: &Check<'_, '_>) -> Result<PerClass, Fault> {
    check.whole("split.per-class", each, 1, 1_000_000, "it is how many images of every class are trained on")?;
    if train.part != Part::Train {
        let fault = check.fault("split.per-class", "`per-class` counts images of the training part");
        return Err(fault.hint("write `train = \"train\"` beside it"));
    }
    if found.train_labels.is_empty() {
        let fault =
            check.fault("split.per-class", format!("the training images of `{}` have no labels", found.data.name));
        return Err(fault.hint("without classes there are no images of a class"));
    }
    let labels = &found.train_labels[train.start as usize..train.end as usize];
    let mut counts = vec![0; found.data.classes as usize];
    labels.iter().for_each(|label| counts[*label as usize] += 1);
    let images = counts.into_iter().map(|count: u32| count.min(each)).sum();
    Ok(PerClass { each, images })
}

fn slice(text: &str, data: &Data, span: Range<usize>) -> Result<Slice, Fault> {
    let parsed: SliceText = text.parse().map_err(|message: String| {
        Fault::new(span.clone(), message).hint("write `train`, `train[:7000]`, `train[90%:]`, `validation` or `test`")
    })?;
    let images = match parsed.part {
        Part::Train => data.train_images,
        Part::Validation => data.validation_images,
        Part::Test => data.test_images,
    };
    parsed.resolve(images).map_err(|message| {
        if images == 0 && parsed.part != Part::Train {
            let hint = "there is none: cut the three uses from what there is, `split = { train = \"train[:80%]\", validation = \"train[80%:90%]\", test = \"train[90%:]\" }`";
            return Fault::new(span, message).hint(hint);
        }
        let validation = match data.validation_images {
            0 => String::new(),
            count => format!(", {count} validation"),
        };
        let (train, test) = (data.train_images, data.test_images);
        Fault::new(span, message)
            .hint(format!("`{}` has {train} training{validation} and {test} test images", data.name))
    })
}

/// The sets a job is trained on instead of `data`; none where it is `data`.
pub(super) fn training_sets(
    text: &TrainOn,
    (of, split): (&Data, &Split),
    labels: bool,
    resolver: &mut Resolver<'_>,
    check: &Check<'_, '_>,
) -> Result<Vec<TrainingSet>, Fault> {
    let TrainOn::Sets(texts) = text else { return Ok(Vec::new()) };
    if texts.is_empty() {
        let fault = check.fault("train-on", "there is nothing to train on");
        return Err(fault.hint("name a set, or write `train-on = \"data\"`"));
    }
    if texts.iter().any(|set| set.weight.is_some()) && texts.iter().any(|set| set.weight.is_none()) {
        let fault = check.fault("train-on", "some of these sets have a weight, and some have none");
        return Err(fault.hint("without weights, every image counts the same"));
    }
    let mut sets = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let span = check.element_span("train-on", index);
        let found = resolver.data(&text.data.0, span.clone())?;
        let data = found.data;
        if labels && data.classes != of.classes {
            let message = format!("`{}` has {} classes, `{}` has {}", data.name, data.classes, of.name, of.classes);
            return Err(Fault::new(span, message)
                .hint("a student learns from the labels of its own classes; a teacher may be asked about any images"));
        }
        let slice = slice(text.split.as_deref().unwrap_or("train"), &data, span.clone())?;
        if labels && !found.labelled[slice.part as usize] {
            let message = format!("the images of `{}` in `{}` have no labels", slice.part.name(), data.name);
            return Err(Fault::new(span, message).hint("this student learns from labels"));
        }
        let weight = text.weight.unwrap_or(slice.len() as f64);
        if !(weight > 0.0 && weight.is_finite()) {
            let fault = Fault::new(span, format!("`weight` is {weight}, but must be above 0"));
            return Err(fault.hint("it is the share of the images shown, relative to the other sets"));
        }
        let measured = [("validation", &split.validation), ("test", &split.test)];
        let shared = measured.into_iter().find(|(_, other)| data.sha256 == of.sha256 && slice.overlaps(other));
        if let Some((name, _)) = shared {
            let fault =
                Fault::new(span, format!("`{}` is `data` itself, and `{name}` shares images with it", data.name));
            return Err(fault.hint("cut it by `split = \"train[:90%]\"` beside it"));
        }
        sets.push(TrainingSet { data, slice, weight });
    }
    if let Some(index) = shares(&sets).iter().position(|share| *share == 0) {
        let message = format!("`{}` has so little weight that none of its images is shown", sets[index].data.name);
        let fault = Fault::new(check.element_span("train-on", index), message);
        return Err(fault.hint("an epoch has as many images as all sets together"));
    }
    Ok(sets)
}

/// Refuses a network that was trained on images that it, or its student, is measured on.
pub(super) fn check_seen(who: &str, job: &Job, data: &Data, split: &Split, span: Range<usize>) -> Result<(), Fault> {
    let own = job.train_on.is_empty().then_some((&job.data, &job.split.train));
    let seen = job.train_on.iter().map(|set| (&set.data, &set.slice)).chain(own);
    for (of, slice) in seen {
        for (name, measured) in [("validation", &split.validation), ("test", &split.test)] {
            if of.sha256 == data.sha256 && slice.overlaps(measured) {
                let message = format!("{who} was trained on images of `{}` that are `{name}` here", data.name);
                return Err(Fault::new(span, message)
                    .hint("whoever saw the images that are measured on knows them by heart: change either's `split`"));
            }
        }
    }
    Ok(())
}
