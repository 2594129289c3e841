//! One job as it is written, and what it means: a merged table of flat keys becomes a [`Job`].
//!
//! Everything is in the table by now, the defaults too, so nothing here has a default. Keys that belong to another
//! objective or teaching mode are read, for their types are checked, and left out of the job.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::DeTable;

use super::check::Check;
use super::images::{self, SplitText, TrainOn};
use super::key;
use super::optimizer;
use super::resolver::Resolver;
use super::teacher::TeacherWeights;
use super::teaching::{modes, teaching};
use super::text::Fault;
use crate::job::{
    Answers, Augment, Clip, Crop, Data, Decay, Decode, Distance, Distil, Ema, Ensemble, Head, Init, Job, LabelShare,
    Labels, Mixing, Model, NetworkSource, Normalization, Objective, Optimizer, Precision, Resize, Schedule, Teacher,
    Teaching, Trained, View, Warmup,
};
use crate::source::Written;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct JobText {
    data: Written,
    split: SplitText,
    train_on: TrainOn,
    student: Model,
    init: InitText,
    resolution: u32,
    crop: Crop,
    resize: Resize,
    decode: Decode,
    flip: bool,
    augment: Augment,
    mixing: Mixing,
    objective: ObjectiveName,
    view: Option<View>,
    label_smoothing: Option<f64>,
    mixup: Option<f64>,
    teaching: Option<String>,
    teachers: Option<Vec<String>>,
    ensemble: Option<Ensemble>,
    teacher_weights: Option<TeacherWeights>,
    label_weight: Option<f64>,
    fixed_crops: Option<u32>,
    distance: Option<Distance>,
    answers: Option<Answers>,
    epochs: u32,
    batch: u32,
    optimizer: Optimizer,
    learning_rate: f64,
    weight_decay: f64,
    decay: Decay,
    warmup: Warmup,
    schedule: Schedule,
    clip: Clip,
    precision: Precision,
    ema: Ema,
    seed: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum InitText {
    Scratch,
    Teacher(TeacherInit),
    Weights(WeightsInit),
}

/// A network under `[teachers]`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct TeacherInit {
    name: String,
    #[serde(default)]
    head: Head,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WeightsInit {
    file: String,
    normalization: Option<Normalization>,
    #[serde(default)]
    head: Head,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ObjectiveName {
    Labels,
    Distil,
}

/// `header` is where a missing key is reported.
pub(super) fn resolve(resolver: &mut Resolver<'_>, table: &DeTable<'_>, header: Range<usize>) -> Result<Job, Fault> {
    let mut table = table.clone();
    optimizer::complete(&mut table, &resolver.defaults);
    let table = &table;
    let check = Check { table, header: header.clone() };
    let deserializer = toml::Deserializer::from(Spanned::new(header, table.clone()));
    let text = JobText::deserialize(deserializer).map_err(|error| explain(&error, table))?;
    let found = resolver.data(&text.data.0, check.value_span("data"))?;
    let labels = match text.objective {
        ObjectiveName::Labels => true,
        ObjectiveName::Distil => {
            text.label_weight.is_some_and(|weight| weight > 0.0)
                || text.distance.is_some_and(|distance| distance.needs_labels())
        }
    };
    let split = images::split(&text.split, &found, (&text.train_on, labels), resolver, &check)?;
    let data = found.data;
    let train_on = images::training_sets(&text.train_on, (&data, &split), labels, resolver, &check)?;
    check.ranges(&text.ranges())?;
    check.model("student", &text.student, Some(text.resolution))?;
    let objective = match text.objective {
        ObjectiveName::Labels => resolve_labels(&text, &check)?,
        ObjectiveName::Distil => resolve_distil(&text, &data, resolver, &check)?,
    };
    let init = resolve_init(&text, &data, resolver, &check)?;
    let teachers: &[Teacher] = match &objective {
        Objective::Labels(_) => &[],
        Objective::Distil(distil) => &distil.teachers,
    };
    for (index, teacher) in teachers.iter().enumerate() {
        if let NetworkSource::Job(job) = &teacher.source {
            images::check_seen("this teacher", job, &data, &split, check.element_span("teachers", index))?;
        }
    }
    if let Init::Trained(trained) = &init
        && let NetworkSource::Job(job) = &trained.source
    {
        images::check_seen("what it starts from", job, &data, &split, check.span("init.teacher.name"))?;
    }
    let job = Job {
        data,
        split,
        train_on,
        student: text.student,
        init,
        resolution: text.resolution,
        crop: text.crop,
        resize: text.resize,
        decode: text.decode,
        flip: text.flip,
        augment: text.augment,
        // What is not mixed is mixed in no way.
        mixing: if objective.mixes() { text.mixing } else { Mixing::default() },
        objective,
        epochs: text.epochs,
        batch: text.batch,
        optimizer: text.optimizer,
        learning_rate: text.learning_rate,
        weight_decay: text.weight_decay,
        // What does not decay follows nothing.
        decay: if text.weight_decay == 0.0 { Decay::default() } else { text.decay },
        warmup: text.warmup,
        schedule: text.schedule,
        clip: text.clip,
        precision: text.precision,
        ema: text.ema,
        seed: text.seed,
    };
    check.batch(job.batch, job.train_images())?;
    check.warmup(&job)?;
    Ok(job)
}

/// Whether the top-level key decides anything about this job.
pub(super) fn has_effect(name: &str, job: &Job) -> bool {
    match name {
        "mixing" => return job.objective.mixes(),
        "decay" => return job.weight_decay > 0.0,
        _ => {}
    }
    match &job.objective {
        Objective::Labels(_) => name == "mixup" || !key::DISTILLATION.contains(&name),
        Objective::Distil(distil) => match name {
            "view" => false,
            "label-smoothing" => !distil.labels.is_none(),
            "mixup" => distil.teaching.mixes(),
            "fixed-crops" => matches!(distil.teaching, Teaching::FixedInceptionEnsemble { .. }),
            "ensemble" | "teacher-weights" => distil.teachers.len() > 1,
            "answers" => !distil.teaching.is_fixed(),
            _ => true,
        },
    }
}

impl JobText {
    /// Numbers with their paths, for [`Check::ranges`].
    fn ranges(&self) -> super::check::Ranges<'_> {
        super::check::Ranges {
            epochs: self.epochs,
            resolution: self.resolution,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            decay: self.decay,
            crop: &self.crop,
            optimizer: &self.optimizer,
            clip: &self.clip,
            ema: &self.ema,
            augment: &self.augment,
            schedule: &self.schedule,
        }
    }
}

fn resolve_init(
    text: &JobText,
    data: &Data,
    resolver: &mut Resolver<'_>,
    check: &Check<'_, '_>,
) -> Result<Init, Fault> {
    let (source, classes, head, path) = match &text.init {
        InitText::Scratch => return Ok(Init::Scratch),
        InitText::Teacher(TeacherInit { name, head }) => {
            let known = resolver.teacher(name, check.span("init.teacher.name"))?;
            let classes = known.data().map(|data| data.classes).or(known.classes);
            (known.source, classes, *head, "init.teacher.name")
        }
        InitText::Weights(WeightsInit { file, normalization, head }) => {
            if let Some(normalization) = normalization {
                check.normalization("init.weights.normalization", normalization)?;
            }
            let (span, student) = (check.span("init.weights.file"), text.student.clone());
            let (source, classes) = resolver.weights_of(file, span, Some(student), *normalization)?;
            (source, classes, *head, "init.weights.file")
        }
    };
    if source.model() != &text.student {
        let message = format!("a {} cannot start from a {}", text.student.label(), source.model().label());
        return Err(check.fault(path, message).hint("`student` and what it starts from are the same network"));
    }
    if let (Head::Keep, Some(classes)) = (head, classes)
        && classes != data.classes
    {
        let message = format!("it tells {classes} classes apart, `{}` has {}", data.name, data.classes);
        return Err(check.fault(path, message).hint("`head = \"reset\"` beside it leaves its last layer behind"));
    }
    Ok(Init::Trained(Box::new(Trained { source, head })))
}

fn resolve_labels(text: &JobText, check: &Check<'_, '_>) -> Result<Objective, Fault> {
    let labels = Labels {
        view: text.view.ok_or_else(|| check.missing("view"))?,
        mixup: text.mixup.ok_or_else(|| check.missing("mixup"))?,
        label_smoothing: text.label_smoothing.ok_or_else(|| check.missing("label-smoothing"))?,
    };
    check.mixup(labels.mixup)?;
    check.label_smoothing(labels.label_smoothing)?;
    Ok(Objective::Labels(labels))
}

fn resolve_distil(
    text: &JobText,
    data: &Data,
    resolver: &mut Resolver<'_>,
    check: &Check<'_, '_>,
) -> Result<Objective, Fault> {
    let name = text.teaching.as_deref().ok_or_else(|| check.missing("teaching"))?;
    let names = text.teachers.as_deref().ok_or_else(|| check.missing("teachers"))?;
    let mixup = text.mixup.ok_or_else(|| check.missing("mixup"))?;
    let crops = text.fixed_crops.ok_or_else(|| check.missing("fixed-crops"))?;
    let distance = text.distance.ok_or_else(|| check.missing("distance"))?;
    let teaching = teaching(name, mixup, crops)
        .ok_or_else(|| check.fault("teaching", format!("unknown teaching mode `{name}`")).hint(modes(name)))?;
    check.teaching(&teaching)?;
    check.distance(&distance)?;
    let labels = resolve_label_share(text, check)?;
    let mut teachers = resolve_teachers(names, text.resolution, data, resolver, check)?;
    let ensemble = match teachers.as_slice() {
        // One teacher is its own mean. Without this, two jobs that do the same would have two ids.
        [_] => Ensemble::MeanLogits,
        _ => text.ensemble.ok_or_else(|| check.missing("ensemble"))?,
    };
    let weights = text.teacher_weights.as_ref().ok_or_else(|| check.missing("teacher-weights"))?;
    weights.give(&mut teachers, ensemble, check)?;
    // A teacher that is asked once for all answers no differently the second time.
    let answers = match text.answers.ok_or_else(|| check.missing("answers"))? {
        _ if teaching.is_fixed() => Answers::Live,
        answers => answers,
    };
    if let Answers::Replay(replay) = answers {
        let hint = "it is how many views of every image there are; the paper's patience is `answers = \"live\"`";
        check.whole("answers.replay.epochs", replay.epochs, 1, 10_000_000, hint)?;
    }
    let distil = Distil { teachers, ensemble, teaching, distance, labels, answers };
    check.distil(&distil)?;
    Ok(Objective::Distil(distil))
}

fn resolve_label_share(text: &JobText, check: &Check<'_, '_>) -> Result<LabelShare, Fault> {
    let share = LabelShare {
        weight: text.label_weight.ok_or_else(|| check.missing("label-weight"))?,
        smoothing: text.label_smoothing.ok_or_else(|| check.missing("label-smoothing"))?,
    };
    check.label_weight(share.weight)?;
    check.label_smoothing(share.smoothing)?;
    // Labels that nobody looks at are smoothed in no way.
    Ok(if share.is_none() { LabelShare::default() } else { share })
}

fn resolve_teachers(
    names: &[String],
    resolution: u32,
    data: &Data,
    resolver: &mut Resolver<'_>,
    check: &Check<'_, '_>,
) -> Result<Vec<Teacher>, Fault> {
    if names.is_empty() {
        return Err(check
            .fault("teachers", "distillation needs a teacher")
            .hint("name one, or write `objective = \"labels\"` to learn from the labels"));
    }
    let mut teachers = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let span = check.element_span("teachers", index);
        if names[..index].contains(name) {
            return Err(Fault::new(span, format!("teacher `{name}` is named twice"))
                .hint("an ensemble counts every teacher once"));
        }
        let known = resolver.teacher(name, span.clone())?;
        if let Some(of) = known.data()
            && (of.classes, of.channels) != (data.classes, data.channels)
        {
            let message =
                format!("teacher `{name}` was trained on `{}`, which does not match `{}`", of.name, data.name);
            let classes = format!("{} classes and {} channels", of.classes, of.channels);
            return Err(Fault::new(span, message)
                .hint(format!("it has {classes}, the student {} and {}", data.classes, data.channels)));
        }
        if let (Some(classes), None) = (known.classes, known.data())
            && classes != data.classes
        {
            let message =
                format!("teacher `{name}` tells {classes} classes apart, `{}` has {}", data.name, data.classes);
            return Err(Fault::new(span, message).hint("a teacher answers for the classes of the data"));
        }
        let resolution = known.resolution.unwrap_or(resolution);
        if let Model::Vit(net) = known.source.model()
            && !resolution.is_multiple_of(net.patch)
        {
            let message = format!(
                "teacher `{name}` has patches of {} pixels, which do not fill images of {resolution}",
                net.patch
            );
            return Err(Fault::new(span, message).hint("give the teacher a `resolution` that its patch divides"));
        }
        teachers.push(Teacher { resolution, source: known.source, weight: 1.0 });
    }
    Ok(teachers)
}

/// serde's words, with what only this place knows.
fn explain(error: &toml::de::Error, table: &DeTable<'_>) -> Fault {
    let fault = Fault::from_toml(error);
    let name = fault.message.split('`').nth(1).unwrap_or_default();
    let elsewhere = match name {
        "temperature" => Some("it is written `distance.kl.temperature`"),
        "lr" => Some("it is written `learning-rate`"),
        "depth" | "width" => Some("it is written `student = { bit-resnet-small = { depth = 8, width = 16 } }`"),
        _ => None,
    };
    let hint = if fault.message.starts_with("unknown key") {
        elsewhere.map(str::to_owned)
    } else if fault.message.ends_with("is missing") {
        key::example(name).or_else(|| key::example_around(table, &fault.span))
    } else if fault.hint.is_none() {
        key::example_around(table, &fault.span)
    } else {
        None
    };
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}
