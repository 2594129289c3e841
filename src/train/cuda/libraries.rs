//! A GPU with the libraries that compute on it, and small things that several operations do.

use std::rc::Rc;

use anyhow::Result;

use super::device::{Address, Gpu, Number, Spread};
use super::operation::{slices, u32_of};
use super::products::Products;

#[cfg(feature = "cudnn")]
use super::convolutions::Convolutions;

pub struct Libraries {
    pub gpu: Rc<Gpu>,
    pub products: Products,
    /// None where cuDNN is missing; convolutions are then products of gathered rows.
    #[cfg(feature = "cudnn")]
    pub convolutions: Option<Convolutions>,
}

impl Libraries {
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open(ordinal: i32, deterministic: bool) -> Result<Rc<Libraries>> {
        let gpu = Gpu::open(ordinal, deterministic)?;
        let products = Products::new(&gpu)?;
        #[cfg(feature = "cudnn")]
        let convolutions = match Convolutions::new(&gpu) {
            Ok(convolutions) => Some(convolutions),
            Err(error) => {
                eprintln!("warning: training goes on without cuDNN, more slowly: {error:#}");
                None
            }
        };
        Ok(Rc::new(Libraries {
            gpu,
            products,
            #[cfg(feature = "cudnn")]
            convolutions,
        }))
    }

    /// Of the libraries whose algorithms decide bits.
    pub fn versions(&self) -> String {
        let products = self.products.version();
        #[cfg(feature = "cudnn")]
        let convolutions = self.convolutions.as_ref().map_or(0, Convolutions::version);
        #[cfg(not(feature = "cudnn"))]
        let convolutions = 0;
        format!("cublaslt {products} cudnn {convolutions}")
    }

    /// # Errors
    /// When cuDNN is not there.
    #[cfg(feature = "cudnn")]
    pub fn convolutions(&self) -> Result<&Convolutions> {
        use anyhow::Context;
        self.convolutions.as_ref().context("cuDNN is open where it prepared a convolution")
    }

    /// `to[n] += x[n]`.
    ///
    /// # Errors
    /// The driver's.
    pub fn add(&self, number: Number, x: Address, to: Address, n: usize) -> Result<()> {
        let arguments = [x.into(), to.into(), (n as u64).into()];
        self.gpu.launch(number, "add", Spread::over(n.div_ceil(8)), &arguments)
    }

    /// Sums of columns of `x[rows, c]`, in as many parts as [`slices`] says: `partial[parts, c]`.
    ///
    /// # Errors
    /// The driver's.
    pub fn column_sums(&self, number: Number, x: Address, (rows, c): (usize, usize), partial: Address) -> Result<()> {
        let (parts, each) = slices(rows, c);
        let spread = Spread::blocks([c.div_ceil(32), parts, 1], 256);
        let arguments =
            [x.into(), partial.into(), u32_of(rows).into(), u32_of(each).into(), u32_of(c).into(), u32_of(c).into()];
        self.gpu.launch(number, "column_sums", spread, &arguments)
    }

    /// `to[c] (+)=` the sum of `parts` rows of `partial[parts, stride]`.
    ///
    /// # Errors
    /// The driver's.
    pub fn sum_parts(
        &self,
        partial: Address,
        to: Address,
        (parts, stride, c): (usize, usize, usize),
        add: bool,
    ) -> Result<()> {
        let spread = Spread::blocks([c.div_ceil(32), 1, 1], 512);
        let arguments =
            [partial.into(), to.into(), u32_of(parts).into(), u32_of(stride).into(), u32_of(c).into(), add.into()];
        self.gpu.launch(Number::F32, "sum_parts", spread, &arguments)
    }
}
