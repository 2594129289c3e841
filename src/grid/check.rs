//! The ranges of a job's values. Types were checked by serde; here are the bounds, each with its reason in the hint.

use std::ops::Range;

use toml::de::DeTable;

use super::key;
use super::merge;
use super::text::Fault;
use crate::job::{
    Adam, Augment, BitResnet, CifarResnet, Clip, Crop, Decay, Distance, Distil, Ema, Ensemble, Graft, Job, Model,
    Normalization, Optimizer, Schedule, Teaching, Vit, Warmup,
};

/// Looks up places in the table a job is read from.
pub(super) struct Check<'a, 't> {
    pub table: &'a DeTable<'t>,
    pub header: Range<usize>,
}

/// What every job has, whatever its objective.
pub(super) struct Ranges<'a> {
    pub epochs: u32,
    pub resolution: u32,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub decay: Decay,
    pub crop: &'a Crop,
    pub optimizer: &'a Optimizer,
    pub clip: &'a Clip,
    pub ema: &'a Ema,
    pub augment: &'a Augment,
    pub schedule: &'a Schedule,
}

impl Check<'_, '_> {
    pub fn span(&self, path: &str) -> Range<usize> {
        merge::span_of(self.table, path).unwrap_or(self.header.clone())
    }

    /// Of a choice: what was chosen, `DIR` of `{ folder = "DIR" }`.
    pub fn value_span(&self, path: &str) -> Range<usize> {
        let choice = merge::find(self.table, path).and_then(|value| value.get_ref().as_table());
        match choice.filter(|table| table.len() == 1).and_then(|table| table.values().next()) {
            Some(value) => value.span(),
            None => self.span(path),
        }
    }

    pub fn element_span(&self, path: &str, index: usize) -> Range<usize> {
        let element = merge::find(self.table, path).and_then(|list| list.get_ref().get(index));
        element.map_or_else(|| self.span(path), toml::Spanned::span)
    }

    pub fn fault(&self, path: &str, message: impl Into<String>) -> Fault {
        Fault::new(self.span(path), message)
    }

    pub fn missing(&self, name: &str) -> Fault {
        let fault = Fault::new(self.header.clone(), format!("`{name}` is missing"));
        match name {
            "teachers" => fault.hint("name a `[teachers.NAME]`, or write `objective = \"labels\"` to do without"),
            _ => match key::example(name) {
                Some(example) => fault.hint(example),
                None => fault,
            },
        }
    }

    pub fn ranges(&self, of: &Ranges<'_>) -> Result<(), Fault> {
        self.whole("epochs", of.epochs, 1, 10_000_000, "the paper's longest run has 1000000 epochs")?;
        self.whole("resolution", of.resolution, 4, 1024, "it is the side in pixels of what the student sees")?;
        let hint = "the paper sweeps 3e-4 to 1e-2";
        self.number("learning-rate", of.learning_rate, of.learning_rate > 0.0, "above 0", hint)?;
        self.weight_decay(of)?;
        self.crop(of.crop)?;
        self.optimizer(of.optimizer)?;
        if let Ema::Decay(decay) = *of.ema {
            let hint = "it is what the average keeps of itself at each step: 0.999, 0.9999";
            self.number("ema.decay", decay, (0.0..1.0).contains(&decay), "from 0 to below 1", hint)?;
        }
        if let Augment::RandAugment { operations, magnitude } = *of.augment {
            let hint = "RandAugment's own are 2 operations of magnitude 9";
            self.whole("augment.rand-augment.operations", operations, 1, 14, hint)?;
            self.whole("augment.rand-augment.magnitude", magnitude, 0, Augment::STRONGEST, hint)?;
        }
        if let Schedule::Cooldown(share) = *of.schedule {
            let hint = "it is the share of the steps after the warm-up in which the rate falls to zero: 0.2 is usual";
            self.number("schedule.cooldown", share, share > 0.0 && share <= 1.0, "above 0 and up to 1", hint)?;
        }
        match *of.clip {
            Clip::Off => Ok(()),
            Clip::Norm(norm) => {
                self.number("clip.norm", norm, norm > 0.0, "above 0", "write `clip = \"off\"` to do without")
            }
        }
    }

