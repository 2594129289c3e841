//! A GPU at a cohort's service: views made on it, networks planned for it, memory shared among them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;

use super::buffer::{Buffer, floats, is_out_of_memory, out_of_memory, write_floats};
use super::device::{Address, Argument, Gpu, Number, Spread};
use super::libraries::Libraries;
use super::loader::Loader;
use super::mark::Recorded;
use super::operation::{Numbers, u32_of};
use super::program::{Program, passes};
use crate::job::{Input, Model, Precision};
use crate::train::memory::OutOfMemory;
use crate::train::mixing::{Mixed, in_box};
use crate::train::model::graph;
use crate::train::moment::Moment;
use crate::train::network::with_numbers;
use crate::train::views::Look;

/// Share of the free memory that is used: others, and the libraries, need some.
const SHARE: f64 = 0.95;
/// Images of a pass: kernels count some of them in a dimension of 16 bits.
const MOST_IMAGES: usize = 65_535;

pub struct Machine {
    pub libraries: Rc<Libraries>,
    piece: RefCell<Piece>,
    programs: RefCell<Vec<(Key, Planned)>>,
    looks: RefCell<Vec<Shown>>,
    /// Images that come from the host.
    staging: RefCell<Option<Buffer>>,
    /// Passes that a training batch takes, at least.
    parts: Cell<usize>,
}

/// The memory of a step, of whichever program is the largest.
#[derive(Default)]
struct Piece {
    buffer: Option<Buffer>,
    /// How often it was exchanged for a larger one.
    generation: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Key {
    model: Model,
    input: Input,
    precision: Precision,
    batch: usize,
    task: Task,
}

/// What a network is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Answers,
    /// Training steps.
    Steps,
    /// Training steps of one pass, because images meet in the loss.
    WholeSteps,
}

/// A program and how many passes it takes for a batch.
#[derive(Clone)]
pub struct Planned {
    pub program: Rc<Program>,
    pub passes: usize,
}

/// A batch as one look shows it, on the GPU.
struct Shown {
    look: Look,
    number: Number,
    step: Option<u64>,
    pixels: Buffer,
    images: Buffer,
    loader: Loader,
}

/// Recorded work, and the memory it was recorded with.
#[derive(Default)]
pub struct Replay {
    recorded: Option<(u64, [Address; 3], Recorded)>,
    /// Times it was done without being recorded.
    done: u32,
    refused: bool,
}

impl Machine {
    /// # Errors
    /// When there is no such GPU, or a library is missing.
    pub fn open(ordinal: u32, deterministic: bool) -> Result<Rc<Machine>> {
        let libraries = Libraries::open(i32::try_from(ordinal)?, deterministic)?;
        Ok(Rc::new(Machine {
            libraries,
            piece: RefCell::default(),
            programs: RefCell::default(),
            looks: RefCell::default(),
            staging: RefCell::default(),
            parts: Cell::new(1),
        }))
    }

    pub fn name(&self) -> &str {
        &self.libraries.gpu.name
    }

    /// What the bits of its numbers depend on.
    pub fn identity(&self) -> String {
        let gpu = &self.libraries.gpu;
        let kind = if gpu.deterministic { "deterministic" } else { "fastest" };
        format!("{} {kind} {}", gpu.name, self.libraries.versions())
    }

    /// The piece of memory that steps share, at least so long, and its generation.
    ///
    /// # Errors
    /// When there is not so much.
    pub fn piece(&self, bytes: usize) -> Result<(Address, u64)> {
        let mut piece = self.piece.borrow_mut();
        if piece.buffer.as_ref().is_none_or(|buffer| buffer.bytes < bytes) {
            piece.buffer = None;
            self.libraries.gpu.trim()?;
            piece.buffer = Some(self.libraries.gpu.allocate(bytes)?);
            piece.generation += 1;
        }
        let address = piece.buffer.as_ref().map(|buffer| buffer.address);
        Ok((address.context("the piece was just made")?, piece.generation))
    }

    /// Batches of training steps that are planned from now on take so many passes, at least, where their images do not
    /// meet.
    pub fn cut(&self, parts: u32) {
        self.parts.set(parts.max(1) as usize);
    }

    /// Bytes that are free, the shared piece among them.
    fn free(&self) -> Result<usize> {
        let own = self.piece.borrow().buffer.as_ref().map_or(0, |buffer| buffer.bytes);
        self.libraries.gpu.trim()?;
        Ok(((self.libraries.gpu.memory()?.0 + own) as f64 * SHARE) as usize)
    }

