//! Pooling: maxima and means over windows, and the mean over all pixels.

use std::ops::Range;

use super::element::Element;
use super::lanes::{self, wide};
use super::layer::{Backward, Description, Extent, Forward, Glass, Layer, Write};

/// The mean over all pixels, `[N, H, W, C]` to `[N, 1, 1, C]`.
#[derive(Clone, Debug)]
pub struct GlobalMean {
    pub x: Extent,
}

impl<T: Element> Layer<T> for GlobalMean {
    fn name(&self) -> &'static str {
        "global_mean"
    }

    fn describe(&self) -> Description {
        Description::GlobalMean(self.clone())
    }

    fn output(&self) -> Extent {
        Extent { h: 1, w: 1, c: self.x.c }
    }

    fn needs_x(&self) -> bool {
        false
    }

    fn scratch(&self, _images: usize) -> usize {
        Glass::<T>::scratch(self.x.c) + self.x.c
    }

    fn forward(&self, call: Forward<'_, T>) {
        let c = self.x.c;
        let (glass, row) = call.scratch.split_at_mut(Glass::<T>::scratch(c));
        let count = T::from_f64(self.x.pixels() as f64);
        for (image, y) in call.y.chunks_exact_mut(c).enumerate() {
            let x = call.x.image(image, self.x);
            let glass = Glass::new(&x, c, glass);
            y.fill(T::ZERO);
            for pixel in x.numbers.chunks_exact(c) {
                glass.show(pixel, &mut row[..c], c);
                lanes::add(y, &row[..c]);
            }
            for y in y {
                *y = *y / count;
            }
        }
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Some((dx, write)) = call.dx else { return };
        let row = &mut call.scratch[..self.x.c];
        let count = T::from_f64(self.x.pixels() as f64);
        for (dx, dy) in dx.chunks_exact_mut(self.x.len()).zip(call.dy.chunks_exact(self.x.c)) {
            for (to, dy) in row.iter_mut().zip(dy) {
                *to = *dy / count;
            }
            for pixel in dx.chunks_exact_mut(self.x.c) {
                match write {
                    Write::Set => pixel.copy_from_slice(row),
                    Write::Add => lanes::add(pixel, row),
                }
            }
        }
    }
}

/// What a window sees beyond the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// Zeros, which take part in a maximum: the stem of BiT (paper.md 2.6), and torch's mean.
    Zeros,
    /// Nothing: torch's maximum; a mean is over what is there.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Max,
    Mean,
}

/// Maxima or means over windows, `[N, H, W, C]` to `[N, Ho, Wo, C]`.
#[derive(Clone, Debug)]
pub struct Pool {
    pub x: Extent,
    pub kind: Kind,
    pub window: usize,
    pub stride: usize,
    /// Less than the window.
    pub padding: usize,
    pub beyond: Beyond,
}

wide! {
    fn raise(y: &mut [T], x: &[T]) {
        let n = y.len();
        let x = &x[..n];
        for i in 0..n {
            // A NaN wins, as it must.
            y[i] = if x[i] > y[i] || x[i].partial_cmp(&x[i]).is_none() { x[i] } else { y[i] };
        }
    }
}

impl Pool {
    fn side(&self, side: usize) -> usize {
        (side + 2 * self.padding - self.window) / self.stride + 1
    }

    /// The window of output (oy, ox): rows and columns inside the image, and whether it reaches beyond.
    fn window(&self, oy: usize, ox: usize) -> (Range<usize>, Range<usize>, bool) {
        let inside = |o: usize, side: usize| {
            let start = (o * self.stride) as isize - self.padding as isize;
            let end = start + self.window as isize;
            (start.max(0) as usize..end.min(side as isize) as usize, start < 0 || end > side as isize)
        };
        let ((rows, above), (columns, left)) = (inside(oy, self.x.h), inside(ox, self.x.w));
        (rows, columns, above || left)
    }

    fn divisor(&self, rows: &Range<usize>, columns: &Range<usize>) -> f64 {
        match self.beyond {
            Beyond::Zeros => (self.window * self.window) as f64,
            Beyond::Nothing => (rows.len() * columns.len()) as f64,
        }
    }
}

