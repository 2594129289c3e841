//! What an experiment would be with data sets and weights that are not on this machine: enough to price it, not to run it.
//!
//! The paper's own sizes need ImageNet and teachers of gigabytes. What they would cost follows from counts and
//! architectures that are known without them. Only contents are unknown, so jobs have ids that no run will give them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::catalogue::{self, Shelf};
use crate::card::{Card, Interpolation, known as known_model};
use crate::digest::hex;
use crate::grid::{Catalogue, DataSource, FoundData, WeightsFile};
use crate::hub::Settings;
use crate::job::{Data, Normalization};
use crate::known::{self, Known};
use crate::source::{HUB, Origin};

/// What is on this machine, and stand-ins for what is not.
#[derive(Debug, Default)]
pub struct Nominal {
    shelf: Shelf,
    /// What stands in.
    absent: RefCell<BTreeSet<String>>,
}

impl Nominal {
    /// Names of what is not here.
    pub fn absent(&self) -> Vec<String> {
        self.absent.borrow().iter().cloned().collect()
    }

    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    fn absent_weights(&self, name: &str, card: Option<Card>) -> WeightsFile {
        self.absent.borrow_mut().insert(name.to_owned());
        WeightsFile { sha256: no_content(name), path: PathBuf::from(name), card }
    }
}

impl Catalogue for Nominal {
    /// The paper's sets may be absent.
    fn data(&self, source: &DataSource) -> Result<FoundData, String> {
        self.shelf.data(source).or_else(|error| {
            let Origin::Known { name, path: None } = &source.origin else { return Err(error) };
            let known = known::find(name).ok_or(error)?;
            self.absent.borrow_mut().insert(name.clone());
            Ok(stand_in(source, known))
        })
    }

    /// Weights may be absent: files that are not there, and those of the hub that were not fetched and of which a name or
    /// the experiment tells what they are. To price a teacher of gigabytes none of it is fetched.
    fn weights(&self, name: &str) -> Result<WeightsFile, String> {
        if !name.starts_with(HUB) {
            let path = PathBuf::from(name);
            return if path.exists() { self.shelf.weights(name) } else { Ok(self.absent_weights(name, None)) };
        }
        let offline = Settings { offline: true, ..Settings::from_environment() };
        match (catalogue::weights_with(name, &offline), card(name)) {
            (Ok(found), _) => Ok(found),
            (Err(_), Some(card)) => Ok(self.absent_weights(name, Some(card))),
            (Err(_), None) => self.shelf.weights(name),
        }
    }
}

/// In the place of a SHA-256: the same for the same name, and no file's.
fn no_content(name: &str) -> String {
    hex(&Sha256::digest(format!("distillery: not on this machine: {name}")))
}

fn stand_in(source: &DataSource, known: &Known) -> FoundData {
    let images = |part: &str| known.parts.iter().find(|(name, _)| *name == part).map_or(0, |(_, images)| *images);
    let per_class = images("train").div_ceil(known.classes);
    let data = Data {
        name: known.name.to_owned(),
        sha256: no_content(known.name),
        classes: known.classes,
        channels: 3,
        train_images: images("train"),
        validation_images: images("validation"),
        test_images: images("test"),
    };
    // As even as can be: only how many there are of a class counts.
    let labels: Arc<[u32]> = (0..images("train")).map(|image| image / per_class).collect();
    let split = [known.split.train, known.split.validation, known.split.test];
    FoundData { data, source: source.clone(), train_labels: labels, labelled: [true; 3], split: Some(split) }
}

/// Of a network of timm on the hub, by its name.
fn card(name: &str) -> Option<Card> {
    let repository = name.strip_prefix(HUB)?.split('/').nth(1)?;
    let tag = repository.split('@').next()?;
    let classes = if tag.ends_with("in21k") { 21_843 } else { 1000 };
    Some(Card {
        model: known_model(tag)?,
        classes,
        channels: 3,
        resolution: 224,
        normalization: Normalization::default(),
        crop: 0.875,
        interpolation: Interpolation::default(),
        job: None,
        data: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_teachers_are() {
        let teacher = card("hf:timm/resnetv2_152x2_bit.goog_teacher_in21k_ft_in1k").unwrap();
        assert_eq!((teacher.model.label(), teacher.classes), ("bit-resnet 152x2".to_owned(), 1000));
        assert_eq!(card("hf:timm/resnetv2_50x1_bit.goog_in21k@main").unwrap().classes, 21_843);
        assert!(card("hf:owner/own-model").is_none() && card("teacher.npz").is_none());
    }

    #[test]
    fn stand_ins_have_the_known_counts() {
        let known = known::find("flowers102").unwrap();
        let found = stand_in(&DataSource::of(Origin::Known { name: "flowers102".into(), path: None }), known);
        assert_eq!((found.data.train_images, found.data.validation_images, found.data.test_images), (1020, 1020, 6149));
        assert_eq!(found.train_labels.iter().max(), Some(&101));
        assert_ne!(found.data.sha256, stand_in(&found.source, known::find("pet37").unwrap()).data.sha256);
    }
}
