//! What a run's evaluations say only together: a student that forgets everything, never learns, or stands still.
//!
//! A flag ends nothing; it is there for whoever reads the numbers. The paper itself has a run that fell to chance
//! (paper.md 11.3).

use serde::{Deserialize, Serialize};

use super::metric::is_chance;
use crate::event::{Evaluation, Flag};

/// Evaluations with one and the same loss to the last bit before that is called standing still.
const STILL: u32 = 5;

/// What was seen so far; part of a checkpoint, so that a resumed run goes on watching.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Watch {
    /// Whether it was clearly better than guessing.
    learnt: bool,
    /// The loss, and how many evaluations in a row had it.
    loss: Option<f64>,
    same: u32,
    /// What was said already.
    told: Vec<Flag>,
}

impl Watch {
    /// Looks at the validation split after `epoch`; says what is new.
    pub fn look(&mut self, validation: &Evaluation, classes: u32, epoch: u32, is_last: bool) -> Vec<(Flag, String)> {
        let Evaluation { top1, images, loss, .. } = *validation;
        let mut found = Vec::new();
        let at_chance = is_chance(top1, images, classes);
        // Three times as good as guessing, or a good part of the way from it to perfection where classes are few: what is less
        // may be the flicker of a student that has not begun to learn.
        let chance = 1.0 / f64::from(classes);
        self.learnt |= !at_chance && top1 > (3.0 * chance).min(chance + 0.25 * (1.0 - chance));
        let percent = 100.0 * top1;
        if at_chance && self.learnt {
            let message = format!("fell to chance by epoch {epoch}: {percent:.1} % of the validation images");
            found.push((Flag::Collapsed, message));
        } else if at_chance && is_last {
            let message =
                format!("never better than guessing: {percent:.1} % of the validation images after {epoch} epochs");
            found.push((Flag::AtChance, message));
        }
        self.same = if self.loss == Some(loss) { self.same + 1 } else { 1 };
        self.loss = Some(loss);
        // Who has all images right for sure has nothing left to lose.
        if self.same >= STILL && top1 < 1.0 {
            let message = format!("the validation loss was {loss} in {STILL} evaluations in a row, by epoch {epoch}");
            found.push((Flag::Constant, message));
        }
        found.retain(|(flag, _)| !self.told.contains(flag));
        self.told.extend(found.iter().map(|(flag, _)| *flag));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Which;
    use crate::train::metric::Answers;

    /// What is flagged of a run with these accuracies on 1,000 images of 10 classes.
    fn flags(accuracies: &[f64], losses: impl Fn(usize) -> f64) -> Vec<(u32, Flag)> {
        flags_of(10, accuracies, losses)
    }

    fn flags_of(classes: u32, accuracies: &[f64], losses: impl Fn(usize) -> f64) -> Vec<(u32, Flag)> {
        let answers = Answers { logits: &[0.0; 10], labels: &[0], classes: 10 };
        let blank = Evaluation { images: 1000, ..answers.evaluate(Which::Validation, None, false) };
        let mut watch = Watch::default();
        let mut all = Vec::new();
        for (i, top1) in accuracies.iter().enumerate() {
            let validation = Evaluation { top1: *top1, loss: losses(i), ..blank.clone() };
            let epoch = i as u32 + 1;
            let said = watch.look(&validation, classes, epoch, i + 1 == accuracies.len());
            all.extend(said.into_iter().map(|(flag, _)| (epoch, flag)));
            // As through a checkpoint.
            watch = serde_json::from_str(&serde_json::to_string(&watch).unwrap()).unwrap();
        }
        all
    }

    #[test]
    fn falling_to_chance_is_said_once_and_slow_beginnings_are_not() {
        let falling = |i| i as f64;
        assert_eq!(flags(&[0.1, 0.3, 0.6, 0.1, 0.1, 0.1], falling), [(4, Flag::Collapsed)]);
        assert_eq!(flags(&[0.1, 0.13, 0.1, 0.14, 0.1, 0.4], falling), []);
        assert_eq!(flags(&[0.1, 0.11, 0.1], falling), [(3, Flag::AtChance)]);
        // Of two classes, half right is chance.
        assert_eq!(flags_of(2, &[0.52, 0.92, 1.0, 0.49, 0.51], falling), [(4, Flag::Collapsed)]);
        assert_eq!(flags_of(2, &[0.52, 0.54, 0.51], falling), [(3, Flag::AtChance)]);
        // Beginnings of students that went on to learn: 17 classes of which few images are looked at, and 10.
        assert_eq!(flags_of(17, &[0.119, 0.119, 0.128, 0.128, 0.05, 0.2, 0.642], falling), []);
        assert_eq!(flags(&[0.154, 0.151, 0.096, 0.173], falling), []);
        assert_eq!(flags(&[0.14, 0.143, 0.102, 0.277], falling), []);
        // Of many classes a small share is much.
        assert_eq!(flags_of(1000, &[0.05, 0.1, 0.001], falling), [(3, Flag::Collapsed)]);
        // Seen only now and then.
        assert_eq!(flags(&[0.8, 0.1], falling), [(2, Flag::Collapsed)]);
    }

    #[test]
    fn standing_still_is_said() {
        assert_eq!(flags(&[0.5; 8], |_| 2.5), [(5, Flag::Constant)]);
        assert_eq!(flags(&[0.5; 8], |i| if i == 4 { 2.4 } else { 2.5 }), []);
        assert_eq!(flags(&[1.0; 8], |_| 0.0), []);
    }
}
