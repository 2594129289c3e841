//! `query`: SQL on the store, read-only.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Map, Value};

use super::{place, print, print_json, table};
use crate::cli;
use crate::store::Store;

pub async fn query(arguments: cli::Query) -> Result<ExitCode> {
    let store = Store::open_read_only(&place::location(&arguments.place)?).await?;
    let result = store.query(&arguments.sql).await?;
    if arguments.json {
        let rows = result.rows.into_iter().map(|row| {
            let cells = result.columns.iter().cloned().zip(row);
            Value::Object(cells.collect::<Map<_, _>>())
        });
        print_json(&rows.collect::<Vec<_>>())?;
    } else {
        let header: Vec<&str> = result.columns.iter().map(String::as_str).collect();
        let rows: Vec<Vec<String>> = result.rows.iter().map(|row| row.iter().map(plain).collect()).collect();
        print(&table::table(&header, &rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
