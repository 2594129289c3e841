//! What a weights file holds, as a small JSON beside it or in its repository: architecture, classes, normalisation.
//!
//! It is the `config.json` of timm's repositories on the hub, so that timm builds what is exported here
//! (`timm.create_model(card["architecture"], num_classes=card["num_classes"], checkpoint_path=..., **card["model_args"])`) and
//! what timm published is known here. What timm has no name for has none; under `distillery` every network is told as an
//! experiment writes it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::job::{BitResnet, Job, MobilenetSize, MobilenetV3, Model, Norm, Normalization, Pool, Resize, Vit};

#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    pub model: Model,
    pub classes: u32,
    pub channels: u32,
    /// Side in pixels of what it was trained on.
    pub resolution: u32,
    pub normalization: Normalization,
    /// The share of the image's shorter side that it is shown when it is measured.
    pub crop: f64,
    pub interpolation: Interpolation,
    /// Of the job that trained it.
    pub job: Option<String>,
    pub data: Option<String>,
}

/// How an image comes to a network's size when it is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// As views in training: between the centres of the four nearest pixels, whatever is covered.
    #[default]
    Plain,
    /// The same window, with antialias.
    PlainAntialias,
    PlainBicubic,
    /// The mean of what a pixel covers.
    Area,
    /// These two as in PIL and timm, with a wider kernel where an image shrinks.
    Bilinear,
    Bicubic,
}

impl Interpolation {
    pub fn name(self) -> &'static str {
        match self {
            Interpolation::Plain => "plain",
            Interpolation::PlainAntialias => "plain-antialias",
            Interpolation::PlainBicubic => "plain-bicubic",
            Interpolation::Area => "area",
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
        }
    }
}

impl Interpolation {
    fn named(name: &str) -> Result<Interpolation, String> {
        let all = [
            Interpolation::Plain,
            Interpolation::PlainAntialias,
            Interpolation::PlainBicubic,
            Interpolation::Area,
            Interpolation::Bilinear,
            Interpolation::Bicubic,
        ];
        let found = all.into_iter().find(|one| one.name() == name);
        let names = all.map(Interpolation::name).join(", ");
        found.ok_or_else(|| format!("`interpolation` is `{name}`, but must be one of {names}"))
    }
}

impl Card {
    /// Of the student of a job.
    pub fn of(job: &Job) -> Card {
        Card {
            model: job.student.clone(),
            classes: job.data.classes,
            channels: job.data.channels,
            resolution: job.resolution,
            normalization: job.normalization(),
            crop: 1.0 / job.crop.margin,
            interpolation: match job.resize {
                Resize::Bilinear => Interpolation::Plain,
                Resize::BilinearAntialias => Interpolation::PlainAntialias,
                Resize::Bicubic => Interpolation::PlainBicubic,
            },
            job: Some(job.id().as_str().to_owned()),
            data: Some(job.data.name.clone()),
        }
    }

    pub fn to_json(&self) -> Value {
        let Normalization { mean, std } = self.normalization;
        let mut arguments = model_arguments(&self.model, self.resolution);
        if self.channels != 3 {
            arguments.insert("in_chans".into(), json!(self.channels));
        }
        let colours = self.channels.min(3) as usize;
        // The nearest that timm has.
        let interpolation = match self.interpolation {
            Interpolation::Plain | Interpolation::PlainAntialias | Interpolation::Area => "bilinear",
            Interpolation::PlainBicubic => "bicubic",
            other => other.name(),
        };
        let (stem, head) = ends(&self.model);
        json!({
            "architecture": timm_name(&self.model),
            "num_classes": self.classes,
            "model_args": arguments,
            "pretrained_cfg": {
                "input_size": [self.channels, self.resolution, self.resolution],
                "num_classes": self.classes,
                "mean": mean[..colours],
                "std": std[..colours],
                "crop_pct": self.crop,
                "crop_mode": "center",
                "interpolation": interpolation,
                "first_conv": stem,
                "classifier": head,
            },
            "distillery": {
                "model": self.model,
                "interpolation": self.interpolation.name(),
                "job": self.job,
                "data": self.data,
            },
        })
    }

