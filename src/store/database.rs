//! The two databases behind one face: connections, transactions, statements with typed values, rows.
//!
//! SQLite has one connection behind a mutex: there is one writer at a time anyway. PostgreSQL has a small pool, and no call to it
//! waits for ever: a server that says nothing for [`PATIENCE`] counts as gone, and the connection is thrown away.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgRow, Postgres};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, SqlSafeStr, SqlStr, Sqlite};
use sqlx_core::transaction::TransactionManager;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::value::Value;

/// For how long a server may say nothing while it is asked something. Well below a lease.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) enum Database {
    Sqlite(Mutex<SqliteConnection>),
    Postgres(PgPool),
}

/// One that is ours for now.
pub(super) enum Connection<'a> {
    Sqlite(MutexGuard<'a, SqliteConnection>),
    Postgres(PoolConnection<Postgres>),
}

/// Rolled back unless it is [committed](Transaction::commit).
pub(super) struct Transaction<'c, 'a> {
    connection: &'c mut Connection<'a>,
    is_open: bool,
}

impl Database {
    pub async fn connection(&self) -> Result<Connection<'_>, sqlx::Error> {
        Ok(match self {
            Database::Sqlite(connection) => Connection::Sqlite(connection.lock().await),
            Database::Postgres(pool) => Connection::Postgres(pool.acquire().await?),
        })
    }
}

impl<'a> Connection<'a> {
    pub fn is_postgres(&self) -> bool {
        matches!(self, Connection::Postgres(_))
    }

    /// Where the two need other words.
    pub fn either(&self, sqlite: &'static str, postgres: &'static str) -> Sql {
        sql(if self.is_postgres() { postgres } else { sqlite })
    }

    /// One that writes. SQLite's takes the write lock at its start: one that reads first and then wants to write is refused,
    /// whatever the time-out, when somebody wrote in between. PostgreSQL's locks rows: see `lock.rs`.
    pub async fn begin(&mut self) -> Result<Transaction<'_, 'a>, sqlx::Error> {
        match self {
            Connection::Sqlite(connection) => {
                begin::<Sqlite>(connection, Some("BEGIN IMMEDIATE")).await?;
            }
            Connection::Postgres(connection) => {
                let begun = timeout(PATIENCE, begin::<Postgres>(connection, None)).await;
                settle(connection, begun)?;
            }
        }
        Ok(Transaction { connection: self, is_open: true })
    }

    /// One in which nothing can be written.
    pub async fn begin_to_read(&mut self) -> Result<Transaction<'_, 'a>, sqlx::Error> {
        match self {
            Connection::Sqlite(connection) => begin::<Sqlite>(connection, None).await?,
            Connection::Postgres(connection) => {
                let words = Some("BEGIN TRANSACTION READ ONLY");
                let begun = timeout(PATIENCE, begin::<Postgres>(connection, words)).await;
                settle(connection, begun)?;
            }
        }
        Ok(Transaction { connection: self, is_open: true })
    }
}

impl Transaction<'_, '_> {
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        match &mut *self.connection {
            Connection::Sqlite(connection) => commit::<Sqlite>(connection).await?,
            Connection::Postgres(connection) => {
                let done = timeout(PATIENCE, commit::<Postgres>(connection)).await;
                settle(connection, done)?;
            }
        }
        self.is_open = false;
        Ok(())
    }
}

impl Drop for Transaction<'_, '_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        // Both are done before the connection's next statement.
        match &mut *self.connection {
            Connection::Sqlite(connection) => start_rollback::<Sqlite>(connection),
            Connection::Postgres(connection) => start_rollback::<Postgres>(connection),
        }
    }
}

impl<'a> Deref for Transaction<'_, 'a> {
    type Target = Connection<'a>;

    fn deref(&self) -> &Connection<'a> {
        self.connection
    }
}

impl<'a> DerefMut for Transaction<'_, 'a> {
    fn deref_mut(&mut self) -> &mut Connection<'a> {
        self.connection
    }
}

// What `sqlx::Transaction` is made of; that one borrows a connection of one kind.

async fn begin<D: sqlx::Database>(
    connection: &mut D::Connection,
    words: Option<&'static str>,
) -> Result<(), sqlx::Error> {
    D::TransactionManager::begin(connection, words.map(SqlSafeStr::into_sql_str)).await
}

async fn commit<D: sqlx::Database>(connection: &mut D::Connection) -> Result<(), sqlx::Error> {
    D::TransactionManager::commit(connection).await
}

fn start_rollback<D: sqlx::Database>(connection: &mut D::Connection) {
    D::TransactionManager::start_rollback(connection);
}

/// Throws a connection away whose server said nothing for too long.
fn settle<T>(
    connection: &mut PoolConnection<Postgres>,
    outcome: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
) -> Result<T, sqlx::Error> {
    outcome.unwrap_or_else(|_| {
        connection.close_on_drop();
        Err(silent())
    })
}

pub(super) fn silent() -> sqlx::Error {
    let why = format!("the server did not answer for {} s", PATIENCE.as_secs());
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
}

/// A statement.
pub(super) struct Sql {
    text: SqlStr,
    values: Vec<Value>,
}

/// A statement with values to come for `$1` and the others.
pub(super) fn sql(text: &'static str) -> Sql {
    Sql { text: text.into_sql_str(), values: Vec::new() }
}

