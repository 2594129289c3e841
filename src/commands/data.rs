//! `data inspect`: what a data set holds.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::catalogue::{note_sizes, on_this_machine};
use super::{Usage, print, print_json, table};
use crate::cli;
use crate::known::{self, Known, KnownSplit};
use crate::source::{Broken, Origin, Source, Written};
use crate::train::data;
use crate::train::data::inspect::{About, about, shared, sheet};

/// Images of a class on a sheet, and their side in pixels.
const SHEET: (usize, usize) = (12, 64);

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Found {
    name: String,
    kind: &'static str,
    sha256: String,
    channels: u32,
    classes: Vec<Class>,
    train: Part,
    validation: Part,
    test: Part,
    /// Images that cannot be read, each with the reason.
    broken: Vec<String>,
    /// What the paper does with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    paper: Option<Paper>,
    /// Test images that are in the training part too.
    test_images_in_train: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Paper {
    title: &'static str,
    train: &'static str,
    validation: &'static str,
    test: &'static str,
    resolution: u32,
    /// Of the shorter side, before the centre is cut out for evaluation.
    resize_to: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Class {
    name: String,
    train: u64,
    validation: u64,
    test: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Part {
    images: usize,
    /// Smallest, median, largest.
    heights: [usize; 3],
    widths: [usize; 3],
    repeated: u64,
}

pub fn data(verb: &cli::Data) -> Result<ExitCode> {
    let cli::Data::Inspect(arguments) = verb;
    let named = named(&arguments.data)?;
    let paper = match &named.origin {
        Origin::Known { name, .. } => known::find(name).map(Paper::of),
        _ => None,
    };
    let source = on_this_machine(&named)?;
    let set = data::open(&source)?;
    let identity = data::identify(&source, &set);
    if let Origin::Known { name, .. } = &named.origin
        && let Some(known) = known::find(name)
    {
        note_sizes(known, &identity);
    }
    let [train, validation, test] = [&set.train, &set.validation, &set.test].map(|images| about(images, set.classes));
    let name = |class: usize| set.names.as_ref().map_or_else(|| class.to_string(), |names| names[class].clone());
    let classes = (0..set.classes as usize).map(|class| Class {
        name: name(class),
        train: train.by_class[class],
        validation: validation.by_class[class],
        test: test.by_class[class],
    });
    let found = Found {
        name: identity.name,
        kind: kind_of(&source),
        sha256: identity.sha256,
        channels: identity.channels,
        classes: classes.collect(),
        test_images_in_train: shared(&set),
        broken: set.skipped.clone(),
        paper,
        train: Part::of(&train),
        validation: Part::of(&validation),
        test: Part::of(&test),
    };
    if let Some(file) = &arguments.sheet {
        let parts = [&set.train, &set.validation, &set.test];
        let shown = parts.into_iter().find(|images| !images.is_empty()).unwrap_or(&set.train);
        sheet(shown, set.classes, SHEET, file)?;
    }
    if arguments.json {
        print_json(&found)?
    } else {
        print(&found.text())?
    }
    Ok(ExitCode::SUCCESS)
}

/// What has a name, lies at a path, or is written as in an experiment. What is broken is named, not fatal: whoever looks wants to see it.
///
/// # Errors
/// When there is no such thing.
pub fn named(name: &str) -> Result<Source> {
    let path = Path::new(name);
    if name.starts_with('{') {
        #[derive(serde::Deserialize)]
        struct Text {
            data: Written,
        }
        let text: Text = toml::from_str(&format!("data = {name}")).map_err(|error| {
            let hint = "for instance '{ folder = \"DIR\", orientation = \"exif\" }'";
            Usage(format!("`{name}` is no data set: {}\nhint: {hint}", error.message()))
        })?;
        return Ok(text.data.0);
    }
    let origin = match (Origin::named(name), data::kind(path)) {
        (Some(origin), _) => origin,
        (None, Some(kind)) => Origin::Files { kind, path: path.to_owned() },
        (None, None) if path.exists() => {
            let hint = "folders of images (a directory for every class), parquet, tar, CIFAR or IDX files, and tables of `path,label` are";
            return Err(Usage(format!("`{name}` is nothing that is known\nhint: {hint}")).into());
        }
        (None, None) => {
            let hint = format!(
                "a folder of images, parquet, IDX, CIFAR or tar files, a CSV, `hf:owner/name`, or one of {}",
                Origin::NAMES.map(|name| format!("`{name}`")).join(", ")
            );
            return Err(Usage(format!("there is no data set `{name}`\nhint: {hint}")).into());
        }
    };
    Ok(Source { broken: Broken::Skip, ..Source::of(origin) })
}

fn kind_of(source: &Source) -> &'static str {
    match &source.origin {
        Origin::BuiltIn => "built in",
        Origin::Files { kind, .. } => kind.name(),
        Origin::Known { .. } => "one of the paper's",
        Origin::Hub(_) | Origin::Fetched { .. } => "of the hub",
    }
}

impl Paper {
    fn of(known: &'static Known) -> Paper {
        let KnownSplit { train, validation, test } = known.split;
        Paper { title: known.title, train, validation, test, resolution: known.resolution, resize_to: known.resize_to }
    }
}

impl Part {
    fn of(about: &About) -> Part {
        let About { images, heights, widths, repeated, .. } = *about;
        Part { images, heights, widths, repeated }
    }
}

impl Found {
    fn text(&self) -> String {
        let channels = if self.channels == 1 { "grey" } else { "colour" };
        let mut text = format!(
            "{}: {}, {channels}, {} classes, sha-256 {}\n\n",
            self.name,
            self.kind,
            self.classes.len(),
            &self.sha256[..12]
        );
        if let Some(paper) = &self.paper {
            text += &format!(
                "{}: the paper trains on `{}`, selects on `{}` and reports `{}`, {} px, the centre of {} px in evaluation\n\n",
                paper.title, paper.train, paper.validation, paper.test, paper.resolution, paper.resize_to
            );
        }
        let sides = |[least, median, most]: [usize; 3]| match least == most {
            true => least.to_string(),
            false => format!("{least}, {median}, {most}"),
        };
        let parts = [("train", &self.train), ("validation", &self.validation), ("test", &self.test)];
        let rows = parts.into_iter().filter(|(name, part)| *name != "validation" || part.images > 0);
        let rows = rows.map(|(name, part)| {
            let cells = [part.images.to_string(), sides(part.heights), sides(part.widths), part.repeated.to_string()];
            std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>()
        });
        text += &table::table(&["part", "images", "height", "width", "repeated"], &rows.collect::<Vec<_>>());
        text += &format!("{} images of the test part are in the training part\n", self.test_images_in_train);
        text += &format!("{} images cannot be read\n", self.broken.len());
        self.broken.iter().for_each(|why| text += &format!("  {why}\n"));
        text.push('\n');
        let rows: Vec<_> = self
            .classes
            .iter()
            .map(|class| {
                let counts = [class.train, class.validation, class.test].map(|count| count.to_string());
                std::iter::once(class.name.clone()).chain(counts).collect::<Vec<_>>()
            })
            .collect();
        text + &table::table(&["class", "train", "validation", "test"], &rows)
    }
}
