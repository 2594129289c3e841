//! One `[[grid]]` block: which axes it varies, and the cells that remain.
//!
//! `product` is every combination, `zip` walks its lists in step, and a block with both is the product of the two.
//! `exclude` drops cells, `set` fixes keys. Nothing here knows what a key means.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::document::{Section, expected, section, take_table};
use super::key;
use super::merge::{self, Key, Value, nested, same};
use super::text::{Fault, Texts};
use crate::diagnostic::one_of;

pub(super) struct Block<'t> {
    pub header: Range<usize>,
    pub set: Section<'t>,
    /// Those of `product` in file order, the first varying slowest, then those of `zip`.
    pub axes: Vec<Axis<'t>>,
    /// How many of `axes` belong to the product.
    products: usize,
    exclusions: Vec<Exclusion>,
}

pub(super) struct Axis<'t> {
    /// The dotted path of the job key.
    pub name: String,
    pub key: Range<usize>,
    pub points: Vec<Point<'t>>,
    list: Range<usize>,
}

/// One value of an axis.
pub(super) struct Point<'t> {
    pub value: Value<'t>,
    /// As a table to lay over a job.
    pub overlay: DeTable<'t>,
    /// As written, strings without quotes.
    pub written: String,
}

/// For each axis it names, which of the axis's points it matches.
struct Exclusion(Vec<(usize, Vec<bool>)>);

const KEYS: [&str; 4] = ["set", "product", "zip", "exclude"];

/// More is a slip of the pen.
const MOST_CELLS: usize = 1_000_000;

