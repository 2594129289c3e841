//! `evaluate`: trained weights on a data set.

mod told;

use std::fmt::Write as _;
use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::data::named as data_named;
use super::{Usage, catalogue, print, print_json, run, table};
use crate::card::Card;
use crate::cli;
use crate::event::Which;
use crate::folder::Folder;
use crate::grid::WeightsFile;
use crate::hub::Reference;
use crate::job::{Ensemble, Input, Model, Precision, SliceText};
use crate::source::{Broken, Origin, Source};
use crate::train::data;
use crate::train::evaluate::{Network, logits};
use crate::train::metric::Answers;
use crate::train::network::Machine;
use told::{Told, card};

/// At most this often a word about how far it is.
const WORD: Duration = Duration::from_secs(5);

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Found {
    weights: String,
    sha256: String,
    model: Model,
    parameters: u64,
    data: String,
    split: String,
    images: u64,
    resolution: u32,
    crop: f64,
    interpolation: &'static str,
    #[serde(flatten)]
    measured: Measured,
    by_class: Vec<Class>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Against>,
}

/// Shares, with Wilson's interval of 95 % of the first.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Measured {
    top1: f64,
    top1_interval: (f64, f64),
    top5: f64,
    /// Cross-entropy with the labels.
    loss: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Class {
    class: usize,
    name: Option<String>,
    images: u64,
    right: u64,
}

/// The teacher, and what the network has in common with it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Against {
    weights: Vec<String>,
    #[serde(flatten)]
    measured: Measured,
    /// KL(teacher || student) at temperature 1.
    kl: f64,
    agreement: f64,
    /// The teacher's answer is among the student's first five.
    agreement5: f64,
    logit_distance: f64,
}

pub fn evaluate(arguments: &cli::Evaluate) -> Result<ExitCode> {
    let threads = match arguments.threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism()?.get(),
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(|| measure(arguments))?;
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &cli::Evaluate) -> Result<()> {
    let source = Source { broken: Broken::Fatal, ..data_named(&arguments.data)? };
    let text: SliceText = arguments
        .split
        .parse()
        .map_err(|error| Usage(format!("{error}\nhint: write `test`, `test[:1000]` or `train[90%:]`")))?;
    // Names first: a mistyped one should not wait for the data.
    let folder = Folder::new(&arguments.place.folder);
    let own = look_up(&arguments.weights, &folder)?;
    let teachers = arguments.against.iter().map(|name| look_up(name, &folder)).collect::<Result<Vec<_>>>()?;
    let data = data::open(&catalogue::on_this_machine(&source)?)?;
    if !data.part(text.part).are_labelled() && !data.part(text.part).is_empty() {
        return Err(Usage(format!(
            "the images of `{}` have no labels\nhint: what is right is told by labels",
            arguments.data
        ))
        .into());
    }
    let images = data.part(text.part);
    // Labels alone may not show all classes.
    let classes = match own.card.as_ref().map(|card| card.classes) {
        Some(more) if data.names.is_none() && !matches!(source.origin, Origin::BuiltIn) => data.classes.max(more),
        _ => data.classes,
    };
    let set = Classes { count: classes, names: data.names.clone() };
    let hint = "hint: `test[:1000]` is the first thousand, `test[:10%]` a tenth";
    let slice = text.resolve(images.labels.len() as u32).map_err(|message| Usage(format!("{message}\n{hint}")))?;
    let range = slice.start as usize..slice.end as usize;

    let machine = Machine::open(run::device(arguments.device)?)?;
    let precision = match arguments.precision {
        cli::Precision::F32 => Precision::F32,
        cli::Precision::Bf16 => Precision::Bf16,
    };
    let ensemble = match arguments.ensemble {
        cli::Ensemble::MeanLogits => Ensemble::MeanLogits,
        cli::Ensemble::MeanProbabilities => Ensemble::MeanProbabilities,
    };
    let card = card(&arguments.weights, &own, &Told::of_own(&arguments.own), &set, images)?;
    let theirs = Told::of_teachers(&arguments.teachers);
    let load = |card: &Card, file: &WeightsFile| Network::load(&machine, card, &file.path, precision);
    let network = load(&card, &own)?;
    let teachers = arguments
        .against
        .iter()
        .zip(&teachers)
        .map(|(name, file)| load(&told::card(name, file, &theirs, &set, images)?, file));
    let teachers = teachers.collect::<Result<Vec<_>>>()?;

    if let Some(trained_on) = card.data.as_ref().filter(|name| **name != source.origin.name()) {
        eprintln!(
            "note: `{}` was trained on {trained_on} and is measured on {}",
            arguments.weights,
            source.origin.name()
        );
    }
    let labels = &images.labels[range.clone()];
    let classes = set.count as usize;
    let found = logits(&[network], ensemble, images, range.clone(), &mut words("evaluated", range.len()))?;
    let answers = Answers { logits: &found, labels, classes };
    let against = match teachers.is_empty() {
        true => None,
        false => {
            let theirs =
                logits(&teachers, ensemble, images, range.clone(), &mut words("asked the teacher about", range.len()))?;
            Some(compare(&answers, &theirs, arguments))
        }
    };
    if let Some(file) = &arguments.predictions {
        write(file, &predictions(&answers, range.start))?;
    }
    let input = Input::new(card.channels, card.classes, card.resolution);
    let found = Found {
        weights: arguments.weights.clone(),
        sha256: own.sha256,
        parameters: card.model.parameters(input),
        data: source.origin.name(),
        split: text.to_string(),
        images: labels.len() as u64,
        resolution: card.resolution,
        crop: card.crop,
        interpolation: card.interpolation.name(),
        measured: measured(&answers),
        by_class: by_class(&answers, &set),
        against,
        model: card.model,
    };
    if let Some(file) = &arguments.csv {
        write(file, &found.csv())?;
    }
    if arguments.json { print_json(&found) } else { print(&found.text()) }
}

