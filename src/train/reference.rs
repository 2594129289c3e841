//! The operations and networks once more, in candle's plain differentiable operations and its own backward pass: slow,
//! composed, and what the layers are tested against.
//!
//! Only what candle computes rightly is used (no convolution, pooling or norm of its own): padding, selection, matrix
//! products, sums and elementwise functions.

use std::collections::HashMap;

use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::ops::{log_softmax, softmax};

use super::model::Blueprint;
use super::ops::pool::{Beyond, Kind};

/// A network's variables by name.
pub struct Named(pub HashMap<String, Var>);

impl Named {
    pub fn new(blueprint: &Blueprint, flat: &[f64]) -> Named {
        let var = |range: std::ops::Range<usize>, shape: &[usize]| {
            Var::from_tensor(&Tensor::from_slice(&flat[range], shape, &Device::Cpu).unwrap()).unwrap()
        };
        Named(blueprint.places().map(|(entry, range)| (entry.name.clone(), var(range, &entry.shape))).collect())
    }

    pub fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no `{name}`")).as_tensor()
    }

    /// The flat gradient of `loss`, in the blueprint's order; zero for what does not learn.
    pub fn gradient(&self, blueprint: &Blueprint, loss: &Tensor) -> Vec<f64> {
        let gradients = loss.backward().unwrap();
        let of = |name: &str| {
            let gradient = gradients.get(&self.0[name]).unwrap_or_else(|| panic!("`{name}` has no gradient"));
            gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        let all = blueprint.tensors.iter();
        all.flat_map(|entry| if entry.role.learns() { of(&entry.name) } else { vec![0.0; entry.len()] }).collect()
    }
}

/// `T² KL(softmax(teacher / T) || softmax(student / T))`, the mean over the batch.
pub fn kl(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    let (q, log_p) = (log_softmax(&(student / temperature)?, 1)?, log_softmax(&(teacher / temperature)?, 1)?);
    let sum = (log_p.exp()? * (log_p - q)?)?.sum_all()?;
    sum * (temperature * temperature / student.dim(0)? as f64)
}

/// `- sum of p log softmax(logits)`, the mean over the batch.
pub fn cross_entropy(logits: &Tensor, probabilities: &Tensor) -> Result<Tensor> {
    (log_softmax(logits, 1)? * probabilities)?.sum_all()? * (-1.0 / logits.dim(0)? as f64)
}

/// x `[N, H, W, Ci]`, w `[Co, Ci / groups, Kh, Kw]`: a matrix product for every place of the window.
pub fn conv(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    (stride, padding, groups): (usize, usize, usize),
) -> Result<Tensor> {
    let x = x.pad_with_zeros(1, padding, padding)?.pad_with_zeros(2, padding, padding)?;
    let (_, h, wide, ci) = x.dims4()?;
    let (co, per_group, kh, kw) = w.dims4()?;
    let (ho, wo) = ((h - kh) / stride + 1, (wide - kw) / stride + 1);
    if groups == ci && groups == co {
        // Every channel by itself: a product for every place of the window, without a matrix.
        let mut sum: Option<Tensor> = None;
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let seen = every(&every(&x, 1, ky, stride, ho)?, 2, kx, stride, wo)?;
            let product = seen.broadcast_mul(&w.narrow(2, ky, 1)?.narrow(3, kx, 1)?.flatten_all()?)?;
            sum = Some(match sum {
                None => product,
                Some(sum) => (sum + product)?,
            });
        }
        let y = sum.unwrap_or_else(|| unreachable!("a window has a place"));
        return bias.map_or(Ok(y.clone()), |bias| y.broadcast_add(bias));
    }
    let mut parts = Vec::new();
    for group in 0..groups {
        let x = x.narrow(3, group * ci / groups, per_group)?;
        let w = w.narrow(0, group * co / groups, co / groups)?;
        let mut sum: Option<Tensor> = None;
        for ky in 0..kh {
            for kx in 0..kw {
                let seen = every(&every(&x, 1, ky, stride, ho)?, 2, kx, stride, wo)?;
                let w = w.narrow(2, ky, 1)?.narrow(3, kx, 1)?.squeeze(3)?.squeeze(2)?.t()?;
                let product = seen.contiguous()?.broadcast_matmul(&w.contiguous()?)?;
                sum = Some(match sum {
                    None => product,
                    Some(sum) => (sum + product)?,
                });
            }
        }
        parts.extend(sum);
    }
    let y = Tensor::cat(&parts, 3)?;
    match bias {
        None => Ok(y),
        Some(bias) => y.broadcast_add(bias),
    }
}

/// `count` indices of `dim`, from `first`, `step` apart.
fn every(x: &Tensor, dim: usize, first: usize, step: usize, count: usize) -> Result<Tensor> {
    let indices: Vec<u32> = (0..count).map(|i| (first + i * step) as u32).collect();
    x.contiguous()?.index_select(&Tensor::new(indices, &Device::Cpu)?, dim)
}

