//! One panel, of whatever kind.
//!
//! [`plan`] decides everything that has a size before there is a page (ticks, wrapped labels), so that the figure can
//! give each panel the room it needs; [`Plan::draw`] then puts it into that room.

mod bars;
mod plot;
mod ruler;
mod sheet;

use super::canvas::Canvas;
use super::numbers::{Across, Drawn, Series};
use super::theme::{Look, Theme};

use bars::Bars;
use plot::Plot;
use sheet::Sheet;

pub use plot::TICK_SIZE;

/// What a panel will draw, and the room it needs.
pub enum Plan<'a> {
    Plot(Box<Plot<'a>>),
    Bars(Box<Bars<'a>>),
    Sheet(Box<Sheet>),
}

/// The plot itself, in points.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

pub fn plan(panel: &Drawn, theme: Theme) -> Plan<'_> {
    match panel.across {
        Across::Bars { from_zero } => Plan::Bars(Box::new(Bars::plan(panel, theme, from_zero))),
        Across::Table(columns) => Plan::Sheet(Box::new(Sheet::plan(panel, theme, columns))),
        _ => Plan::Plot(Box::new(Plot::plan(panel, theme))),
    }
}

impl Plan<'_> {
    /// Room left of the plot, for ticks or names.
    pub fn left(&self) -> f64 {
        match self {
            Plan::Plot(plot) => plot.left(),
            Plan::Bars(bars) => bars.left(),
            Plan::Sheet(_) => 0.0,
        }
    }

    /// Room right of it, for labels or numbers.
    pub fn right(&self) -> f64 {
        match self {
            Plan::Plot(plot) => plot.right(),
            Plan::Bars(bars) => bars.right(),
            Plan::Sheet(_) => 0.0,
        }
    }

    /// How wide the plot must be, where that is not for the figure to say.
    pub fn width(&self) -> Option<f64> {
        match self {
            Plan::Sheet(sheet) => Some(sheet.width()),
            _ => None,
        }
    }

    /// How tall the plot is, where that is not for the figure to say.
    pub fn height(&self) -> Option<f64> {
        match self {
            Plan::Plot(_) => None,
            Plan::Bars(bars) => Some(bars.height()),
            Plan::Sheet(sheet) => Some(sheet.height()),
        }
    }

    /// The least height of the plot in which no label meets another.
    pub fn least_height(&self) -> f64 {
        match self {
            Plan::Plot(plot) => plot.least_height(),
            _ => 0.0,
        }
    }

    /// The words under the ticks of the horizontal axis, where it has one.
    pub fn across_title(&self) -> Option<String> {
        match self {
            Plan::Plot(plot) => Some(plot.across_title()),
            Plan::Bars(_) | Plan::Sheet(_) => None,
        }
    }

    /// Whether there are ticks below the plot.
    pub fn has_ticks(&self) -> bool {
        !matches!(self, Plan::Sheet(_))
    }

    pub fn draw(&self, canvas: &mut Canvas, frame: Frame, titled: bool) {
        match self {
            Plan::Plot(plot) => plot.draw(canvas, frame, titled),
            Plan::Bars(bars) => bars.draw(canvas, frame),
            Plan::Sheet(sheet) => sheet.draw(canvas, frame),
        }
    }
}

/// How a line looks: that of a teaching mode, or of its place among the others.
fn look(theme: Theme, series: &Series) -> Look {
    theme.look(series.look.as_deref(), series.place)
}