    /// What is left of a weight is no less than nothing.
    fn weight_decay(&self, of: &Ranges<'_>) -> Result<(), Fault> {
        let value = of.weight_decay;
        match of.decay {
            Decay::Schedule => {
                let hint = "the paper sweeps 1e-5 to 1e-3; it is not multiplied by the learning rate";
                self.number("weight-decay", value, (0.0..=1.0).contains(&value), "from 0 to 1", hint)
            }
            Decay::LearningRate => {
                let (hint, fits) = ("it is multiplied by the learning rate: 0.01 to 0.1 is usual", value >= 0.0);
                let range = "from 0 to 1 / learning-rate";
                self.number("weight-decay", value, fits && value * of.learning_rate <= 1.0, range, hint)
            }
            Decay::Gradient => {
                let hint = "times the weight it is added to the gradient: 1e-4 or 5e-4 is usual";
                self.number("weight-decay", value, (0.0..=1.0).contains(&value), "from 0 to 1", hint)
            }
        }
    }

    fn optimizer(&self, optimizer: &Optimizer) -> Result<(), Fault> {
        match optimizer {
            Optimizer::Adam(adam) => self.adam("optimizer.adam", adam),
            Optimizer::Sgd(sgd) => self.share("optimizer.sgd.momentum", sgd.momentum, "0.9 is usual, 0 is none"),
            Optimizer::Shampoo(of) => {
                let path = |name: &str| format!("optimizer.shampoo.{name}");
                self.whole(&path("block"), of.block, 1, 8192, "the paper's blocks have 128 rows and columns")?;
                let hint = "it is the steps from one computation of roots to the next; the paper's is 1";
                self.whole(&path("every"), of.every, 1, 10_000_000, hint)?;
                let hint = "it is what the statistics keep of themselves at each step; 1 sums them up";
                self.number(&path("beta2"), of.beta2, (0.0..=1.0).contains(&of.beta2), "from 0 to 1", hint)?;
                self.share(&path("momentum"), of.momentum, "0.9 is usual, 0 is none")?;
                let hint = "of the largest eigenvalue, 1e-6 is usual; single precision does not know a ten-millionth";
                let fits = (1e-7..=1.0).contains(&of.epsilon);
                self.number(&path("epsilon"), of.epsilon, fits, "from 1e-7 to 1", hint)?;
                match of.graft {
                    Graft::Sgd => Ok(()),
                    Graft::Adagrad(of) => self.epsilon(&path("graft.adagrad.epsilon"), of.epsilon),
                    Graft::Rmsprop(of) => {
                        self.share(&path("graft.rmsprop.beta2"), of.beta2, "0.999 is Adam's")?;
                        self.epsilon(&path("graft.rmsprop.epsilon"), of.epsilon)
                    }
                }
            }
            Optimizer::Muon(of) => {
                self.share("optimizer.muon.momentum", of.momentum, "0.95 is usual, 0 is none")?;
                self.whole("optimizer.muon.iterations", of.iterations, 1, 100, "Muon's own are 5")?;
                self.adam("optimizer.muon.adam", &of.adam)
            }
        }
    }

    fn adam(&self, path: &str, adam: &Adam) -> Result<(), Fault> {
        self.share(&format!("{path}.beta1"), adam.beta1, "Adam's own are 0.9 and 0.999")?;
        self.share(&format!("{path}.beta2"), adam.beta2, "Adam's own are 0.9 and 0.999")?;
        self.epsilon(&format!("{path}.epsilon"), adam.epsilon)
    }

    fn share(&self, path: &str, value: f64, hint: &str) -> Result<(), Fault> {
        self.number(path, value, (0.0..1.0).contains(&value), "from 0 to below 1", hint)
    }

