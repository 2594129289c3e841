//! The sections of an experiment file, taken apart and laid over the defaults; what is inside a job is not looked at.
//!
//! Input: [`Texts`]. Output: a [`Document`], with the command line's `run.*` and `teachers.NAME.*` already merged in.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key;
use super::merge::{self, Key, merge};
use super::size;
use super::text::{Fault, Texts};
use crate::diagnostic::{nearest, one_of};
use crate::plan::{Checkpoints, Evaluations, Halving, Retries, RunSettings, Site};
use crate::source::Keep;

pub(super) struct Document<'t> {
    pub title: Option<String>,
    /// Of the file's sizes, the one that was asked for, or the first.
    pub size: Option<String>,
    pub run: RunSettings,
    /// Where that is said, for what only the whole can tell is wrong with it.
    pub run_span: Range<usize>,
    pub site: Site,
    /// By name, in file order.
    pub teachers: Vec<(Key<'t>, Section<'t>)>,
    pub base: Section<'t>,
    pub blocks: Vec<Section<'t>>,
    /// Job keys given on the command line.
    pub overrides: DeTable<'t>,
    pub defaults: Defaults<'t>,
}

/// A table and where its header stands.
#[derive(Clone)]
pub(super) struct Section<'t> {
    pub span: Range<usize>,
    pub table: DeTable<'t>,
}

/// The built-in values of job keys, for each objective.
pub(super) struct Defaults<'t> {
    pub labels: DeTable<'t>,
    pub distil: DeTable<'t>,
    /// Settings of optimisers, by name.
    pub optimizers: DeTable<'t>,
    /// Of Shampoo's grafts.
    pub grafts: DeTable<'t>,
}

const SECTIONS: [&str; 7] = ["title", "sizes", "run", "slurm", "teachers", "base", "grid"];

/// # Errors
/// When a text is no TOML, or a section is unknown or not of its form.
pub(super) fn read(texts: &Texts) -> Result<Document<'_>, Fault> {
    let mut defaults = texts.defaults()?.into_inner();
    let mut run = take_table(&mut defaults, "run")?.unwrap_or_else(Section::empty);
    let base = take_table(&mut defaults, "base")?.unwrap_or_else(Section::empty).table;
    let mut under = |name| Ok(take_table(&mut defaults, name)?.unwrap_or_else(Section::empty).table);
    let (optimizers, grafts) = (under("optimizers")?, under("grafts")?);
    let mut objective = |name| -> Result<DeTable<'_>, Fault> {
        let mut table = base.clone();
        merge(&mut table, &take_table(&mut defaults, name)?.unwrap_or_else(Section::empty).table);
        Ok(table)
    };
    let defaults = Defaults { labels: objective("labels")?, distil: objective("distil")?, optimizers, grafts };

    let mut file = texts.file()?.into_inner();
    if let Some(key) = merge::in_order(&file).find(|key| !SECTIONS.contains(&key.get_ref().as_ref())) {
        return Err(unknown_section(key));
    }
    let size = size::lay_over(&mut file, texts)?;
    let title = match file.remove("title").map(|value| (value.span(), value.into_inner())) {
        None => None,
        Some((_, DeValue::String(title))) => Some(title.into_owned()),
        Some((span, other)) => {
            return Err(expected("a string", span, &other).hint("for instance `title = \"Who sees what\"`"));
        }
    };
    if let Some(section) = take_table(&mut file, "run")? {
        merge(&mut run.table, &section.table);
        run.span = section.span;
    }
    let mut slurm = take_table(&mut file, "slurm")?.unwrap_or_else(Section::empty);
    let base = take_table(&mut file, "base")?.unwrap_or_else(Section::empty);
    let mut teachers = take_table(&mut file, "teachers")?.unwrap_or_else(Section::empty);
    let blocks = take_blocks(&mut file)?;

    let mut overrides = DeTable::new();
    for table in texts.overrides() {
        let mut table = table?;
        // Looked at already.
        table.remove("size");
        lay_override(table, &mut run.table, &mut slurm.table, &mut teachers.table, &mut overrides)?;
    }
    let teachers = sections_by_name(teachers.table)?;
    let run_span = run.span.clone();
    let (run, site) = (read_run(run)?, read_site(slurm)?);
    Ok(Document { title, size, run, run_span, site, teachers, base, blocks, overrides, defaults })
}

impl<'t> Section<'t> {
    pub fn empty() -> Section<'t> {
        Section { span: 0..0, table: DeTable::new() }
    }
}

/// The table under `key`, if there is one, taken out.
pub(super) fn take_table<'t>(from: &mut DeTable<'t>, key: &str) -> Result<Option<Section<'t>>, Fault> {
    from.remove(key).map(section).transpose()
}

pub(super) fn section(value: Spanned<DeValue<'_>>) -> Result<Section<'_>, Fault> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Ok(Section { span, table }),
        other => Err(expected("a table", span, &other).hint("tables are written `[name]` or `name = { key = value }`")),
    }
}

pub(super) fn expected(what: &str, span: Range<usize>, found: &DeValue<'_>) -> Fault {
    let article = if found.type_str().starts_with(['a', 'i']) { "an" } else { "a" };
    Fault::new(span, format!("expected {what}, found {article} {}", found.type_str()))
}