impl<T: Element> Layer<T> for Pool {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Max => "max_pool",
            Kind::Mean => "mean_pool",
        }
    }

    fn describe(&self) -> Description {
        Description::Pool(self.clone())
    }

    fn output(&self) -> Extent {
        Extent { h: self.side(self.x.h), w: self.side(self.x.w), c: self.x.c }
    }

    fn needs_x(&self) -> bool {
        self.kind == Kind::Max
    }

    fn scratch(&self, _images: usize) -> usize {
        2 * self.x.c
    }

    fn forward(&self, call: Forward<'_, T>) {
        let c = self.x.c;
        let y = <Self as Layer<T>>::output(self);
        for (x, to) in call.x.numbers.chunks_exact(self.x.len()).zip(call.y.chunks_exact_mut(y.len())) {
            for (pixel, to) in to.chunks_exact_mut(c).enumerate() {
                let (rows, columns, beyond) = self.window(pixel / y.w, pixel % y.w);
                let place = |row: usize, column: usize| &x[(row * self.x.w + column) * c..][..c];
                match self.kind {
                    Kind::Max if beyond && self.beyond == Beyond::Zeros => to.fill(T::ZERO),
                    Kind::Max => to.copy_from_slice(place(rows.start, columns.start)),
                    Kind::Mean => to.fill(T::ZERO),
                }
                for row in rows.clone() {
                    for column in columns.clone() {
                        match self.kind {
                            Kind::Max => raise(to, place(row, column)),
                            Kind::Mean => lanes::add(to, place(row, column)),
                        }
                    }
                }
                if self.kind == Kind::Mean {
                    let share = T::from_f64(1.0 / self.divisor(&rows, &columns));
                    to.iter_mut().for_each(|y| *y *= share);
                }
            }
        }
    }

    fn backward(&self, call: Backward<'_, T>) {
        let c = self.x.c;
        let y = <Self as Layer<T>>::output(self);
        let Some((dx, write)) = call.dx else { return };
        if write == Write::Set {
            dx.fill(T::ZERO);
        }
        let (most, left) = call.scratch.split_at_mut(c);
        for image in 0..call.images {
            let x = match self.kind {
                Kind::Max => &call.x.numbers[image * self.x.len()..][..self.x.len()],
                Kind::Mean => &[],
            };
            let dx = &mut dx[image * self.x.len()..][..self.x.len()];
            let dy = &call.dy[image * y.len()..][..y.len()];
            for (pixel, dy) in dy.chunks_exact(c).enumerate() {
                let (rows, columns, beyond) = self.window(pixel / y.w, pixel % y.w);
                let places = rows.clone().flat_map(|row| columns.clone().map(move |column| (row, column)));
                match self.kind {
                    Kind::Mean => {
                        let share = T::from_f64(1.0 / self.divisor(&rows, &columns));
                        for (row, column) in places {
                            let dx = &mut dx[(row * self.x.w + column) * c..][..c];
                            for (dx, dy) in dx.iter_mut().zip(dy) {
                                *dx += *dy * share;
                            }
                        }
                    }
                    Kind::Max => {
                        // The first place that holds the maximum gets all; zeros beyond the image come first.
                        let zero = beyond && self.beyond == Beyond::Zeros;
                        let first = (rows.start * self.x.w + columns.start) * c;
                        match zero {
                            true => most[..c].fill(T::ZERO),
                            false => most[..c].copy_from_slice(&x[first..][..c]),
                        }
                        for (row, column) in places.clone() {
                            raise(&mut most[..c], &x[(row * self.x.w + column) * c..][..c]);
                        }
                        left[..c].copy_from_slice(dy);
                        if zero {
                            take(&mut left[..c], &most[..c]);
                        }
                        for (row, column) in places {
                            let at = (row * self.x.w + column) * c;
                            give(&x[at..][..c], &most[..c], &mut left[..c], &mut dx[at..][..c]);
                        }
                    }
                }
            }
        }
    }
}

wide! {
    /// Where the maximum is zero, nothing is left to give.
    fn take(left: &mut [T], most: &[T]) {
        let n = left.len();
        let most = &most[..n];
        for i in 0..n {
            left[i] = if most[i] == T::ZERO { T::ZERO } else { left[i] };
        }
    }
}

wide! {
    /// Where `x` is the maximum, it gets what is left.
    fn give(x: &[T], most: &[T], left: &mut [T], dx: &mut [T]) {
        let n = x.len();
        let (most, left, dx) = (&most[..n], &mut left[..n], &mut dx[..n]);
        for i in 0..n {
            let (given, rest) = if x[i] == most[i] { (left[i], T::ZERO) } else { (T::ZERO, left[i]) };
            dx[i] += given;
            left[i] = rest;
        }
    }
}