    fn epsilon(&self, path: &str, value: f64) -> Result<(), Fault> {
        self.number(path, value, value >= 1e-30, "1e-30 or more", "Adam's own is 1e-8")
    }

    /// `path` is `student` or `model`; `resolution` is what it is to see, where that is known.
    pub fn model(&self, path: &str, model: &Model, resolution: Option<u32>) -> Result<(), Fault> {
        match model {
            Model::BitResnetSmall(net) => self.bit_resnet_small(path, net.depth, net.width),
            Model::BitResnet(net) => {
                let path = format!("{path}.bit-resnet");
                if !BitResnet::DEPTHS.contains(&net.depth) {
                    let message = format!("no such network has {} layers", net.depth);
                    return Err(self
                        .fault(&format!("{path}.depth"), message)
                        .hint("the depths are 26, 50, 101 and 152"));
                }
                self.whole(&format!("{path}.width"), net.width, 1, 4, "R50x1 has width 1, the paper's teacher 2")
            }
            Model::Vit(net) => self.vit(&format!("{path}.vit"), net, resolution),
            Model::MobilenetV3(_) => Ok(()),
            Model::CifarResnet(net) if !CifarResnet::DEPTHS.contains(&net.depth) => {
                let message = format!("no such network has {} layers", net.depth);
                let fault = self.fault(&format!("{path}.cifar-resnet.depth"), message);
                Err(fault.hint("the depths are 20, 32, 44, 56 and 110"))
            }
            Model::CifarResnet(_) => Ok(()),
        }
    }

    pub fn normalization(&self, path: &str, value: &Normalization) -> Result<(), Fault> {
        let hint = "of pixels in [0, 1], for red, green and blue: [0.5, 0.5, 0.5] and [0.5, 0.5, 0.5] are [-1, 1]";
        for mean in value.mean {
            self.number(&format!("{path}.mean"), mean, (-10.0..=10.0).contains(&mean), "from -10 to 10", hint)?;
        }
        for std in value.std {
            self.number(&format!("{path}.std"), std, (1e-3..=1e3).contains(&std), "from 0.001 to 1000", hint)?;
        }
        Ok(())
    }

    fn vit(&self, path: &str, net: &Vit, resolution: Option<u32>) -> Result<(), Fault> {
        self.whole(&format!("{path}.depth"), net.depth, 1, 100, "ViT-Ti, S and B have 12 blocks")?;
        self.whole(&format!("{path}.heads"), net.heads, 1, 64, "ViT-Ti has 3 heads, S 6, B 12")?;
        if net.width == 0 || net.width > 4096 || !net.width.is_multiple_of(16 * net.heads) {
            let message = format!("{} channels do not divide into {} heads", net.width, net.heads);
            let hint = "the width is a multiple of 16 times the heads: ViT-Ti has 192 and 3, S 384 and 6, B 768 and 12";
            return Err(self.fault(&format!("{path}.width"), message).hint(hint));
        }
        self.whole(&format!("{path}.patch"), net.patch, 1, 64, "ViTs have patches of 4 to 32 pixels")?;
        match resolution {
            Some(resolution) if !resolution.is_multiple_of(net.patch) => {
                let message = format!("patches of {} pixels do not fill images of {resolution}", net.patch);
                Err(self.fault(&format!("{path}.patch"), message).hint("the patch divides `resolution`"))
            }
            _ => Ok(()),
        }
    }

    fn bit_resnet_small(&self, path: &str, depth: u32, width: u32) -> Result<(), Fault> {
        if !(8..=110).contains(&depth) || depth % 6 != 2 {
            return Err(self
                .fault(&format!("{path}.bit-resnet-small.depth"), format!("no such network has {depth} layers"))
                .hint("the depth is 6 n + 2 for n blocks a stage: 8, 14, 20, ... up to 110"));
        }
        if !(4..=256).contains(&width) || !width.is_multiple_of(4) {
            return Err(self
                .fault(&format!("{path}.bit-resnet-small.width"), format!("no such network has {width} channels"))
                .hint("the width is a multiple of 4, because of GroupNorm, from 4 to 256"));
        }
        Ok(())
    }

