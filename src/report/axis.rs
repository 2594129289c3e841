//! Scales and ticks: from values to points, and which values are written down.

/// From a value to its place on the page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    logarithmic: bool,
    /// First and last value, not equal.
    pub domain: [f64; 2],
    /// Where these lie, in points.
    pub range: [f64; 2],
}

/// A value that is written beside an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    pub value: f64,
    pub text: String,
}

impl Axis {
    pub fn new(logarithmic: bool, domain: [f64; 2], range: [f64; 2]) -> Axis {
        Axis { logarithmic, domain, range }
    }

    pub fn place(&self, value: f64) -> f64 {
        let at = |value: f64| if self.logarithmic { value.ln() } else { value };
        let [low, high] = self.domain.map(at);
        let [from, to] = self.range;
        from + (at(value) - low) / (high - low) * (to - from)
    }
}

/// The domain that holds `values` with room at both ends, so that nothing is drawn on the frame or beyond it.
pub fn domain(values: impl IntoIterator<Item = f64>, logarithmic: bool) -> [f64; 2] {
    let forward = |value: f64| if logarithmic { value.ln() } else { value };
    let back = |value: f64| if logarithmic { value.exp() } else { value };
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        low = low.min(forward(value));
        high = high.max(forward(value));
    }
    if low > high {
        return [back(0.0), back(1.0)];
    }
    // Equal values still need a scale: a twentieth of their size, or 1 around zero.
    let spread = high - low;
    let room = if spread > 1e-9 * high.abs().max(low.abs()) {
        0.08 * spread
    } else if high == 0.0 || logarithmic {
        1.0
    } else {
        0.05 * high.abs()
    };
    // What is never negative gets no room below zero.
    let floor = if !logarithmic && low >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
    [back((low - room).max(floor)), back(high + room)]
}

/// Round steps on a linear axis, about `count` of them.
pub fn linear_steps([low, high]: [f64; 2], count: u32, whole: bool) -> Vec<f64> {
    let rough = (high - low) / f64::from(count.max(1));
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * 0.999).unwrap_or(10.0);
    let mut step = factor * power;
    if whole {
        step = step.ceil().max(1.0);
    }
    let first = (low / step).ceil();
    let last = (high / step).floor();
    let mut steps = Vec::new();
    let mut at = first;
    while at <= last {
        // Whole multiples, not sums: no 0.30000000000000004.
        // Adding zero makes -0 a plain 0.
        steps.push(at * step + 0.0);
        at += 1.0;
    }
    steps
}

/// 1, 2, 5 of each power of ten, only the powers where there are many, round steps where the span is short.
pub fn log_steps([low, high]: [f64; 2]) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let decades = (high / low).log10();
    let factors: &[f64] = if decades > 3.0 {
        &[1.0]
    } else if decades > 1.7 {
        &[1.0, 3.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let stride = if decades > 6.0 { (decades / 6.0).ceil() as usize } else { 1 };
    let steps: Vec<f64> = (first..=last)
        .step_by(stride)
        .flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)))
        .filter(|step| (low..=high).contains(step))
        .collect();
    if steps.len() < 3 { linear_steps([low, high], 4, false) } else { steps }
}

/// Ticks of a value axis: one number of decimals for all of them, `%` at each share.
pub fn value_ticks(domain: [f64; 2], logarithmic: bool, share: bool, count: u32) -> Vec<Tick> {
    let steps = if logarithmic { log_steps(domain) } else { linear_steps(domain, count, false) };
    // Nobody is right on more than all images, though the axis leaves room above 100 %.
    let steps: Vec<f64> = steps.into_iter().filter(|step| !share || (0.0..=1.0 + 1e-12).contains(step)).collect();
    let factor = if share { 100.0 } else { 1.0 };
    let largest = steps.iter().fold(0.0_f64, |largest, step| largest.max(step.abs()));
    let scientific = !share && largest > 0.0 && !(1e-3..1e6).contains(&largest);
    let each = logarithmic && !share;
    let shared = if each { 0 } else { steps.iter().map(|step| decimals(step * factor)).max().unwrap_or(0) };
    steps
        .into_iter()
        .map(|value| {
            let shown = value * factor;
            let text = if scientific || (each && value < 1e-3) {
                power_text(shown)
            } else {
                let places = if each { decimals(shown) } else { shared };
                format!("{shown:.places$}")
            };
            let text = text.replace('-', "\u{2212}");
            Tick { value, text: if share { format!("{text}\u{a0}%") } else { text } }
        })
        .collect()
}

/// Ticks at these numbers of epochs and nowhere else. `1k` only where all large ones are whole thousands.
pub fn epoch_ticks(epochs: &[u32]) -> Vec<Tick> {
    let round = |unit: u32| epochs.iter().all(|&epochs| epochs < unit || epochs.is_multiple_of(unit));
    epochs
        .iter()
        .map(|&epochs| {
            let text = match epochs {
                1_000_000.. if round(1_000_000) => format!("{}M", epochs / 1_000_000),
                1_000.. if round(1_000) => format!("{}k", epochs / 1_000),
                _ => epochs.to_string(),
            };
            Tick { value: f64::from(epochs), text }
        })
        .collect()
}

/// Decimals until a number of the 1, 2, 2.5, 5 family is exact.
fn decimals(value: f64) -> usize {
    (0..9).find(|&places| (value - round_to(value, places)).abs() <= 1e-9 * value.abs()).unwrap_or(9) as usize
}

fn round_to(value: f64, places: i32) -> f64 {
    let power = 10_f64.powi(places);
    (value * power).round() / power
}

/// `3×10⁻⁴`, with raised figures so that it is plain text.
fn power_text(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:e}");
    let Some((digits, power)) = text.split_once('e') else { return text };
    let raised: String = power
        .chars()
        .map(|letter| match letter.to_digit(10) {
            Some(digit) => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit as usize],
            None => '⁻',
        })
        .collect();
    let digits = digits.parse::<f64>().map_or(digits.to_owned(), |digits| round_to(digits, 2).to_string());
    if digits == "1" { format!("10{raised}") } else { format!("{digits}×10{raised}") }
}
