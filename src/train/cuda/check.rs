//! Every operation on the GPU against the CPU's: the CPU engine in f64 is the oracle.
//!
//! Inputs are rounded to the element type first, so what differs is what the GPU computes. An error is relative:
//! the L2 norm of the difference over that of the oracle's numbers, the largest of result and gradients. Gradients are
//! made twice, set and then added, so both ways of writing are seen.

mod cases;
mod directions;
mod norms;
mod whole;

use std::ops::Range;
use std::rc::Rc;

use anyhow::{Context, Result};
use serde::Serialize;

use super::buffer::{Buffer, floats};
use super::device::{Address, Number};
use super::libraries::Libraries;
use super::machine::Machine;
use super::operation::{Backward, Batch, Forward, Numbers, operation};
use super::running::Running;
use super::weights::Rows;
use crate::train::ops::aligned::Aligned;
use crate::train::ops::layer::{self, Description, LENS, Layer, Seen, Write};
use crate::train::ops::norm::{Norm, Over};
use crate::train::random::{Purpose, Stream};

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub op: String,
    pub precision: &'static str,
    pub error: f64,
    pub bound: f64,
    pub ok: bool,
}

impl Row {
    fn new(op: impl Into<String>, number: Number, error: f64) -> Row {
        let (precision, bound) = match number {
            Number::F32 => ("f32", 1e-4),
            Number::Bf16 => ("bf16", 1e-2),
        };
        Row { op: op.into(), precision, error, bound, ok: error < bound }
    }

    /// With a bound of `share` of the usual one, and not below what is `known` of the numbers: how far they move by roundings.
    fn within(self, share: f64, known: f64) -> Row {
        let bound = (share * self.bound).max(known);
        Row { bound, ok: self.error < bound, ..self }
    }
}

/// Compares everything.
///
/// # Errors
/// When something cannot be done at all.
pub fn check(machine: &Rc<Machine>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let numbers: &[Number] =
        if machine.libraries.gpu.has_bf16() { &[Number::F32, Number::Bf16] } else { &[Number::F32] };
    for &number in numbers {
        for case in cases::layers().into_iter().chain(norms::layers()) {
            let error = one(&machine.libraries, &case, number).with_context(|| format!("`{}`", case.name))?;
            rows.push(Row::new(case.name, number, error));
        }
        rows.extend(cases::others(machine, number)?);
        rows.extend(whole::networks(machine, number)?);
    }
    rows.extend(directions::directions(machine)?);
    Ok(rows)
}

/// A layer to be compared.
struct Case {
    name: &'static str,
    images: usize,
    layer: Box<dyn Layer<f64>>,
    x: usize,
    /// Of its input's numbers, in both directions.
    reach: f64,
    /// Numbers of the flat vector.
    numbers: usize,
}

/// Numbers in [-1, 1), the same for the same `index`.
fn some(count: usize, index: u64) -> Vec<f64> {
    let mut stream = Stream::new(99, Purpose::Init, index);
    (0..count).map(|_| stream.between(-1.0, 1.0)).collect()
}

/// What half of a last bit of every weight is, relative to `change`: a GPU multiplies and subtracts with one rounding where
/// the CPU has two, and where steps are small against weights that is most of what their changes differ by.
fn resolution(weights: &[f32], change: &[f64]) -> f64 {
    let norm = |squares: f64| squares.sqrt();
    let weights = norm(weights.iter().map(|w| f64::from(*w).powi(2)).sum());
    f64::from(f32::EPSILON) / 2.0 * weights / norm(change.iter().map(|x| x * x).sum())
}

/// As the element type holds them.
fn rounded(numbers: Vec<f64>, number: Number) -> Vec<f64> {
    let round = |x: f64| match number {
        Number::F32 => f64::from(x as f32),
        Number::Bf16 => f64::from(f32::from_bits(u32::from(to_bf16(x as f32)) << 16)),
    };
    numbers.into_iter().map(round).collect()
}

fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Relative; infinite where a number is not finite.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let error = difference / norm(&mut expected.iter().copied()).max(1e-30);
    if error.is_finite() && found.len() == expected.len() { error } else { f64::INFINITY }
}

