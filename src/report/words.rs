//! Names of places as a reader says them, and numbers as sentences have them.

pub use crate::words::counted;

/// The place of an axis in words: a choice with its settings without braces, a list without brackets.
pub fn shown(axis: &str, name: &str) -> String {
    match (axis, name) {
        ("teaching", "labels") => "labels only".to_owned(),
        ("teaching", name) => name.replace('-', " ").replace("ic ens", "ic-ens"),
        // `["t16", "t28"]`: t16 + t28.
        (_, name) if name.starts_with('[') && name.contains('"') && !name.contains('{') => {
            let items = name.trim_matches(['[', ']']).split(',').map(|item| item.trim().trim_matches('"'));
            items.filter(|item| !item.is_empty()).collect::<Vec<_>>().join(" + ")
        }
        // `{ kl = { temperature = 4.0 } }`: kl, temperature 4.0.
        (_, name) if name.starts_with(['{', '[']) && name.contains('{') => {
            let words = name.replace("={", "= {").replace("= {", ", ");
            let words = words.replace("}, {", " + ").replace(['{', '}', '=', '"'], " ").replace("[ ", "");
            let words = words.strip_suffix(']').map_or(words.as_str(), |words| words);
            words.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ,", ",")
        }
        _ => name.to_owned(),
    }
}

/// With a true minus and a sign: `+4.3`, `−0.2`; what rounds to zero has none.
pub fn signed(number: f64, decimals: usize) -> String {
    let text = format!("{number:+.decimals$}");
    if text.trim_start_matches(['+', '-']).chars().all(|letter| matches!(letter, '0' | '.')) {
        return text.trim_start_matches(['+', '-']).to_owned();
    }
    text.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_said_without_its_braces() {
        let said = |name| shown("distance", name);
        assert_eq!(said("euclidean"), "euclidean");
        assert_eq!(said("{ kl = { temperature = 4.0 } }"), "kl, temperature 4.0");
        assert_eq!(said("{dkd={ alpha = 1, beta = 8, temperature=4}}"), "dkd, alpha 1, beta 8, temperature 4");
        assert_eq!(shown("schedule", "{ cooldown = 0.2 }"), "cooldown 0.2");
        assert_eq!(shown("teachers", r#"["t16", "t28"]"#), "t16 + t28");
        assert_eq!(shown("init", r#"{ teacher = { name = "big", head = "reset" } }"#), "teacher, name big, head reset");
        assert_eq!(
            shown("train-on", r#"[{ data = "a", weight = 1.0 }, { data = "b", weight = 2.0 }]"#),
            "data a, weight 1.0 + data b, weight 2.0"
        );
        assert_eq!(shown("crop.area", "[0.25, 1.0]"), "[0.25, 1.0]");
    }

    #[test]
    fn signs_are_only_where_something_is() {
        assert_eq!(
            (signed(4.26, 1), signed(-0.2, 1), signed(-0.04, 1)),
            ("+4.3".into(), "\u{2212}0.2".into(), "0.0".into())
        );
        assert_eq!((counted(1, "seed"), counted(3, "seed")), ("1 seed".into(), "3 seeds".into()));
    }
}
