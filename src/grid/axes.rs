//! What every job key means, for people: the source of the table of axes.

/// A job key, each of which can be an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    pub name: &'static str,
    pub meaning: &'static str,
    /// Section or table of arXiv 2106.05237, or another paper; empty where none of it speaks of it.
    pub source: &'static str,
}

/// In the order in which a person asks: who learns what from whom, shown what, for how long, how.
pub const AXES: [Axis; 36] = [
    axis(
        "teaching",
        "what teacher and student are shown: fixed answers, independent or consistent views, function matching",
        "section 3, Figures 1, 3, 9-12",
    ),
    axis("epochs", "for how long: passes over the training images", "section 4, Figures 1 and 4, Table 4"),
    axis("teachers", "who is asked; several are an ensemble, each at its own resolution", "section 5, Table 3"),
    axis(
        "ensemble",
        "how several teachers become one target: mean of logits, mean of probabilities, or the sum of a divergence from each",
        "section 5, Table 3",
    ),
    axis("teacher-weights", "how much each of several teachers counts", ""),
    axis(
        "answers",
        "whether a teacher goes on answering, or its answers to the views of the first epochs are replayed",
        "arXiv 2303.08983",
    ),
    axis("fixed-crops", "of `fixed/ic-ens`: crops of an image whose answers are averaged", "section 3, Figure 3"),
    axis("student", "which network learns", "section 6, Tables 2 and 3"),
    axis("init", "what it starts from: nothing, trained weights, or another job's", "Figure 5"),
    axis("resolution", "side in pixels of what the student sees", "Table 1"),
    axis(
        "data",
        "the images and classes it is measured on, and trained on unless `train-on` says otherwise",
        "Table 5",
    ),
    axis("train-on", "other images to learn from, or mixtures of several sets with weights", "Figure 6"),
    axis("split", "which images are for training, validation and test, and how many of a class", "Table 5"),
    axis("objective", "whether it learns from teachers or from labels alone", "Figure 7"),
    axis(
        "distance",
        "what is minimised between the logits of teacher and student, and at which temperature",
        "section 3, Table 4; arXiv 2205.10536, 2203.08679",
    ),
    axis("label-weight", "the share of labels in the loss beside a teacher", ""),
    axis("label-smoothing", "of labels, where they are learnt from", ""),
    axis("view", "of `objective = \"labels\"`: the window that the student is shown", "section 3"),
    axis("crop", "how large, how narrow, how central windows are", "section 3"),
    axis("flip", "whether half of the views are mirrored", "section 3"),
    axis("resize", "how a window becomes an image of the resolution", ""),
    axis("decode", "whether JPEGs are decoded in full or at the scale a window needs", ""),
    axis("augment", "RandAugment or TrivialAugment on top of crop and flip", "arXiv 1909.13719, 2103.10158"),
    axis("mixup", "p of Beta(p, p), from which the share of a mixed-in image is drawn", "section 3, Figure 7"),
    axis("mixing", "whether images are averaged or pasted into one another", "arXiv 1905.04899"),
    axis("optimizer", "Adam, SGD, Shampoo or Muon", "Figure 5, appendix D"),
    axis("learning-rate", "its peak", "section 4, Table 4"),
    axis("schedule", "how the learning rate falls after the warm-up", "section 4, appendix D"),
    axis("warmup", "steps, or share of all steps, in which it rises", "section 4"),
    axis("weight-decay", "how fast weights fade", "section 4, Table 4"),
    axis(
        "decay",
        "whether that follows the schedule (the paper's), the learning rate (torch's AdamW) or is part of the gradient",
        "section 4",
    ),
    axis("clip", "the largest norm of a gradient", "section 4"),
    axis("batch", "images a step", "section 4"),
    axis("ema", "a moving average of the weights, measured in their place", ""),
    axis("precision", "whether products are rounded to bf16", ""),
    axis("seed", "of order, views, mixing and initialisation", ""),
];

const fn axis(name: &'static str, meaning: &'static str, source: &'static str) -> Axis {
    Axis { name, meaning, source }
}

/// How its value is written.
pub fn example(name: &str) -> Option<String> {
    super::key::example(name).map(|hint| hint.trim_start_matches("for instance ").to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_job_key_is_explained_once() {
        let explained: BTreeSet<&str> = AXES.iter().map(|axis| axis.name).collect();
        assert_eq!(explained.len(), AXES.len());
        assert_eq!(explained, super::super::key::names().collect::<BTreeSet<_>>());
        assert!(AXES.iter().all(|axis| example(axis.name).is_some_and(|example| example.starts_with('`'))));
    }
}