/// What a layer makes, and its gradients.
struct Made {
    /// Outside of training.
    answer: Vec<f64>,
    y: Vec<f64>,
    dx: Vec<f64>,
    /// Of its parameters, as in the flat vector.
    gradient: Vec<f64>,
}

fn one(libraries: &Rc<Libraries>, case: &Case, number: Number) -> Result<f64> {
    let y = case.images * case.layer.output().len();
    let x = some(case.images * case.x, 1).into_iter().map(|x| case.reach * x).collect();
    let x = rounded(x, number);
    let residual = case.layer.adds_residual().then(|| rounded(some(y, 2), number));
    let dy = rounded(some(y, 3), number);
    // Matrices that are not standardised are rounded, all else is read as f32.
    let mut weights = rounded(some(case.numbers, 4), Number::F32);
    if let Description::Norm(Norm { over: Over::Batch { variance, .. }, .. }) = case.layer.describe() {
        weights[variance].iter_mut().for_each(|variance| *variance = variance.abs());
    }
    let expected = on_cpu(case, &weights, &x, residual.as_deref(), &dy);
    let found = on_gpu(libraries, case, number, &weights, &x, residual.as_deref(), &dy)?;
    let twice = |numbers: &[f64]| numbers.iter().map(|x| 2.0 * x).collect::<Vec<_>>();
    let mut error = distance(&found.y, &expected.y).max(distance(&found.dx, &twice(&expected.dx)));
    error = error.max(distance(&found.answer, &expected.answer));
    for range in case.layer.parameters() {
        error = error.max(distance(&found.gradient[range.clone()], &twice(&expected.gradient[range])));
    }
    Ok(error)
}

fn on_cpu(case: &Case, weights: &[f64], x: &[f64], residual: Option<&[f64]>, dy: &[f64]) -> Made {
    let (layer, images) = (&*case.layer, case.images);
    let mut packed = Aligned::<f64>::zeros(layer.packed(true));
    layer.pack(weights, &mut packed, true);
    let mut kept = Aligned::<f64>::zeros(images * layer.kept());
    let mut scratch = Aligned::<f64>::zeros(layer.scratch(images));
    let mut y = Aligned::<f64>::zeros(dy.len());
    let seen = Seen { numbers: x, lens: None };
    let gathers = layer.gathers();
    let mut sums = vec![0.0; gathers];
    if gathers > 0 {
        layer.gather(seen, &mut scratch, &mut sums);
    }
    let mut forward = |batch| {
        layer.forward(layer::Forward {
            images,
            weights,
            packed: &packed,
            x: seen,
            residual,
            y: &mut y,
            kept: &mut kept,
            scratch: &mut scratch,
            batch,
        });
        if layer.is_lens() {
            let c = layer.output().c;
            let each = layer.output().len();
            for (image, (y, x)) in y.chunks_exact_mut(each).zip(x.chunks_exact(each)).enumerate() {
                let lens = &kept[image * LENS * c..];
                for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                    *y = (x * lens[i % c] + lens[c + i % c]).max(0.0);
                }
            }
        }
        y.to_vec()
    };
    let answer = forward(None);
    let y = forward((gathers > 0).then_some(layer::Batch { images, sums: &sums }));
    let mut dx = Aligned::<f64>::zeros(x.len());
    let mut native = Aligned::<f64>::zeros(layer.gradient());
    let mut sums = vec![0.0; gathers];
    let mut call = |gradient_write, batch, gather: Option<&mut [f64]>| {
        let call = layer::Backward {
            images,
            weights,
            packed: &packed,
            x: seen,
            kept: &mut kept,
            dy,
            dx: Some((&mut dx, Write::Set)),
            gradient: &mut native,
            gradient_write,
            scratch: &mut scratch,
            batch,
        };
        match gather {
            Some(sums) => layer.gather_backward(call, sums),
            None => layer.backward(call),
        }
    };
    if gathers > 0 {
        call(Write::Set, None, Some(&mut sums));
        call(Write::Add, Some(layer::Batch { images, sums: &sums }), None);
    } else {
        call(Write::Set, None, None);
    }
    let parameters = layer.parameters();
    let mut own = vec![0.0; parameters.iter().map(Range::len).sum()];
    layer.collect(weights, &native, &mut own);
    let mut gradient = vec![0.0; case.numbers];
    let mut rest = &own[..];
    for range in parameters {
        let (part, after) = rest.split_at(range.len());
        gradient[range].copy_from_slice(part);
        rest = after;
    }
    Made { answer, y, dx: dx.to_vec(), gradient }
}

