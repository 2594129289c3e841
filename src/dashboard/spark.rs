//! Curves of blocks, a line high and several.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `width` characters at most, from the lowest of the values to the highest; neighbours are averaged where there are more.
/// What is not finite is a gap.
pub fn spark(values: &[f64], width: usize) -> String {
    shares(values, width)
        .into_iter()
        .map(|share| share.map_or(' ', |share| BARS[((share * 8.0) as usize).min(7)]))
        .collect()
}

/// The same, `height` lines high and as wide as `width`; the area below the curve is filled.
pub fn area(values: &[f64], width: usize, height: usize) -> Vec<String> {
    let shares = shares(&stretched(values, width), width);
    let eighths = |share: f64| 1 + (share * (8 * height - 1) as f64).round() as usize;
    let line = |above: usize| {
        let cell = |share: &Option<f64>| {
            let filled = share.map_or(0, eighths).saturating_sub(8 * above).min(8);
            if filled == 0 { ' ' } else { BARS[filled - 1] }
        };
        shares.iter().map(cell).collect()
    };
    (0..height).rev().map(line).collect()
}

/// As many values as there are columns, where there are fewer.
fn stretched(values: &[f64], width: usize) -> Vec<f64> {
    if values.is_empty() || values.len() >= width {
        return values.to_vec();
    }
    (0..width).map(|at| values[at * values.len() / width]).collect()
}

/// Where each of `width` points at most lies between lowest and highest, 0 to 1; none where it is not finite.
fn shares(values: &[f64], width: usize) -> Vec<Option<f64>> {
    let count = values.len().min(width);
    let bound = |at: usize| at * values.len() / count.max(1);
    let points: Vec<f64> = (0..count)
        .map(|at| {
            let stretch = &values[bound(at)..bound(at + 1)];
            stretch.iter().sum::<f64>() / stretch.len() as f64
        })
        .collect();
    let finite = || points.iter().copied().filter(|point| point.is_finite());
    let (least, most) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    // A flat line is one at half height.
    let share = |point: f64| if most > least { (point - least) / (most - least) } else { 0.5 };
    points.into_iter().map(|point| point.is_finite().then(|| share(point))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_fill_the_line_and_no_more() {
        assert_eq!(spark(&[], 5), "");
        assert_eq!(spark(&[3.0], 5), "▅");
        assert_eq!(spark(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 8), "▁▂▃▄▅▆▇█");
        assert_eq!(spark(&[7.0, 7.0, 0.0, 0.0], 2), "█▁");
        assert_eq!(spark(&[1.0, f64::NAN, 0.0], 3), "█ ▁");
        assert_eq!(spark(&[1.0; 100], 7).chars().count(), 7);
        assert_eq!(spark(&[1.0; 100], 0), "");
    }

    #[test]
    fn areas_are_filled_from_below() {
        assert_eq!(area(&[0.0, 1.0], 4, 2), ["  ██", "▁▁██"]);
        assert_eq!(area(&[0.0, 0.5, 1.0], 3, 3), ["  █", " ▅█", "▁██"]);
        assert_eq!(area(&[], 4, 2), ["", ""]);
        assert_eq!(area(&[f64::NAN, 1.0], 2, 1), [" ▅"]);
    }
}
