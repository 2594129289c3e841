//! What stands where [`cuda`](super::cuda) would, in a program built without the feature: the same names, of which no
//! value exists.

use anyhow::{Result, bail};

/// Says that there are no GPUs.
///
/// # Errors
/// Always.
pub fn find(_ordinal: u32) -> Result<()> {
    bail!("this program was built without GPUs\nhint: build it with `--features cuda,cudnn`, or say `--device cpu`")
}

/// Says that there are no GPUs.
///
/// # Errors
/// Always.
pub fn all() -> Result<Vec<(u32, Option<u64>)>> {
    find(0).map(|()| Vec::new())
}

/// No error is a GPU's.
pub fn is_out_of_memory(_error: &(dyn std::error::Error + 'static)) -> bool {
    false
}

pub mod library {
    pub fn has_driver() -> bool {
        false
    }
}

pub mod machine {
    use std::rc::Rc;

    use anyhow::Result;

    use crate::job::Precision;
    use crate::train::moment::Moment;
    use crate::train::views::Look;

    pub enum Machine {}

    impl Machine {
        pub fn open(ordinal: u32, _deterministic: bool) -> Result<Rc<Machine>> {
            super::find(ordinal)?;
            unreachable!("there is none")
        }

        pub fn name(&self) -> &str {
            match *self {}
        }

        pub fn identity(&self) -> String {
            match *self {}
        }

        pub fn show(&self, _: &Moment<'_, '_>, _: Look, _: Precision) -> Result<u64> {
            match *self {}
        }

        pub fn room(&self, _bytes: usize) -> Result<usize> {
            match *self {}
        }

        pub fn cut(&self, _parts: u32) {
            match *self {}
        }
    }
}

pub mod loss {
    use anyhow::Result;

    use crate::job::Distil;

    pub fn refuse(_: &Distil) -> Result<()> {
        Ok(())
    }
}

pub mod frozen {
    use std::rc::Rc;

    use anyhow::Result;
    use candle_core::Tensor;

    use super::machine::Machine;
    use crate::job::{Input, Model, Precision};
    use crate::train::teacher::Voice;

    pub enum Frozen {}

    impl Frozen {
        pub fn new(m: &Rc<Machine>, _: &Model, _: Input, _: Precision, _: usize, _: &[f32]) -> Result<Frozen> {
            match **m {}
        }

        pub fn forward(&self, _: &Tensor) -> Result<Tensor> {
            match *self {}
        }

        pub fn answer(&self, _images: u64, _to: u64, _: Voice) -> Result<()> {
            match *self {}
        }
    }

    pub enum Answers {}

    impl Answers {
        pub fn new(machine: &Rc<Machine>, _numbers: usize) -> Result<Answers> {
            match **machine {}
        }

        pub fn address(&self) -> u64 {
            match *self {}
        }

        pub fn begin(&self) -> Result<()> {
            match *self {}
        }

        pub fn end(&self) -> Result<()> {
            match *self {}
        }

        pub fn seconds(&self) -> Result<f64> {
            match *self {}
        }

        pub fn put(&mut self, _: &[f32]) -> Result<()> {
            match *self {}
        }

        pub fn ask(&mut self, _step: u64) -> Result<()> {
            match *self {}
        }

        pub fn take(&mut self, _all: bool, _: impl FnMut(u64, &[f32]) -> Result<()>) -> Result<()> {
            match *self {}
        }
    }
}

pub mod trained {
    use std::rc::Rc;

    use anyhow::Result;
    use candle_core::Tensor;

    use super::machine::Machine;
    use crate::job::Job;
    use crate::train::optimizer::State;
    use crate::train::status::{Given, Loss, Status, Sums};

    pub enum Trained {}

    pub fn bytes(machine: &Machine, _: &Job) -> Result<usize> {
        match *machine {}
    }

    impl Trained {
        pub fn new(machine: &Rc<Machine>, _: &Job, _: &[f32], _: &State, _: Sums) -> Result<Trained> {
            match **machine {}
        }

        pub fn forward(&self, _: &Tensor) -> Result<Tensor> {
            match *self {}
        }

        pub fn labels(&mut self, _: &[f32]) -> Result<u64> {
            match *self {}
        }

        pub fn step(&mut self, _: &Job, _step: u64, _: Given, _: Loss, _update: bool) -> Result<()> {
            match *self {}
        }

        pub fn save(&self, _: &mut [f32], _: &mut State) -> Result<()> {
            match *self {}
        }

        pub fn glance(&mut self) -> Result<Option<Status>> {
            match *self {}
        }

        pub fn take(&mut self) -> Result<Status> {
            match *self {}
        }

        pub fn forget(&mut self) -> Result<()> {
            match *self {}
        }
    }
}

pub mod bench {
    use std::rc::Rc;

    use anyhow::Result;

    use super::machine::Machine;
    use crate::job::{Job, Model, Precision};

    pub struct Inputs<'a> {
        pub weights: &'a [f32],
        pub teacher: Option<(&'a Model, &'a [f32])>,
        pub images: &'a [f32],
        pub targets: &'a [f32],
        pub temperature: f64,
    }

    pub enum Bench {}

    impl Bench {
        pub fn new(machine: &Rc<Machine>, _: &Job, _: usize, _: &Inputs<'_>, _updates: bool) -> Result<Bench> {
            match **machine {}
        }

        pub fn step(&mut self) -> Result<()> {
            match *self {}
        }

        pub fn finish(&mut self) -> Result<f64> {
            match *self {}
        }

        pub fn peak_bytes(&self) -> Option<u64> {
            match *self {}
        }
    }

    pub fn peak(machine: &Machine, _: Precision) -> Result<f64> {
        match *machine {}
    }
}

pub mod check {
    use std::rc::Rc;

    use anyhow::Result;
    use serde::Serialize;

    use super::machine::Machine;

    #[derive(Clone, Debug, Serialize)]
    pub struct Row {
        pub op: String,
        pub precision: &'static str,
        pub error: f64,
        pub bound: f64,
        pub ok: bool,
    }

    pub fn check(machine: &Rc<Machine>) -> Result<Vec<Row>> {
        match **machine {}
    }
}