/// A file, the hub's, or a job's student.
fn look_up(name: &str, folder: &Folder) -> Result<WeightsFile> {
    if Reference::parse(name).is_some() || Path::new(name).is_file() {
        return catalogue::weights(name);
    }
    let is_id = name.len() >= 4 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let entries = fs::read_dir(folder.root().join("jobs")).into_iter().flatten().flatten();
    let students = entries.filter(|entry| is_id && entry.file_name().to_string_lossy().starts_with(name));
    let students = students.map(|entry| entry.path().join("student.safetensors"));
    let mut students: Vec<_> = students.filter(|path| path.is_file()).collect();
    match (students.pop(), students.is_empty()) {
        (Some(path), true) => catalogue::weights(&path.to_string_lossy()),
        (Some(_), false) => {
            Err(Usage(format!("several finished jobs start with `{name}`\nhint: write more of the id")).into())
        }
        (None, _) => {
            let hint =
                "write a path, `hf:owner/name`, or the id of a finished job (`distillery status NAME` lists them)";
            let folder = folder.root().display();
            Err(Usage(format!("`{name}` is no file, and `{folder}` has no finished job of that id\nhint: {hint}"))
                .into())
        }
    }
}

/// Of the data.
struct Classes {
    count: u32,
    names: Option<Vec<String>>,
}

fn measured(answers: &Answers<'_>) -> Measured {
    let evaluation = answers.evaluate(Which::Test, None, false);
    let images = evaluation.images as f64;
    Measured {
        top1: evaluation.top1,
        top1_interval: wilson(evaluation.top1, images),
        top5: evaluation.top5,
        loss: evaluation.loss,
    }
}

