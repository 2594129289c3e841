//! The horizontal axis of a plot: its domain, its ticks, and which of their texts fit.

use crate::report::axis::{self, Axis, Tick};
use crate::report::font::{self, Weight};
use crate::report::numbers::{Across, Drawn, Run};
use crate::report::spec::{Amount, Horizontal};

use super::Frame;
use super::plot::{SIDE, TICK_SIZE};

pub struct Ruler {
    pub axis: Axis,
    pub ticks: Vec<Tick>,
}

/// Of a panel that is drawn into `frame`.
pub fn ruler(panel: &Drawn, frame: Frame) -> Ruler {
    let range = [frame.left + SIDE, frame.right - SIDE];
    match panel.across {
        Across::Within(amount) => {
            let last = runs(panel).map(|run| run.x).fold(0.0, f64::max);
            let axis = Axis::new(false, [0.0, if last > 0.0 { last } else { 1.0 }], [frame.left, frame.right - SIDE]);
            let ticks = match amount {
                Amount::Epochs => {
                    let steps = axis::linear_steps(axis.domain, 4, true);
                    axis::epoch_ticks(&steps.into_iter().map(|step| step as u32).collect::<Vec<_>>())
                }
                _ => axis::value_ticks(axis.domain, false, false, 3),
            };
            Ruler { axis, ticks }
        }
        Across::Durations(Amount::Epochs) => {
            let epochs = panel.epochs();
            let ends = [epochs.first().copied().unwrap_or(1), epochs.last().copied().unwrap_or(1)].map(f64::from);
            Ruler { axis: lengths(ends, range, frame), ticks: axis::epoch_ticks(&epochs) }
        }
        Across::Durations(_) | Across::Other(Horizontal::Amount(_)) => {
            let xs = runs(panel).map(|run| run.x).filter(|x| *x > 0.0);
            let (low, high) = xs.fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
            let axis = lengths(if low > high { [1.0, 1.0] } else { [low, high] }, range, frame);
            let ticks = axis::value_ticks(axis.domain, true, false, 4);
            Ruler { axis, ticks }
        }
        Across::Other(Horizontal::Value(value)) => {
            let domain = axis::domain(runs(panel).map(|run| run.x), false);
            let ticks = axis::value_ticks(domain, false, value.is_share(), 4);
            Ruler { axis: Axis::new(false, domain, range), ticks }
        }
        Across::Bars { .. } | Across::Table(_) => {
            Ruler { axis: Axis::new(false, [0.0, 1.0], range), ticks: Vec::new() }
        }
    }
}

fn runs(panel: &Drawn) -> impl Iterator<Item = &Run> {
    panel.series.iter().flat_map(|series| series.runs.iter().chain(&series.others))
}

/// A single length stands in the middle.
fn lengths([first, last]: [f64; 2], range: [f64; 2], frame: Frame) -> Axis {
    if first == last {
        Axis::new(true, [first / 2.0, first * 2.0], [frame.left, frame.right])
    } else {
        Axis::new(true, [first, last], range)
    }
}

/// The ticks whose text fits: the ends, then from the left. Every tick keeps its line.
pub fn readable(ticks: &[Tick], axis: Axis) -> Vec<(f64, &str)> {
    let mut order: Vec<&Tick> = ticks.iter().collect();
    if order.len() > 2 {
        let last = order.remove(order.len() - 1);
        order.insert(1, last);
    }
    let mut taken: Vec<(f64, f64)> = Vec::new();
    let mut shown = Vec::new();
    for tick in order {
        let (at, half) = (axis.place(tick.value), font::width(&tick.text, TICK_SIZE, Weight::Regular) / 2.0 + 4.0);
        if taken.iter().all(|&(from, to)| at + half <= from || at - half >= to) {
            taken.push((at - half, at + half));
            shown.push((at, tick.text.as_str()));
        }
    }
    shown
}
