//! Data sets that a table lists: `path,label[,split]` a line, as `.csv` or, with tabs, as `.tsv`.
//!
//! A first line of `path` (or `file`, `filename`, `image` and the like), `label` (or `class`, `target`) and `split` (or
//! `part`, `set`, `subset`) names the columns, in any order and among others; without one they are path, label and split.
//! Paths start at the table's folder. Where there is no split, all is for training; a folder with `train.csv` and, where
//! they are there, `val.csv` and `test.csv`, each by any of its names ([`listing::part`]), has a part a table.
//!
//! Labels that are whole numbers are what they say; others are names, and the classes their alphabetical order over all
//! parts. A part without any label is of unlabelled images. The order is the table's.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use csv::{ReaderBuilder, StringRecord, Trim};

use super::folder;
use super::listing::{self, Entry, Listing};
use crate::job::Part;

const PATHS: [&str; 10] =
    ["path", "file", "filename", "filepath", "file_path", "file_name", "image", "image_path", "img", "img_path"];
const LABELS: [&str; 5] = ["label", "labels", "class", "class_name", "target"];
const SPLITS: [&str; 2] = ["split", "part"];
/// Are splits where none of those is there.
const SETS: [&str; 2] = ["set", "subset"];
const SUFFIXES: [&str; 2] = ["csv", "tsv"];
/// Classes at most.
const MOST: u32 = 1_000_000;

/// Whether `path` is a table, or a folder with a table for the training part.
pub fn is_here(path: &Path) -> bool {
    if path.is_dir() { table(path, Part::Train).is_some() } else { is_table(path) }
}

/// What a table, or a folder of one table a part, lists. The images are there, but nobody has looked into them.
///
/// # Errors
/// When a line is not as it should be, which it names. Whether files are there is looked at later.
pub fn listing(path: &Path) -> Result<Listing> {
    let mut rows = Vec::new();
    if path.is_dir() {
        for part in [Part::Train, Part::Validation, Part::Test] {
            let Some(table) = table(path, part) else { continue };
            let own = read(&table)?;
            ensure!(
                own.iter().all(|row| row.part.is_none()),
                "`{}` has a column `split` (or `part`, `set`, `subset`), but its name says the part\nhint: name the table itself, or remove the column",
                table.display()
            );
            rows.extend(own.into_iter().map(|row| Row { part: Some(part.name().to_owned()), ..row }));
        }
        ensure!(
            !rows.is_empty(),
            "`{}` has no `train.csv` with an image in it\nhint: a table of another name is named itself",
            path.display()
        );
    } else {
        rows = read(path)?;
        ensure!(!rows.is_empty(), "`{}` lists no image", path.display());
    }
    into_listing(rows)
}

/// A line of a table.
struct Row {
    /// For messages.
    line: String,
    path: PathBuf,
    label: Option<String>,
    part: Option<String>,
}

/// Where the columns are.
struct Columns {
    path: usize,
    label: Option<usize>,
    split: Option<usize>,
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| SUFFIXES.iter().any(|known| suffix.eq_ignore_ascii_case(known)))
}

/// The table of a part: the plain name goes before others.
fn table(folder: &Path, part: Part) -> Option<PathBuf> {
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let is_of_part = |path: &Path| is_table(path) && listing::part(&stem(path)) == Some(part) && path.is_file();
    let tables = folder::entries(folder, is_of_part).ok()?.into_iter().map(|(_, path)| path);
    tables.min_by_key(|path| stem(path) != part.name())
}

fn read(table: &Path) -> Result<Vec<Row>> {
    let tabs = table.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("tsv"));
    let mut reader = ReaderBuilder::new();
    reader.has_headers(false).trim(Trim::All).delimiter(if tabs { b'\t' } else { b',' });
    let text = fs::read(table).with_context(|| format!("cannot read `{}`", table.display()))?;
    let mut reader = reader.from_reader(&text[..]);
    let folder = table.parent().unwrap_or(Path::new(""));
    let (mut rows, mut columns) = (Vec::new(), None);
    for record in reader.records() {
        let record = record.with_context(|| format!("`{}` is no table", table.display()))?;
        let line = format!("line {} of `{}`", line_of(&record, &text), table.display());
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                let (found, header) = columns_of(&record, &line)?;
                columns = Some(found);
                if header {
                    continue;
                }
                columns.as_ref().context("the columns are known")?
            }
        };
        let field = |column| record.get(column).filter(|text| !text.is_empty()).map(str::to_owned);
        let path = field(columns.path).with_context(|| format!("{line} names no file"))?;
        let part = columns.split.map(|split| field(split).with_context(|| format!("{line} names no split")));
        // -1 is no label, as in parquet.
        let label = columns.label.and_then(field).filter(|label| label != "-1");
        rows.push(Row { path: folder.join(path), label, part: part.transpose()?, line });
    }
    Ok(rows)
}

