//! What is kept: jobs, attempts, epochs and events, in one SQLite file. All of sqlx is here.
//!
//! Input: experiments and their jobs, [`Message`](crate::event::Message)s, the starts and ends of attempts. Output:
//! [`Outcome`]s for reports, counts for listings, rows for SQL that a reader types.
//!
//! **Writers.** Schedulers write, one or several of this machine, each by one connection behind a mutex and not a pool:
//! SQLite has one writer at a time anyway. Who only looks opens [read only](Store::open_read_only), who asks something of jobs
//! that run [to ask](Store::open_to_ask). Take the folder's [`Lock`](crate::schedule::Lock) before [`Store::open`], which
//! migrates: two processes that migrate one SQLite file at once get in each other's way.
//!
//! **Attempts and the fence.** Each start of a job is an attempt, numbered from 1, begun here before its worker is
//! started. `jobs.attempt` holds the newest. What an attempt says about the job's *state* (it ended, it failed) counts
//! only if no newer attempt was begun: otherwise [`Taken::Refused`], and nothing is written. What it says about the
//! job's *numbers* (an epoch, a teacher's accuracy) is taken from every attempt, if the row is not there yet: training
//! is deterministic, so an older attempt's epoch 3 is the newer one's epoch 3, and may be the only copy when a worker
//! resumes from the checkpoint behind it. Rows are keyed by (job, epoch), the first copy stays, and a message that is
//! read twice changes nothing.
//!
//! **Durability.** WAL with `synchronous = FULL`. NORMAL is several times faster but may lose the last transactions
//! when the power fails, and then an attempt's number could be given out twice while the first one's spool exists. A
//! fence must not go back, and one sync a batch of messages is far below what training takes.
//!
//! **Whose a job is.** An attempt has a lease, on the store's clock, that its scheduler renews while it lives (`lease.rs`).
//!
//! **Several machines** (PostgreSQL) are not built. The SQL is common to both databases but for the clock, with `$1` parameters
//! and BIGINT times. There is no `query!` macro, so nothing needs a database to compile, and no `Any` driver, so a pool of the
//! other kind becomes a variant here.

mod attempt;
mod claims;
mod columns;
mod error;
mod lease;
mod look;
mod outcome;
mod pages;
mod query;
mod rates;
mod read;
mod record;
mod standing;
mod take;
mod wish;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, Sqlite, Transaction};
use tokio::sync::{Mutex, MutexGuard};

pub use attempt::{Block, Claim, Ending, Provenance};
pub use claims::{Registered, Spent};
pub use error::Error;
pub use lease::{Mark, Tenure};
pub use look::{Attempt, Curve, LastRow, Noted, Progress, Scheduler};
pub use outcome::{Outcome, State};
pub use pages::{Page, Times};
pub use query::QueryResult;
pub use read::{ExperimentSummary, Rows, Wanted};
pub use record::Listed;
pub use standing::{Place, Standing};
pub use take::Taken;
pub use wish::{SchedulerWish, Wish};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a statement waits for another process's lock.
const BUSY: Duration = Duration::from_secs(10);

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Mutex<SqliteConnection>,
}

impl Store {
    /// For the scheduler: makes folder and file where they are missing and brings the tables up to date.
    ///
    /// # Errors
    /// With a hint when the file is no database, was written by a newer version, or is locked by somebody else.
    pub async fn open(path: &Path) -> Result<Store, Error> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
        }
        let mut connection = connect(path, &of_a_writer(path).create_if_missing(true)).await?;
        MIGRATIONS.run(&mut connection).await.map_err(|error| match error {
            MigrateError::VersionMissing(_) => Error::Newer { path: path.to_owned() },
            MigrateError::VersionMismatch(version) => Error::Changed { path: path.to_owned(), version },
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => Error::opening(path, source),
            other => Error::opening(path, sqlx::Error::Migrate(Box::new(other))),
        })?;
        Ok(Store { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    /// For everybody else. Nothing can be written through it, and it does not migrate.
    ///
    /// # Errors
    /// [`Error::Missing`] when nothing was run yet; [`Error::Newer`] and [`Error::Older`] for another version's file.
    pub async fn open_read_only(path: &Path) -> Result<Store, Error> {
        if !path.exists() {
            return Err(Error::Missing { path: path.to_owned() });
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .pragma("query_only", "ON")
            .busy_timeout(BUSY)
            // Whoever reads a million rows would else wake up twenty thousand times for them.
            .row_buffer_size(2000);
        let mut connection = connect(path, &options).await?;
        check_version(path, &mut connection).await?;
        Ok(Store { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    /// For people's [wishes](Wish), also while a scheduler writes: nothing is made and nothing migrated.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub async fn open_to_ask(path: &Path) -> Result<Store, Error> {
        if !path.exists() {
            return Err(Error::Missing { path: path.to_owned() });
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let mut connection = connect(path, &options).await?;
        check_version(path, &mut connection).await?;
        Ok(Store { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the connection in order. Dropping the store is safe too; this one also folds the WAL into the file.
    pub async fn close(self) -> Result<(), Error> {
        Ok(self.connection.into_inner().close().await?)
    }

    /// Begins a new connection: one whose transaction could not be ended, for want of room on the disk, is of no more use.
    ///
    /// # Errors
    /// As [`Store::open`]; the old connection then stays.
    pub async fn reconnect(&self) -> Result<(), Error> {
        let fresh = connect(&self.path, &of_a_writer(&self.path)).await?;
        *self.connection.lock().await = fresh;
        Ok(())
    }

    async fn connection(&self) -> MutexGuard<'_, SqliteConnection> {
        self.connection.lock().await
    }
}

fn of_a_writer(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
}

/// Every transaction that writes takes the write lock at its start: one that reads first and then wants to write is
/// refused by SQLite, whatever the time-out, when somebody wrote in between.
async fn begin(connection: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>, Error> {
    Ok(connection.begin_with("BEGIN IMMEDIATE").await?)
}

async fn connect(path: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection, Error> {
    let mut connection =
        SqliteConnection::connect_with(options).await.map_err(|source| Error::opening(path, source))?;
    // SQLite looks into a file only when it is first asked something.
    sqlx::query("SELECT count(*) FROM sqlite_master")
        .execute(&mut connection)
        .await
        .map_err(|source| Error::opening(path, source))?;
    Ok(connection)
}

async fn check_version(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    let there: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(connection)
        .await
        .map_err(|source| match Error::opening(path, source) {
            // A database, but without our tables.
            Error::Open { path, .. } => Error::Older { path },
            other => other,
        })?;
    let ours = MIGRATIONS.iter().map(|migration| migration.version).max();
    match there.cmp(&ours) {
        std::cmp::Ordering::Less => Err(Error::Older { path: path.to_owned() }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Error::Newer { path: path.to_owned() }),
    }
}

/// Counts are BIGINT; none of ours comes near its end.
fn big(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
