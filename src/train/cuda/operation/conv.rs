//! Convolutions and linear layers.
//!
//! A 1x1 convolution of stride 1 is a product of the batch's pixels with the weights; residual and bias ride along.
//! Others are cuDNN's. Where that is not built in or has no algorithm, and where windows do not overlap, what lies under
//! each place of the window is gathered to rows first, some images at a time, and multiplied.

use std::ops::Range;

use anyhow::Result;
#[cfg(feature = "cudnn")]
use std::rc::Rc;

use super::{Backward, Batch, Forward, Operation, Parameter, slices, u32_of};
#[cfg(feature = "cudnn")]
use crate::train::cuda::convolutions::{self, Direction, Geometry, Prepared};
use crate::train::cuda::device::{Address, Argument, Number, Spread};
use crate::train::cuda::libraries::Libraries;
use crate::train::cuda::products::{Layout, Operands, Plus, Shape};
use crate::train::ops::kernel::Kernel;
use crate::train::ops::layer::Extent;

/// Bytes of gathered rows, at most, but for one image's.
const GATHERED_BYTES: usize = 256 << 20;

pub struct Conv {
    batch: Batch,
    x: Extent,
    y: Extent,
    kernel: Kernel,
    bias: Option<Range<usize>>,
    out: Number,
    weight_at: usize,
    bias_at: usize,
    way: Way,
}

enum Way {
    Product,
    /// So many images at a time.
    Gathered(usize),
    #[cfg(feature = "cudnn")]
    Library(Rc<Prepared>),
}

impl Conv {
    pub fn new(
        batch: Batch,
        (x, y): (Extent, Extent),
        kernel: &Kernel,
        bias: Option<Range<usize>>,
        last: bool,
        libraries: &Libraries,
    ) -> Result<Conv> {
        let out = if last { Number::F32 } else { batch.number };
        let mut conv =
            Conv { batch, x, y, kernel: kernel.clone(), bias, out, weight_at: 0, bias_at: 0, way: Way::Product };
        conv.way = conv.choose(libraries)?;
        Ok(conv)
    }

    fn choose(&self, libraries: &Libraries) -> Result<Way> {
        let Kernel { kh, kw, stride, groups, padding, .. } = self.kernel;
        if (kh, kw, stride, groups, padding) == (1, 1, 1, 1, 0) {
            return Ok(Way::Product);
        }
        #[cfg(feature = "cudnn")]
        {
            let overlap = kh > stride || kw > stride || kh.max(kw) == 1;
            if let (Some(library), true, None, true) =
                (&libraries.convolutions, overlap, &self.bias, self.out == self.batch.number)
            {
                let geometry = Geometry {
                    images: self.batch.images,
                    x: self.x,
                    y: self.y,
                    kh,
                    kw,
                    stride,
                    padding,
                    groups,
                    number: self.batch.number,
                    training: self.batch.training,
                };
                if let Some(prepared) = library.prepare(&geometry)? {
                    return Ok(Way::Library(prepared));
                }
            }
        }
        let _ = libraries;
        let image = self.y.pixels() * self.window() * self.batch.number.bytes();
        Ok(Way::Gathered((GATHERED_BYTES / image).clamp(1, self.batch.images)))
    }

    /// Numbers under one place of one group's window.
    fn window(&self) -> usize {
        self.kernel.kh * self.kernel.kw * self.kernel.ci
    }

    #[cfg(feature = "cudnn")]
    fn weights(&self) -> usize {
        self.y.c * self.window()
    }

    fn weight(&self, matrices: Address, number: Number) -> Address {
        matrices + (self.weight_at * number.bytes()) as u64
    }

    fn geometry(&self) -> Argument {
        let Kernel { kh, kw, stride, padding, .. } = self.kernel;
        let numbers = [self.x.h, self.x.w, self.x.c, self.y.h, self.y.w, kh, kw, stride, padding];
        Argument::Window(numbers.map(u32_of))
    }

    /// Rows gathered from some images, one group's channels.
    fn gather(&self, libraries: &Libraries, x: Address, images: usize, group: usize, to: Address) -> Result<()> {
        let ci = self.kernel.ci;
        let (name, v) = if ci.is_multiple_of(8) { ("gather_columns_8", 8) } else { ("gather_columns_1", 1) };
        let n = images * self.y.pixels() * self.window() / v;
        let arguments =
            [x.into(), to.into(), self.geometry(), u32_of(group * ci).into(), u32_of(ci).into(), u32_of(n).into()];
        libraries.gpu.launch(self.batch.number, name, Spread::over(n), &arguments)
    }

