//! 2-d convolution, channels last, with its two gradients.
//!
//! # Shapes
//! x `[N, H, W, Ci]`, w `[Co, Ci, Kh, Kw]` (as saved by timm), y `[N, Ho, Wo, Co]`.
//!
//! Direct, without an im2col matrix: one image at a time goes into a zero-bordered scratch that stays in the cache, and
//! every output row is cut into register tiles ([`super::tile`]). The input gradient is the same convolution of the
//! output gradient (spread by the stride) with flipped, transposed weights. It is computed only where it leads to a
//! variable: the images need none.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::tile::{BLOCK, Sum, Tile, pieces};
use super::{Element, by_dtype, numbers, tensor, with_numbers};

/// Images whose weight gradients are summed before they meet those of others: fixed, so that the number of threads
/// does not change the sum.
const CHUNK: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub stride: usize,
    pub padding: usize,
}

/// # Errors
/// When the shapes do not fit, or the device or type has no implementation.
pub fn conv2d(x: &Tensor, w: &Tensor, geometry: Geometry) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&w.contiguous()?, Conv2d(geometry))
}

struct Conv2d(Geometry);

#[derive(Clone, Copy)]
struct Shapes {
    n: usize,
    h: usize,
    w: usize,
    ci: usize,
    co: usize,
    kh: usize,
    kw: usize,
    ho: usize,
    wo: usize,
    stride: usize,
    padding: usize,
}

impl Shapes {
    fn new(x: &[usize], w: &[usize], Geometry { stride, padding }: Geometry) -> Result<Shapes> {
        let (&[n, h, wide, ci], &[co, wi, kh, kw]) = (x, w) else {
            bail!("conv2d: expected [N, H, W, C] and [Co, Ci, Kh, Kw], got {x:?} and {w:?}")
        };
        if ci != wi || stride == 0 || padding >= kh.min(kw) || h + 2 * padding < kh || wide + 2 * padding < kw {
            bail!("conv2d: {x:?} does not fit {w:?} at stride {stride}, padding {padding}")
        }
        let out = |side: usize, kernel: usize| (side + 2 * padding - kernel) / stride + 1;
        Ok(Shapes { n, h, w: wide, ci, co, kh, kw, ho: out(h, kh), wo: out(wide, kw), stride, padding })
    }