fn on_gpu(
    libraries: &Rc<Libraries>,
    case: &Case,
    number: Number,
    weights: &[f64],
    x: &[f64],
    residual: Option<&[f64]>,
    dy: &[f64],
) -> Result<Made> {
    let gpu = &libraries.gpu;
    let batch = Batch { images: case.images, number, training: true };
    let mut operations = vec![operation(&case.layer.describe(), batch, false, libraries)?];
    let rows = Rows::new(gpu, &mut operations, case.numbers, &[])?;
    let operation = &operations[0];
    let (flat, matrices) = (put(libraries, weights, Number::F32)?, gpu.allocate(rows.matrices * number.bytes())?);
    let weights = Numbers { flat: flat.0.address, matrices: matrices.address };
    if rows.count > 0 {
        rows.pack(gpu, number, weights)?;
    }
    let (x, dy) = (put(libraries, x, number)?, put(libraries, dy, number)?);
    let residual = residual.map(|numbers| put(libraries, numbers, number)).transpose()?;
    let (y, dx) = (gpu.allocate(dy.1 * number.bytes())?, gpu.allocate(x.1 * number.bytes())?);
    let kept = gpu.allocate(operation.kept())?;
    let (forward, backward) = operation.scratch();
    let scratch = gpu.allocate(forward.max(backward))?;
    let running = Running::new(gpu, &operations)?;
    let moments = gpu.allocate(4 * running.numbers)?;
    let forward = |moments| {
        operation.forward(&Forward {
            libraries,
            weights,
            x: x.0.address,
            residual: residual.as_ref().map(|buffer| buffer.0.address),
            y: y.address,
            kept: kept.address,
            scratch: scratch.address,
            moments,
        })
    };
    // With what running statistics know, first; a layer without any does the same twice.
    forward(None)?;
    let answer = get(libraries, y.address, dy.1, number)?;
    forward(running.of(0, moments.address))?;
    let own = (gpu.allocate(4 * case.numbers)?, gpu.allocate(4 * rows.matrices)?);
    let gradient = Numbers { flat: own.0.address, matrices: own.1.address };
    for add in [false, true] {
        operation.backward(&Backward {
            libraries,
            weights,
            gradient,
            add,
            x: x.0.address,
            kept: kept.address,
            dy: dy.0.address,
            dx: Some((dx.address, add)),
            scratch: scratch.address,
        })?;
    }
    if rows.count > 0 {
        let squares = gpu.allocate(8 * rows.count)?;
        let arguments = [
            rows.table().into(),
            weights.flat.into(),
            gradient.matrices.into(),
            gradient.flat.into(),
            squares.address.into(),
        ];
        gpu.launch(number, "collect_rows", rows.spread(), &arguments)?;
    }
    Ok(Made {
        answer,
        y: get(libraries, y.address, dy.1, number)?,
        dx: get(libraries, dx.address, x.1, number)?,
        gradient: get(libraries, gradient.flat, case.numbers, Number::F32)?,
    })
}

/// Numbers on the GPU, and how many.
fn put(libraries: &Libraries, numbers: &[f64], number: Number) -> Result<(Buffer, usize)> {
    let bytes: Vec<u8> = match number {
        Number::F32 => numbers.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
        Number::Bf16 => numbers.iter().flat_map(|x| to_bf16(*x as f32).to_le_bytes()).collect(),
    };
    Ok((libraries.gpu.holding(&bytes)?, numbers.len()))
}

fn get(libraries: &Libraries, from: Address, count: usize, number: Number) -> Result<Vec<f64>> {
    let mut bytes = vec![0; count * number.bytes()];
    libraries.gpu.download(from, &mut bytes)?;
    Ok(match number {
        Number::F32 => floats(&bytes).map(f64::from).collect(),
        Number::Bf16 => {
            let pairs = bytes.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
            pairs.map(|bits| f64::from(f32::from_bits(u32::from(bits) << 16))).collect()
        }
    })
}