impl<'t> Block<'t> {
    /// The one job of an experiment without blocks.
    pub fn single() -> Block<'t> {
        Block { header: 0..0, set: Section::empty(), axes: Vec::new(), products: 0, exclusions: Vec::new() }
    }

    pub fn read(block: Section<'t>, texts: &Texts, overrides: &DeTable<'t>) -> Result<Block<'t>, Fault> {
        let Section { span: header, mut table } = block;
        if let Some(key) = merge::in_order(&table).find(|key| !KEYS.contains(&key.get_ref().as_ref())) {
            let (name, span) = (key.get_ref().as_ref(), key.span());
            let hint = if key::is_job_key(name) {
                format!("a fixed value stands under `set`: `set = {{ {name} = ... }}`; a list under `product` or `zip`")
            } else {
                one_of(name, KEYS)
            };
            return Err(Fault::new(span, format!("unknown key `{name}` in a grid block")).hint(hint));
        }
        let set = take_table(&mut table, "set")?.unwrap_or_else(Section::empty);
        let mut axes = read_axes(take_table(&mut table, "product")?, texts)?;
        let products = axes.len();
        axes.extend(read_axes(take_table(&mut table, "zip")?, texts)?);
        check_lengths(&axes[products..])?;
        check_names(&axes, &set.table)?;
        let mut block = Block { header, set, axes, products, exclusions: Vec::new() };
        if let Some(exclude) = table.remove("exclude") {
            block.exclusions = block.read_exclusions(exclude)?;
        }
        block.override_axes(overrides, texts);
        block.check_size()?;
        Ok(block)
    }

    /// Every cell that is not excluded: for each axis the index of its point.
    pub fn cells(&self) -> impl Iterator<Item = Vec<usize>> {
        (0..self.size()).map(|cell| self.decode(cell)).filter(|cell| !self.is_excluded(cell))
    }

    fn size(&self) -> usize {
        let lengths = self.axes[..self.products].iter().map(|axis| axis.points.len());
        lengths.fold(self.steps(), usize::saturating_mul)
    }

    /// Of the zip; one where there is none.
    fn steps(&self) -> usize {
        self.axes.get(self.products).map_or(1, |axis| axis.points.len())
    }

    fn decode(&self, cell: usize) -> Vec<usize> {
        let mut point = vec![cell % self.steps(); self.axes.len()];
        let mut rest = cell / self.steps();
        for index in (0..self.products).rev() {
            let length = self.axes[index].points.len();
            point[index] = rest % length;
            rest /= length;
        }
        point
    }

    fn is_excluded(&self, cell: &[usize]) -> bool {
        self.exclusions.iter().any(|Exclusion(keys)| keys.iter().all(|(axis, matches)| matches[cell[*axis]]))
    }

    fn check_size(&self) -> Result<(), Fault> {
        let size = self.size();
        if size <= MOST_CELLS {
            return Ok(());
        }
        Err(Fault::new(self.header.clone(), format!("this block has {size} cells, more than {MOST_CELLS}"))
            .hint("every combination of the lists under `product` is one job"))
    }

    /// What the command line fixes is no longer varied. A zip keeps its length, for the other lists walk on.
    fn override_axes(&mut self, overrides: &DeTable<'t>, texts: &Texts) {
        for (index, axis) in self.axes.iter_mut().enumerate() {
            let Some(value) = merge::find(overrides, &axis.name) else { continue };
            let path = axis.points[0].path(&axis.name);
            let point = || Point::new(&path, value.clone(), texts);
            let mut kept = Vec::new();
            let length = if index < self.products { 1 } else { axis.points.len() };
            kept.resize_with(length, point);
            axis.points = kept;
            for Exclusion(keys) in &mut self.exclusions {
                for (_, matches) in keys.iter_mut().filter(|(excluded, _)| *excluded == index) {
                    *matches = vec![false; length];
                }
            }
        }
    }

    fn read_exclusions(&self, exclude: Value<'t>) -> Result<Vec<Exclusion>, Fault> {
        let span = exclude.span();
        let DeValue::Array(list) = exclude.get_ref() else {
            let fault = expected("a list of tables", span, exclude.get_ref());
            return Err(fault.hint("for instance `exclude = [{ teaching = \"fixed/cc\", epochs = 100 }]`"));
        };
        let mut exclusions = Vec::new();
        for entry in list.iter().cloned() {
            let entry = section(entry)?;
            let mut keys = Vec::new();
            self.read_exclusion(&entry.table, "", &mut keys)?;
            if keys.is_empty() {
                return Err(Fault::new(entry.span, "an empty exclusion drops every job")
                    .hint("name the axes and values of the jobs to drop"));
            }
            exclusions.push(Exclusion(keys));
        }
        Ok(exclusions)
    }

    /// Descends until a path is an axis.
    fn read_exclusion(
        &self,
        table: &DeTable<'t>,
        above: &str,
        keys: &mut Vec<(usize, Vec<bool>)>,
    ) -> Result<(), Fault> {
        for key in merge::in_order(table) {
            let name = key.get_ref().as_ref();
            let path = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
            let Some(value) = table.get(name) else { continue };
            match (self.axes.iter().position(|axis| axis.name == path), value.get_ref()) {
                (Some(index), _) => {
                    let points = &self.axes[index].points;
                    let matches: Vec<bool> =
                        points.iter().map(|point| same(point.value.get_ref(), value.get_ref())).collect();
                    if !matches.contains(&true) {
                        let all: Vec<String> = points.iter().map(|point| format!("`{}`", point.written)).collect();
                        return Err(Fault::new(value.span(), format!("axis `{path}` has no such value"))
                            .hint(format!("its values are {}", all.join(", "))));
                    }
                    keys.push((index, matches));
                }
                (None, DeValue::Table(inner)) => self.read_exclusion(inner, &path, keys)?,
                (None, _) => {
                    let axes: Vec<&str> = self.axes.iter().map(|axis| axis.name.as_str()).collect();
                    return Err(
                        Fault::new(key.span(), format!("`{path}` is no axis of this block")).hint(one_of(&path, axes))
                    );
                }
            }
        }
        Ok(())
    }
}

impl Axis<'_> {
    /// The job key at the top.
    pub fn top(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }
}

impl<'t> Point<'t> {
    fn new(path: &[Key<'t>], value: Value<'t>, texts: &Texts) -> Point<'t> {
        let written = match value.get_ref() {
            DeValue::String(text) => text.clone().into_owned(),
            _ => texts.written(value.span()).to_owned(),
        };
        Point { overlay: nested(path, value.clone()), value, written }
    }