    fn window(&self) -> usize {
        self.kh * self.kw * self.ci
    }
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, sx: &CpuStorage, lx: &Layout, sw: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: Element>(
            s: Shapes,
            (sx, lx): (&CpuStorage, &Layout),
            (sw, lw): (&CpuStorage, &Layout),
        ) -> Result<CpuStorage> {
            let (x, w) = (numbers::<T>(sx, lx, "conv2d")?, numbers::<T>(sw, lw, "conv2d")?);
            Ok(T::to_cpu_storage_owned(forward(s, x, w)))
        }
        let s = Shapes::new(lx.dims(), lw.dims(), self.0)?;
        let y = by_dtype!(sx.dtype(), "conv2d", T => run::<T>(s, (sx, lx), (sw, lw)))?;
        Ok((y, (s.n, s.ho, s.wo, s.co).into()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        fn run<T: Element>(s: Shapes, x: &Tensor, w: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
            with_numbers::<T, _>(dy, "conv2d", |dy| {
                let dx = if x.track_op() {
                    let dx = with_numbers::<T, _>(w, "conv2d", |w| Ok(input_gradient(s, w, dy)))?;
                    Some(tensor(dx, x.shape())?)
                } else {
                    None
                };
                let dw = if w.track_op() {
                    let dw = with_numbers::<T, _>(x, "conv2d", |x| Ok(weight_gradient(s, x, dy)))?;
                    Some(tensor(dw, w.shape())?)
                } else {
                    None
                };
                Ok((dx, dw))
            })
        }
        let s = Shapes::new(x.dims(), w.dims(), self.0)?;
        let dy = dy.contiguous()?;
        by_dtype!(dy.dtype(), "conv2d", T => run::<T>(s, x, w, &dy))
    }
}

fn forward<T: Element>(s: Shapes, x: &[T], w: &[T]) -> Vec<T> {
    let packed = pack(s.co, s.window(), |k, co| {
        let (window, ci) = (k / s.ci, k % s.ci);
        w[(co * s.ci + ci) * s.kh * s.kw + window]
    });
    let border = Border::around(s);
    let mut y = vec![T::default(); s.n * s.ho * s.wo * s.co];
    y.par_chunks_mut(s.ho * s.wo * s.co).zip(x.par_chunks(s.h * s.w * s.ci)).for_each_init(
        || border.empty(),
        |scratch, (y, x)| {
            border.fill(x, scratch);
            convolve(scratch, border.wide, s.ci, s.stride, (s.kh, s.kw), &packed, (s.ho, s.wo, s.co), y);
        },
    );
    y
}

/// dx: the output gradient, spread by the stride and bordered, convolved with the weights turned round.
fn input_gradient<T: Element>(s: Shapes, w: &[T], dy: &[T]) -> Vec<T> {
    let packed = pack(s.ci, s.kh * s.kw * s.co, |k, ci| {
        let (window, co) = (k / s.co, k % s.co);
        w[(co * s.ci + ci) * s.kh * s.kw + s.kh * s.kw - 1 - window]
    });
    let border = Border {
        h: s.ho,
        w: s.wo,
        c: s.co,
        top: s.kh - 1 - s.padding,
        left: s.kw - 1 - s.padding,
        step: s.stride,
        tall: s.h + s.kh - 1,
        wide: s.w + s.kw - 1,
    };
    let mut dx = vec![T::default(); s.n * s.h * s.w * s.ci];
    dx.par_chunks_mut(s.h * s.w * s.ci).zip(dy.par_chunks(s.ho * s.wo * s.co)).for_each_init(
        || border.empty(),
        |scratch, (dx, dy)| {
            border.fill(dy, scratch);
            convolve(scratch, border.wide, s.co, 1, (s.kh, s.kw), &packed, (s.h, s.w, s.ci), dx);
        },
    );
    dx
}

/// dw, `[Co, Ci, Kh, Kw]`: for each place of the window the sum over images and pixels.
fn weight_gradient<T: Element>(s: Shapes, x: &[T], dy: &[T]) -> Vec<T> {
    let border = Border::around(s);
    let (blocks, window) = (s.co.div_ceil(BLOCK), s.window());
    let wide_co = blocks * BLOCK;
    let (image, answer) = (s.h * s.w * s.ci, s.ho * s.wo * s.co);
    let sums: Vec<Vec<T>> = x
        .par_chunks(CHUNK * image)
        .zip(dy.par_chunks(CHUNK * answer))
        .map(|(x, dy)| {
            let mut sum = vec![T::default(); window * wide_co];
            let (mut scratch, mut padded) = (border.empty(), vec![T::default(); s.ho * s.wo * wide_co]);
            for (x, dy) in x.chunks(image).zip(dy.chunks(answer)) {
                border.fill(x, &mut scratch);
                for (to, from) in padded.chunks_mut(wide_co).zip(dy.chunks(s.co)) {
                    to[..s.co].copy_from_slice(from);
                }
                add_weight_gradient(s, &scratch, border.wide, &padded, &mut sum);
            }
            sum
        })
        .collect();
    let mut dw = vec![T::default(); s.co * window];
    for sum in &sums {
        for (k, row) in sum.chunks(wide_co).enumerate() {
            let (place, ci) = (k / s.ci, k % s.ci);
            for (co, value) in row[..s.co].iter().enumerate() {
                dw[(co * s.ci + ci) * s.kh * s.kw + place] += *value;
            }
        }
    }
    dw
}

/// Adds one image's gradient to `sum`, `[Kh * Kw * Ci][co in whole blocks]`.
fn add_weight_gradient<T: Element>(s: Shapes, image: &[T], wide: usize, dy: &[T], sum: &mut [T]) {
    let (blocks, row) = (s.co.div_ceil(BLOCK), s.kw * s.ci);
    let wide_co = blocks * BLOCK;
    let mut tile = Tile::<T>::default();
    for ky in 0..s.kh {
        for part in pieces(row, T::most_rows()) {
            for some in pieces(blocks, T::most_blocks()) {
                let operands = Sum {
                    x: &image[ky * wide * s.ci + part.start..],
                    x_outer: s.stride * wide * s.ci,
                    x_inner: s.stride * s.ci,
                    x_row: 1,
                    w: &dy[some.start * BLOCK..],
                    w_step: wide_co,
                    w_block: BLOCK,
                    outer: s.ho,
                    inner: s.wo,
                    half: s.co <= BLOCK / 2,
                };
                T::tile(&operands, part.len(), some.len(), &mut tile);
                for (k, values) in part.clone().zip(&tile) {
                    let to = &mut sum[(ky * row + k) * wide_co + some.start * BLOCK..][..some.len() * BLOCK];
                    for (to, value) in to.iter_mut().zip(values) {
                        *to += *value;
                    }
                }
            }
        }
    }
}

/// One bordered image with packed weights into `[ho, wo, co]`.
#[expect(
    clippy::too_many_arguments,
    reason = "the shapes of two images and a kernel; a struct would only name them twice"
)]
fn convolve<T: Element>(
    image: &[T],
    wide: usize,
    ci: usize,
    stride: usize,
    (kh, kw): (usize, usize),
    packed: &[T],
    (ho, wo, co): (usize, usize, usize),
    y: &mut [T],
) {
    let window = kh * kw * ci;
    let mut tile = Tile::<T>::default();
    for some in pieces(co.div_ceil(BLOCK), T::most_blocks()) {
        let first = some.start * BLOCK;
        let channels = (some.end * BLOCK).min(co) - first;
        for oy in 0..ho {
            for part in pieces(wo, T::most_rows()) {
                let operands = Sum {
                    x: &image[(oy * stride * wide + part.start * stride) * ci..],
                    x_outer: wide * ci,
                    x_inner: 1,
                    x_row: stride * ci,
                    w: &packed[first * window..],
                    w_step: BLOCK,
                    w_block: window * BLOCK,
                    outer: kh,
                    inner: kw * ci,
                    half: co <= BLOCK / 2,
                };
                T::tile(&operands, part.len(), some.len(), &mut tile);
                for (ox, values) in part.clone().zip(&tile) {
                    y[(oy * wo + ox) * co + first..][..channels].copy_from_slice(&values[..channels]);
                }
            }
        }
    }
}

