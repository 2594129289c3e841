//! Panels that are repeated for each place of an axis.

use crate::report::spec::{AtEpochs, Kind, Panel, Place, Report};

use super::place::{EPOCHS, Ground};
use super::{sort_places, stands_in};

/// One panel for each place of its facet; itself where it has none, or no job stands there.
pub fn faceted(report: &Report, panel: &Panel, ground: &Ground) -> Vec<Panel> {
    let Some(axis) = &panel.facet else { return vec![panel.clone()] };
    let here = ground.points.iter().filter(|outcome| stands_in(panel, outcome, ground));
    let mut places: Vec<String> = Vec::new();
    for place in here.filter_map(|outcome| ground.place_on(outcome, axis)) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    sort_places(&mut places, axis);
    if places.is_empty() {
        return vec![panel.clone()];
    }
    let several = places.len() > 1;
    let of_place = |place: String| {
        let mut own = Panel { facet: None, ..panel.clone() };
        let shown = report.shown(axis, &place);
        if several {
            let shown = if axis == EPOCHS { format!("{shown} epochs") } else { shown };
            own.title = format!("{}, {shown}", panel.title);
        }
        match (&mut own.kind, place.parse()) {
            (Kind::Curves { at, .. } | Kind::Bars { at, .. }, Ok(epochs)) if axis == EPOCHS => {
                *at = AtEpochs::Epochs(epochs);
            }
            (Kind::Scatter { at, .. }, Ok(epochs)) if axis == EPOCHS => *at = Some(epochs),
            _ => {
                own.filter.insert(axis.clone(), Place(place));
                own.facet = Some(axis.clone());
            }
        }
        own
    };
    places.into_iter().map(of_place).collect()
}
