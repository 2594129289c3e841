//! One experiment in several sizes: `[sizes.NAME]` holds what is other than in the rest of the file.
//!
//! The same question is asked on a laptop in minutes, on a GPU box in days, and as the paper asked it. A size may have a
//! title, `run`, `teachers` and `base`, which are laid over the file's, and `grid`, which takes the place of the file's.

use toml::de::{DeTable, DeValue};

use super::document::{Section, expected, merge_teacher, section, take_table};
use super::merge::{self, merge};
use super::text::{Fault, Texts};
use crate::diagnostic::one_of;

/// What sizes are called.
pub const SIZES: [&str; 3] = ["small", "box", "paper"];

const SECTIONS: [&str; 5] = ["title", "run", "teachers", "base", "grid"];

/// Lays the size that was asked for, or else the file's first, over `file`; its name.
pub(super) fn lay_over<'t>(file: &mut DeTable<'t>, texts: &'t Texts) -> Result<Option<String>, Fault> {
    let sizes = take_table(file, "sizes")?;
    let wanted = wanted(texts)?;
    let Some(Section { span, table: sizes }) = sizes else {
        return match wanted {
            None => Ok(None),
            Some((at, _)) => Err(Fault::new(at, "this experiment has no sizes")
                .hint("what `[sizes.small]`, `[sizes.box]` and `[sizes.paper]` hold is laid over the rest of a file")),
        };
    };
    if let Some(name) = merge::in_order(&sizes).find(|name| !SIZES.contains(&name.get_ref().as_ref())) {
        let fault = Fault::new(name.span(), format!("`{}` is no size", name.get_ref()));
        return Err(fault.hint(one_of(name.get_ref(), SIZES)));
    }
    let Some(first) = merge::in_order(&sizes).next().map(|name| name.get_ref().as_ref()) else {
        return Err(Fault::new(span, "there is no size here").hint("for instance `[sizes.small.base]`"));
    };
    let name = match &wanted {
        None => first,
        Some((at, wanted)) => match sizes.keys().find(|name| name.get_ref() == wanted) {
            Some(name) => name.get_ref().as_ref(),
            None => {
                let known: Vec<&str> = sizes.keys().map(|name| name.get_ref().as_ref()).collect();
                let fault = Fault::new(at.clone(), format!("this experiment has no size `{wanted}`"));
                return Err(fault.hint(one_of(wanted, known.iter().copied())));
            }
        },
    };
    for (name, value) in sizes.iter() {
        let Section { table, .. } = section(value.clone())?;
        if let Some(key) = merge::in_order(&table).find(|key| !SECTIONS.contains(&key.get_ref().as_ref())) {
            let fault =
                Fault::new(key.span(), format!("unknown section `{}` of size `{}`", key.get_ref(), name.get_ref()));
            return Err(fault.hint(one_of(key.get_ref(), SECTIONS)));
        }
    }
    let Some(chosen) = sizes.get(name).and_then(|value| value.get_ref().as_table()) else { return Ok(None) };
    for (key, value) in chosen.iter() {
        let word = key.get_ref().as_ref();
        match (word, file.get_mut(word).map(|below| below.get_mut()), value.get_ref()) {
            ("run" | "base", Some(DeValue::Table(below)), DeValue::Table(above)) => merge(below, above),
            ("teachers", Some(DeValue::Table(below)), DeValue::Table(above)) => lay_teachers(below, above),
            (_, Some(DeValue::Table(_)), above) => {
                let fault = expected("a table", value.span(), above);
                return Err(fault.hint("a size holds what is other than in the rest of the file, in the same sections"));
            }
            _ => {
                file.remove(word);
                file.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(Some(name.to_owned()))
}

/// By name; a teacher that is of another kind than the file's, weights instead of one to be trained, takes its place.
fn lay_teachers<'t>(below: &mut DeTable<'t>, above: &DeTable<'t>) {
    for (name, value) in above.iter() {
        match (below.get_mut(name.get_ref().as_ref()).map(|below| below.get_mut()), value.get_ref()) {
            (Some(DeValue::Table(under)), DeValue::Table(over))
                if kind(under) == kind(over) || kind(over).is_none() =>
            {
                merge_teacher(under, over);
            }
            _ => {
                below.remove(name.get_ref().as_ref());
                below.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Whether a teacher is trained or read.
fn kind(teacher: &DeTable<'_>) -> Option<&'static str> {
    ["train", "weights"].into_iter().find(|key| teacher.contains_key(*key))
}

/// `size=NAME` of the command line, the last one.
fn wanted(texts: &Texts) -> Result<Option<(std::ops::Range<usize>, String)>, Fault> {
    let mut wanted = None;
    for table in texts.overrides() {
        if let Some(value) = table?.get("size") {
            match value.get_ref() {
                DeValue::String(name) => wanted = Some((value.span(), name.to_string())),
                other => return Err(expected("a size", value.span(), other).hint("for instance `size=small`")),
            }
        }
    }
    Ok(wanted)
}
