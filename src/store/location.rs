//! Where a store is: a file of this machine, or a database of a PostgreSQL server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use super::Error;

/// Shown without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file.
    Sqlite(PathBuf),
    /// For several machines.
    Postgres(Server),
}

/// A database of a PostgreSQL server. What is not in the URL comes from `PGHOST`, `PGUSER` and the like; the password best
/// from `~/.pgpass` or the file that `PGPASSFILE` names.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    url: String,
}

impl Location {
    /// Where there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Location::Sqlite(path) => Some(path),
            Location::Postgres(_) => None,
        }
    }
}

impl Server {
    /// The URL without the password: for messages, and for files that others may read.
    pub fn public(&self) -> String {
        without_password(&self.url)
    }

    /// As it was given, for a process that is to use it, too.
    pub fn secret(&self) -> &str {
        &self.url
    }

    pub(super) fn options(&self) -> Result<PgConnectOptions, sqlx::Error> {
        self.url.parse()
    }
}

impl Location {
    /// Whether a server is reached by a file of this machine.
    pub(super) fn is_socket(&self) -> bool {
        let Location::Postgres(server) = self else { return false };
        server.options().is_ok_and(|options| options.get_socket().is_some() || options.get_host().starts_with('/'))
    }

    /// Whether both name one database: how it is reached, and with which password, does not matter.
    pub fn is(&self, other: &Location) -> bool {
        let place = |server: &Server| {
            let options = server.options().ok()?;
            let socket = options.get_socket().cloned();
            Some((
                options.get_host().to_owned(),
                options.get_port(),
                socket,
                options.get_database().unwrap_or(options.get_username()).to_owned(),
            ))
        };
        match (self, other) {
            (Location::Postgres(one), Location::Postgres(two)) => one.url == two.url || place(one) == place(two),
            (one, two) => one == two,
        }
    }
}

/// A word of a command line as it may be shown: a URL in it loses its password.
pub fn shown(word: &str) -> String {
    if word.contains("postgres://") || word.contains("postgresql://") {
        without_password(word)
    } else {
        word.to_owned()
    }
}

impl FromStr for Location {
    type Err = Error;

    /// # Errors
    /// [`Error::Url`] for a URL that names no server, or another kind of database.
    fn from_str(text: &str) -> Result<Location, Error> {
        let refused = |why: String| Error::Url { url: without_password(text), why };
        match text.split_once("://") {
            Some(("postgres" | "postgresql", _)) => {
                let server = Server { url: text.to_owned() };
                server.options().map_err(|error| refused(innermost(&error)))?;
                Ok(Location::Postgres(server))
            }
            Some(("sqlite", path)) => Ok(Location::Sqlite(path.into())),
            Some((other, _)) => Err(refused(format!("`{other}` is neither `postgres` nor `sqlite`"))),
            None if text.trim().is_empty() => Err(refused("it is empty".to_owned())),
            None => Ok(Location::Sqlite(text.strip_prefix("sqlite:").unwrap_or(text).into())),
        }
    }
}

/// What was wrong, without those who passed it on.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

/// `postgres://user:word@host/base?password=word&a=b` becomes `postgres://user@host/base?a=b`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    let tail = match tail.split_once('?') {
        Some((path, pairs)) => {
            let kept: Vec<&str> = pairs.split('&').filter(|pair| !pair.starts_with("password=")).collect();
            if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
        }
        None => tail.to_owned(),
    };
    format!("{scheme}://{authority}{tail}")
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Sqlite(path) => path.display().fmt(f),
            Location::Postgres(server) => f.write_str(&server.public()),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.public().fmt(f)
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Location {
        Location::Sqlite(path.to_owned())
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Location {
        Location::Sqlite(path.clone())
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Location {
        location.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("postgres://me:se:cr@t@host:5433/runs?sslmode=disable", "postgres://me@host:5433/runs?sslmode=disable"),
            ("postgresql://host/runs?password=secret&user=me", "postgresql://host/runs?user=me"),
            ("postgres://me:secret@host?password=secret", "postgres://me@host"),
            ("postgres:///runs?host=/tmp/there", "postgres:///runs?host=/tmp/there"),
        ] {
            let location: Location = url.parse().unwrap();
            assert_eq!(location.to_string(), shown);
            assert!(!format!("{location:?}").contains("cr"), "{location:?}");
        }
        let error = "mysql://me:secret@host/runs".parse::<Location>().unwrap_err().to_string();
        assert!(error.contains("mysql://me@host/runs") && !error.contains("secret"), "{error}");
        let error = "postgres://host/runs?sslmode=sure".parse::<Location>().unwrap_err().to_string();
        assert!(error.contains("is no place for a store: unknown value \"sure\" for `ssl_mode`\n"), "{error}");
    }

    #[test]
    fn one_database_has_many_names() {
        let location = |text: &str| -> Location { text.parse().unwrap() };
        let one = location("postgres://me@host/runs");
        for other in ["postgresql://me:word@host:5432/runs", "postgres://me@host/runs?sslmode=require"] {
            assert!(one.is(&location(other)), "{other}");
        }
        for other in
            ["postgres://me@host/other", "postgres://me@elsewhere/runs", "postgres://me@host:5433/runs", "runs"]
        {
            assert!(!one.is(&location(other)), "{other}");
        }
        assert_eq!(shown("--store=postgres://me:word@host/runs"), "--store=postgres://me@host/runs");
        assert_eq!(shown("a:b@c"), "a:b@c");
    }

    #[test]
    fn everything_else_is_a_file() {
        for text in ["runs/store.sqlite", "sqlite:runs/store.sqlite", "sqlite://runs/store.sqlite"] {
            let location: Location = text.parse().unwrap();
            assert_eq!(location.file(), Some(Path::new("runs/store.sqlite")), "{text}");
        }
    }
}
