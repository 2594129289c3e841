//! Parquet: the long table in typed columns, compressed. What is text is stored once a row group and pointed to.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;

use super::long::{self, Cell, Kind, Row};
use super::{Entries, Entry, Form};

/// Rows of a row group, but that of the last; and what is held in memory.
const GROUP: usize = 1 << 17;

pub struct Parquet<W: Write + Send>(pub W);

impl<W: Write + Send> Form for Parquet<W> {
    fn write(&mut self, axes: &[String], entries: Entries<'_>) -> Result<()> {
        let columns = columns(axes);
        let fields = columns.iter().map(|(name, kind)| Ok(Arc::new(field(name, *kind)?)));
        let fields = fields.collect::<Result<Vec<_>, ParquetError>>()?;
        let schema = Arc::new(Type::group_type_builder("export").with_fields(fields).build()?);
        let zstd = Compression::ZSTD(ZstdLevel::default());
        let properties = Arc::new(WriterProperties::builder().set_compression(zstd).build());
        let mut writer = SerializedFileWriter::new(&mut self.0, schema, properties)?;
        let mut group = Group::default();
        for entry in entries {
            let entry = entry?;
            let values = job_values(&entry, axes);
            group.jobs.push(values.clone());
            for row in long::rows(&entry.outcome) {
                if group.rows.len() == GROUP {
                    group.write(&columns, &mut writer)?;
                    group = Group { jobs: vec![values.clone()], rows: Vec::with_capacity(GROUP) };
                }
                group.rows.push((group.jobs.len() - 1, row));
            }
        }
        group.write(&columns, &mut writer)?;
        writer.close()?;
        Ok(self.0.flush()?)
    }
}

fn columns(axes: &[String]) -> Vec<(String, Kind)> {
    let named = |(name, kind): &(&str, Kind)| ((*name).to_owned(), *kind);
    let axes = axes.iter().map(|axis| (format!("{}{axis}", long::AXIS), Kind::Text));
    long::JOB.iter().map(named).chain(axes).chain(long::ROW.iter().map(named)).collect()
}

fn field(name: &str, kind: Kind) -> Result<Type, ParquetError> {
    let (physical, logical, repetition) = match kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::OPTIONAL),
        Kind::Whole => (Physical::INT64, None, Repetition::REQUIRED),
        Kind::Number => (Physical::DOUBLE, None, Repetition::OPTIONAL),
    };
    Type::primitive_type_builder(name, physical).with_logical_type(logical).with_repetition(repetition).build()
}

/// A value of a column. Text is shared by all rows that have it.
#[derive(Clone)]
enum Value {
    Text(ByteArray),
    Whole(i64),
    Number(f64),
    None,
}

impl Value {
    fn of(cell: &Cell) -> Value {
        match cell {
            Cell::Text(text) => Value::Text(ByteArray::from(&**text)),
            // Counts and seeds are far from there: the store has no larger ones either.
            Cell::Whole(number) => Value::Whole(i64::try_from(*number).unwrap_or(i64::MAX)),
            Cell::Number(number) if number.is_finite() => Value::Number(*number),
            Cell::Number(_) | Cell::None => Value::None,
        }
    }
}

fn job_values(entry: &Entry, axes: &[String]) -> Vec<Value> {
    let own = long::job_cells(entry);
    let place = |axis| entry.outcome.axes.get(axis).map_or(Value::None, |place| Value::Text(place.as_str().into()));
    own.iter().map(Value::of).chain(axes.iter().map(place)).collect()
}

#[derive(Default)]
struct Group {
    /// The first columns of each job.
    jobs: Vec<Vec<Value>>,
    /// Each with which of the jobs it is of.
    rows: Vec<(usize, Row)>,
}

impl Group {
    fn write<W: Write + Send>(
        &self,
        columns: &[(String, Kind)],
        writer: &mut SerializedFileWriter<W>,
    ) -> Result<(), ParquetError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let of_jobs = columns.len() - long::ROW.len();
        let mut group = writer.next_row_group()?;
        let mut place = 0;
        while let Some(mut column) = group.next_column()? {
            let kind = columns[place].1;
            if place < of_jobs {
                let values = self.rows.iter().map(|(job, _)| self.jobs[*job][place].clone());
                write_column(&mut column, kind, values)?;
            } else {
                // A few words stand for many rows.
                let mut words = BTreeMap::new();
                let values = self.rows.iter().map(|(_, row)| match &row.cells()[place - of_jobs] {
                    Cell::Text(text) => {
                        if !words.contains_key(&**text) {
                            words.insert(text.to_string(), ByteArray::from(&**text));
                        }
                        Value::Text(words[&**text].clone())
                    }
                    cell => Value::of(cell),
                });
                write_column(&mut column, kind, values)?;
            }
            column.close()?;
            place += 1;
        }
        group.close()?;
        Ok(())
    }
}

fn write_column(
    column: &mut SerializedColumnWriter<'_>,
    kind: Kind,
    values: impl Iterator<Item = Value>,
) -> Result<(), ParquetError> {
    let (mut texts, mut wholes, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let mut levels: Vec<i16> = Vec::new();
    for value in values {
        levels.push(i16::from(!matches!(value, Value::None)));
        match value {
            Value::Text(text) => texts.push(text),
            Value::Whole(number) => wholes.push(number),
            Value::Number(number) => numbers.push(number),
            Value::None => {}
        }
    }
    match kind {
        Kind::Text => column.typed::<ByteArrayType>().write_batch(&texts, Some(&levels), None)?,
        Kind::Whole => column.typed::<Int64Type>().write_batch(&wholes, None, None)?,
        Kind::Number => column.typed::<DoubleType>().write_batch(&numbers, Some(&levels), None)?,
    };
    Ok(())
}
