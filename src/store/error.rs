//! What can go wrong with a store, said so that a person knows what to do.

use std::io;
use std::path::PathBuf;

use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use super::Location;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("there is no store at `{location}`\nhint: `distillery run NAME` makes one; `--folder` names another place")]
    Missing { location: Location },
    #[error("`{location}` is not a database\nhint: move it away, or name another folder with `--folder`")]
    NotADatabase { location: Location },
    #[error(
        "the store `{location}` is damaged\nhint: move it away; `distillery run NAME` makes it anew from what the workers wrote down"
    )]
    Damaged { location: Location },
    #[error(
        "the store `{location}` was written by a newer distillery\nhint: use that version, or another {}",
        other(location)
    )]
    Newer { location: Location },
    #[error(
        "the store `{location}` was written by an older distillery\nhint: `distillery run NAME` brings it up to date"
    )]
    Older { location: Location },
    #[error("the store `{location}` has no tables yet\nhint: `distillery run NAME` makes them")]
    Empty { location: Location },
    #[error(
        "the store `{location}` was made by another build: its migration {version} differs\nhint: use another {}; results in the old one stay readable with the build that made it",
        other(location)
    )]
    Changed { location: Location, version: i64 },
    #[error(
        "the store `{location}` is locked by another process\nhint: is a second `distillery`, or an SQL shell with an open transaction, at work on it?"
    )]
    Locked { location: Location },
    #[error("the store `{location}` cannot be opened now: {why}\nhint: the same command goes on when that is over")]
    Busy { location: Location, why: &'static str },
    #[error(
        "the store `{location}` may not be used by this role: {why}\nhint: the database is to be the role's own (`createdb -O ROLE NAME`), or its owner types `GRANT ALL ON SCHEMA public TO ROLE`"
    )]
    Forbidden { location: Location, why: String },
    #[error("cannot open the store `{location}`")]
    Open { location: Location, source: sqlx::Error },
    #[error(
        "no PostgreSQL server answers at `{location}`: {why}\nhint: is it up, does it listen for other hosts, and are host and port right?"
    )]
    NoServer { location: Location, why: String },
    #[error(
        "the PostgreSQL server at `{location}` does not let us in: {why}\nhint: a line `host:port:database:user:password` in `~/.pgpass`, or in the file that PGPASSFILE names, is asked for the password; only its owner may read it (chmod 600)"
    )]
    Login { location: Location, why: String },
    #[error(
        "the PostgreSQL server at `{location}` has no such database: {why}\nhint: `createdb NAME` makes one, by who may do so there"
    )]
    NoDatabase { location: Location, why: String },
    #[error(
        "no TLS connection to the PostgreSQL server at `{location}`: {why}\nhint: `?sslrootcert=FILE` names the authority that signed the server's certificate, `?sslmode=require` encrypts without asking who it is"
    )]
    Tls { location: Location, why: String },
    #[error(
        "what answers at `{location}` is a pooler, PgBouncer for instance: {why}\nhint: name the server's own host and port; a session's settings and prepared statements are needed, which poolers take away"
    )]
    Pooler { location: Location, why: String },
    #[error("`{url}` is no place for a store: {why}\nhint: `postgres://USER@HOST:5432/DATABASE`, or a path to a file")]
    Url { url: String, why: String },
    #[error("cannot make the folder `{}`", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("job `{job}` cannot be started: {why}")]
    NotStartable { job: String, why: &'static str },
    #[error("the query was refused: {why}\nhint: {hint}")]
    Refused { why: String, hint: &'static str },
    #[error("the query failed: {message}\nhint: {hint}")]
    Query { message: String, hint: &'static str },
    #[error("the store holds something this version cannot read: {what}")]
    Unreadable { what: String, source: Option<serde_json::Error> },
    #[error("the store failed{}", advice(.0))]
    Sql(#[from] sqlx::Error),
}

impl Error {
    /// What is in the way, where trying again may help.
    pub fn passing(&self) -> Option<&'static str> {
        let Error::Sql(error) = self else { return None };
        passing(error)
    }

    /// Whether it is only that nobody answers, or not at once: trying again may help.
    pub fn is_away(&self) -> bool {
        matches!(self, Error::NoServer { .. } | Error::Locked { .. } | Error::Busy { .. }) || self.passing().is_some()
    }

    pub(super) fn opening(location: &Location, source: sqlx::Error) -> Error {
        let location = location.clone();
        match sqlite_code(&source) {
            // SQLITE_BUSY and SQLITE_LOCKED
            Some(5 | 6) => return Error::Locked { location },
            // SQLITE_CORRUPT
            Some(11) => return Error::Damaged { location },
            // SQLITE_NOTADB
            Some(26) => return Error::NotADatabase { location },
            _ => {}
        }
        let why = source.as_database_error().map_or_else(|| source.to_string(), |error| error.message().to_owned());
        match state(&source) {
            // Of no such role, a wrong password, or a host that may not.
            Some("28000" | "28P01") => Error::Login { location, why },
            Some("3D000") => Error::NoDatabase { location, why },
            // undefined_table
            Some("42P01") => Error::Empty { location },
            Some("55P03") => Error::Locked { location },
            // insufficient_privilege
            Some("42501") => Error::Forbidden { location, why },
            _ if why.starts_with("unsupported startup parameter") => Error::Pooler { location, why },
            _ => match source {
                sqlx::Error::Tls(error) => Error::Tls { location, why: error.to_string() },
                sqlx::Error::Io(error) if is_about_tls(&error, &location) => {
                    Error::Tls { location, why: error.to_string() }
                }
                sqlx::Error::Io(error) => Error::NoServer { location, why: error.to_string() },
                source if let Some(why) = passing(&source) => Error::Busy { location, why },
                source => Error::Open { location, source },
            },
        }
    }
}

/// A certificate that is refused, or one that cannot be read.
fn is_about_tls(error: &io::Error, location: &Location) -> bool {
    match error.kind() {
        io::ErrorKind::InvalidData => true,
        // Of files there are else only sockets.
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => !location.is_socket(),
        _ => false,
    }
}

/// What else may be used.
fn other(location: &Location) -> &'static str {
    match location {
        Location::Sqlite(_) => "folder",
        Location::Postgres(_) => "database",
    }
}

fn passing(error: &sqlx::Error) -> Option<&'static str> {
    if let Some(state) = state(error) {
        return match state {
            "40001" | "40P01" | "55P03" => Some("somebody else has locked the store"),
            // disk_full
            "53100" => Some("there is no room on the store's disk"),
            // too_many_connections
            "53300" => Some("the store's server has too many connections"),
            // query_canceled, by our own time-out
            "57014" => Some("the store's server is too busy"),
            // idle_in_transaction_session_timeout and connection exceptions
            "25P03" => Some("the connection to the store's server was lost"),
            state if state.starts_with("08") => Some("the connection to the store's server was lost"),
            // Shutting down, crashed, starting up.
            state if state.starts_with("57P0") => Some("the store's server is not up"),
            _ => None,
        };
    }
    match error {
        sqlx::Error::Io(_) => Some("the connection to the store's server was lost"),
        sqlx::Error::PoolTimedOut => Some("the store's server does not answer"),
        error => match sqlite_code(error)? {
            // SQLITE_BUSY and SQLITE_LOCKED
            5 | 6 => Some("somebody else has locked the store"),
            // SQLITE_FULL
            13 => Some("there is no room on the store's disk"),
            _ => None,
        },
    }
}

/// Nothing where trying again does not help.
fn advice(error: &sqlx::Error) -> String {
    let hint = "hint: the same command goes on when that is over";
    passing(error).map_or(String::new(), |why| format!(": {why}\n{hint}"))
}

/// The primary result code of SQLite, the low byte of the extended one.
fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    let error = error.as_database_error()?.try_downcast_ref::<SqliteError>()?;
    let code: u32 = sqlx::error::DatabaseError::code(error)?.parse().ok()?;
    Some(code & 0xff)
}

/// PostgreSQL's SQLSTATE.
fn state(error: &sqlx::Error) -> Option<&str> {
    Some(error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.code())
}