pub fn standardize(w: &Tensor, eps: f64) -> Result<Tensor> {
    let rows = w.flatten_from(1)?;
    let centred = rows.broadcast_sub(&rows.mean_keepdim(1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(1)? + eps)?.sqrt()?;
    centred.broadcast_div(&deviation)?.reshape(w.shape())
}

pub fn group_norm_relu(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64) -> Result<Tensor> {
    group_norm(x, weight, bias, groups, eps)?.relu()
}

pub fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let each = x.reshape((n, h * w, groups, c / groups))?.transpose(1, 2)?.contiguous()?.flatten_from(2)?;
    let centred = each.broadcast_sub(&each.mean_keepdim(2)?)?;
    let normal = centred.broadcast_div(&(centred.sqr()?.mean_keepdim(2)? + eps)?.sqrt()?)?;
    let normal =
        normal.reshape((n, groups, h * w, c / groups))?.transpose(1, 2)?.contiguous()?.reshape((n, h, w, c))?;
    normal.broadcast_mul(weight)?.broadcast_add(bias)
}

/// As a network is trained: by the moments of the batch.
pub fn batch_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let rows = x.flatten(0, 2)?;
    let centred = rows.broadcast_sub(&rows.mean_keepdim(0)?)?;
    let normal = centred.broadcast_div(&(centred.sqr()?.mean_keepdim(0)? + eps)?.sqrt()?)?;
    normal.broadcast_mul(weight)?.broadcast_add(bias)?.reshape(x.shape())
}

/// `clamp(u + 3, 0, 6) / 6`
pub fn hard_sigmoid(u: &Tensor) -> Result<Tensor> {
    ((u + 3.0)?.relu()? - (u - 3.0)?.relu()?)? / 6.0
}

pub fn hard_swish(u: &Tensor) -> Result<Tensor> {
    u * hard_sigmoid(u)?
}

/// `parts` are weight and bias of reduce, and of expand.
pub fn squeeze_excite(x: &Tensor, parts: [&Tensor; 4]) -> Result<Tensor> {
    let hidden = linear(&global_mean(x)?, parts[0], parts[1])?.relu()?;
    let gate = hard_sigmoid(&linear(&hidden, parts[2], parts[3])?)?;
    x.broadcast_mul(&gate.unsqueeze(1)?.unsqueeze(1)?)
}

/// Every `stride`-th pixel, with zeros around the channels.
pub fn shortcut(x: &Tensor, stride: usize, channels: usize) -> Result<Tensor> {
    let (h, w, c) = (x.dim(1)?.div_ceil(stride), x.dim(2)?.div_ceil(stride), x.dim(3)?);
    let seen = every(&every(x, 1, 0, stride, h)?, 2, 0, stride, w)?;
    let before = (channels - c) / 2;
    seen.pad_with_zeros(3, before, channels - c - before)
}

pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let normal = centred.broadcast_div(&(centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)?;
    normal.broadcast_mul(weight)?.broadcast_add(bias)
}

/// x `[..., Ci]`, weight `[Co, Ci, ...]` of one pixel.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let weight = weight.flatten_from(1)?.t()?;
    x.contiguous()?.broadcast_matmul(&weight.contiguous()?)?.broadcast_add(bias)
}

/// x `[N, T, 3 D]` to `[N, T, D]`.
pub fn attention(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (n, t, c) = x.dims3()?;
    let d = c / 3 / heads;
    let parts = x.reshape((n, t, 3, heads, d))?.permute((2, 0, 3, 1, 4))?;
    let part = |i: usize| parts.narrow(0, i, 1)?.squeeze(0)?.contiguous();
    let scores = (part(0)?.matmul(&part(1)?.transpose(2, 3)?.contiguous()?)? / (d as f64).sqrt())?;
    let mixed = softmax(&scores, D::Minus1)?.matmul(&part(2)?)?;
    mixed.transpose(1, 2)?.contiguous()?.reshape((n, t, c / 3))
}

pub fn pool(
    x: &Tensor,
    kind: Kind,
    (window, stride, padding): (usize, usize, usize),
    beyond: Beyond,
) -> Result<Tensor> {
    let pad = |x: &Tensor| x.pad_with_zeros(1, padding, padding)?.pad_with_zeros(2, padding, padding);
    let (padded, inside) = (pad(x)?, pad(&x.ones_like()?)?);
    let (_, h, w, _) = padded.dims4()?;
    let (ho, wo) = ((h - window) / stride + 1, (w - window) / stride + 1);
    let places = |x: &Tensor| -> Result<Tensor> {
        let all = (0..window * window)
            .map(|at| every(&every(x, 1, at / window, stride, ho)?, 2, at % window, stride, wo))
            .collect::<Result<Vec<_>>>()?;
        Tensor::stack(&all, 0)
    };
    let (seen, there) = (places(&padded)?, places(&inside)?);
    match (kind, beyond) {
        (Kind::Max, Beyond::Zeros) => seen.max(0),
        // Far below what is there, where nothing is.
        (Kind::Max, Beyond::Nothing) => (seen + ((there - 1.0)? * 1e9)?)?.max(0),
        (Kind::Mean, Beyond::Zeros) => seen.mean(0),
        (Kind::Mean, Beyond::Nothing) => seen.sum(0)?.div(&there.sum(0)?),
    }
}

/// `[N, H, W, C]` to `[N, C]`.
pub fn global_mean(x: &Tensor) -> Result<Tensor> {
    x.flatten(1, 2)?.mean(1)
}