    /// Reads what [`Card::to_json`] writes, or timm's. None where it names no network that is known here. Whether there
    /// can be such a network is for the grid to say.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_json(text: &str) -> Result<Option<Card>, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        // Other things are written in JSON too.
        if !["architecture", "distillery"].iter().any(|key| value.get(key).is_some()) {
            return Ok(None);
        }
        let file: File = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let own = file.distillery.unwrap_or_default();
        let model = own.model.or_else(|| file.architecture.as_deref().and_then(known));
        let Some(model) = model else { return Ok(None) };
        let settings = file.pretrained_cfg.unwrap_or_default();
        let [channels, resolution, width] = settings.input_size.unwrap_or([3, 224, 224]);
        if ![1, 3].contains(&channels) || resolution != width || !(4..=4096).contains(&resolution) {
            return Err(format!(
                "`input_size` is [{channels}, {resolution}, {width}], but must be 1 or 3 channels of a square"
            ));
        }
        let classes = file.num_classes.or(settings.num_classes).unwrap_or(1000);
        if !(1..=1_000_000).contains(&classes) {
            return Err(format!("`num_classes` is {classes}, but must be from 1 to 1000000"));
        }
        let crop = settings.crop_pct.unwrap_or(0.875);
        if !(0.1..=1.0).contains(&crop) {
            return Err(format!("`crop_pct` is {crop}, but must be from 0.1 to 1"));
        }
        let interpolation = own.interpolation.or(settings.interpolation);
        Ok(Some(Card {
            model,
            classes,
            channels,
            resolution,
            normalization: Normalization { mean: colours("mean", settings.mean)?, std: colours("std", settings.std)? },
            crop,
            interpolation: interpolation.map_or(Ok(Interpolation::Bilinear), |name| Interpolation::named(&name))?,
            job: own.job,
            data: own.data,
        }))
    }
}

/// One number for all channels, or three.
fn colours(what: &str, numbers: Option<Vec<f64>>) -> Result<[f64; 3], String> {
    match numbers.as_deref() {
        None => Ok([0.5; 3]),
        Some([one]) => Ok([*one; 3]),
        Some([red, green, blue]) => Ok([*red, *green, *blue]),
        Some(numbers) => Err(format!("`{what}` has {} numbers, but must have one or three", numbers.len())),
    }
}

#[derive(Deserialize)]
struct File {
    architecture: Option<String>,
    num_classes: Option<u32>,
    pretrained_cfg: Option<Settings>,
    distillery: Option<Own>,
}

#[derive(Default, Deserialize)]
struct Settings {
    input_size: Option<[u32; 3]>,
    num_classes: Option<u32>,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
    crop_pct: Option<f64>,
    interpolation: Option<String>,
}

#[derive(Default, Deserialize)]
struct Own {
    model: Option<Model>,
    interpolation: Option<String>,
    job: Option<String>,
    data: Option<String>,
}

/// BiT-ResNets that timm has by name.
const BIT: [(u32, u32); 6] = [(50, 1), (50, 3), (101, 1), (101, 3), (152, 2), (152, 4)];
/// Name, width, heads; all of twelve blocks.
const VITS: [(&str, u32, u32); 3] = [("tiny", 192, 3), ("small", 384, 6), ("base", 768, 12)];

/// timm's name; none where it has no such network. It makes any vision transformer from any other's name.
fn timm_name(model: &Model) -> Option<String> {
    match model {
        Model::BitResnet(net) if BIT.contains(&(net.depth, net.width)) => {
            Some(format!("resnetv2_{}x{}_bit", net.depth, net.width))
        }
        Model::Vit(_) => Some("vit_tiny_patch16_224".into()),
        Model::MobilenetV3(net) if net.norm == Norm::Batch => Some(match net.size {
            MobilenetSize::Large => "mobilenetv3_large_100".into(),
            MobilenetSize::Small => "mobilenetv3_small_100".into(),
        }),
        _ => None,
    }
}