    pub fn batch(&self, batch: u32, images: u64) -> Result<(), Fault> {
        if batch < 2 {
            return Err(self
                .fault("batch", format!("`batch` is {batch}, but must be at least 2"))
                .hint("mixup mixes an image with its neighbour in the batch"));
        }
        if u64::from(batch) > images {
            return Err(self
                .fault("batch", format!("`batch` is {batch}, but there are only {images} training images"))
                .hint("an epoch has a step at least: make it smaller, or `split.train` larger"));
        }
        Ok(())
    }

    /// For labels, where 0 is off.
    pub fn mixup(&self, mixup: f64) -> Result<(), Fault> {
        let hint = "it is the p of the Beta(p, p) of the mixing coefficient; 0 is no mixup, 1 is uniform";
        self.number("mixup", mixup, (0.0..=100.0).contains(&mixup), "from 0 to 100", hint)
    }

    pub fn label_smoothing(&self, value: f64) -> Result<(), Fault> {
        let hint = "it is the share of the target that is spread over all classes";
        self.number("label-smoothing", value, (0.0..1.0).contains(&value), "from 0 to below 1", hint)
    }

    pub fn teaching(&self, teaching: &Teaching) -> Result<(), Fault> {
        match *teaching {
            Teaching::FunctionMatching { mixup } | Teaching::IndependentMixup { mixup } => {
                let fits = mixup > 0.0 && mixup <= 100.0;
                let hint = "without mixup, function matching is `teaching = \"consistent/ic\"`";
                self.number("mixup", mixup, fits, "above 0 and up to 100 where images are mixed", hint)
            }
            Teaching::FixedInceptionEnsemble { crops } => {
                self.whole("fixed-crops", crops, 1, 100_000, "the paper takes about a thousand")
            }
            _ => Ok(()),
        }
    }

    pub fn distance(&self, distance: &Distance) -> Result<(), Fault> {
        if let Some(temperature) = distance.temperature() {
            let (path, hint) = (format!("distance.{}.temperature", distance.name()), "the paper sweeps 1, 2, 5 and 10");
            self.number(&path, temperature, (1e-3..=1e3).contains(&temperature), "from 0.001 to 1000", hint)?;
        }
        match *distance {
            Distance::Kl(_) | Distance::Squared | Distance::Euclidean => Ok(()),
            Distance::PseudoLabels(of) => {
                let (path, hint) = ("distance.pseudo-labels.smoothing", "0 is none, 0.1 is usual");
                self.number(path, of.smoothing, (0.0..1.0).contains(&of.smoothing), "from 0 to below 1", hint)
            }
            Distance::Dist(of) => self.parts("distance.dist", [("beta", of.beta), ("gamma", of.gamma)], "1 and 1"),
            Distance::Dkd(of) => self.parts("distance.dkd", [("alpha", of.alpha), ("beta", of.beta)], "1 and 8"),
        }
    }

    /// Weights of two parts of a distance, and its authors'.
    fn parts(&self, path: &str, parts: [(&str, f64); 2], usual: &str) -> Result<(), Fault> {
        let hint = format!("the authors have {usual}");
        for (name, value) in parts {
            self.number(&format!("{path}.{name}"), value, (0.0..=1e3).contains(&value), "from 0 to 1000", &hint)?;
        }
        if parts.iter().all(|(_, value)| *value == 0.0) {
            return Err(self.fault(path, "without weights there is nothing to minimise").hint(hint));
        }
        Ok(())
    }

