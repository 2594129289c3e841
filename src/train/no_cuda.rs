//! What stands where [`cuda`](super::cuda) would, in a program built without the feature: the same names, of which no
//! value exists.

#![expect(clippy::needless_pass_by_value, clippy::too_many_arguments, reason = "the signatures are the real module's")]

/// See the real module.
pub mod machine {
    use std::rc::Rc;

    use anyhow::{Result, bail};

    use crate::job::Precision;
    use crate::train::views::{Batch, Look, Views};

    pub enum Machine {}

    impl Machine {
        /// # Errors
        /// Always.
        pub fn open(_ordinal: u32, _deterministic: bool) -> Result<Rc<Machine>> {
            bail!(
                "this program was built without GPUs\nhint: build it with `--features cuda,cudnn`, or say `--device cpu`"
            )
        }

        pub fn name(&self) -> &str {
            match *self {}
        }

        pub fn show(&self, _: &Views, _: &Batch, _: Look, _: Precision) -> Result<u64> {
            match *self {}
        }

        pub fn room(&self, _bytes: usize) -> Result<usize> {
            match *self {}
        }
    }
}
