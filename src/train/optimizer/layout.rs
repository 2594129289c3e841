//! What an optimiser knows of a network's flat vector: which numbers decay, and which are a matrix together.

use std::ops::Range;

use crate::train::model::{Blueprint, Role};

#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Numbers of the vector.
    pub len: usize,
    /// In order, as [`Blueprint::decayed`].
    pub decayed: Vec<Range<usize>>,
    /// Weights of convolutions and linear layers, in order.
    pub matrices: Vec<Matrix>,
}

/// `[rows, columns]`: output channels, and input channels with the places of the window.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    pub place: Range<usize>,
    pub rows: usize,
    pub columns: usize,
    /// Whether it is the last layer's.
    pub head: bool,
}

impl Layout {
    pub fn new(blueprint: &Blueprint) -> Layout {
        let matrices = blueprint.places().filter_map(|(entry, place)| {
            let matrix = matches!(entry.role, Role::Kernel | Role::Linear | Role::Head) && !entry.is_empty();
            let rows = *entry.shape.first()?;
            matrix.then(|| Matrix { rows, columns: place.len() / rows, head: entry.role == Role::Head, place })
        });
        Layout { len: blueprint.len(), decayed: blueprint.decayed(), matrices: matrices.collect() }
    }
}

/// The runs of a piece that starts at `start`, relative to it, and whether each lies in one of the `marked` ranges, which
/// are in order.
pub(super) fn runs(start: usize, len: usize, marked: &[Range<usize>]) -> impl Iterator<Item = (Range<usize>, bool)> {
    let end = start + len;
    let first = marked.partition_point(|range| range.end <= start);
    let mut inside = marked[first..].iter().take_while(move |range| range.start < end).peekable();
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (to, is_marked) = match inside.peek() {
            Some(range) if range.start <= at => (range.end.min(end), true),
            Some(range) => (range.start, false),
            None => (end, false),
        };
        if inside.peek().is_some_and(|range| range.end <= to) {
            inside.next();
        }
        let run = at - start..to - start;
        at = to;
        Some((run, is_marked))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_a_piece() {
        let marked = [3..7, 10..40, 50..60];
        for start in 0..65 {
            for len in 1..66 - start {
                let mut found = vec![None; len];
                for (range, inside) in runs(start, len, &marked) {
                    found[range].iter_mut().for_each(|to| assert_eq!(to.replace(inside), None));
                }
                for (i, found) in found.iter().enumerate() {
                    let inside = marked.iter().any(|range| range.contains(&(start + i)));
                    assert_eq!(*found, Some(inside), "{start} + {i} of {len}");
                }
            }
        }
    }
}
