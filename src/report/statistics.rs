//! Means and intervals over seeds.

/// A confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Upper 2.5 % points of Student's t with 1 to 30 degrees of freedom.
const T_975: [f64; 30] = [
    12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004, 2.262_157, 2.228_139,
    2.200_985, 2.178_813, 2.160_369, 2.144_787, 2.131_450, 2.119_905, 2.109_816, 2.100_922, 2.093_024, 2.085_963,
    2.079_614, 2.073_873, 2.068_658, 2.063_899, 2.059_539, 2.055_529, 2.051_831, 2.048_407, 2.045_230, 2.042_272,
];

/// None for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The 95 % interval of the mean of normal values; none below three, where it says next to nothing.
pub fn t_interval(values: &[f64]) -> Option<Interval> {
    if values.len() < 3 {
        return None;
    }
    let n = values.len() as f64;
    let mean = mean(values)?;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = t_quantile(values.len() - 1)? * (variance / n).sqrt();
    Some(Interval { low: mean - half, high: mean + half })
}

/// The 97.5 % quantile of Student's t. Above the table by the expansion around the normal quantile (Abramowitz and
/// Stegun 26.7.5), there exact to six digits; a library of distributions for one quantile is not worth its weight.
pub fn t_quantile(freedom: usize) -> Option<f64> {
    if freedom == 0 {
        return None;
    }
    if let Some(&quantile) = T_975.get(freedom - 1) {
        return Some(quantile);
    }
    let z = 1.959_963_984_540_054_f64;
    let v = freedom as f64;
    let g1 = (z.powi(3) + z) / 4.0;
    let g2 = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let g3 = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    Some(z + g1 / v + g2 / v.powi(2) + g3 / v.powi(3))
}
