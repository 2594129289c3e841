//! Curves a line high.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `width` characters at most, from the lowest of the values to the highest; neighbours are averaged where there are more.
/// What is not finite is a gap.
pub fn spark(values: &[f64], width: usize) -> String {
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
    let bar = |point: &f64| {
        if !point.is_finite() {
            return ' ';
        }
        // A flat line is one at half height.
        let share = if most > least { (point - least) / (most - least) } else { 0.5 };
        BARS[((share * 8.0) as usize).min(7)]
    };
    points.iter().map(bar).collect()
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
}
