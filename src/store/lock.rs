//! Who is at work on which jobs, while a transaction lasts. SQLite has one writer at a time and needs nothing more.
//!
//! PostgreSQL lets several write at once, and each statement sees what others committed before it began. So a transaction that
//! first reads and then writes takes the rows of its jobs at the start, always in the order of their ids: two that want the same
//! jobs then wait for each other in turn, and never in a ring. The lock is the one that an `UPDATE` takes, `FOR NO KEY UPDATE`:
//! rows that only refer to a job, as events do, need not wait for it.

use std::collections::BTreeSet;

use super::Error;
use super::database::{Connection, Sql, sql};
use crate::job::JobId;

/// Those of `jobs` that are recorded.
pub(super) async fn lock<'j>(
    connection: &mut Connection<'_>,
    jobs: impl IntoIterator<Item = &'j JobId>,
) -> Result<(), Error> {
    if !connection.is_postgres() {
        return Ok(());
    }
    let ids: BTreeSet<&str> = jobs.into_iter().map(JobId::as_str).collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    sql("SELECT id FROM jobs WHERE id = ANY(string_to_array($1, ',')) ORDER BY id FOR NO KEY UPDATE")
        .bind(ids.join(","))
        .execute(connection)
        .await?;
    Ok(())
}

/// Those of which this is true, `$1` being the owner.
pub(super) async fn lock_where(
    connection: &mut Connection<'_>,
    condition: &'static str,
    owner: &str,
) -> Result<(), Error> {
    if connection.is_postgres() {
        Sql::made(format!("SELECT id FROM jobs WHERE {condition} ORDER BY id FOR NO KEY UPDATE"))
            .bind(owner)
            .execute(connection)
            .await?;
    }
    Ok(())
}