    /// Bytes that would be free, the shared piece among them, if nobody else used the GPU.
    fn most(&self) -> Result<usize> {
        let own = self.piece.borrow().buffer.as_ref().map_or(0, |buffer| buffer.bytes);
        let gpu = &self.libraries.gpu;
        let all = (gpu.memory()?.1 as f64 * SHARE) as usize;
        Ok(all.saturating_sub(gpu.held() - own))
    }

    /// A network planned for batches, cut into as few passes as memory asks for. `beside` are bytes that are needed too.
    /// Where images of a training step meet, as in BatchNorm or in the loss, there is one pass.
    ///
    /// # Errors
    /// When not even one image fits, or not the whole batch where it must.
    pub fn plan(
        &self,
        model: &Model,
        input: Input,
        precision: Precision,
        batch: usize,
        task: Task,
        beside: usize,
    ) -> Result<Planned> {
        let training = task != Task::Answers;
        let key = Key { model: model.clone(), input, precision, batch, task };
        if let Some((_, planned)) = self.programs.borrow().iter().find(|(of, _)| *of == key) {
            return Ok(planned.clone());
        }
        let network = graph(model, input);
        // In how many parts a batch is taken decides roundings, so what is free now must not decide it where bits count.
        let room = if self.libraries.gpu.deterministic { self.most()? } else { self.free()? };
        let room = room.saturating_sub(beside);
        let gathers = network.steps.iter().any(|step| step.layer.gathers() > 0);
        let whole = task == Task::WholeSteps || training && gathers;
        let least = if training && !whole { self.parts.get().min(batch) } else { 1 };
        let mut fitting = None;
        let cut = passes(batch, |images| {
            let cut = batch / images;
            if images > MOST_IMAGES || whole && cut > 1 || cut < least {
                return Ok(false);
            }
            match Program::new(&self.libraries, &network, number(precision), images, cut, training) {
                Ok(program) if program.bytes <= room => {
                    fitting = Some(program);
                    Ok(true)
                }
                Ok(_) => Ok(false),
                Err(error) if error.chain().any(|cause| cause.is::<OutOfMemory>() || is_out_of_memory(cause)) => {
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        })?;
        let (Some(program), Some(passes)) = (fitting, cut) else {
            if whole {
                let (who, or) = match gathers {
                    true => ("BatchNorm", "a network with GroupNorm"),
                    false => ("such a loss", "another distance"),
                };
                return Err(OutOfMemory(format!(
                    "{who} needs all {batch} images of a step at once, and the GPU has no room for them ({} MiB are \
                     free)\nhint: give it a smaller batch or cohort, or {or}",
                    room >> 20
                ))
                .into());
            }
            return Err(out_of_memory(room + 1, room)).context("not even one image fits beside the network");
        };
        let planned = Planned { program: Rc::new(program), passes };
        self.piece(planned.program.bytes)?;
        self.programs.borrow_mut().push((key, planned.clone()));
        Ok(planned)
    }

    /// How many more of what takes so many bytes fit.
    ///
    /// # Errors
    /// The driver's.
    pub fn room(&self, bytes: usize) -> Result<usize> {
        let own = self.piece.borrow().buffer.as_ref().map_or(0, |buffer| buffer.bytes);
        Ok(self.free()?.saturating_sub(own) / bytes.max(1))
    }

    /// The batch as `look` shows it: images `[N, S, S, C]` in [-1, 1]. Pixels are copied as 8 bits, normalised and mixed on
    /// the GPU; what was shown for this step already is not shown again.
    ///
    /// # Errors
    /// The driver's, and too little memory.
    pub fn show(&self, moment: &Moment<'_, '_>, look: Look, precision: Precision) -> Result<Address> {
        let Moment { views, batch, .. } = *moment;
        let number = number(precision);
        let mut looks = self.looks.borrow_mut();
        let found = looks.iter().position(|shown| shown.look == look && shown.number == number);
        let place = match found {
            Some(place) => place,
            None => {
                let bytes = batch.images.len() * views.pixels_each(look);
                let gpu = &self.libraries.gpu;
                looks.push(Shown {
                    look,
                    number,
                    step: None,
                    pixels: gpu.allocate(bytes)?,
                    images: gpu.allocate(bytes * number.bytes())?,
                    loader: Loader::new(gpu, look, bytes)?,
                });
                looks.len() - 1
            }
        };
        let shown = &mut looks[place];
        if shown.step != Some(batch.step) {
            shown.loader.send(moment, shown.pixels.address)?;
            let extent = (batch.images.len(), look.resolution as usize, views.pixels_each(look));
            let mixed = views.mixed(batch, look);
            normalize(&self.libraries.gpu, number, shown.pixels.address, shown.images.address, extent, mixed)?;
            shown.step = Some(batch.step);
        }
        Ok(shown.images.address)
    }

    /// Images from the host, f32, in the element type.
    ///
    /// # Errors
    /// The driver's, and too little memory.
    pub fn put(&self, images: &[f32], number: Number, to: Address) -> Result<()> {
        let gpu = &self.libraries.gpu;
        if number == Number::F32 {
            let mut bytes = vec![0; 4 * images.len()];
            write_floats(images, &mut bytes);
            return gpu.upload(to, &bytes);
        }
        let floats = gpu.holding_floats(images)?;
        let arguments = [floats.address.into(), to.into(), (images.len() as u64).into()];
        gpu.launch(number, "convert", Spread::over(images.len()), &arguments)
    }

    /// Logits `[N, classes]` of images `[N, S, S, C]` of the host, which waits for them.
    ///
    /// # Errors
    /// The driver's and the libraries', and images that do not fit the network.
    pub fn logits(&self, program: &Program, weights: Numbers, images: &Tensor) -> Result<Tensor> {
        let count = images.dim(0)?;
        let mut logits = Vec::with_capacity(count * program.classes);
        with_numbers(images, |numbers| -> Result<()> {
            ensure!(numbers.len() == count * program.image, "images of this network's size");
            let (number, all) = (program.number, program.images * program.image);
            let staging = self.staging(all, number)?;
            let (piece, _) = self.piece(program.bytes)?;
            for some in numbers.chunks(all) {
                self.put(some, number, staging)?;
                program.answer(piece, weights, staging)?;
                let mut bytes = vec![0; some.len() / program.image * program.classes * 4];
                self.libraries.gpu.download(program.logits(piece), &mut bytes)?;
                logits.extend(floats(&bytes));
            }
            Ok(())
        })??;
        Ok(Tensor::from_vec(logits, (count, program.classes), &candle_core::Device::Cpu)?)
    }

    fn staging(&self, numbers: usize, number: Number) -> Result<Address> {
        let mut staging = self.staging.borrow_mut();
        let bytes = numbers * number.bytes();
        if staging.as_ref().is_none_or(|images| images.bytes < bytes) {
            *staging = None;
            let images = self.libraries.gpu.allocate(bytes)?;
            self.libraries.gpu.zero(images.address, images.bytes)?;
            *staging = Some(images);
        }
        Ok(staging.as_ref().context("it was just made")?.address)
    }
}

impl Replay {
    /// Does `work`, which uses memory of this generation and these places: at first by itself, while libraries load what
    /// they need, then recorded and in one call.
    ///
    /// # Errors
    /// `work`'s.
    pub fn run(
        &mut self,
        machine: &Machine,
        generation: u64,
        places: [Address; 3],
        work: impl Fn() -> Result<()>,
    ) -> Result<()> {
        if self.recorded.as_ref().is_some_and(|(of, at, _)| (*of, *at) != (generation, places)) {
            self.recorded = None;
        }
        if self.recorded.is_none() && self.done > 0 && !self.refused {
            match machine.libraries.gpu.capture(&work) {
                Ok(recorded) => self.recorded = Some((generation, places, recorded)),
                Err(error) => {
                    eprintln!("warning: steps are enqueued one launch at a time: they cannot be recorded: {error:#}");
                    self.refused = true;
                }
            }
        }
        match &self.recorded {
            Some((.., recorded)) => recorded.launch(),
            None => {
                self.done += 1;
                work()
            }
        }
    }
}

/// Images `[N, S, S, C]` in [-1, 1], mixed, from pixels of 8 bits; `extent` is N, S and the numbers of an image.
///
/// # Errors
/// The driver's.
pub(super) fn normalize(
    gpu: &Gpu,
    number: Number,
    pixels: Address,
    images: Address,
    (count, side, size): (usize, usize, usize),
    mixed: Option<Mixed>,
) -> Result<()> {
    let row = size / side;
    let (share, [columns, rows]) = match mixed {
        None => (1.0, [0..0, 0..0]),
        Some(Mixed::Mixup { share }) => (share, [0..0, 0..0]),
        Some(Mixed::Cutmix { cut }) => (1.0, in_box(cut, side)),
    };
    let channels = row / side;
    let cut = [columns.start * channels, rows.start, columns.end * channels, rows.end].map(u32_of);
    let mut arguments =
        vec![pixels.into(), images.into(), u32_of(count).into(), u32_of(size).into(), (share as f32).into()];
    arguments.push(u32_of(row).into());
    arguments.extend(cut.map(Argument::U32));
    gpu.launch(number, "show", Spread::over(count * size), &arguments)
}

pub fn number(precision: Precision) -> Number {
    match precision {
        Precision::F32 => Number::F32,
        Precision::Bf16 => Number::Bf16,
    }
}