/// Weights as the tiles read them: `[co / BLOCK][k][BLOCK]`, missing channels zero.
fn pack<T: Element>(co: usize, window: usize, at: impl Fn(usize, usize) -> T) -> Vec<T> {
    let mut packed = vec![T::default(); co.div_ceil(BLOCK) * BLOCK * window];
    for (block, packed) in packed.chunks_mut(BLOCK * window).enumerate() {
        for (k, packed) in packed.chunks_mut(BLOCK).enumerate() {
            for (lane, packed) in packed.iter_mut().enumerate() {
                let channel = block * BLOCK + lane;
                if channel < co {
                    *packed = at(k, channel);
                }
            }
        }
    }
    packed
}

/// An image in the middle of zeros, its pixels `step` apart.
#[derive(Clone, Copy)]
struct Border {
    h: usize,
    w: usize,
    c: usize,
    top: usize,
    left: usize,
    step: usize,
    tall: usize,
    wide: usize,
}

impl Border {
    fn around(s: Shapes) -> Border {
        Border {
            h: s.h,
            w: s.w,
            c: s.ci,
            top: s.padding,
            left: s.padding,
            step: 1,
            tall: s.h + 2 * s.padding,
            wide: s.w + 2 * s.padding,
        }
    }

    /// All zero; [`Border::fill`] writes only the pixels, so the zeros last.
    fn empty<T: Element>(&self) -> Vec<T> {
        vec![T::default(); self.tall * self.wide * self.c]
    }

    fn fill<T: Element>(&self, image: &[T], scratch: &mut [T]) {
        for (y, row) in image.chunks(self.w * self.c).enumerate() {
            let start = ((self.top + y * self.step) * self.wide + self.left) * self.c;
            if self.step == 1 {
                scratch[start..][..row.len()].copy_from_slice(row);
            } else {
                for (x, pixel) in row.chunks(self.c).enumerate() {
                    scratch[start + x * self.step * self.c..][..self.c].copy_from_slice(pixel);
                }
            }
        }
        debug_assert_eq!(image.len(), self.h * self.w * self.c);
    }
}
