//! SQL that a reader types: one statement, which only reads.
//!
//! Three locks, since the text is anybody's. The file must have been opened read only; the connection has `query_only`
//! set, or the server a transaction in which nothing can be written; and the statement must be a single `SELECT`, `WITH`, `VALUES` or `EXPLAIN`. The last one keeps out what writes
//! elsewhere (`VACUUM INTO`, `ATTACH`) or would take the second lock off (`PRAGMA`). The columns of a table are there
//! all the same: `SELECT name FROM pragma_table_info('epochs')`.

use serde::Serialize;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Column, Executor, Row, SqlSafeStr, Statement, TypeInfo, ValueRef};

use super::database::{Connection, sql};
use super::{Error, Store};

/// A table of typed values: null, integers, reals, texts; a blob as hexadecimal text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueryResult {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
}

impl Store {
    /// What is wrong with a file, if anything is; a server looks after its own.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn check(&self) -> Result<Option<String>, Error> {
        let mut connection = self.connection().await?;
        if connection.is_postgres() {
            return Ok(None);
        }
        let verdict: Option<String> = sql("SELECT quick_check FROM pragma_quick_check").cell(&mut connection).await?;
        Ok(verdict.filter(|verdict| verdict != "ok"))
    }

    /// # Errors
    /// [`Error::Refused`] for anything but one reading statement, [`Error::Query`] with the database's own words.
    pub async fn query(&self, text: &str) -> Result<QueryResult, Error> {
        let statement = only_statement(text)?;
        let mut connection = self.connection().await?;
        if connection.is_postgres() {
            return query_server(&mut connection, &statement).await;
        }
        let Connection::Sqlite(connection) = &mut connection else { return Err(refused("this store is no file")) };
        let writable: i64 = 1 - sqlx::query_scalar::<_, i64>("PRAGMA query_only").fetch_one(&mut **connection).await?;
        if writable != 0 {
            return Err(refused("this store is open for writing"));
        }
        let failed = |error| failed(&error, "`SELECT sql FROM sqlite_master` lists tables and columns");
        // Safe to hand over as it is: see the three locks above.
        let sql = AssertSqlSafe(statement).into_sql_str();
        let prepared = (&mut **connection).prepare(sql).await.map_err(failed)?;
        let columns = prepared.columns().iter().map(|column| column.name().to_owned()).collect();
        let rows = prepared.query().fetch_all(&mut **connection).await.map_err(failed)?;
        let rows = rows.iter().map(values).collect::<Result<_, _>>().map_err(failed)?;
        Ok(QueryResult { columns, rows })
    }
}

/// The server's values come as JSON, so that each keeps its type, whatever that is. A statement goes there by itself and prepared:
/// then it cannot be two.
async fn query_server(connection: &mut Connection<'_>, statement: &str) -> Result<QueryResult, Error> {
    let mut transaction = connection.begin_to_read().await?;
    let Connection::Postgres(connection) = &mut *transaction else { return Err(refused("this store is no server's")) };
    let is_ours: bool = sqlx::query_scalar("SELECT current_setting('default_transaction_read_only') = 'on'")
        .fetch_one(&mut **connection)
        .await?;
    if !is_ours {
        return Err(refused("this store is open for writing"));
    }
    let hint = "`SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()` lists tables and columns";
    let failed = |error| failed(&error, hint);
    let sql = AssertSqlSafe(statement.to_owned()).into_sql_str();
    let prepared = (&mut **connection).prepare(sql).await.map_err(failed)?;
    let columns: Vec<String> = prepared.columns().iter().map(|column| column.name().to_owned()).collect();
    let names: Vec<String> = (0..columns.len()).map(|column| format!("c{column}")).collect();
    let names = names.join(", ");
    let is_plan = first_word(statement) == "EXPLAIN";
    // A comment at its end must not reach what comes after it.
    let asked = match is_plan {
        true => statement.to_owned(),
        false => format!("SELECT json_build_array({names})::text FROM (\n{statement}\n) AS q ({names})"),
    };
    let types: Vec<String> = prepared.columns().iter().map(|column| column.type_info().name().to_owned()).collect();
    let rows: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(asked)).fetch_all(&mut **connection).await.map_err(failed)?;
    let row = |text: String| {
        if is_plan {
            return Ok(vec![Value::from(text)]);
        }
        let mut row: Vec<Value> = serde_json::from_str(&text)
            .map_err(|source| Error::Unreadable { what: "an answer of the server".to_owned(), source: Some(source) })?;
        for (value, kind) in row.iter_mut().zip(&types) {
            // JSON has one kind of number, and none of bytes.
            *value = match (kind.as_str(), &*value) {
                ("FLOAT4" | "FLOAT8", Value::Number(number)) => number.as_f64().into(),
                ("BYTEA", Value::String(text)) => text.trim_start_matches("\\x").into(),
                _ => continue,
            };
        }
        Ok(row)
    };
    let rows = rows.into_iter().map(row).collect::<Result<_, Error>>()?;
    Ok(QueryResult { columns, rows })
}

