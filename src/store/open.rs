//! Opening a store: who migrates, who only looks, and what is said when it cannot be.

use std::path::Path;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::database::{Database, PATIENCE, silent};
use super::{Error, Location, Server, Store};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a statement waits for another process's lock, and a caller for a connection.
const BUSY: Duration = Duration::from_secs(10);

/// Connections to a server at once. Calls are made one after the other; a second one is there when the first is thrown away.
const CONNECTIONS: u32 = 2;

/// What somebody opens a store for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// To write, after it was brought up to date.
    Own,
    Write,
    Look,
}

impl Store {
    /// For who schedules: makes what is missing, a file and its folder or a database's tables, and brings the tables up to date.
    ///
    /// # Errors
    /// With a hint when there is no database, when a newer version wrote it, or when somebody else has locked it.
    pub async fn open(location: impl Into<Location>) -> Result<Store, Error> {
        open(location.into(), Use::Own).await
    }

    /// For everybody else. Nothing can be written through it, and it does not migrate.
    ///
    /// # Errors
    /// [`Error::Missing`] when nothing was run yet; [`Error::Newer`] and [`Error::Older`] for another version's store.
    pub async fn open_read_only(location: impl Into<Location>) -> Result<Store, Error> {
        open(location.into(), Use::Look).await
    }

    /// For people's [wishes](super::Wish), also while a scheduler writes: nothing is made and nothing migrated.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub async fn open_to_ask(location: impl Into<Location>) -> Result<Store, Error> {
        open(location.into(), Use::Write).await
    }

    /// For workers, of this machine or others: they read and write, and leave the tables as they are.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub async fn open_to_work(location: impl Into<Location>) -> Result<Store, Error> {
        open(location.into(), Use::Write).await
    }

    /// Ends the connections in order. Dropping the store is safe too; for a file this also folds the WAL into it.
    ///
    /// # Errors
    /// When that fails.
    pub async fn close(self) -> Result<(), Error> {
        match self.database {
            Database::Sqlite(connection) => connection.into_inner().close().await?,
            // A server that hangs keeps nobody waiting: what is not closed ends with the process.
            Database::Postgres(pool) => drop(timeout(BUSY, pool.close()).await),
        }
        Ok(())
    }

    /// Begins a new connection to a file: one whose transaction could not be ended, for want of room on the disk, is of no more
    /// use. Connections to a server are looked at before each use anyway.
    ///
    /// # Errors
    /// As [`Store::open`]; the old connection then stays.
    pub async fn reconnect(&self) -> Result<(), Error> {
        if let (Location::Sqlite(path), Database::Sqlite(connection)) = (&self.location, &self.database) {
            let fresh = connect(path, &of_a_writer(path)).await?;
            *connection.lock().await = fresh;
        }
        Ok(())
    }
}

async fn open(location: Location, how: Use) -> Result<Store, Error> {
    let database = match &location {
        Location::Sqlite(path) => Database::Sqlite(Mutex::new(open_file(path, &location, how).await?)),
        Location::Postgres(server) => open_server(server, &location, how).await?,
    };
    Ok(Store { location, database })
}

async fn open_file(path: &Path, location: &Location, how: Use) -> Result<SqliteConnection, Error> {
    if how != Use::Own && !path.exists() {
        return Err(Error::Missing { location: location.clone() });
    }
    let base = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY);
    let options = match how {
        Use::Own => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
            }
            of_a_writer(path).create_if_missing(true)
        }
        Use::Write => base.synchronous(SqliteSynchronous::Full).foreign_keys(true),
        // Whoever reads a million rows would else wake up twenty thousand times for them.
        Use::Look => base.read_only(true).pragma("query_only", "ON").row_buffer_size(2000),
    };
    let mut connection = connect(path, &options).await?;
    match how {
        Use::Own => migrate(location, &mut connection).await?,
        Use::Write | Use::Look => {
            let there = sqlx::query_scalar(VERSION).fetch_one(&mut connection).await;
            check_version(location, there)?;
        }
    }
    Ok(connection)
}

fn of_a_writer(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
}

async fn connect(path: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection, Error> {
    let failed = |source| Error::opening(&path.into(), source);
    let mut connection = SqliteConnection::connect_with(options).await.map_err(failed)?;
    // SQLite looks into a file only when it is first asked something.
    sqlx::query("SELECT count(*) FROM sqlite_master").execute(&mut connection).await.map_err(failed)?;
    Ok(connection)
}

/// The first connection is a plain one: a pool says of whatever is wrong only that it waited.
async fn open_server(server: &Server, location: &Location, how: Use) -> Result<Database, Error> {
    let failed = |source| Error::opening(location, source);
    let options = of_a_server(server, how).map_err(failed)?;
    let mut first = match timeout(BUSY, PgConnection::connect_with(&options)).await {
        Ok(first) => first.map_err(failed)?,
        Err(_) => return Err(failed(silent())),
    };
    match how {
        Use::Own => {
            // Rows of years may be rewritten: that takes as long as it takes.
            let unlimited = sqlx::query("SET statement_timeout = 0").execute(&mut first);
            timeout(PATIENCE, unlimited).await.unwrap_or_else(|_| Err(silent())).map_err(failed)?;
            migrate(location, &mut first).await?;
        }
        Use::Write | Use::Look => {
            let there = timeout(PATIENCE, sqlx::query_scalar(VERSION).fetch_one(&mut first)).await;
            check_version(location, there.unwrap_or_else(|_| Err(silent())))?;
        }
    }
    // That it ends in order is of no interest.
    let _ = first.close().await;
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(BUSY);
    Ok(Database::Postgres(pool.connect_lazy_with(options)))
}

/// The server ends what nobody waits for any more: a statement after our patience, a transaction whose host is gone. And what it
/// says is written must be, whatever it is set to: an attempt's number must not be given out twice.
fn of_a_server(server: &Server, how: Use) -> Result<PgConnectOptions, sqlx::Error> {
    let options = server.options()?.application_name("distillery");
    Ok(match how {
        Use::Own | Use::Write => options.options([
            ("synchronous_commit", "on".to_owned()),
            ("statement_timeout", format!("{}s", PATIENCE.as_secs())),
            ("lock_timeout", format!("{}s", BUSY.as_secs())),
            ("idle_in_transaction_session_timeout", format!("{}s", 3 * PATIENCE.as_secs())),
        ]),
        Use::Look => options.options([("default_transaction_read_only", "on")]),
    })
}

async fn migrate<C: Migrate>(location: &Location, connection: &mut C) -> Result<(), Error> {
    MIGRATIONS.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(_) => Error::Newer { location: location.clone() },
        MigrateError::VersionMismatch(version) => Error::Changed { location: location.clone(), version },
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => Error::opening(location, source),
        other => Error::opening(location, sqlx::Error::Migrate(Box::new(other))),
    })
}

const VERSION: &str = "SELECT max(version) FROM _sqlx_migrations WHERE success";

fn check_version(location: &Location, there: Result<Option<i64>, sqlx::Error>) -> Result<(), Error> {
    let there = there.map_err(|source| match Error::opening(location, source) {
        // A database, but without our tables.
        Error::Open { location, source } if source.as_database_error().is_some() => Error::Older { location },
        other => other,
    })?;
    let ours = MIGRATIONS.iter().map(|migration| migration.version).max();
    match there.cmp(&ours) {
        std::cmp::Ordering::Less => Err(Error::Older { location: location.clone() }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Error::Newer { location: location.clone() }),
    }
}