/// Wilson's score interval of a share, 95 %.
fn wilson(share: f64, count: f64) -> (f64, f64) {
    const Z: f64 = 1.959_964;
    let (spread, denominator) = (Z * Z / count, 1.0 + Z * Z / count);
    let centre = (share + spread / 2.0) / denominator;
    let half = Z * (share * (1.0 - share) / count + spread / (4.0 * count)).sqrt() / denominator;
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

fn compare(answers: &Answers<'_>, theirs: &[f32], arguments: &cli::Evaluate) -> Against {
    let together = answers.evaluate(Which::Test, Some(theirs), false);
    Against {
        weights: arguments.against.clone(),
        measured: measured(&Answers { logits: theirs, ..*answers }),
        kl: together.kl.unwrap_or(f64::NAN),
        agreement: together.agreement.unwrap_or(f64::NAN),
        agreement5: answers.agreement_at(5, theirs),
        logit_distance: answers.distance(theirs),
    }
}

fn by_class(answers: &Answers<'_>, set: &Classes) -> Vec<Class> {
    let counts = answers.by_class().into_iter().enumerate();
    let name = |class: usize| set.names.as_ref().and_then(|names| names.get(class).cloned());
    counts.map(|(class, (images, right))| Class { class, name: name(class), images, right }).collect()
}

/// A word on standard error now and then, and on a terminal one line that is written over.
fn words(what: &'static str, all: usize) -> impl FnMut(usize) {
    let (mut said, terminal) = (Instant::now(), std::io::stderr().is_terminal());
    let every = if terminal { Duration::from_millis(200) } else { WORD };
    move |done| {
        if said.elapsed() >= every || (terminal && done == all) {
            said = Instant::now();
            match terminal {
                true => eprint!("\r{what} {done} of {all} images{}", if done == all { "\n" } else { "" }),
                false => eprintln!("{what} {done} of {all} images"),
            }
        }
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write `{}`", file.display()))
}

/// `image,label,answer,probability,logit0,...`; images are counted from the start of their part.
fn predictions(answers: &Answers<'_>, first: usize) -> String {
    let mut text = String::from("image,label,answer,probability");
    for class in 0..answers.classes {
        let _ = write!(text, ",logit{class}");
    }
    text.push('\n');
    let rows = answers.predictions().into_iter().zip(answers.labels).zip(answers.logits.chunks_exact(answers.classes));
    for (image, (((answer, probability), label), logits)) in rows.enumerate() {
        let _ = write!(text, "{},{label},{answer},{probability:.6}", first + image);
        for logit in logits {
            let _ = write!(text, ",{logit}");
        }
        text.push('\n');
    }
    text
}

impl Measured {
    fn lines(&self) -> Vec<Vec<String>> {
        let (low, high) = self.top1_interval;
        vec![
            vec![
                "top-1".into(),
                format!("{:.2} %", 100.0 * self.top1),
                format!("{:.2} to {:.2} %", 100.0 * low, 100.0 * high),
            ],
            vec!["top-5".into(), format!("{:.2} %", 100.0 * self.top5), String::new()],
            vec!["loss".into(), format!("{:.4}", self.loss), String::new()],
        ]
    }
}

impl Found {
    fn csv(&self) -> String {
        let mut text = String::from("class,name,images,right,top1\n");
        for class in &self.by_class {
            let name = class.name.as_deref().unwrap_or_default();
            let name = if name.contains([',', '"', '\n']) {
                format!("\"{}\"", name.replace('"', "\"\""))
            } else {
                name.to_owned()
            };
            let share =
                if class.images > 0 { (class.right as f64 / class.images as f64).to_string() } else { String::new() };
            let _ = writeln!(text, "{},{name},{},{},{share}", class.class, class.images, class.right);
        }
        text
    }

    fn text(&self) -> String {
        let shown =
            format!("{} px, {:.1} % of the shorter side, {}", self.resolution, 100.0 * self.crop, self.interpolation);
        let mut text = format!(
            "{}: {}, {} parameters, sha-256 {}\n{} {}: {} images, {shown}\n\n",
            self.weights,
            self.model.label(),
            self.parameters,
            &self.sha256[..12.min(self.sha256.len())],
            self.data,
            self.split,
            self.images,
        );
        text += &table::table(&["", "", "95 %"], &self.measured.lines());
        if let Some(against) = &self.against {
            let mut lines = against.measured.lines();
            lines.push(vec!["KL to it".into(), format!("{:.4}", against.kl), String::new()]);
            lines.push(vec!["agreement".into(), format!("{:.2} %", 100.0 * against.agreement), String::new()]);
            lines.push(vec!["agreement@5".into(), format!("{:.2} %", 100.0 * against.agreement5), String::new()]);
            lines.push(vec!["logit distance".into(), format!("{:.3}", against.logit_distance), String::new()]);
            let _ = write!(text, "\nagainst {}\n", against.weights.join(", "));
            text += &table::table(&["", "", "95 %"], &lines);
        }
        let rows = self.by_class.iter().map(|class| {
            let name = class.name.clone().unwrap_or_else(|| class.class.to_string());
            let share = if class.images > 0 {
                format!("{:.1} %", 100.0 * class.right as f64 / class.images as f64)
            } else {
                String::new()
            };
            vec![name, class.images.to_string(), class.right.to_string(), share]
        });
        // A thousand rows are nothing to read: they are in `--csv` and `--json`.
        if self.by_class.len() <= 20 {
            text += "\n";
            text += &table::table(&["class", "images", "right", "top-1"], &rows.collect::<Vec<_>>());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 91 of 100 by hand (Wilson 1927), and the ends.
    #[test]
    fn intervals_are_wilsons() {
        let (low, high) = wilson(0.91, 100.0);
        assert!((low - 0.837_738).abs() < 1e-5 && (high - 0.951_927).abs() < 1e-5, "{low} {high}");
        assert!((wilson(1.0, 10.0).1 - 1.0).abs() < 1e-12);
        assert!(wilson(0.0, 10.0).0.abs() < 1e-12);
    }
}