    fn scatter(
        &self,
        libraries: &Libraries,
        from: Address,
        images: usize,
        group: usize,
        (dx, add): (Address, bool),
    ) -> Result<()> {
        let ci = self.kernel.ci;
        let (name, v) = if ci.is_multiple_of(8) { ("scatter_columns_8", 8) } else { ("scatter_columns_1", 1) };
        let n = images * self.x.pixels() * ci / v;
        let arguments = [
            from.into(),
            dx.into(),
            self.geometry(),
            u32_of(group * ci).into(),
            u32_of(ci).into(),
            u32_of(n).into(),
            add.into(),
        ];
        libraries.gpu.launch(self.batch.number, name, Spread::over(n), &arguments)
    }

    /// The product of one group's rows with its weights.
    fn forward_shape(&self, rows: usize, from: usize, residual: bool) -> Shape {
        Shape {
            rows,
            columns: self.kernel.co,
            inner: self.window(),
            left: Layout::rows(from),
            right: Layout::transposed(self.window()),
            to: Layout::rows(self.y.c),
            batch: 1,
            number: self.batch.number,
            out: self.out,
            plus: if residual { Plus::Another } else { Plus::Nothing },
            bias: self.bias.is_some() && self.out == self.batch.number,
        }
    }

    /// dX = dY W.
    fn input_shape(&self, rows: usize, to: usize, add: bool) -> Shape {
        Shape {
            rows,
            columns: self.window(),
            inner: self.kernel.co,
            left: Layout::rows(self.y.c),
            right: Layout::rows(self.window()),
            to: Layout::rows(to),
            batch: 1,
            number: self.batch.number,
            out: self.batch.number,
            plus: if add { Plus::Itself } else { Plus::Nothing },
            bias: false,
        }
    }

    /// dW = dY^T X, in f32.
    fn weight_shape(&self, rows: usize, from: usize, add: bool) -> Shape {
        Shape {
            rows: self.kernel.co,
            columns: self.window(),
            inner: rows,
            left: Layout::transposed(self.y.c),
            right: Layout::rows(from),
            to: Layout::rows(self.window()),
            batch: 1,
            number: self.batch.number,
            out: Number::F32,
            plus: if add { Plus::Itself } else { Plus::Nothing },
            bias: false,
        }
    }

    /// Chunks of images as (first, count).
    fn chunks(&self, some: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let images = self.batch.images;
        (0..images).step_by(some).map(move |first| (first, some.min(images - first)))
    }

    fn gathered_bytes(&self, some: usize) -> usize {
        some * self.y.pixels() * self.window() * self.batch.number.bytes()
    }

    fn bias_slices(&self) -> (usize, usize) {
        slices(self.batch.images * self.y.pixels(), self.y.c)
    }
}

impl Operation for Conv {
    fn parameters(&self) -> Vec<Parameter> {
        let Kernel { kh, kw, standardize, ref weight, .. } = self.kernel;
        let matrix = Parameter::Matrix { range: weight.clone(), rows: self.y.c, taps: kh * kw, standardize };
        std::iter::once(matrix).chain(self.bias.clone().map(Parameter::Copied)).collect()
    }

    fn place(&mut self, at: &[usize]) {
        self.weight_at = at[0];
        self.bias_at = at.get(1).copied().unwrap_or(0);
    }

    fn scratch(&self) -> (usize, usize) {
        let bias = if self.bias.is_some() { self.bias_slices().0 * self.y.c * 4 } else { 0 };
        match &self.way {
            Way::Product => (0, bias),
            Way::Gathered(some) => (self.gathered_bytes(*some), self.gathered_bytes(*some).max(bias)),
            #[cfg(feature = "cudnn")]
            Way::Library(prepared) => {
                let [forward, input, weights] =
                    [Direction::Forward, Direction::Input, Direction::Weights].map(|one| prepared.workspace(one));
                // Weights' gradients come in the element type.
                let cast = (self.weights() * self.batch.number.bytes()).next_multiple_of(256);
                (forward, input.max(weights + cast))
            }
        }
    }

