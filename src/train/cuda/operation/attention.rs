//! Self-attention: products by cuBLASLt, one call a head for all images, on the joint projection as it lies.
//!
//! Scores are f32 and live only until the softmax, whose result is kept.

use anyhow::Result;

use super::{Backward, Batch, Forward, Operation, u32_of};
use crate::train::cuda::device::{Address, Number, Spread};
use crate::train::cuda::products::{Layout, Operands, Plus, Shape};
use crate::train::ops::attention;

pub struct Attention {
    batch: Batch,
    tokens: usize,
    width: usize,
    heads: usize,
    /// From a row of scores to the next.
    pitch: usize,
}

impl Attention {
    pub fn new(batch: Batch, layer: &attention::Attention) -> Attention {
        let tokens = layer.x.pixels();
        // Whole vectors of eight.
        let pitch = tokens.next_multiple_of(8);
        Attention { batch, tokens, width: layer.x.c / 3, heads: layer.heads, pitch }
    }

    fn head(&self) -> usize {
        self.width / self.heads
    }

    fn rows(&self) -> usize {
        self.batch.images * self.heads * self.tokens
    }

    /// Numbers of all scores.
    fn scores(&self) -> usize {
        self.rows() * self.pitch
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head() as f32).sqrt()
    }

    /// Queries, keys or values of a head.
    fn part(&self, x: Address, part: usize, head: usize) -> Address {
        x + ((part * self.width + head * self.head()) * self.batch.number.bytes()) as u64
    }

    fn joint(&self) -> Layout {
        Layout::rows(3 * self.width).every(self.tokens * 3 * self.width)
    }

    fn own(&self) -> Layout {
        Layout::rows(self.width).every(self.tokens * self.width)
    }

    fn score(&self) -> Layout {
        Layout::rows(self.pitch).every(self.heads * self.tokens * self.pitch)
    }

    fn shape(&self, (columns, inner): (usize, usize), left: Layout, right: Layout, to: Layout) -> Shape {
        Shape {
            rows: self.tokens,
            columns,
            inner,
            left,
            right,
            to,
            batch: self.batch.images,
            number: self.batch.number,
            out: self.batch.number,
            plus: Plus::Nothing,
            bias: false,
        }
    }

    /// A head's first score.
    fn at(&self, scores: Address, head: usize, number: Number) -> Address {
        scores + (head * self.tokens * self.pitch * number.bytes()) as u64
    }

    /// A warp takes a row.
    fn spread(&self) -> Spread {
        Spread::blocks([self.rows().div_ceil(4), 1, 1], 128)
    }
}

fn turned(layout: Layout) -> Layout {
    Layout { transposed: true, ..layout }
}

impl Operation for Attention {
    fn kept(&self) -> usize {
        self.scores() * self.batch.number.bytes()
    }

    fn scratch(&self) -> (usize, usize) {
        let scores = (self.scores() * 4).next_multiple_of(256);
        (scores, scores + self.scores() * self.batch.number.bytes())
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let (products, number, d) = (&call.libraries.products, self.batch.number, self.head());
        let scores = Shape {
            out: Number::F32,
            ..self.shape((self.tokens, d), self.joint(), turned(self.joint()), self.score())
        };
        for head in 0..self.heads {
            let (queries, keys) = (self.part(call.x, 0, head), self.part(call.x, 1, head));
            let to = self.at(call.scratch, head, Number::F32);
            products.multiply(&scores, &Operands::new(queries, keys, to))?;
        }
        let (tokens, pitch) = (u32_of(self.tokens), u32_of(self.pitch));
        let arguments = [
            call.scratch.into(),
            call.kept.into(),
            u32_of(self.rows()).into(),
            tokens.into(),
            pitch.into(),
            self.scale().into(),
        ];
        call.libraries.gpu.launch(number, "softmax", self.spread(), &arguments)?;
        let mix = self.shape((d, self.tokens), self.score(), self.joint(), self.own());
        for head in 0..self.heads {
            let (weights, values) = (self.at(call.kept, head, number), self.part(call.x, 2, head));
            products.multiply(&mix, &Operands::new(weights, values, self.part(call.y, 0, head)))?;
        }
        Ok(())
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let (products, number, d) = (&call.libraries.products, self.batch.number, self.head());
        let Some((dx, add)) = call.dx else { return Ok(()) };
        let plus = if add { Plus::Itself } else { Plus::Nothing };
        let slopes = call.scratch + (self.scores() * 4).next_multiple_of(256) as u64;
        // dV = P^T dY; dP = dY V^T
        let values = Shape { plus, ..self.shape((d, self.tokens), turned(self.score()), self.own(), self.joint()) };
        let weights =
            Shape { out: Number::F32, ..self.shape((self.tokens, d), self.own(), turned(self.joint()), self.score()) };
        for head in 0..self.heads {
            let (p, dy) = (self.at(call.kept, head, number), self.part(call.dy, 0, head));
            products.multiply(&values, &Operands::new(p, dy, self.part(dx, 2, head)))?;
            let to = self.at(call.scratch, head, Number::F32);
            products.multiply(&weights, &Operands::new(dy, self.part(call.x, 2, head), to))?;
        }
        let arguments = [
            call.kept.into(),
            call.scratch.into(),
            slopes.into(),
            u32_of(self.rows()).into(),
            u32_of(self.tokens).into(),
            u32_of(self.pitch).into(),
            self.scale().into(),
        ];
        call.libraries.gpu.launch(number, "softmax_gradient", self.spread(), &arguments)?;
        // dQ = dS K; dK = dS^T Q
        let queries = Shape { plus, ..self.shape((d, self.tokens), self.score(), self.joint(), self.joint()) };
        let keys = Shape { plus, ..self.shape((d, self.tokens), turned(self.score()), self.joint(), self.joint()) };
        for head in 0..self.heads {
            let slope = self.at(slopes, head, number);
            products.multiply(&queries, &Operands::new(slope, self.part(call.x, 1, head), self.part(dx, 0, head)))?;
            products.multiply(&keys, &Operands::new(slope, self.part(call.x, 0, head), self.part(dx, 1, head)))?;
        }
        Ok(())
    }
}