/// The position of a record is before the empty lines that lead to it.
fn line_of(record: &StringRecord, text: &[u8]) -> u64 {
    let Some(position) = record.position() else { return 0 };
    let from = text.get(position.byte() as usize..).unwrap_or_default();
    let empty = from.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).filter(|byte| **byte == b'\n').count();
    position.line() + empty as u64
}

/// Where the columns are, and whether the first line is what says so.
fn columns_of(first: &StringRecord, line: &str) -> Result<(Columns, bool)> {
    let find =
        |names: &[&str]| first.iter().position(|field| names.iter().any(|name| field.eq_ignore_ascii_case(name)));
    if let Some(path) = find(&PATHS) {
        return Ok((Columns { path, label: find(&LABELS), split: find(&SPLITS).or(find(&SETS)) }, true));
    }
    ensure!(
        first.len() <= 3,
        "{line} has {} columns and does not name them\nhint: a first line such as `path,label,split` does",
        first.len()
    );
    let known = find(&LABELS)
        .or(find(&SPLITS))
        .or(find(&SETS))
        .or(first.iter().position(|field| field.eq_ignore_ascii_case("id")));
    let suffix = Path::new(first.get(0).unwrap_or_default()).extension();
    ensure!(
        known.is_none() || suffix.is_some(),
        "{line} names columns, but none of paths\nhint: call it one of {}",
        PATHS.map(|name| format!("`{name}`")).join(", ")
    );
    let at = |column| (first.len() > column).then_some(column);
    Ok((Columns { path: 0, label: at(1), split: at(2) }, false))
}