/// What timm must be told beside the name.
fn model_arguments(model: &Model, resolution: u32) -> Map<String, Value> {
    let mut arguments = Map::new();
    if let Model::Vit(net) = model {
        let own = json!({
            "img_size": resolution,
            "patch_size": net.patch,
            "embed_dim": net.width,
            "depth": net.depth,
            "num_heads": net.heads,
        });
        arguments.extend(own.as_object().cloned().unwrap_or_default());
        if net.pool == Pool::Mean {
            let mean = json!({ "class_token": false, "global_pool": "avg", "fc_norm": false });
            arguments.extend(mean.as_object().cloned().unwrap_or_default());
        }
    }
    arguments
}

/// Names of the first and the last layer.
fn ends(model: &Model) -> (&'static str, &'static str) {
    match model {
        Model::BitResnetSmall(_) | Model::BitResnet(_) => ("stem.conv", "head.fc"),
        Model::Vit(_) => ("patch_embed.proj", "head"),
        Model::MobilenetV3(_) => ("conv_stem", "classifier"),
        Model::CifarResnet(_) => ("conv1", "linear"),
    }
}

/// The network of a timm name, without what follows a dot.
pub fn known(name: &str) -> Option<Model> {
    let name = name.split('.').next().unwrap_or(name);
    let number = |text: &str| text.parse::<u32>().ok();
    if let Some(size) = name.strip_prefix("resnetv2_").and_then(|rest| rest.strip_suffix("_bit")) {
        let (depth, width) = size.split_once('x')?;
        let found = (number(depth)?, number(width)?);
        return BIT.contains(&found).then_some(Model::BitResnet(BitResnet { depth: found.0, width: found.1 }));
    }
    if let Some(rest) = name.strip_prefix("vit_") {
        let (size, rest) = rest.split_once("_patch")?;
        let (_, width, heads) = VITS.into_iter().find(|(known, ..)| *known == size)?;
        let (patch, side) = rest.split_once('_')?;
        number(side)?;
        return Some(Model::Vit(Vit::new(width, 12, heads, number(patch)?)));
    }
    let size = match name {
        "mobilenetv3_large_100" => MobilenetSize::Large,
        "mobilenetv3_small_100" => MobilenetSize::Small,
        _ => return None,
    };
    Some(Model::MobilenetV3(MobilenetV3 { size, norm: Norm::Batch }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let models = [
            Model::BitResnet(BitResnet { depth: 26, width: 1 }),
            Model::Vit(Vit { pool: Pool::Mean, ..Vit::new(48, 2, 3, 4) }),
            Model::MobilenetV3(MobilenetV3 { size: MobilenetSize::Small, norm: Norm::Group }),
        ];
        for model in models {
            let card = Card {
                model,
                classes: 10,
                channels: 1,
                resolution: 28,
                normalization: Normalization { mean: [0.25; 3], std: [0.5; 3] },
                crop: 0.8,
                interpolation: Interpolation::Area,
                job: Some("0123".into()),
                data: None,
            };
            assert_eq!(Card::from_json(&card.to_json().to_string()).unwrap(), Some(card));
        }
    }

    #[test]
    fn timms_own_are_known() {
        let text = r#"{"architecture": "resnetv2_50x1_bit", "num_classes": 1000, "num_features": 2048, "pretrained_cfg":
            {"tag": "goog_distilled_in1k", "input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.875,
             "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "num_classes": 1000}}"#;
        let card = Card::from_json(text).unwrap().unwrap();
        assert_eq!(card.model, Model::BitResnet(BitResnet { depth: 50, width: 1 }));
        assert_eq!((card.classes, card.resolution, card.interpolation), (1000, 224, Interpolation::Bicubic));
        assert_eq!(known("vit_small_patch32_224.augreg_in21k_ft_in1k"), Some(Model::Vit(Vit::new(384, 12, 6, 32))));
        assert_eq!(known("vit_small_patch16_rope_224"), None);
        assert_eq!(known("resnetv2_50x7_bit"), None);
        assert_eq!(Card::from_json(r#"{"architecture": "convnext_tiny"}"#).unwrap(), None);
        assert!(Card::from_json("{").is_err());
    }
}
