//! `models`: the networks there are, with their sizes, and weights of them that others published.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::{print, print_json, table};
use crate::cli;
use crate::job::{
    BitResnet, BitResnetSmall, CifarResnet, Input, MobilenetSize, MobilenetV3, Model, Norm, Pool, Positions, Vit,
};

/// A network by the name people know it by.
struct Known {
    name: &'static str,
    model: Model,
    /// Side in pixels that it is usually fed.
    resolution: u32,
    classes: u32,
    /// timm's names of published weights; files of `gs://bit_models/distill/` (paper.md 2.3 and 2.4).
    weights: &'static [&'static str],
}

fn known() -> Vec<Known> {
    let of_imagenet =
        |name, model, weights: &'static [&'static str]| Known { name, model, resolution: 224, classes: 1000, weights };
    let bit = |name, depth, width, weights| of_imagenet(name, Model::BitResnet(BitResnet { depth, width }), weights);
    let vit =
        |name, width, heads, patch, weights| of_imagenet(name, Model::Vit(Vit::new(width, 12, heads, patch)), weights);
    let mobile = |name, size, norm, weights| of_imagenet(name, Model::MobilenetV3(MobilenetV3 { size, norm }), weights);
    let cifar = |name, depth| Known {
        name,
        model: Model::CifarResnet(CifarResnet { depth }),
        resolution: 32,
        classes: 10,
        weights: &[],
    };
    let small = |name, depth, width| Known {
        name,
        model: Model::BitResnetSmall(BitResnetSmall { depth, width }),
        resolution: 32,
        classes: 10,
        weights: &[],
    };
    vec![
        bit("BiT-R26x1", 26, 1, &[]),
        bit(
            "BiT-R50x1",
            50,
            1,
            &[
                "resnetv2_50x1_bit.goog_distilled_in1k",
                "resnetv2_50x1_bit.goog_in21k",
                "resnetv2_50x1_bit.goog_in21k_ft_in1k",
                "R50x1_224.npz",
                "R50x1_160.npz",
            ],
        ),
        bit("BiT-R101x1", 101, 1, &["resnetv2_101x1_bit.goog_in21k", "resnetv2_101x1_bit.goog_in21k_ft_in1k"]),
        bit(
            "BiT-R152x2",
            152,
            2,
            &[
                "resnetv2_152x2_bit.goog_teacher_in21k_ft_in1k",
                "resnetv2_152x2_bit.goog_teacher_in21k_ft_in1k_384",
                "resnetv2_152x2_bit.goog_in21k",
                "resnetv2_152x2_bit.goog_in21k_ft_in1k",
                "R152x2_T_224.npz",
                "R152x2_T_384.npz",
                "R152x2_T_flowers128.npz",
                "R152x2_T_pet128.npz",
                "R152x2_T_food128.npz",
                "R152x2_T_sun128.npz",
            ],
        ),
        small("bit-resnet-small 8x16", 8, 16),
        small("bit-resnet-small 20x16", 20, 16),
        small("bit-resnet-small 20x32", 20, 32),
        vit("ViT-Ti/16", 192, 3, 16, &["vit_tiny_patch16_224.augreg_in21k_ft_in1k"]),
        vit("ViT-S/32", 384, 6, 32, &["vit_small_patch32_224.augreg_in21k_ft_in1k"]),
        vit("ViT-S/16", 384, 6, 16, &["vit_small_patch16_224.augreg_in21k_ft_in1k"]),
        vit("ViT-B/32", 768, 12, 32, &["vit_base_patch32_224.augreg_in21k_ft_in1k"]),
        vit("ViT-B/16", 768, 12, 16, &["vit_base_patch16_224.augreg_in21k_ft_in1k"]),
        mobile("MobileNet v3 Large, GroupNorm", MobilenetSize::Large, Norm::Group, &[]),
        mobile("MobileNet v3 Large", MobilenetSize::Large, Norm::Batch, &["mobilenetv3_large_100.ra_in1k"]),
        mobile("MobileNet v3 Small, GroupNorm", MobilenetSize::Small, Norm::Group, &[]),
        mobile("MobileNet v3 Small", MobilenetSize::Small, Norm::Batch, &["mobilenetv3_small_100.lamb_in1k"]),
        cifar("ResNet-20 for CIFAR", 20),
        cifar("ResNet-32 for CIFAR", 32),
        cifar("ResNet-44 for CIFAR", 44),
        cifar("ResNet-56 for CIFAR", 56),
    ]
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    model: Model,
    resolution: u32,
    classes: u32,
    parameters: u64,
    /// Multiply-adds of convolutions, linear layers and attention for one image.
    macs: u64,
    weights: &'static [&'static str],
}

