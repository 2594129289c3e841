//! The names of job keys, each with an example for hints. What they mean is `job_text`'s.

use std::ops::Range;

use toml::de::DeTable;

use super::merge::Value;

/// Job keys and how each is written.
const KEYS: [(&str, &str); 36] = [
    ("answers", "answers = \"live\"` or `answers = { replay = { epochs = 10 } }"),
    (
        "augment",
        "augment = \"off\"`, `augment = \"trivial-augment\"` or `augment = { rand-augment = { operations = 2, magnitude = 9 } }",
    ),
    ("batch", "batch = 512"),
    ("clip", "clip = { norm = 1.0 }` or `clip = \"off\""),
    ("crop", "crop = { area = [0.05, 1.0], aspect = [0.75, 1.333], tries = 100, margin = 1.25 }"),
    (
        "data",
        "data = \"fashion-mnist-8k2k\"`, `data = \"hf:owner/name\"` or `data = { folder = \"DIR\" }`; `idx`, `parquet`, `cifar`, `tar` and `csv` are other kinds: `data = { idx = \"DIR\" }",
    ),
    ("decay", "decay = \"schedule\"`, `learning-rate` or `gradient"),
    ("decode", "decode = \"full\"` or `decode = \"reduced\""),
    (
        "distance",
        "distance = { kl = { temperature = 1.0, scale = \"squared\" } }`, `distance = \"squared\"`, `\"euclidean\"`, `{ pseudo-labels = { smoothing = 0.1 } }`, `{ dist = { beta = 1.0, gamma = 1.0, temperature = 1.0 } }` or `{ dkd = { alpha = 1.0, beta = 8.0, temperature = 4.0 } }",
    ),
    ("ema", "ema = { decay = 0.9999 }` or `ema = \"off\""),
    ("ensemble", "ensemble = \"mean-logits\"`, `\"mean-probabilities\"` or `\"sum-of-kl\""),
    ("epochs", "epochs = 100"),
    ("fixed-crops", "fixed-crops = 1024"),
    ("flip", "flip = true"),
    (
        "init",
        "init = \"scratch\"`, `init = { weights = { file = \"hf:owner/name\", head = \"reset\" } }` or `init = { teacher = { name = \"big\", head = \"keep\" } }",
    ),
    ("label-smoothing", "label-smoothing = 0.1"),
    ("label-weight", "label-weight = 0.5"),
    ("learning-rate", "learning-rate = 1e-3"),
    ("mixing", "mixing = \"mixup\"` or `mixing = \"cutmix\""),
    ("mixup", "mixup = 1.0"),
    ("objective", "objective = \"labels\""),
    (
        "optimizer",
        "optimizer = \"adam\"`, `sgd`, `shampoo` or `muon`, or with settings that differ from its own: `optimizer = { adam = { beta2 = 0.99 } }`, `optimizer = { sgd = { momentum = 0.9, nesterov = true } }`, `optimizer = { shampoo = { block = 128, every = 10, graft = { rmsprop = { beta2 = 0.99 } } } }`, `optimizer = { muon = { momentum = 0.95 } }",
    ),
    ("precision", "precision = \"f32\"` or `precision = \"bf16\""),
    ("resize", "resize = \"bilinear\"`, `resize = \"bilinear-antialias\"` or `resize = \"bicubic\""),
    ("resolution", "resolution = 28"),
    ("schedule", "schedule = \"cosine\"`, `linear`, `quadratic`, `constant` or `schedule = { cooldown = 0.2 }"),
    ("seed", "seed = 0"),
    ("split", "split = { train = \"train[:7000]\", validation = \"train[7000:]\", test = \"test\" }"),
    ("student", "student = { bit-resnet-small = { depth = 8, width = 16 } }"),
    ("teacher-weights", "teacher-weights = [2.0, 1.0]` or `teacher-weights = \"equal\""),
    ("teachers", "teachers = [\"big\"]"),
    ("teaching", "teaching = \"function-matching\""),
    (
        "train-on",
        "train-on = [{ data = { folder = \"DIR\" }, split = \"train\", weight = 2.0 }, { data = \"food101\", weight = 1.0 }]",
    ),
    ("view", "view = \"ic\""),
    ("warmup", "warmup = { share = 0.1 }` or `warmup = { steps = 1500 }"),
    ("weight-decay", "weight-decay = 1e-4"),
];

/// Keys that only a distilled student has, or that mean something else to one.
pub(super) const DISTILLATION: [&str; 9] = [
    "answers",
    "distance",
    "ensemble",
    "fixed-crops",
    "label-weight",
    "mixup",
    "teacher-weights",
    "teachers",
    "teaching",
];

pub(super) fn names() -> impl Iterator<Item = &'static str> + Clone {
    KEYS.into_iter().map(|(name, _)| name)
}

pub(super) fn is_job_key(name: &str) -> bool {
    names().any(|key| key == name)
}

/// A hint that shows how a key is written.
pub(super) fn example(name: &str) -> Option<String> {
    KEYS.iter().find(|(key, _)| *key == name).map(|(_, example)| format!("for instance `{example}`"))
}

/// The example of the key whose value `span` lies in.
pub(super) fn example_around(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let (key, _) = table.iter().find(|(_, value)| holds(value, span))?;
    example(key.get_ref())
}

/// A merged table spans only where it was first written, so its values are asked too.
fn holds(value: &Value<'_>, span: &Range<usize>) -> bool {
    let outer = value.span();
    (outer.start <= span.start && span.end <= outer.end)
        || value.get_ref().as_table().is_some_and(|table| table.values().any(|value| holds(value, span)))
}
