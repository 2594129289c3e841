//! Positions of a square of patches brought to another: a vision transformer at another resolution.

/// As timm's `resample_abs_pos_embed`: the tokens before the patches stay, the rest is a picture that is resized by
/// bicubic interpolation with a wider kernel where it shrinks (torch's `antialias=True`).
///
/// # Shapes
/// `numbers` `[prefix + before², width]` to `[prefix + after², width]`.
pub fn resampled(numbers: &[f32], prefix: usize, (before, after): (usize, usize), width: usize) -> Vec<f32> {
    let (tokens, patches) = numbers.split_at(prefix * width);
    let taps: Vec<(usize, Vec<f64>)> = (0..after).map(|place| taps(place, before, after)).collect();
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

/// The first place that output `place` reads, and its weights.
fn taps(place: usize, before: usize, after: usize) -> (usize, Vec<f64>) {
    let scale = before as f64 / after as f64;
    let wide = scale.max(1.0);
    let (centre, support) = (scale * (place as f64 + 0.5), 2.0 * wide);
    let first = ((centre - support + 0.5).floor().max(0.0)) as usize;
    let end = ((centre + support + 0.5).floor() as usize).min(before);
    let weights: Vec<f64> = (first..end).map(|from| cubic((from as f64 - centre + 0.5) / wide)).collect();
    let sum: f64 = weights.iter().sum();
    (first, weights.into_iter().map(|weight| weight / sum).collect())
}

/// Keys' kernel with a = -0.5, as torch has it where it resizes without aliasing.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
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