/// As it is written in an experiment.
fn written(model: &Model) -> String {
    match model {
        Model::BitResnet(net) => format!("{{ bit-resnet = {{ depth = {}, width = {} }} }}", net.depth, net.width),
        Model::BitResnetSmall(net) => {
            format!("{{ bit-resnet-small = {{ depth = {}, width = {} }} }}", net.depth, net.width)
        }
        Model::Vit(net) => {
            let pool = if net.pool == Pool::Mean { ", pool = \"mean\"" } else { "" };
            let positions = if net.positions == Positions::SinCos { ", positions = \"sin-cos\"" } else { "" };
            format!(
                "{{ vit = {{ width = {}, depth = {}, heads = {}, patch = {}{pool}{positions} }} }}",
                net.width, net.depth, net.heads, net.patch
            )
        }
        Model::MobilenetV3(net) => {
            let size = if net.size == MobilenetSize::Large { "large" } else { "small" };
            let norm = if net.norm == Norm::Group { "group" } else { "batch" };
            format!("{{ mobilenet-v3 = {{ size = \"{size}\", norm = \"{norm}\" }} }}")
        }
        Model::CifarResnet(net) => format!("{{ cifar-resnet = {{ depth = {} }} }}", net.depth),
    }
}

pub fn models(arguments: &cli::Models) -> Result<ExitCode> {
    let rows = known().into_iter().map(|known| {
        let resolution = arguments.resolution.unwrap_or(known.resolution);
        let classes = arguments.classes.unwrap_or(known.classes);
        // Patches tile the image.
        let resolution = match &known.model {
            Model::Vit(net) => resolution.next_multiple_of(net.patch),
            _ => resolution,
        };
        let input = Input::new(3, classes, resolution);
        Row {
            name: known.name,
            resolution,
            classes,
            parameters: known.model.parameters(input),
            macs: known.model.macs(input),
            weights: known.weights,
            model: known.model,
        }
    });
    let rows: Vec<Row> = rows.collect();
    if arguments.json {
        print_json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.to_owned(),
                format!("{:.3} M", row.parameters as f64 / 1e6),
                format!("{:.3}", row.macs as f64 / 1e9),
                format!("{} px", row.resolution),
                row.classes.to_string(),
                written(&row.model),
            ]
        })
        .collect();
    print(&table::table(&["network", "parameters", "GMACs", "at", "classes", "in an experiment"], &cells))?;
    print(
        "\nPublished weights: `weights = \"hf:timm/NAME\"`; those that end in .npz are files of gs://bit_models/distill/ (in21k: 21,843\nclasses, so `head = \"reset\"`)\n",
    )?;
    for row in rows.iter().filter(|row| !row.weights.is_empty()) {
        print(&format!("{}: {}\n", row.name, row.weights.join(", ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown is what an experiment understands, and sizes are those of paper.md 2.5.
    #[test]
    fn networks_are_written_as_they_are_read_and_have_the_papers_sizes() {
        #[derive(serde::Deserialize)]
        struct Text {
            student: Model,
        }
        for known in known() {
            let text: Text = toml::from_str(&format!("student = {}", written(&known.model))).unwrap();
            assert_eq!(text.student, known.model, "{}", known.name);
            for weights in known.weights.iter().filter(|name| !name.ends_with(".npz")) {
                assert_eq!(crate::card::known(weights).as_ref(), Some(&known.model), "{weights}");
            }
        }
        let size = |name: &str, classes, resolution| {
            let known = known().into_iter().find(|known| known.name == name).unwrap();
            let input = Input::new(3, classes, resolution);
            (known.model.parameters(input) as f64 / 1e6, known.model.macs(input) as f64 / 1e9)
        };
        let near = |found: f64, expected: f64, by: f64| assert!((found - expected).abs() <= by, "{found}, {expected}");
        for (name, classes, millions) in [
            ("BiT-R50x1", 1000, 25.549),
            ("BiT-R50x1", 102, 23.709),
            ("BiT-R50x1", 37, 23.576),
            ("BiT-R50x1", 397, 24.314),
            ("BiT-R152x2", 1000, 236.335),
            ("BiT-R152x2", 101, 232.652),
            ("ViT-Ti/16", 1000, 5.717),
        ] {
            near(size(name, classes, 224).0, millions, 6e-4);
        }
        for (resolution, r50, r152) in [(128, 1.34, 15.0), (160, 2.09, 23.4), (224, 4.09, 45.8), (384, 12.0, 134.6)] {
            near(size("BiT-R50x1", 1000, resolution).1, r50, 0.05);
            near(size("BiT-R152x2", 1000, resolution).1, r152, 0.06);
        }
    }
}