impl Sql {
    /// Of a text that is put together from our own words.
    pub fn made(text: String) -> Sql {
        Sql { text: AssertSqlSafe(text).into_sql_str(), values: Vec::new() }
    }

    /// `INSERT` of many rows: `head VALUES ($1, $2), ($3, $4) tail`.
    pub fn rows<const N: usize>(head: &str, rows: impl Iterator<Item = [Value; N]>, tail: &str) -> Sql {
        let mut text = format!("{head} VALUES ");
        let mut values = Vec::new();
        for row in rows {
            text.push_str(if values.is_empty() { "(" } else { ", (" });
            for (place, value) in row.into_iter().enumerate() {
                values.push(value);
                text.push_str(if place > 0 { ", $" } else { "$" });
                text.push_str(&values.len().to_string());
            }
            text.push(')');
        }
        text.push(' ');
        text.push_str(tail);
        Sql { values, ..Sql::made(text) }
    }

    pub fn bind(mut self, value: impl Into<Value>) -> Sql {
        self.values.push(value.into());
        self
    }

    /// How many rows were changed.
    pub async fn execute(self, connection: &mut Connection<'_>) -> Result<u64, sqlx::Error> {
        match connection {
            Connection::Sqlite(connection) => {
                Ok(self.of::<Sqlite>()?.execute(&mut **connection).await?.rows_affected())
            }
            Connection::Postgres(connection) => {
                let done = timeout(PATIENCE, self.of::<Postgres>()?.execute(&mut **connection)).await;
                Ok(settle(connection, done)?.rows_affected())
            }
        }
    }

    /// Shows each row as it comes.
    pub async fn each<E: From<sqlx::Error>>(
        self,
        connection: &mut Connection<'_>,
        mut take: impl FnMut(Row) -> Result<(), E>,
    ) -> Result<(), E> {
        match connection {
            Connection::Sqlite(connection) => {
                let mut rows = self.of::<Sqlite>()?.fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    take(Row::Sqlite(row))?;
                }
            }
            Connection::Postgres(connection) => {
                let mut rows = self.of::<Postgres>()?.fetch(&mut **connection);
                loop {
                    let Ok(next) = timeout(PATIENCE, rows.try_next()).await else {
                        drop(rows);
                        connection.close_on_drop();
                        return Err(silent().into());
                    };
                    match next? {
                        Some(row) => take(Row::Postgres(row))?,
                        None => break,
                    }
                }
            }
        }
        Ok(())
    }

    pub async fn fetch_all(self, connection: &mut Connection<'_>) -> Result<Vec<Row>, sqlx::Error> {
        let mut rows = Vec::new();
        self.each(connection, |row| {
            rows.push(row);
            Ok::<(), sqlx::Error>(())
        })
        .await?;
        Ok(rows)
    }

    pub async fn fetch_optional(self, connection: &mut Connection<'_>) -> Result<Option<Row>, sqlx::Error> {
        match connection {
            Connection::Sqlite(connection) => {
                Ok(self.of::<Sqlite>()?.fetch_optional(&mut **connection).await?.map(Row::Sqlite))
            }
            Connection::Postgres(connection) => {
                let row = timeout(PATIENCE, self.of::<Postgres>()?.fetch_optional(&mut **connection)).await;
                Ok(settle(connection, row)?.map(Row::Postgres))
            }
        }
    }

    pub async fn fetch_one(self, connection: &mut Connection<'_>) -> Result<Row, sqlx::Error> {
        self.fetch_optional(connection).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// The first column of all rows.
    pub async fn column<T: for<'r> Readable<'r>>(self, connection: &mut Connection<'_>) -> Result<Vec<T>, sqlx::Error> {
        let mut column = Vec::new();
        self.each(connection, |row| {
            column.push(row.try_get(0)?);
            Ok::<(), sqlx::Error>(())
        })
        .await?;
        Ok(column)
    }

    /// The first column of the first row, if there is one.
    pub async fn cell<T: for<'r> Readable<'r>>(
        self,
        connection: &mut Connection<'_>,
    ) -> Result<Option<T>, sqlx::Error> {
        self.fetch_optional(connection).await?.map(|row| row.try_get(0)).transpose()
    }

    fn of<D: sqlx::Database>(self) -> Result<sqlx::query::Query<'static, D, D::Arguments>, sqlx::Error>
    where
        Option<i64>: for<'q> sqlx::Encode<'q, D> + sqlx::Type<D>,
        Option<f64>: for<'q> sqlx::Encode<'q, D> + sqlx::Type<D>,
        Option<String>: for<'q> sqlx::Encode<'q, D> + sqlx::Type<D>,
        D::Arguments: sqlx::IntoArguments<D>,
    {
        let mut arguments = D::Arguments::default();
        for value in self.values {
            let added = match value {
                Value::Integer(value) => arguments.add(value),
                Value::Real(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(self.text, arguments))
    }
}

pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// What both can give.
pub(super) trait Readable<'r>:
    sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>
{
}

impl<'r, T> Readable<'r> for T where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>
{
}

impl Row {
    pub fn try_get<'r, T: Readable<'r>>(&'r self, column: usize) -> Result<T, sqlx::Error> {
        match self {
            Row::Sqlite(row) => sqlx::Row::try_get(row, column),
            Row::Postgres(row) => sqlx::Row::try_get(row, column),
        }
    }
}