    pub fn label_weight(&self, value: f64) -> Result<(), Fault> {
        let hint = "it is the share of the labels in the loss: 0 is the paper's; for labels alone write `objective = \"labels\"`";
        self.number("label-weight", value, (0.0..1.0).contains(&value), "from 0 to below 1", hint)
    }

    /// What cannot be combined.
    pub fn distil(&self, distil: &Distil) -> Result<(), Fault> {
        if distil.distance.needs_labels() && distil.teaching.mixes() {
            let name = distil.distance.name();
            let fault = self.fault("distance", format!("`{name}` needs one true class, and mixed images have two"));
            let hint =
                "choose a mode that does not mix, as `consistent/ic`; a `label-weight` brings labels to one that does";
            return Err(fault.hint(hint));
        }
        if distil.ensemble == Ensemble::SumOfKl && !matches!(distil.distance, Distance::Kl(_)) {
            let message = format!("`sum-of-kl` sums divergences, and the distance is `{}`", distil.distance.name());
            return Err(self
                .fault("ensemble", message)
                .hint("`mean-logits` and `mean-probabilities` make one target, to which there is every distance"));
        }
        Ok(())
    }

    /// Last, because it needs the number of steps.
    pub fn warmup(&self, job: &Job) -> Result<(), Fault> {
        match job.warmup {
            Warmup::Share(share) => {
                let hint = "it is the share of the job's steps; `warmup = { steps = 1500 }` counts them";
                self.number("warmup.share", share, (0.0..=1.0).contains(&share), "from 0 to 1", hint)
            }
            Warmup::Steps(steps) if steps > job.total_steps() => {
                let message =
                    format!("the warm-up of {steps} steps is longer than the job, which has {}", job.total_steps());
                Err(self.fault("warmup.steps", message).hint("`warmup = { share = 0.1 }` suits jobs of every length"))
            }
            Warmup::Steps(_) => Ok(()),
        }
    }

    pub fn whole(&self, path: &str, value: u32, low: u32, high: u32, hint: &str) -> Result<(), Fault> {
        if (low..=high).contains(&value) {
            return Ok(());
        }
        Err(self.fault(path, format!("`{}` is {value}, but must be from {low} to {high}", last(path))).hint(hint))
    }

    fn crop(&self, crop: &Crop) -> Result<(), Fault> {
        let [low, high] = crop.area;
        let hint = "it is the smallest and the largest share of the image, for instance `[0.05, 1.0]`";
        self.pair(
            "crop.area",
            crop.area,
            0.0 < low && low <= high && high <= 1.0,
            "0 < smallest <= largest <= 1",
            hint,
        )?;
        let [low, high] = crop.aspect;
        let hint = "it is the narrowest and the widest ratio of width to height, for instance `[0.75, 1.333]`";
        self.pair("crop.aspect", crop.aspect, 0.0 < low && low <= high, "0 < narrowest <= widest", hint)?;
        self.whole("crop.tries", crop.tries, 1, 1_000_000, "after so many boxes the whole image is taken")?;
        let hint = "the image is resized to `resolution * margin` and `resolution` is cut from it; 1 cuts nothing";
        self.number("crop.margin", crop.margin, (1.0..=4.0).contains(&crop.margin), "from 1 to 4", hint)
    }

    fn pair(&self, path: &str, [low, high]: [f64; 2], fits: bool, range: &str, hint: &str) -> Result<(), Fault> {
        if fits && high.is_finite() {
            return Ok(());
        }
        Err(self.fault(path, format!("`{}` is [{low}, {high}], but must be {range}", last(path))).hint(hint))
    }

    fn number(&self, path: &str, value: f64, fits: bool, range: &str, hint: &str) -> Result<(), Fault> {
        if !value.is_finite() {
            return Err(self.fault(path, format!("`{}` is not a finite number", last(path))).hint(hint));
        }
        if !fits {
            return Err(self.fault(path, format!("`{}` is {value}, but must be {range}", last(path))).hint(hint));
        }
        Ok(())
    }
}

fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}