    fn forward(&self, call: &Forward<'_>) -> Result<()> {
        let libraries = call.libraries;
        let (w, bytes) = (self.weight(call.weights.matrices, self.batch.number), self.batch.number.bytes() as u64);
        let bias = call.weights.matrices + self.bias_at as u64 * bytes;
        let plus = call.residual.unwrap_or(call.y);
        match &self.way {
            Way::Product => {
                let shape = self.forward_shape(self.batch.images * self.y.pixels(), self.x.c, call.residual.is_some());
                libraries.products.multiply(&shape, &Operands { left: call.x, right: w, to: call.y, plus, bias })?;
                match &self.bias {
                    // The library adds a bias of the result's type only, and where it is aligned.
                    Some(range) if !shape.bias => {
                        let (bias, n) = (call.weights.flat(range), shape.rows * shape.columns);
                        let arguments = [bias.into(), call.y.into(), u32_of(self.y.c).into(), (n as u64).into()];
                        libraries.gpu.launch(Number::F32, "add_bias", Spread::over(n), &arguments)
                    }
                    _ => Ok(()),
                }
            }
            Way::Gathered(some) => {
                for (first, count) in self.chunks(*some) {
                    for group in 0..self.kernel.groups {
                        let x = call.x + (first * self.x.len()) as u64 * bytes;
                        self.gather(libraries, x, count, group, call.scratch)?;
                        let shape = self.forward_shape(count * self.y.pixels(), self.window(), call.residual.is_some());
                        let channel = group * self.kernel.co;
                        let to = (first * self.y.len() + channel) * self.out.bytes();
                        let operands = Operands {
                            left: call.scratch,
                            right: w + (channel * self.window()) as u64 * bytes,
                            to: call.y + to as u64,
                            plus: plus + to as u64,
                            bias: bias + (channel * self.out.bytes()) as u64,
                        };
                        libraries.products.multiply(&shape, &operands)?;
                    }
                }
                Ok(())
            }
            #[cfg(feature = "cudnn")]
            Way::Library(prepared) => {
                let library = libraries.convolutions()?;
                let operands = convolutions::Operands { x: call.x, w, y: call.y, workspace: call.scratch };
                library.run(prepared, Direction::Forward, &operands, false)?;
                match call.residual {
                    Some(residual) => {
                        libraries.add(self.batch.number, residual, call.y, self.batch.images * self.y.len())
                    }
                    None => Ok(()),
                }
            }
        }
    }

    fn backward(&self, call: &Backward<'_>) -> Result<()> {
        let libraries = call.libraries;
        let (w, bytes) = (self.weight(call.weights.matrices, self.batch.number), self.batch.number.bytes() as u64);
        let dw = self.weight(call.gradient.matrices, Number::F32);
        match &self.way {
            Way::Product => {
                let rows = self.batch.images * self.y.pixels();
                let shape = self.weight_shape(rows, self.x.c, call.add);
                libraries.products.multiply(&shape, &Operands::new(call.dy, call.x, dw))?;
                if let Some((dx, add)) = call.dx {
                    let shape = self.input_shape(rows, self.x.c, add);
                    libraries.products.multiply(&shape, &Operands::new(call.dy, w, dx))?;
                }
            }
            Way::Gathered(some) => {
                for (first, count) in self.chunks(*some) {
                    let rows = count * self.y.pixels();
                    let image = (first * self.x.len()) as u64 * bytes;
                    for group in 0..self.kernel.groups {
                        let channel = group * self.kernel.co;
                        let dy = call.dy + (first * self.y.len() + channel) as u64 * bytes;
                        self.gather(libraries, call.x + image, count, group, call.scratch)?;
                        let shape = self.weight_shape(rows, self.window(), call.add || first > 0);
                        let to = dw + 4 * (channel * self.window()) as u64;
                        libraries.products.multiply(&shape, &Operands::new(dy, call.scratch, to))?;
                        if let Some((dx, add)) = call.dx {
                            let shape = self.input_shape(rows, self.window(), false);
                            let weights = w + (channel * self.window()) as u64 * bytes;
                            libraries.products.multiply(&shape, &Operands::new(dy, weights, call.scratch))?;
                            self.scatter(libraries, call.scratch, count, group, (dx + image, add))?;
                        }
                    }
                }
            }
            #[cfg(feature = "cudnn")]
            Way::Library(prepared) => {
                let library = libraries.convolutions()?;
                if let Some((dx, add)) = call.dx {
                    let operands = convolutions::Operands { x: dx, w, y: call.dy, workspace: call.scratch };
                    library.run(prepared, Direction::Input, &operands, add)?;
                }
                let own = self.batch.number == Number::F32;
                let cast = (self.weights() * self.batch.number.bytes()).next_multiple_of(256) as u64;
                let to = if own { dw } else { call.scratch };
                let workspace = call.scratch + cast;
                let operands = convolutions::Operands { x: call.x, w: to, y: call.dy, workspace };
                library.run(prepared, Direction::Weights, &operands, own && call.add)?;
                if !own {
                    let n = self.weights();
                    let arguments = [to.into(), dw.into(), (n as u64).into(), call.add.into()];
                    libraries.gpu.launch(self.batch.number, "accumulate", Spread::over(n), &arguments)?;
                }
            }
        }
        if self.bias.is_some() {
            let rows = self.batch.images * self.y.pixels();
            let to = call.gradient.matrices + 4 * self.bias_at as u64;
            libraries.column_sums(self.batch.number, call.dy, (rows, self.y.c), call.scratch)?;
            libraries.sum_parts(call.scratch, to, (self.bias_slices().0, self.y.c, self.y.c), call.add)?;
        }
        Ok(())
    }
}
