//! `data inspect`: what a data set holds.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::{Usage, print, print_json, table};
use crate::cli;
use crate::train::data::inspect::{About, about, shared, sheet};
use crate::train::data::{self, FASHION_MNIST_8K2K, Location};

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
    test: Part,
    /// Test images whose pixels are in the training part too.
    test_images_in_train: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Class {
    name: String,
    train: u64,
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
    let location = named(&arguments.data)?;
    let set = data::load_all(&location)?;
    let identity = data::identify(&location, &set);
    let (train, test) = (about(&set.train, set.classes), about(&set.test, set.classes));
    let name = |class: usize| set.names.as_ref().map_or_else(|| class.to_string(), |names| names[class].clone());
    let classes = train.by_class.iter().zip(&test.by_class).enumerate();
    let classes = classes.map(|(class, (train, test))| Class { name: name(class), train: *train, test: *test });
    let found = Found {
        name: identity.name,
        kind: location.kind(),
        sha256: identity.sha256,
        channels: identity.channels,
        classes: classes.collect(),
        test_images_in_train: shared(&set),
        train: Part::of(&train),
        test: Part::of(&test),
    };
    if let Some(file) = &arguments.sheet {
        let shown = if set.train.labels.is_empty() { &set.test } else { &set.train };
        sheet(shown, set.classes, SHEET, file)?;
    }
    if arguments.json {
        print_json(&found)?
    } else {
        print(&found.text())?
    }
    Ok(ExitCode::SUCCESS)
}

/// What is built in, or a folder.
pub fn named(name: &str) -> Result<Location> {
    match name {
        FASHION_MNIST_8K2K => Ok(Location::FashionMnist8k2k),
        path if std::path::Path::new(path).is_dir() => Ok(Location::folder(std::path::Path::new(path))),
        path => {
            let hint = format!("a folder of images, parquet, IDX or CIFAR files, or `{FASHION_MNIST_8K2K}`");
            Err(Usage(format!("there is no folder `{path}`\nhint: {hint}")).into())
        }
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
        let sides = |[least, median, most]: [usize; 3]| match least == most {
            true => least.to_string(),
            false => format!("{least}, {median}, {most}"),
        };
        let rows = [("train", &self.train), ("test", &self.test)].map(|(name, part)| {
            let cells = [part.images.to_string(), sides(part.heights), sides(part.widths), part.repeated.to_string()];
            std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>()
        });
        text += &table::table(&["part", "images", "height", "width", "repeated"], &rows);
        text += &format!("{} images of the test part are in the training part\n\n", self.test_images_in_train);
        let rows: Vec<_> = self
            .classes
            .iter()
            .map(|class| vec![class.name.clone(), class.train.to_string(), class.test.to_string()])
            .collect();
        text + &table::table(&["class", "train", "test"], &rows)
    }
}
