//! Positions of a square of patches brought to another: a vision transformer at another resolution.

use crate::train::resample::Filter;

/// As timm's `resample_abs_pos_embed`: the tokens before the patches stay, the rest is a picture that is resized by
/// bicubic interpolation with a wider kernel where it shrinks (torch's `antialias=True`).
///
/// # Shapes
/// `numbers` `[prefix + before², width]` to `[prefix + after², width]`.
pub fn resampled(numbers: &[f32], prefix: usize, (before, after): (usize, usize), width: usize) -> Vec<f32> {
    let (tokens, patches) = numbers.split_at(prefix * width);
    let taps: Vec<(usize, Vec<f64>)> = (0..after).map(|place| Filter::Cubic.taps(place, before, after)).collect();
    let mut wide = vec![0f64; before * after * width];
    for (row, to) in wide.chunks_exact_mut(after * width).enumerate() {
        for (to, (first, weights)) in to.chunks_exact_mut(width).zip(&taps) {
            for (column, weight) in (*first..).zip(weights) {
                let from = &patches[(row * before + column) * width..][..width];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * f64::from(*from));
            }
        }
    }
    let mut made = tokens.to_vec();
    for (first, weights) in &taps {
        let mut row = vec![0f64; after * width];
        for (from, weight) in (*first..).zip(weights) {
            let from = &wide[from * after * width..][..after * width];
            row.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
        }
        made.extend(row.into_iter().map(|number| number as f32));
    }
    made
}

/// From one network's `[1, T, C]` to another's; none where they differ by more than the resolution.
pub(super) fn fitted(numbers: &[f32], from: &[usize], to: &[usize]) -> Option<Vec<f32>> {
    let ([1, before, width], [1, after, same]) = (from, to) else { return None };
    let side = |patches: usize| Some(patches.isqrt()).filter(|side| *side > 0 && side * side == patches);
    // A class token or none: both networks have the same, or it would be missing.
    let prefix = if side(*after).is_some() { 0 } else { 1 };
    let sides = (side(before.checked_sub(prefix)?)?, side(after - prefix)?);
    (width == same).then(|| resampled(numbers, prefix, sides, *width))
}
