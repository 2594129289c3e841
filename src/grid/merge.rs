//! TOML tables laid over one another. Spans stay with the words they belong to, whichever table these came from.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

pub(super) type Key<'t> = Spanned<DeString<'t>>;
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// Keys that hold a choice, written as a table with the choice's name as its only key. Another choice replaces the
/// whole; merged key by key the result would be two choices at once.
const CHOICES: [&str; 12] = [
    "answers",
    "augment",
    "clip",
    "data",
    "distance",
    "graft",
    "init",
    "model",
    "optimizer",
    "schedule",
    "student",
    "warmup",
];

/// Lays the job keys of `from` over those of `into`: tables key by key, everything else replaces.
pub(super) fn merge<'t>(into: &mut DeTable<'t>, from: &DeTable<'t>) {
    for (key, value) in from.iter() {
        merge_entry(into, key, value);
    }
}

/// A table that holds `value` at `path`.
pub(super) fn nested<'t>(path: &[Key<'t>], value: Value<'t>) -> DeTable<'t> {
    let Some((first, rest)) = path.split_first() else { return DeTable::new() };
    let inner = if rest.is_empty() {
        value
    } else {
        let span = value.span();
        Spanned::new(span, DeValue::Table(nested(rest, value)))
    };
    let mut table = DeTable::new();
    table.insert(first.clone(), inner);
    table
}

/// The value at a dotted path.
pub(super) fn find<'a, 't>(table: &'a DeTable<'t>, path: &str) -> Option<&'a Value<'t>> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = table.get(first)?;
    match rest {
        None => Some(value),
        Some(rest) => find(value.get_ref().as_table()?, rest),
    }
}

/// The keys as they stand in the text; the map itself sorts them.
pub(super) fn in_order<'a, 't>(table: &'a DeTable<'t>) -> impl Iterator<Item = &'a Key<'t>> {
    let mut keys: Vec<&Key<'t>> = table.keys().collect();
    keys.sort_by_key(|key| key.span().start);
    keys.into_iter()
}

/// Where the value at a dotted path is written, or the nearest table around it.
pub(super) fn span_of(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    match find(table, path) {
        Some(value) => Some(value.span()),
        None => span_of(table, path.rsplit_once('.')?.0),
    }
}

/// Whether two values say the same, however they are written: `1` and `1.0`, inline table and dotted key.
pub(super) fn same(a: &DeValue<'_>, b: &DeValue<'_>) -> bool {
    match (a, b) {
        (DeValue::String(a), DeValue::String(b)) => a == b,
        (DeValue::Boolean(a), DeValue::Boolean(b)) => a == b,
        (DeValue::Array(a), DeValue::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a.get_ref(), b.get_ref()))
        }
        (DeValue::Table(a), DeValue::Table(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key.get_ref().as_ref()).is_some_and(|b| same(a.get_ref(), b.get_ref())))
        }
        // Seeds are compared as integers: as floating-point numbers, two large ones could be taken for one.
        (DeValue::Integer(a), DeValue::Integer(b)) => {
            i128::from_str_radix(a.as_str(), a.radix()) == i128::from_str_radix(b.as_str(), b.radix())
        }
        _ => matches!((number(a), number(b)), (Some(a), Some(b)) if a == b),
    }
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|i| i as f64),
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    }
}

fn merge_entry<'t>(into: &mut DeTable<'t>, key: &Key<'t>, value: &Value<'t>) {
    let name = key.get_ref().as_ref();
    let choice = CHOICES.contains(&name);
    if let (Some(below), DeValue::Table(above)) = (into.get_mut(name), value.get_ref())
        && let DeValue::Table(below) = below.get_mut()
        && (!choice || above.keys().all(|tag| below.contains_key(tag.get_ref().as_ref())))
    {
        for (key, value) in above.iter() {
            merge_entry(below, key, value);
        }
        return;
    }
    // Removed first: an insert alone would keep the old key and with it the old key's place.
    into.remove(name);
    into.insert(key.clone(), value.clone());
}
