//! The messages of serde and of the TOML parser in words for people who write experiment files.
//!
//! serde hands over text only, so the text is taken apart. What is not recognised passes through unchanged; the
//! snapshots of malformed files notice when a new version of either crate words something differently.

/// Message and hint of a message of `toml` or `serde`.
pub(super) fn reword(message: &str) -> (String, Option<String>) {
    if let Some(rest) = message.strip_prefix("missing field ") {
        return (format!("{rest} is missing"), None);
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return unknown("key", rest);
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return unknown("value", rest);
    }
    if message.starts_with("invalid type: unit variant") {
        return ("this choice needs its settings".to_owned(), None);
    }
    if let Some(rest) = message.strip_suffix(", expected nothing") {
        return (rest.to_owned(), None);
    }
    for start in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) = message.strip_prefix(start).and_then(|rest| rest.rsplit_once(", expected ")) {
            // The type is right where the value is wrong; what fits no 64 bits is announced by its type.
            let is_range = start == "invalid value: " && expected.starts_with('u') || found.ends_with("128");
            let range = if is_range { ", neither negative nor huge" } else { "" };
            return (format!("expected {}{range}, found {}", plain_type(expected), plain_value(found)), None);
        }
    }
    if let Some((length, expected)) =
        message.strip_prefix("invalid length ").and_then(|rest| rest.split_once(", expected "))
    {
        return (format!("expected {}, found {length}", plain_type(expected)), None);
    }
    match message {
        "duplicate key" => ("this key is given twice".to_owned(), Some("keep one of the two".to_owned())),
        "invalid basic string, expected `\"`" => {
            ("this string does not end".to_owned(), Some("a string ends in its line, with `\"`".to_owned()))
        }
        "wanted string or table" => ("expected a name or a table".to_owned(), None),
        "wanted exactly 1 element, found 0 elements" => ("an empty table is no choice".to_owned(), None),
        "wanted exactly 1 element, more than 1 element" => {
            ("this table makes more than one choice".to_owned(), Some("keep one of its keys".to_owned()))
        }
        _ => (message.to_owned(), None),
    }
}

/// The known name that was probably meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let score = |candidate: &str| strsim::jaro_winkler(name, candidate);
    let best = known.into_iter().map(|candidate| (score(candidate), candidate)).max_by(|a, b| a.0.total_cmp(&b.0));
    // Below this, short words begin to resemble everything.
    best.filter(|(score, _)| *score > 0.78).map(|(_, candidate)| candidate)
}

/// A hint for a name that is none of `known`: the nearest, else all of them.
pub fn one_of<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let all: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
            match all.as_slice() {
                [] => "there is nothing to choose from".to_owned(),
                [only] => format!("expected {only}"),
                _ => format!("expected one of {}", all.join(", ")),
            }
        }
    }
}

/// From "`x`, expected one of `a`, `b`" or "`x`, there are no fields".
fn unknown(what: &str, rest: &str) -> (String, Option<String>) {
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let Some(name) = quoted.next() else { return (format!("unknown {what} {rest}"), None) };
    let known: Vec<&str> = quoted.collect();
    (format!("unknown {what} `{name}`"), Some(one_of(name, known)))
}

fn plain_type(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a string" | "string" => "a string".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        "variant identifier" => "a name".to_owned(),
        _ => match expected.strip_prefix("an array of length ") {
            Some(length) => format!("a list of {length}"),
            None if expected.starts_with("struct ") => "a table".to_owned(),
            None if expected.starts_with("enum ") => "a name or a table".to_owned(),
            None => expected.to_owned(),
        },
    }
}

fn plain_value(found: &str) -> String {
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "a table".to_owned(),
        _ => match found.split_once(' ') {
            Some(("integer" | "boolean", value)) => {
                value.trim_end_matches(" as i128").trim_end_matches(" as u128").to_owned()
            }
            Some(("floating", value)) => value.trim_start_matches("point ").to_owned(),
            Some(("string", value)) => format!("the string `{}`", value.trim_matches('"')),
            _ => found.to_owned(),
        },
    }
}
