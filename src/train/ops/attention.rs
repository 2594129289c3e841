//! Self-attention of all heads, on the joint projection of queries, keys and values.
//!
//! # Shapes
//! x `[N, T, 1, 3 D]`: for every token D numbers of queries, D of keys, D of values, each `heads` runs of `D / heads`
//! (timm's `qkv`); y `[N, T, 1, D]`. Scores are scaled by `1 / sqrt(D / heads)`; no mask, no dropout.
//!
//! Heads are computed in place on that buffer: nothing is permuted. The attention weights are kept for the backward pass.

use super::element::Element;
use super::lanes::{sum_of, wide};
use super::layer::{Backward, Description, Extent, Forward, Layer, Write};
use super::product::{Product, product};
use super::tile::{BLOCK, Start, Target};

#[derive(Clone, Debug)]
pub struct Attention {
    pub x: Extent,
    /// Divides D; D / heads is a multiple of 16, so that heads are whole vectors.
    pub heads: usize,
}

/// A matrix in someone's memory: the first number, and the strides of rows and columns.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    numbers: &'a [T],
    row: usize,
    column: usize,
}

/// `to[m, n] (+)= a[m, k] b[k, n]`; `b` has columns next to each other, in whole blocks.
fn multiply<T: Element>(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    to: &mut [T],
    row: usize,
    write: Write,
) {
    let of = Product {
        x: a.numbers,
        x_row: a.row,
        x_step: a.column,
        w: b.numbers,
        w_step: b.row,
        w_block: BLOCK,
        rows: m,
        sum: k,
        pairs: false,
    };
    let start = if write == Write::Set { Start::Zero } else { Start::Result };
    product(&of, Target { y: to, row, channels: n, start, bias: None });
}

wide! {
    /// Scores become weights: softmax of `scale * row`.
    fn softmax(row: &mut [T], scale: T) {
        let n = row.len();
        let mut most = row[0];
        for i in 1..n {
            most = if row[i] > most { row[i] } else { most };
        }
        for i in 0..n {
            row[i] = ((row[i] - most) * scale).exp_negative();
        }
        let inverse = T::ONE / sum_of(n, |i| row[i]);
        for i in 0..n {
            row[i] *= inverse;
        }
    }
}

wide! {
    /// Gradients of weights become gradients of scores: `scale * p (dp - sum(dp p))`.
    fn softmax_gradient(p: &[T], dp: &mut [T], scale: T) {
        let n = p.len();
        let dp = &mut dp[..n];
        let dot = sum_of(n, |i| p[i] * dp[i]);
        for i in 0..n {
            dp[i] = scale * p[i] * (dp[i] - dot);
        }
    }
}

impl Attention {
    fn tokens(&self) -> usize {
        self.x.pixels()
    }

    /// Tokens in whole blocks.
    fn wide(&self) -> usize {
        self.tokens().next_multiple_of(BLOCK)
    }

    fn width(&self) -> usize {
        self.x.c / 3
    }

    fn head(&self) -> usize {
        self.width() / self.heads
    }

    fn scale<T: Element>(&self) -> T {
        T::from_f64(1.0 / (self.head() as f64).sqrt())
    }

    /// `[head size][tokens in whole blocks]` from the numbers of one head at `at`, every token's `row` apart.
    fn transpose<T: Element>(&self, from: &[T], at: usize, row: usize, to: &mut [T]) {
        let wide = self.wide();
        for token in 0..self.tokens() {
            let from = &from[token * row + at..][..self.head()];
            for (d, value) in from.iter().enumerate() {
                to[d * wide + token] = *value;
            }
        }
        for d in 0..self.head() {
            to[d * wide + self.tokens()..(d + 1) * wide].fill(T::ZERO);
        }
    }
}

impl<T: Element> Layer<T> for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn describe(&self) -> Description {
        Description::Attention(self.clone())
    }

    fn output(&self) -> Extent {
        Extent { c: self.width(), ..self.x }
    }

    fn kept(&self) -> usize {
        self.heads * self.tokens() * self.wide()
    }

    fn scratch(&self, _images: usize) -> usize {
        self.head() * self.wide() + self.tokens() * self.wide()
    }

    fn forward(&self, call: Forward<'_, T>) {
        let (t, d, wide) = (self.tokens(), self.head(), self.wide());
        for image in 0..call.images {
            let x = &call.x.numbers[image * self.x.len()..][..self.x.len()];
            let y = &mut call.y[image * t * self.width()..][..t * self.width()];
            for head in 0..self.heads {
                let p = &mut call.kept[(image * self.heads + head) * t * wide..][..t * wide];
                let keys = &mut call.scratch[..d * wide];
                self.transpose(x, self.width() + head * d, self.x.c, keys);
                let queries = Matrix { numbers: &x[head * d..], row: self.x.c, column: 1 };
                multiply((t, t, d), queries, Matrix { numbers: keys, row: wide, column: 1 }, p, wide, Write::Set);
                for row in p.chunks_exact_mut(wide) {
                    softmax(&mut row[..t], self.scale());
                }
                let values = Matrix { numbers: &x[2 * self.width() + head * d..], row: self.x.c, column: 1 };
                let weights = Matrix { numbers: p, row: wide, column: 1 };
                multiply((t, d, t), weights, values, &mut y[head * d..], self.width(), Write::Set);
            }
        }
    }

    /// Scores and mixtures.
    fn macs(&self) -> u64 {
        (2 * self.tokens() * self.tokens() * self.width()) as u64
    }

    fn backward(&self, call: Backward<'_, T>) {
        let (t, d, wide, row) = (self.tokens(), self.head(), self.wide(), self.x.c);
        let Some((dx, write)) = call.dx else { return };
        let (values, rest) = call.scratch.split_at_mut(d * wide);
        let dp = &mut rest[..t * wide];
        for image in 0..call.images {
            let x = &call.x.numbers[image * self.x.len()..][..self.x.len()];
            let dy = &call.dy[image * t * self.width()..][..t * self.width()];
            let dx = &mut dx[image * self.x.len()..][..self.x.len()];
            for head in 0..self.heads {
                let at = |part: usize| part * self.width() + head * d;
                let p = &call.kept[(image * self.heads + head) * t * wide..][..t * wide];
                let dy = Matrix { numbers: &dy[head * d..], row: self.width(), column: 1 };
                let across = |numbers| Matrix { numbers, row: 1, column: wide };
                // dV = P^T dY
                multiply((t, d, t), across(p), dy, &mut dx[at(2)..], row, write);
                // dP = dY V^T, then the gradient of the scores.
                self.transpose(x, at(2), row, values);
                let values = Matrix { numbers: &*values, row: wide, column: 1 };
                multiply((t, t, d), dy, values, dp, wide, Write::Set);
                for (p, dp) in p.chunks_exact(wide).zip(dp.chunks_exact_mut(wide)) {
                    softmax_gradient(&p[..t], &mut dp[..t], self.scale());
                }
                let part = |part: usize| Matrix { numbers: &x[at(part)..], row, column: 1 };
                // dQ = dS K, dK = dS^T Q
                multiply(
                    (t, d, t),
                    Matrix { numbers: dp, row: wide, column: 1 },
                    part(1),
                    &mut dx[at(0)..],
                    row,
                    write,
                );
                multiply((t, d, t), across(dp), part(0), &mut dx[at(1)..], row, write);
            }
        }
    }
}
