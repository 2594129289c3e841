//! Every operation and the whole network against central differences in f64, and in f32 against f64.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::*;
use crate::job::{BitResnetSmall, Input, Model};
use crate::train::model::{Blueprint, Network};
use crate::train::random::{Purpose, Stream};

/// Numbers in [-1, 1), the same for the same `index`.
fn some(shape: &[usize], index: u64) -> Tensor {
    let mut stream = Stream::new(99, Purpose::Init, index);
    let count = shape.iter().product();
    let numbers: Vec<f64> = (0..count).map(|_| stream.between(-1.0, 1.0)).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

/// Compares the gradients of `sum(op(inputs) * r)` with central differences for every number of every input.
fn check(name: &str, inputs: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let weights = some(op(&tensors).unwrap().dims(), 1000);
    let value = |tensors: &[Tensor]| (op(tensors).unwrap() * &weights).unwrap().sum_all().unwrap();
    let gradients = value(&tensors).backward().unwrap();
    for (place, var) in vars.iter().enumerate() {
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name}: input {place} has no gradient"));
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let base = inputs[place].flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for i in 0..base.len() {
            let moved = |by: f64| {
                let mut numbers = base.clone();
                numbers[i] += by;
                let mut tensors: Vec<Tensor> = inputs.to_vec();
                tensors[place] = Tensor::from_vec(numbers, inputs[place].shape(), &Device::Cpu).unwrap();
                value(&tensors).to_scalar::<f64>().unwrap()
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let error = (expected - gradient[i]).abs() / (1.0 + expected.abs());
            assert!(error < 1e-6, "{name}: input {place}, number {i}: {} instead of {expected}", gradient[i]);
        }
    }
    compare_widths(name, inputs, &op, &weights);
}

/// f32, which runs the vector kernels, against f64: results and gradients.
fn compare_widths(name: &str, inputs: &[Tensor], op: &impl Fn(&[Tensor]) -> Result<Tensor>, weights: &Tensor) {
    let run = |dtype: DType| -> Vec<Vec<f64>> {
        let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()).collect();
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let y = op(&tensors).unwrap();
        let gradients = (&y * weights.to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap().backward().unwrap();
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        std::iter::once(wide(&y)).chain(vars.iter().map(|var| wide(gradients.get(var).unwrap()))).collect()
    };
    for (narrow, wide) in run(DType::F32).iter().zip(run(DType::F64)) {
        let size = wide.iter().map(|value| value.abs()).fold(0.0, f64::max).max(1e-3);
        for (a, b) in narrow.iter().zip(&wide) {
            assert!((a - b).abs() / size < 2e-5, "{name}: f32 gives {a}, f64 {b}");
        }
    }
}

#[test]
fn convolutions() {
    let cases = [
        // h, w, ci, co, kernel, stride, padding
        (5, 4, 1, 3, 3, 1, 1),
        (6, 7, 2, 5, 3, 2, 1),
        (7, 6, 3, 17, 3, 2, 1),
        (5, 5, 2, 4, 1, 2, 0),
        (4, 5, 3, 33, 1, 1, 0),
        (6, 5, 2, 3, 3, 2, 0),
        (7, 5, 2, 2, 5, 3, 2),
    ];
    for (h, w, ci, co, kernel, stride, padding) in cases {
        let name = format!("conv2d {h}x{w} {ci}>{co} k{kernel} s{stride} p{padding}");
        let inputs = [some(&[2, h, w, ci], 1), some(&[co, ci, kernel, kernel], 2)];
        check(&name, &inputs, |t| conv2d(&t[0], &t[1], Geometry { stride, padding }));
    }
}

/// Against candle's own convolution, which is right, only slow; also where several chunks of images are summed.
#[test]
fn convolution_is_candles() {
    for (n, side, ci, co, stride) in [(3, 9, 4, 20, 1), (19, 8, 16, 48, 2), (2, 28, 1, 16, 1)] {
        let x = Var::from_tensor(&some(&[n, side, side, ci], 3).to_dtype(DType::F32).unwrap()).unwrap();
        let w = Var::from_tensor(&some(&[co, ci, 3, 3], 4).to_dtype(DType::F32).unwrap()).unwrap();
        let ours = conv2d(&x, &w, Geometry { stride, padding: 1 }).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the reference")]
        let theirs = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap().conv2d(&w, 1, stride, 1, 1).unwrap();
        let theirs = theirs.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
        let weights = some(ours.dims(), 5).to_dtype(DType::F32).unwrap();
        let near = |a: &Tensor, b: &Tensor| {
            let error = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            let size = b.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(error / size < 1e-5, "{error} of {size}");
        };
        near(&ours, &theirs);
        let gradients = |y: &Tensor| (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
        let (a, b) = (gradients(&ours), gradients(&theirs));
        near(a.get(&x).unwrap(), b.get(&x).unwrap());
        near(a.get(&w).unwrap(), b.get(&w).unwrap());
    }
}

#[test]
fn norms() {
    for (h, w, c, groups) in [(3, 4, 6, 2), (5, 3, 4, 4), (2, 2, 6, 1)] {
        let name = format!("group_norm_relu {h}x{w}x{c} in {groups}");
        check(&name, &[some(&[2, h, w, c], 6), some(&[c], 7), some(&[c], 8)], |t| {
            group_norm_relu(&t[0], &t[1], &t[2], groups, 1e-5)
        });
    }
    check("weight_standardize", &[some(&[5, 3, 3, 3], 9)], |t| weight_standardize(&t[0], 1e-10));
}

#[test]
fn heads_and_losses() {
    check("global_mean", &[some(&[2, 3, 5, 4], 10)], |t| global_mean(&t[0]));
    check("linear", &[some(&[4, 5], 11), some(&[3, 5], 12), some(&[3], 13)], |t| linear(&t[0], &t[1], &t[2]));
    let teacher = some(&[4, 6], 14).affine(3.0, 0.0).unwrap();
    for temperature in [1.0, 4.0] {
        check("kl_divergence", &[some(&[4, 6], 15)], |t| {
            kl_divergence(&t[0], &teacher.to_dtype(t[0].dtype())?, temperature)
        });
    }
    let target = some(&[4, 6], 16).abs().unwrap();
    check("cross_entropy", &[some(&[4, 6], 17)], |t| cross_entropy(&t[0], &target.to_dtype(t[0].dtype())?));
}

/// KL of a student that is the teacher is zero, and of two coins it is what the formula says.
#[test]
fn losses_by_hand() {
    let logits = |p: f64| Tensor::new(&[[p.ln(), (1.0 - p).ln()]], &Device::Cpu).unwrap();
    let kl = |p, q, t| kl_divergence(&logits(q), &logits(p), t).unwrap().to_scalar::<f64>().unwrap();
    assert!(kl(0.3, 0.3, 2.0).abs() < 1e-12);
    let expected = 0.25 * (0.25f64 / 0.5).ln() + 0.75 * (0.75f64 / 0.5).ln();
    assert!((kl(0.25, 0.5, 1.0) - expected).abs() < 1e-12);
    // At T = 2 the probabilities become sqrt(p) / (sqrt(p) + sqrt(1 - p)); the loss carries T².
    let soft = 0.25f64.sqrt() / (0.25f64.sqrt() + 0.75f64.sqrt());
    let expected = 4.0 * (soft * (soft / 0.5).ln() + (1.0 - soft) * ((1.0 - soft) / 0.5).ln());
    assert!((kl(0.25, 0.5, 2.0) - expected).abs() < 1e-12);
}

/// The whole student: every trainable tensor gets a gradient, which is not zero and agrees with differences.
#[test]
fn the_small_bit_resnet() {
    let model = Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 4 });
    let input = Input { channels: 2, classes: 3, resolution: 9 };
    let blueprint = Blueprint::new(&model, input);
    // Off the zero head, where the gradient of everything below would vanish.
    let inputs: Vec<Tensor> =
        blueprint.tensors.iter().enumerate().map(|(i, entry)| some(&entry.shape, 100 + i as u64)).collect();
    let images = some(&[2, 9, 9, 2], 50);
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let loss = |tensors: Vec<Tensor>| {
        let logits = Network::from_tensors(&model, tensors).forward(&images).unwrap();
        kl_divergence(&logits, &some(&[2, 3], 51), 1.0).unwrap()
    };
    let gradients = loss(vars.iter().map(|var| var.as_tensor().clone()).collect()).backward().unwrap();
    for (place, (var, entry)) in vars.iter().zip(&blueprint.tensors).enumerate() {
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("`{}` has no gradient", entry.name));
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!(gradient.iter().any(|value| *value != 0.0), "`{}`: the gradient is zero", entry.name);
        let base = inputs[place].flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for i in (0..base.len()).step_by(7) {
            let moved = |by: f64| {
                let mut numbers = base.clone();
                numbers[i] += by;
                let mut tensors = inputs.clone();
                tensors[place] = Tensor::from_vec(numbers, entry.shape.as_slice(), &Device::Cpu).unwrap();
                loss(tensors).to_scalar::<f64>().unwrap()
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            let error = (expected - gradient[i]).abs() / (1e-2 + expected.abs());
            assert!(error < 1e-4, "`{}`, number {i}: {} instead of {expected}", entry.name, gradient[i]);
        }
    }
}

/// The sizes of the networks that the CPU benchmarks are written for.
#[test]
fn parameters_are_counted_as_built() {
    let input = Input { channels: 3, classes: 100, resolution: 32 };
    for (width, expected) in [(16, 278_132), (32, 1_095_812)] {
        let model = Model::BitResnetSmall(BitResnetSmall { depth: 20, width });
        assert_eq!(model.parameters(input), expected);
        assert_eq!(Blueprint::new(&model, input).len() as u64, expected);
    }
    // 10.4 GFLOP for the forward pass of 128 images.
    let student = Model::BitResnetSmall(BitResnetSmall { depth: 20, width: 16 });
    assert!((student.forward_flops(input) * 128.0 / 1e9 - 10.4).abs() < 0.05, "{}", student.forward_flops(input));
}