fn take_blocks<'t>(file: &mut DeTable<'t>) -> Result<Vec<Section<'t>>, Fault> {
    let Some(value) = file.remove("grid") else { return Ok(Vec::new()) };
    let span = value.span();
    match value.into_inner() {
        DeValue::Array(blocks) => blocks.iter().cloned().map(section).collect(),
        other => Err(expected("blocks", span, &other).hint("write `[[grid]]`: an experiment may have several blocks")),
    }
}

fn sections_by_name(teachers: DeTable<'_>) -> Result<Vec<(Key<'_>, Section<'_>)>, Fault> {
    let mut sections = Vec::new();
    for (name, value) in teachers {
        sections.push((name, section(value)?));
    }
    sections.sort_by_key(|(name, _)| name.span().start);
    Ok(sections)
}

fn lay_override<'t>(
    table: DeTable<'t>,
    run: &mut DeTable<'t>,
    slurm: &mut DeTable<'t>,
    teachers: &mut DeTable<'t>,
    jobs: &mut DeTable<'t>,
) -> Result<(), Fault> {
    for (key, value) in table {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("run", DeValue::Table(settings)) => merge(run, settings),
            ("slurm", DeValue::Table(settings)) => merge(slurm, settings),
            // A list of names is the job key `teachers`; a table goes to the section of the same name.
            ("teachers", DeValue::Table(named)) => {
                for (name, value) in named.iter() {
                    if !teachers.contains_key(name.get_ref().as_ref()) {
                        return Err(not_a_teacher(name, teachers));
                    }
                    let Some(teacher) = teachers.get_mut(name.get_ref().as_ref()) else { continue };
                    match (teacher.get_mut(), value.get_ref()) {
                        (DeValue::Table(below), DeValue::Table(above)) => merge_teacher(below, above),
                        _ => *teacher = value.clone(),
                    }
                }
            }
            ("base" | "grid" | "sizes", _) => {
                let fault = Fault::new(key.span(), format!("`{key}` cannot be overridden"));
                return Err(fault.hint("a job key stands alone, for instance `epochs=10`, and holds for every job"));
            }
            ("title", _) => {
                return Err(Fault::new(key.span(), "`title` cannot be overridden").hint("change it in the file"));
            }
            _ => merge(jobs, &DeTable::from_iter([(key, value)])),
        }
    }
    Ok(())
}

/// `train` holds job keys, whose choices replace each other.
pub(super) fn merge_teacher<'t>(below: &mut DeTable<'t>, above: &DeTable<'t>) {
    for (key, value) in above.iter() {
        if key.get_ref() == "train"
            && let Some(DeValue::Table(below)) = below.get_mut("train").map(Spanned::get_mut)
            && let DeValue::Table(above) = value.get_ref()
        {
            merge(below, above);
        } else {
            merge(below, &DeTable::from_iter([(key.clone(), value.clone())]));
        }
    }
}

fn not_a_teacher(name: &Key<'_>, teachers: &DeTable<'_>) -> Fault {
    let known: Vec<&str> = teachers.keys().map(|key| key.get_ref().as_ref()).collect();
    Fault::new(name.span(), format!("there is no teacher `{name}` in this experiment"))
        .hint(one_of(name.get_ref(), known))
}

fn unknown_section(found: &Key<'_>) -> Fault {
    let name = found.get_ref().as_ref();
    let fault = Fault::new(found.span(), format!("unknown section `{name}`"));
    match (nearest(name, SECTIONS), nearest(name, key::names())) {
        (None, Some(near)) => {
            fault.hint(format!("`{near}` belongs under `[base]`, or under `[grid.product]` as a list"))
        }
        _ => fault.hint(one_of(name, SECTIONS)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RunText {
    evaluate_every: Evaluations,
    minitrain: u32,
    teacher_at_chance: AtChance,
    record_teacher: bool,
    images: Keep,
    checkpoints: Checkpoints,
    retries: Retries,
    halving: Option<Halving>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AtChance {
    Stop,
    Allow,
}

fn read_site(section: Section<'_>) -> Result<Site, Fault> {
    let table = Spanned::new(section.span, section.table);
    Site::deserialize(toml::Deserializer::from(table)).map_err(|error| {
        Fault::from_toml(&error).or_hint(
            "for instance `partition = \"gpu\"`, `gpus = 1`, `cpus = 8`, `memory = \"32G\"`, `time = \"12:00:00\"`, `throttle = 64`, `extra = [\"--constraint=a100\"]`",
        )
    })
}

fn read_run(section: Section<'_>) -> Result<RunSettings, Fault> {
    let span = section.span.clone();
    let table = Spanned::new(section.span, section.table);
    let text = RunText::deserialize(toml::Deserializer::from(table)).map_err(|error| {
        Fault::from_toml(&error)
            .or_hint("for instance `evaluate-every = 1` or `{ per-decade = 10 }`, `minitrain = 512`, `teacher-at-chance = \"stop\"`, `record-teacher = true`, `images = \"auto\"`, `checkpoints = { every = \"10min\", best = true }` and `retries = { lost = { count = 2 } }`")
    })?;
    if text.retries.no_progress == 0 {
        return Err(Fault::new(span, "`no-progress` is at least 1: the first attempt is one")
            .hint("`lost = { count = 0 }` and `io = { count = 0 }` try nothing again"));
    }
    Ok(RunSettings {
        evaluations: text.evaluate_every,
        minitrain: text.minitrain,
        allow_teacher_at_chance: matches!(text.teacher_at_chance, AtChance::Allow),
        record_teacher: text.record_teacher,
        images: text.images,
        checkpoints: text.checkpoints,
        retries: text.retries,
        halving: text.halving,
    })
}
