//! The names of job keys, each with an example for hints. What they mean is `job_text`'s.

use std::ops::Range;

use toml::de::DeTable;

/// Job keys and how each is written.
const KEYS: [(&str, &str); 26] = [
    ("batch", "batch = 512"),
    ("clip", "clip = { norm = 1.0 }` or `clip = \"off\""),
    ("crop", "crop = { area = [0.05, 1.0], aspect = [0.75, 1.333], tries = 100, margin = 1.25 }"),
    ("data", "data = \"fashion-mnist-8k2k\"` or `data = { idx = \"folder\" }"),
    ("distance", "distance = { kl = { temperature = 1.0 } }"),
    ("ensemble", "ensemble = \"mean-logits\""),
    ("epochs", "epochs = 100"),
    ("fixed-crops", "fixed-crops = 1024"),
    ("flip", "flip = true"),
    ("init", "init = \"scratch\""),
    ("label-smoothing", "label-smoothing = 0.1"),
    ("learning-rate", "learning-rate = 1e-3"),
    ("mixup", "mixup = 1.0"),
    ("objective", "objective = \"labels\""),
    ("optimizer", "optimizer = { adam = { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } }"),
    ("precision", "precision = \"f32\""),
    ("resolution", "resolution = 28"),
    ("schedule", "schedule = \"cosine\""),
    ("seed", "seed = 0"),
    ("split", "split = { train = \"train[:7000]\", validation = \"train[7000:]\", test = \"test\" }"),
    ("student", "student = { bit-resnet-small = { depth = 8, width = 16 } }"),
    ("teachers", "teachers = [\"big\"]"),
    ("teaching", "teaching = \"function-matching\""),
    ("view", "view = \"ic\""),
    ("warmup", "warmup = { share = 0.1 }` or `warmup = { steps = 1500 }"),
    ("weight-decay", "weight-decay = 1e-4"),
];

/// Keys that only a distilled student has, or that mean something else to one.
pub(super) const DISTILLATION: [&str; 6] = ["distance", "ensemble", "fixed-crops", "mixup", "teachers", "teaching"];

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
    let within = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let exact = table.iter().find(|(_, value)| within(value.span()));
    // Dotted keys: the value at the top spans its first part only, so the nearest key before is taken.
    let before = || {
        let earlier = table.iter().filter(|(key, _)| key.span().start <= span.start);
        earlier.max_by_key(|(key, _)| key.span().start)
    };
    let (key, _) = exact.or_else(before)?;
    example(key.get_ref())
}