fn into_listing(rows: Vec<Row>) -> Result<Listing> {
    let labels: BTreeSet<&str> = rows.iter().filter_map(|row| row.label.as_deref()).collect();
    let numbers = labels.iter().all(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()));
    let names: Vec<&str> = labels.into_iter().collect();
    let mut listing = Listing::default();
    // Whether its first image has a label, and the line that says so.
    let mut labelled = HashMap::new();
    for row in &rows {
        let line = &row.line;
        let label = match &row.label {
            None => None,
            Some(label) if numbers => {
                let number = label.parse().ok().filter(|number| *number < MOST);
                Some(number.with_context(|| format!("{line}: the label {label} is too large"))?)
            }
            Some(label) => names.binary_search(&label.as_str()).ok().map(|class| class as u32),
        };
        let part = row.part.as_deref().unwrap_or("train");
        let part = listing::part(part).with_context(|| {
            format!("{line}: the split `{part}` is unknown\nhint: write `train`, `validation` or `test`")
        })?;
        let (first, there) = *labelled.entry(part).or_insert((label.is_some(), line));
        if first != label.is_some() {
            let (with, without) = if first { (there, line) } else { (line, there) };
            bail!("{without} has no label, {with} has one\nhint: label all images of a part, or none");
        }
        listing.part_mut(part).push(Entry::file(row.path.clone(), label));
    }
    listing.names = (!numbers).then(|| names.into_iter().map(str::to_owned).collect());
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with `a.png` to `d.png` and a table.
    fn case(name: &str, table: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        for image in ["a.png", "b.png", "in/c.png", "d.png"] {
            fs::write(folder.path().join(image), image).unwrap();
        }
        let path = folder.path().join(name);
        fs::write(&path, table).unwrap();
        (folder, path)
    }

    /// Of each image its bytes and label.
    fn told(entries: &[Entry]) -> Vec<(String, Option<u32>)> {
        let text = |entry: &Entry| String::from_utf8(entry.bytes().unwrap().into_owned()).unwrap();
        entries.iter().map(|entry| (text(entry), entry.label)).collect()
    }

    fn images(expected: &[(&str, Option<u32>)]) -> Vec<(String, Option<u32>)> {
        expected.iter().map(|(name, label)| ((*name).to_owned(), *label)).collect()
    }

    fn complaint(name: &str, table: &str) -> String {
        format!("{:#}", listing(&case(name, table).1).unwrap_err())
    }

    #[test]
    fn columns_are_found_by_name_or_place() {
        let expected = images(&[("b.png", Some(1)), ("in/c.png", Some(0))]);
        for (name, table) in [
            ("x.csv", "b.png,dog,train\nin/c.png,cat,train\na.png,dog,val\n"),
            (
                "x.csv",
                "\u{feff}Class,note,Split,FILE\ndog,\"1, 2\",train,b.png\ncat,,Train,in/c.png\ndog,,Valid,a.png\n",
            ),
            ("x.csv", "set,path,label\ntrain,b.png,dog\ntraining,in/c.png,cat\nval2017,a.png,dog\n"),
            ("x.csv", "set,path,label,Subset\ntrain,b.png,dog,x\ntrain,in/c.png,cat,x\ndev,a.png,dog,x\n"),
            ("x.csv", "set,path,label,part\n10,b.png,dog,train\n11,in/c.png,cat,train\n12,a.png,dog,dev\n"),
            (
                "x.TSV",
                "filename\tlabel\tpart\r\nb.png\tdog\ttrain\r\nin/c.png\tcat\ttrain\r\na.png\tdog\tvalidation\r\n",
            ),
        ] {
            let (_folder, path) = case(name, table);
            assert!(is_here(&path));
            let listing = listing(&path).unwrap();
            assert_eq!(told(&listing.train), expected, "{table}");
            assert_eq!(told(&listing.validation), images(&[("a.png", Some(1))]));
            assert_eq!((listing.test.len(), listing.names.unwrap()), (0, vec!["cat".into(), "dog".into()]));
        }
    }

    #[test]
    fn numbers_are_labels_and_no_labels_are_none() {
        let of = |table: &str| listing(&case("x.csv", table).1).unwrap();
        let numbered = of("a.png,7\nb.png,0\n");
        assert_eq!(numbered.train.iter().map(|entry| entry.label).collect::<Vec<_>>(), [Some(7), Some(0)]);
        assert_eq!(numbered.names, None);
        for table in ["a.png\nb.png\n", "path,label\na.png,\nb.png,\n", "image\na.png\nb.png\n"] {
            let listing = of(table);
            assert_eq!(listing.train.iter().map(|entry| entry.label).collect::<Vec<_>>(), [None, None], "{table}");
            assert_eq!(listing.names, None);
        }
        // One name makes all of them names.
        assert_eq!(of("a.png,10\nb.png,9\nd.png,x\n").names.unwrap(), ["10", "9", "x"]);
        // An unlabelled test part, as of contests.
        let contest = of("path,label,split\na.png,x,train\nb.png,,test\n");
        assert_eq!((contest.train[0].label, contest.test[0].label), (Some(0), None));
    }

    #[test]
    fn a_folder_has_a_table_a_part() {
        let (folder, _) = case("train.csv", "path,label\na.png,x\nb.png,z\n");
        assert!(is_here(folder.path()));
        fs::write(folder.path().join("val.csv"), "in/c.png,y\n").unwrap();
        fs::write(folder.path().join("Testing.TSV"), "d.png\tz\n").unwrap();
        let listing = listing(folder.path()).unwrap();
        assert_eq!(told(&listing.train), images(&[("a.png", Some(0)), ("b.png", Some(2))]));
        assert_eq!(told(&listing.validation), images(&[("in/c.png", Some(1))]));
        assert_eq!(told(&listing.test), images(&[("d.png", Some(2))]));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line() {
        for (table, said) in [
            ("path,label\na.png,x\n\nb.png,\n", "line 4 of `"),
            ("path,label\na.png,x\nb.png,\n", "has no label, line 2 of `"),
            ("a.png,x,train\nb.png,y,trial\n", "the split `trial` is unknown\nhint: write `train`"),
            ("a.png,x,train\nb.png,y,\n", "x.csv` names no split"),
            ("a.png,x\n,y\n", "x.csv` names no file"),
            ("a.png,x\nb.png,y,z\n", "line: 2"),
            ("a.png,1\nb.png,4294967295\n", "the label 4294967295 is too large"),
            ("a,b,c,d\n", "has 4 columns and does not name them\nhint: "),
            ("path,label\n", "lists no image"),
        ] {
            let complaint = complaint("x.csv", table);
            assert!(complaint.contains(said), "{table}: {complaint}");
        }
        let (folder, _) = case("train.csv", "path,split\na.png,train\n");
        assert!(
            format!("{:#}", listing(folder.path()).unwrap_err())
                .contains("has a column `split` (or `part`, `set`, `subset`), but")
        );
    }
}
