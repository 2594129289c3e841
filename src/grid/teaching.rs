//! The names of teaching modes.

use crate::diagnostic::nearest;
use crate::job::Teaching;

const MODES: [&str; 9] = [
    "fixed/rs",
    "fixed/cc",
    "fixed/ic-ens",
    "independent/rc",
    "independent/ic",
    "consistent/rc",
    "consistent/ic",
    "function-matching",
    "independent-mixup",
];

/// `mixup` and `crops` are of the modes that have them.
pub(super) fn teaching(name: &str, mixup: f64, crops: u32) -> Option<Teaching> {
    Some(match name {
        "fixed/rs" => Teaching::FixedResize,
        "fixed/cc" => Teaching::FixedCentralCrop,
        "fixed/ic-ens" => Teaching::FixedInceptionEnsemble { crops },
        "independent/rc" => Teaching::IndependentMildCrop,
        "independent/ic" => Teaching::IndependentInceptionCrop,
        "consistent/rc" => Teaching::ConsistentMildCrop,
        "consistent/ic" => Teaching::ConsistentInceptionCrop,
        "function-matching" => Teaching::FunctionMatching { mixup },
        "independent-mixup" => Teaching::IndependentMixup { mixup },
        _ => return None,
    })
}

/// A hint for who wrote `name`.
pub(super) fn modes(name: &str) -> String {
    let all = MODES.map(|mode| format!("`{mode}`")).join(", ");
    match nearest(name, MODES) {
        Some(near) => format!("did you mean `{near}`? The modes are {all}"),
        None => format!("the modes are {all}"),
    }
}