    /// The keys down to the value.
    fn path(&self, name: &str) -> Vec<Key<'t>> {
        let mut table = Some(&self.overlay);
        let mut path = Vec::new();
        for _ in name.split('.') {
            let Some((key, value)) = table.and_then(|table| table.iter().next()) else { break };
            path.push(key.clone());
            table = value.get_ref().as_table();
        }
        path
    }
}

fn read_axes<'t>(section: Option<Section<'t>>, texts: &Texts) -> Result<Vec<Axis<'t>>, Fault> {
    let mut axes = Vec::new();
    if let Some(section) = section {
        descend(&section.table, &mut Vec::new(), &mut axes, texts)?;
    }
    axes.sort_by_key(|axis| axis.key.start);
    Ok(axes)
}

fn descend<'t>(
    table: &DeTable<'t>,
    path: &mut Vec<Key<'t>>,
    axes: &mut Vec<Axis<'t>>,
    texts: &Texts,
) -> Result<(), Fault> {
    for (key, value) in table.iter() {
        path.push(key.clone());
        match value.get_ref() {
            DeValue::Table(inner) => descend(inner, path, axes, texts)?,
            DeValue::Array(list) => axes.push(read_axis(path, list, value.span(), texts)?),
            other => {
                let written = texts.written(value.span());
                return Err(expected("a list", value.span(), other).hint(format!(
                    "an axis is a list of its values: `[{written}]`; a fixed value stands under `set`"
                )));
            }
        }
        path.pop();
    }
    Ok(())
}

fn read_axis<'t>(path: &[Key<'t>], list: &DeArray<'t>, span: Range<usize>, texts: &Texts) -> Result<Axis<'t>, Fault> {
    let names: Vec<&str> = path.iter().map(|key| key.get_ref().as_ref()).collect();
    let name = names.join(".");
    if list.is_empty() {
        return Err(Fault::new(span, format!("axis `{name}` has no values"))
            .hint("a product with an empty list has no jobs; leave the axis out to keep what `[base]` says"));
    }
    let points = list.iter().map(|value| Point::new(path, value.clone(), texts)).collect();
    let key = path.last().map_or(span.clone(), Spanned::span);
    Ok(Axis { name, key, points, list: span })
}

fn check_lengths(zip: &[Axis<'_>]) -> Result<(), Fault> {
    let Some((first, rest)) = zip.split_first() else { return Ok(()) };
    for axis in rest {
        if axis.points.len() != first.points.len() {
            let message = format!(
                "zip lists differ in length: `{}` has {}, `{}` has {}",
                first.name,
                first.points.len(),
                axis.name,
                axis.points.len()
            );
            return Err(Fault::new(axis.list.clone(), message)
                .hint("`zip` takes the first of each list, then the second; for every combination use `product`"));
        }
    }
    Ok(())
}

/// A key may be set in one place of a block only.
fn check_names(axes: &[Axis<'_>], set: &DeTable<'_>) -> Result<(), Fault> {
    for (index, axis) in axes.iter().enumerate() {
        let within = |inner: &str, outer: &str| inner == outer || inner.starts_with(&format!("{outer}."));
        let twice =
            axes[..index].iter().find(|other| within(&axis.name, &other.name) || within(&other.name, &axis.name));
        if let Some(other) = twice {
            let message = format!("`{}` is varied twice in this block", axis.name);
            let hint = if other.name == axis.name {
                "keep it under `product` or under `zip`".to_owned()
            } else {
                format!("`{}` varies it too", other.name)
            };
            return Err(Fault::new(axis.key.clone(), message).hint(hint));
        }
        if let Some(fixed) = merge::find(set, &axis.name) {
            return Err(Fault::new(fixed.span(), format!("`{}` is both fixed and varied in this block", axis.name))
                .hint("keep it under `set`, or as a list under `product` or `zip`"));
        }
    }
    Ok(())
}
