//! Directions of Shampoo and Muon on the GPU, by the CPU's rules ([`crate::train::optimizer`]): all of a step's launches
//! are known before it, so they are recorded with it.
//!
//! What is needed only from the gradient to the update lies in the piece that steps share, where activations were.

mod muon;
mod shampoo;

use std::rc::Rc;

use anyhow::{Context, Result};

use super::buffer::Buffer;
use super::device::{Address, Gpu, Number};
use super::weights::Rows;
use crate::job::Optimizer;
use crate::train::optimizer::Layout;

/// Where scratch begins to be a multiple of.
const ALIGNMENT: u64 = 256;

/// What a direction is made of, and what it moves.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    pub rows: &'a Rows,
    /// Flat.
    pub gradient: Address,
    /// Flat.
    pub weights: Address,
    /// All of the optimiser's state, in its order.
    pub moments: &'a [Buffer],
    pub control: Address,
    pub status: Address,
    /// Of sums of squares of the gradient's rows, which are read no more.
    pub squares: Address,
    /// As much as [`Direction::scratch`] says.
    pub scratch: Address,
}

/// The direction of one student's optimiser.
pub struct Direction {
    optimizer: Optimizer,
    layout: Layout,
    /// With the generation of the piece whose places they name.
    tables: Option<(u64, Tables)>,
}

enum Tables {
    Shampoo(shampoo::Tables),
    Muon(muon::Tables),
}

impl Direction {
    /// None for an optimiser without one.
    pub fn of(optimizer: &Optimizer, layout: Layout) -> Option<Direction> {
        let has = matches!(optimizer, Optimizer::Shampoo(_) | Optimizer::Muon(_));
        has.then(|| Direction { optimizer: *optimizer, layout, tables: None })
    }

    /// Bytes that are needed between gradient and update.
    pub fn scratch(&self) -> usize {
        let end = match &self.optimizer {
            Optimizer::Shampoo(of) => shampoo::Scratch::new(of, &self.layout, 0).end,
            _ => muon::Scratch::new(&self.layout, 0).end,
        };
        usize::try_from(end).unwrap_or(usize::MAX)
    }

    /// Bytes of tables, about.
    pub fn tables(&self, rows: &Rows) -> usize {
        match &self.optimizer {
            Optimizer::Shampoo(of) => shampoo::tables(of, &self.layout),
            _ => muon::tables(&self.layout, rows),
        }
    }

    /// Whether the work of step `step` is another than most steps'.
    pub fn is_rare(&self, step: u64) -> bool {
        matches!(&self.optimizer, Optimizer::Shampoo(of) if step.is_multiple_of(u64::from(of.every)))
    }

    /// Makes the tables for the piece of this generation. Waits where it has to.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn prepare(&mut self, gpu: &Rc<Gpu>, generation: u64, places: Places<'_>) -> Result<()> {
        if self.tables.as_ref().is_none_or(|(of, _)| *of != generation) {
            self.tables = None;
            let tables = match &self.optimizer {
                Optimizer::Shampoo(of) => Tables::Shampoo(shampoo::Tables::new(gpu, of, &self.layout, places)?),
                Optimizer::Muon(_) => Tables::Muon(muon::Tables::new(gpu, &self.layout, places)?),
                _ => unreachable!("it has a direction"),
            };
            self.tables = Some((generation, tables));
        }
        Ok(())
    }

    /// Enqueues what makes the direction; returns where it lies, flat. `rare` is what [`Direction::is_rare`] said.
    ///
    /// # Errors
    /// The driver's.
    pub fn enqueue(&self, gpu: &Gpu, number: Number, places: Places<'_>, rare: bool) -> Result<Address> {
        match (&self.tables.as_ref().context("tables are made before")?.1, &self.optimizer) {
            (Tables::Shampoo(tables), Optimizer::Shampoo(of)) => tables.enqueue(gpu, number, of, places, rare),
            (Tables::Muon(tables), Optimizer::Muon(of)) => tables.enqueue(gpu, number, of, places),
            _ => unreachable!("tables are their optimiser's"),
        }
    }
}

/// Takes places one after the other.
struct Room(Address);

impl Room {
    fn take(&mut self, bytes: usize) -> Address {
        let at = self.0.next_multiple_of(ALIGNMENT);
        self.0 = at + bytes as u64;
        at
    }
}

/// A table of so many entries.
struct Table {
    buffer: Buffer,
    count: usize,
}

impl Table {
    fn new(gpu: &Rc<Gpu>, entries: &[Vec<u8>]) -> Result<Table> {
        Ok(Table { buffer: gpu.holding(&entries.concat())?, count: entries.len() })
    }
}
