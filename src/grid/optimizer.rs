//! Optimisers as they are written: a name alone, or a table with what differs from its defaults.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Defaults;
use super::merge::merge;

/// Lays the defaults of the chosen optimiser under what a job's table says of it. What is no optimiser stays for serde to
/// refuse.
pub(super) fn complete<'t>(table: &mut DeTable<'t>, defaults: &Defaults<'t>) {
    choose(table, "optimizer", &defaults.optimizers);
    let shampoo = table.get_mut("optimizer").and_then(|choice| inner(choice)?.get_mut("shampoo"));
    if let Some(settings) = shampoo.and_then(inner) {
        choose(settings, "graft", &defaults.grafts);
    }
}

/// A choice under `key` gets the settings it lacks; one that is only named gets all.
fn choose<'t>(table: &mut DeTable<'t>, key: &str, defaults: &DeTable<'t>) {
    let Some(value) = table.get_mut(key) else { return };
    let span = value.span();
    match value.get_mut() {
        DeValue::String(name) => {
            let Some(settings) = defaults.get(name.as_ref()) else { return };
            let mut choice = DeTable::new();
            choice.insert(Spanned::new(span, name.clone()), settings.clone());
            *value.get_mut() = DeValue::Table(choice);
        }
        DeValue::Table(choice) => {
            for (name, settings) in choice.iter_mut() {
                let under = defaults.get(name.get_ref().as_ref()).and_then(|value| value.get_ref().as_table());
                if let (Some(under), Some(given)) = (under, inner(settings)) {
                    let mut all = under.clone();
                    merge(&mut all, given);
                    *given = all;
                }
            }
        }
        _ => {}
    }
}

fn inner<'a, 't>(value: &'a mut Spanned<DeValue<'t>>) -> Option<&'a mut DeTable<'t>> {
    match value.get_mut() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}
