//! The numbers a workload is timed with: weights, images and labels.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::SafeTensors;

use super::Workload;
use crate::job::Model;
use crate::train::model::{Blueprint, Role};
use crate::train::random::{Purpose, Stream};

/// Numbers of a workload, made up or from a file.
pub(super) struct Numbers {
    pub student: Vec<f32>,
    pub teacher: Option<Vec<f32>>,
    pub images: Vec<f32>,
    /// Of labels.
    pub targets: Vec<f32>,
}

impl Numbers {
    /// # Errors
    /// When the file cannot be read, or lacks what the workload needs.
    pub fn read(workload: &Workload, inputs: Option<&Path>) -> Result<Numbers> {
        let bytes = inputs.map(|path| fs::read(path).with_context(|| format!("cannot read `{}`", path.display())));
        let bytes = bytes.transpose()?;
        let file =
            bytes.as_deref().map(SafeTensors::deserialize).transpose().context("the inputs are no safetensors")?;
        let input = workload.input;
        let weights = |prefix: &str, model: &Model| -> Result<Vec<f32>> {
            let blueprint = Blueprint::new(model, input);
            let Some(file) = &file else { return Ok(made_up(&blueprint)) };
            let mut flat = Vec::with_capacity(blueprint.len());
            for (entry, _) in blueprint.places() {
                flat.extend(floats(file, &format!("{prefix}.{}", entry.name), entry.len())?);
            }
            Ok(flat)
        };
        let (batch, classes) = (workload.batch as usize, input.classes as usize);
        let mut stream = Stream::new(0, Purpose::TeacherView, 0);
        let images = match &file {
            Some(file) => floats(file, "images", workload.images())?,
            None => (0..workload.images()).map(|_| stream.between(-1.0, 1.0) as f32).collect(),
        };
        let labels: Vec<usize> = match &file {
            Some(file) => floats(file, "labels", batch)?.into_iter().map(|label| label as usize).collect(),
            None => (0..batch).map(|_| stream.below(input.classes) as usize).collect(),
        };
        let mut targets = vec![0.0; batch * classes];
        for (row, label) in targets.chunks_exact_mut(classes).zip(labels) {
            *row.get_mut(label).context("a label is beyond the classes")? = 1.0;
        }
        Ok(Numbers {
            student: weights("student", &workload.student)?,
            teacher: workload.teacher.as_ref().map(|teacher| weights("teacher", teacher)).transpose()?,
            images,
            targets,
        })
    }
}

/// As from scratch, but for the head: at zero it would send nothing back, and answer every image alike.
fn made_up(blueprint: &Blueprint) -> Vec<f32> {
    let mut weights = blueprint.scratch(0);
    let mut stream = Stream::new(0, Purpose::Init, u64::MAX);
    for (entry, range) in blueprint.places() {
        if entry.role == Role::Head {
            weights[range].iter_mut().for_each(|weight| *weight = stream.between(-0.05, 0.05) as f32);
        }
    }
    weights
}

fn floats(file: &SafeTensors<'_>, name: &str, count: usize) -> Result<Vec<f32>> {
    let view = file.tensor(name).with_context(|| format!("the inputs have no `{name}`"))?;
    ensure!(view.data().len() == 4 * count, "`{name}` has not {count} numbers of 4 bytes");
    Ok(view.data().chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}
