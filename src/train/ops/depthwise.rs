//! Depthwise convolution: one window for every channel (MobileNet).
//!
//! # Shapes
//! x `[N, H, W, C]`, w `[C, 1, Kh, Kw]` (as saved by timm), y `[N, Ho, Wo, C]`.
//!
//! There is nothing to sum over channels, so vectors lie across them: a pixel's channels times a place's weights.

use std::ops::Range;

use super::element::Element;
use super::lanes::{self, wide};
use super::layer::{Backward, Description, Extent, Forward, Glass, Layer, Write};

#[derive(Clone, Debug)]
pub struct Depthwise {
    pub x: Extent,
    pub kh: usize,
    pub kw: usize,
    pub stride: usize,
    /// Less than the window.
    pub padding: usize,
    pub weight: Range<usize>,
    pub bias: Option<Range<usize>>,
}

wide! {
    /// `y += x w`
    fn add_product(x: &[T], w: &[T], y: &mut [T]) {
        let n = x.len();
        let (w, y) = (&w[..n], &mut y[..n]);
        for i in 0..n {
            y[i] = x[i].mul_add(w[i], y[i]);
        }
    }
}

impl Depthwise {
    fn side(&self, side: usize, window: usize) -> usize {
        (side + 2 * self.padding - window) / self.stride + 1
    }

    fn y(&self) -> Extent {
        Extent { h: self.side(self.x.h, self.kh), w: self.side(self.x.w, self.kw), c: self.x.c }
    }

    /// Calls `body` with (output pixel, place in the window, input pixel) for every one that lies in the image.
    fn each(&self, mut body: impl FnMut(usize, usize, usize)) {
        let y = self.y();
        for oy in 0..y.h {
            for ox in 0..y.w {
                for ky in 0..self.kh {
                    let Some(iy) = (oy * self.stride + ky).checked_sub(self.padding).filter(|iy| *iy < self.x.h) else {
                        continue;
                    };
                    for kx in 0..self.kw {
                        let ix = (ox * self.stride + kx).checked_sub(self.padding);
                        if let Some(ix) = ix.filter(|ix| *ix < self.x.w) {
                            body(oy * y.w + ox, ky * self.kw + kx, iy * self.x.w + ix);
                        }
                    }
                }
            }
        }
    }

    fn window(&self) -> usize {
        self.kh * self.kw
    }
}

impl<T: Element> Layer<T> for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise_conv2d"
    }

    fn describe(&self) -> Description {
        Description::Depthwise(self.clone())
    }

    fn output(&self) -> Extent {
        self.y()
    }

    fn adds_residual(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<Range<usize>> {
        std::iter::once(self.weight.clone()).chain(self.bias.clone()).collect()
    }

    fn scratch(&self, _images: usize) -> usize {
        Glass::<T>::scratch(self.x.c) + self.x.len()
    }

    /// `[place][channel]`.
    fn packed(&self, _training: bool) -> usize {
        self.window() * self.x.c
    }

    fn pack(&self, weights: &[T], to: &mut [T], _training: bool) {
        for (channel, row) in weights[self.weight.clone()].chunks_exact(self.window()).enumerate() {
            for (place, weight) in row.iter().enumerate() {
                to[place * self.x.c + channel] = *weight;
            }
        }
    }

    fn forward(&self, call: Forward<'_, T>) {
        let c = self.x.c;
        let (glass, seen) = call.scratch.split_at_mut(Glass::<T>::scratch(c));
        for (image, y) in call.y.chunks_exact_mut(self.y().len()).enumerate() {
            let x = call.x.image(image, self.x);
            Glass::new(&x, c, glass).show(x.numbers, seen, c);
            match call.residual {
                None => y.fill(T::ZERO),
                Some(residual) => y.copy_from_slice(&residual[image * y.len()..][..y.len()]),
            }
            if let Some(bias) = &self.bias {
                for pixel in y.chunks_exact_mut(c) {
                    lanes::add(pixel, &call.weights[bias.clone()]);
                }
            }
            self.each(|to, place, from| {
                add_product(&seen[from * c..][..c], &call.packed[place * c..], &mut y[to * c..][..c]);
            });
        }
    }

    fn backward(&self, mut call: Backward<'_, T>) {
        let c = self.x.c;
        let (glass, seen) = call.scratch.split_at_mut(Glass::<T>::scratch(c));
        let (dw, db) = call.gradient.split_at_mut(self.window() * c);
        if call.gradient_write == Write::Set {
            dw.fill(T::ZERO);
            db.fill(T::ZERO);
        }
        for (image, dy) in call.dy.chunks_exact(self.y().len()).enumerate() {
            let x = call.x.image(image, self.x);
            Glass::new(&x, c, glass).show(x.numbers, seen, c);
            if self.bias.is_some() {
                dy.chunks_exact(c).for_each(|pixel| lanes::add(db, pixel));
            }
            let mut dx = call.dx.as_mut().map(|(dx, write)| {
                let dx = &mut dx[image * self.x.len()..][..self.x.len()];
                if *write == Write::Set {
                    dx.fill(T::ZERO);
                }
                dx
            });
            self.each(|to, place, from| {
                let dy = &dy[to * c..][..c];
                add_product(&seen[from * c..][..c], dy, &mut dw[place * c..][..c]);
                if let Some(dx) = &mut dx {
                    add_product(dy, &call.packed[place * c..], &mut dx[from * c..][..c]);
                }
            });
        }
    }

    fn collect(&self, _weights: &[T], native: &[T], to: &mut [T]) {
        let (n, c) = (self.window(), self.x.c);
        let (weight, bias) = to.split_at_mut(self.weight.len());
        for (channel, row) in weight.chunks_exact_mut(n).enumerate() {
            for (place, to) in row.iter_mut().enumerate() {
                *to = native[place * c + channel];
            }
        }
        bias.copy_from_slice(&native[n * c..]);
    }

    fn macs(&self) -> u64 {
        (self.y().len() * self.window()) as u64
    }
}
