//! Running statistics of a network: they do not learn, but take in the moments of every batch that a step has trained on.
//!
//! The forward pass leaves those moments behind the activations, where they wait until it is known whether the step was
//! finite. So a step that is not moves no statistic, as it moves no weight, and one that only measures moves none either.

use std::rc::Rc;

use anyhow::Result;

use super::buffer::Buffer;
use super::device::{Address, Gpu, Number, Spread};
use super::operation::{Operation, u32_of};

pub struct Running {
    /// None in a network without any.
    table: Option<Buffer>,
    rows: usize,
    /// Of all batches' moments.
    pub numbers: usize,
    /// Of every operation, where its moments lie among them.
    places: Vec<Option<usize>>,
}

impl Running {
    /// # Errors
    /// When there is no memory for the table.
    pub fn new(gpu: &Rc<Gpu>, operations: &[Box<dyn Operation>]) -> Result<Running> {
        let (mut table, mut places, mut numbers) = (Vec::new(), Vec::new(), 0);
        for operation in operations {
            let running = operation.running();
            places.push(running.is_some().then_some(numbers));
            for range in running.into_iter().flatten() {
                // `struct Running` of `kernels/weights.cu`.
                table.extend([range.start, numbers, range.len()].map(|number| u32_of(number).to_le_bytes()));
                numbers += range.len();
            }
        }
        let rows = table.len() / 3;
        let table = (rows > 0).then(|| gpu.holding(&table.concat())).transpose()?;
        Ok(Running { table, rows, numbers, places })
    }

    /// Where an operation leaves its moments, all of which lie at `moments`.
    pub fn of(&self, operation: usize, moments: Address) -> Option<Address> {
        self.places[operation].map(|place| moments + 4 * place as u64)
    }

    /// Takes the moments into the statistics among the weights, unless the step has failed.
    ///
    /// # Errors
    /// The driver's.
    pub fn settle(&self, gpu: &Gpu, number: Number, moments: Address, flat: Address, status: Address) -> Result<()> {
        let Some(table) = &self.table else { return Ok(()) };
        let arguments = [table.address.into(), moments.into(), flat.into(), status.into()];
        gpu.launch(number, "settle_running", Spread::blocks([self.rows, 1, 1], 128), &arguments)
    }
}
