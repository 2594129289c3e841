//! Two images made one. An image's partner is the one before it in the batch, the first one's is the last.

use std::ops::Range;

use super::random::Stream;

/// How the images of a batch are mixed with their partners, one way for all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mixed {
    /// `share` of an image's own numbers, the rest of its partner's.
    Mixup { share: f64 },
    /// The partner's numbers inside a box: left, top, right and bottom edge in shares of the side, see [`cut_box`].
    Cutmix { cut: [f64; 4] },
}

impl Mixed {
    /// The share of an image of this side that stays its own, and of its label.
    pub fn share(&self, side: usize) -> f64 {
        match *self {
            Mixed::Mixup { share } => share,
            Mixed::Cutmix { cut } => kept(cut, side),
        }
    }
}

/// The batch rolled by one.
pub fn partner(i: usize, batch: usize) -> usize {
    (i + batch - 1) % batch
}

/// Labels as probabilities `[N, classes]`: `share` of an image's own, the rest of its partner's, then smoothed.
pub fn mix_labels(labels: &[u32], classes: usize, share: f64, smoothing: f64) -> Vec<f32> {
    let mut targets = vec![(smoothing / classes as f64) as f32; labels.len() * classes];
    for (i, row) in targets.chunks_exact_mut(classes).enumerate() {
        row[labels[i] as usize] += ((1.0 - smoothing) * share) as f32;
        row[labels[partner(i, labels.len())] as usize] += ((1.0 - smoothing) * (1.0 - share)) as f32;
    }
    targets
}

/// Images `[N, S, S, C]`, flat, mixed.
pub fn mix(images: &[f32], side: usize, channels: usize, way: Mixed) -> Vec<f32> {
    let size = side * side * channels;
    let count = images.len() / size;
    let partners = (0..count).map(|i| &images[partner(i, count) * size..][..size]);
    let pairs = images.chunks_exact(size).zip(partners);
    let mut mixed = Vec::with_capacity(images.len());
    match way {
        Mixed::Mixup { share } => {
            let share = share as f32;
            for (own, other) in pairs {
                mixed.extend(own.iter().zip(other).map(|(a, b)| a * share + b * (1.0 - share)));
            }
        }
        Mixed::Cutmix { cut } => {
            let [columns, rows] = in_box(cut, side);
            for (own, other) in pairs {
                let start = mixed.len();
                mixed.extend_from_slice(own);
                for y in rows.clone() {
                    let range = (y * side + columns.start) * channels..(y * side + columns.end) * channels;
                    mixed[start..][range.clone()].copy_from_slice(&other[range]);
                }
            }
        }
    }
    mixed
}

/// A square that leaves `share` of an image, each place where it lies wholly inside equally likely.
///
/// CutMix's authors draw the centre and cut off what lies outside, so that more is left than was drawn; here the label's
/// share is the one that was drawn, but for whole pixels.
pub fn cut_box(share: f64, stream: &mut Stream) -> [f64; 4] {
    let side = (1.0 - share).sqrt();
    let (left, top) = (stream.unit() * (1.0 - side), stream.unit() * (1.0 - side));
    [left, top, left + side, top + side]
}

/// Columns and rows of the pixels whose centres lie in a box, of an image of this side.
pub fn in_box(cut: [f64; 4], side: usize) -> [Range<usize>; 2] {
    // The first pixel whose centre is not before the edge.
    let [left, top, right, bottom] = cut.map(|edge| ((edge * side as f64 - 0.5).ceil() as usize).min(side));
    [left..right, top..bottom]
}

/// The share of an image's pixels that stay.
pub fn kept(cut: [f64; 4], side: usize) -> f64 {
    let [columns, rows] = in_box(cut, side);
    1.0 - (columns.len() * rows.len()) as f64 / (side * side) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::random::Purpose;

    const SIDE: usize = 5;
    const SIZE: usize = SIDE * SIDE * 2;

    /// Three images whose every number says where it is.
    fn images() -> Vec<f32> {
        (0..3 * SIZE).map(|i| i as f32).collect()
    }

    #[test]
    fn mixup_is_a_weighted_mean() {
        let images = images();
        let mixed = mix(&images, SIDE, 2, Mixed::Mixup { share: 0.75 });
        let expected = |i: usize| 0.75 * images[i] + 0.25 * images[(i + 2 * SIZE) % (3 * SIZE)];
        assert!(mixed.iter().enumerate().all(|(i, x)| (x - expected(i)).abs() < 1e-4), "{mixed:?}");
        assert_eq!(Mixed::Mixup { share: 0.75 }.share(SIDE), 0.75);
    }

    #[test]
    fn cutmix_takes_the_pixels_whose_centres_lie_in_the_box() {
        let images = images();
        // Centres are at 0.1, 0.3, 0.5, 0.7 and 0.9: columns 1 and 2, rows 2 to 4.
        let cut = [0.15, 0.5, 0.7, 1.0];
        assert_eq!(in_box(cut, SIDE), [1..3, 2..5]);
        let mixed = mix(&images, SIDE, 2, Mixed::Cutmix { cut });
        for (i, found) in mixed.iter().enumerate() {
            let (x, y) = (i / 2 % SIDE, i % SIZE / 2 / SIDE);
            let other = (1..3).contains(&x) && (2..5).contains(&y);
            assert_eq!(*found, images[if other { (i + 2 * SIZE) % (3 * SIZE) } else { i }], "{x}, {y}");
        }
        assert_eq!(Mixed::Cutmix { cut }.share(SIDE), 1.0 - 6.0 / 25.0);
        // Nothing, and everything.
        assert_eq!(mix(&images, SIDE, 2, Mixed::Cutmix { cut: [0.3; 4] }), images);
        let rolled = [&images[2 * SIZE..], &images[..2 * SIZE]].concat();
        assert_eq!(mix(&images, SIDE, 2, Mixed::Cutmix { cut: [0.0, 0.0, 1.0, 1.0] }), rolled);
    }

    /// Inside the image, of the size that was asked for, anywhere.
    #[test]
    fn boxes_leave_the_share_that_was_drawn() {
        let mut stream = Stream::new(2, Purpose::TeacherMix, 0);
        let mut centre = [0.0; 2];
        for draw in 0..20_000 {
            let share = 0.5 + f64::from(draw % 11) / 20.0;
            let cut = cut_box(share, &mut stream);
            let [left, top, right, bottom] = cut;
            assert!(left >= 0.0 && top >= 0.0 && right < 1.0 + 1e-12 && bottom < 1.0 + 1e-12, "{cut:?}");
            assert!(((right - left) * (bottom - top) - (1.0 - share)).abs() < 1e-12, "{cut:?} for {share}");
            // At most half a pixel more or less at each of four edges.
            assert!((kept(cut, 224) - share).abs() <= 2.0 / 224.0 + 1e-4, "{cut:?} for {share}");
            centre[0] += (left + right) / 2.0 / 20_000.0;
            centre[1] += (top + bottom) / 2.0 / 20_000.0;
        }
        // Standard deviation of a mean: under 0.0021.
        assert!(centre.iter().all(|mean| (mean - 0.5).abs() < 0.008), "{centre:?}");
        assert_eq!(kept(cut_box(1.0, &mut stream), 224), 1.0);
    }
}
