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

/// The ticks whose text fits: both ends, and of those between as many as there is room for, evenly. Every tick keeps its
/// line.
pub fn readable(ticks: &[Tick], axis: Axis) -> Vec<(f64, &str)> {
    let placed: Vec<(f64, f64, &str)> = ticks
        .iter()
        .map(|tick| {
            let half = font::width(&tick.text, TICK_SIZE, Weight::Regular) / 2.0 + 4.0;
            (axis.place(tick.value), half, tick.text.as_str())
        })
        .collect();
    let room = |a: usize, b: usize| (placed[b].0 - placed[b].1) - (placed[a].0 + placed[a].1);
    let (Some(last), true) = (placed.len().checked_sub(1), placed.windows(2).all(|pair| pair[0].0 <= pair[1].0)) else {
        return placed.iter().take(1).map(|&(at, _, text)| (at, text)).collect();
    };
    // Of every tick the best way to it from the first: how many are shown, and the tightest gap on the way.
    let mut best: Vec<Option<(usize, f64, usize)>> = vec![None; placed.len()];
    best[0] = Some((1, f64::INFINITY, 0));
    for to in 1..placed.len() {
        for from in 0..to {
            let Some((count, gap, _)) = best[from].filter(|_| room(from, to) >= 0.0) else { continue };
            let way = (count + 1, gap.min(room(from, to)), from);
            if best[to].is_none_or(|known| (way.0, way.1) > (known.0, known.1)) {
                best[to] = Some(way);
            }
        }
    }
    let mut shown = Vec::new();
    // Ends that do not both fit: the first stands.
    let mut at = if best[last].is_some() { last } else { 0 };
    loop {
        shown.push((placed[at].0, placed[at].2));
        match best[at] {
            Some((_, _, before)) if at > 0 => at = before,
            _ => break,
        }
    }
    shown.reverse();
    shown
}