fn failed(error: &sqlx::Error, hint: &'static str) -> Error {
    let message = match error.as_database_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    };
    Error::Query { message, hint }
}

fn values(row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
    (0..row.len())
        .map(|column| {
            let value = row.try_get_raw(column)?;
            if value.is_null() {
                return Ok(Value::Null);
            }
            // The value's own type: SQLite's columns have none that binds.
            Ok(match value.type_info().name() {
                "INTEGER" | "BOOLEAN" => Value::from(row.try_get_unchecked::<i64, _>(column)?),
                "REAL" | "NUMERIC" => Value::from(row.try_get_unchecked::<f64, _>(column)?),
                "BLOB" => {
                    let bytes: Vec<u8> = row.try_get_unchecked(column)?;
                    Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
                }
                _ => Value::from(row.try_get_unchecked::<String, _>(column)?),
            })
        })
        .collect()
}

fn refused(why: impl Into<String>) -> Error {
    Error::Refused { why: why.into(), hint: "one `SELECT` is what is wanted; nothing can be changed by a query" }
}

/// The text without what ends it, if it is one statement of a kind that reads.
fn only_statement(sql: &str) -> Result<String, Error> {
    let end = end_of_statement(sql);
    let (statement, rest) = sql.split_at(end);
    let rest = rest.strip_prefix(';').unwrap_or(rest);
    if !skip_blanks(rest).trim_start_matches(';').is_empty() {
        return Err(refused("it is more than one statement"));
    }
    match first_word(statement).as_str() {
        "SELECT" | "WITH" | "VALUES" | "EXPLAIN" => Ok(statement.to_owned()),
        "" => Err(refused("there is no statement in it")),
        word => Err(refused(format!("it begins with `{word}`"))),
    }
}

fn first_word(statement: &str) -> String {
    skip_blanks(statement).chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase()
}

/// Byte offset of the first semicolon outside of quotes and comments, or the text's length. Being fooled here would
/// cost a clear message only: the other two locks hold.
fn end_of_statement(sql: &str) -> usize {
    let bytes = sql.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &sql.as_bytes()[at..];
        at += match bytes[at] {
            b';' => return at,
            quote @ (b'\'' | b'"' | b'`') => 1 + length_to(&rest[1..], &[quote]),
            b'[' => 1 + length_to(&rest[1..], b"]"),
            b'-' if rest.starts_with(b"--") => 2 + length_to(&rest[2..], b"\n"),
            b'/' if rest.starts_with(b"/*") => 2 + length_to(&rest[2..], b"*/"),
            _ => 1,
        };
    }
    bytes.len()
}

/// Bytes up to and with `end`. A doubled quote inside quotes reads as the end of one and the start of the next.
fn length_to(bytes: &[u8], end: &[u8]) -> usize {
    let found = bytes.windows(end.len()).position(|window| window == end);
    found.map_or(bytes.len(), |place| place + end.len())
}

fn skip_blanks(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let skip = if let Some(comment) = text.strip_prefix("--") {
            2 + length_to(comment.as_bytes(), b"\n")
        } else if let Some(comment) = text.strip_prefix("/*") {
            2 + length_to(comment.as_bytes(), b"*/")
        } else {
            return text;
        };
        text = &text[skip..];
    }
}
