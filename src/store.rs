//! What is kept: jobs, attempts, epochs and events, in one SQLite file or on a PostgreSQL server. All of sqlx is here.
//!
//! Input: experiments and their jobs, [`Message`](crate::event::Message)s, the starts and ends of attempts. Output:
//! [`Outcome`]s for reports, counts for listings, rows for SQL that a reader types.
//!
//! **Writers.** Schedulers write, one or several, to a file each by one connection behind a mutex and not a pool: SQLite has
//! one writer at a time anyway. Who only looks opens [read only](Store::open_read_only), who asks something of jobs
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
//! **Durability.** Of a file: WAL with `synchronous = FULL`. NORMAL is several times faster but may lose the last transactions
//! when the power fails, and then an attempt's number could be given out twice while the first one's spool exists. A
//! fence must not go back, and one sync a batch of messages is far below what training takes.
//!
//! **Whose a job is.** An attempt has a lease, on the store's clock, that its scheduler renews while it lives (`lease.rs`).
//!
//! **Several machines** share a store on a PostgreSQL server (`database.rs`): the same migrations, the same statements but for
//! the clock and the claim, with `$1` parameters and BIGINT times, and rows locked where SQLite locks the file (`lock.rs`). Only
//! [`Store::open`] migrates. There is no `query!` macro, so nothing needs a database to compile, and no `Any` driver.

mod attempt;
mod claims;
mod columns;
mod database;
mod error;
mod lease;
mod location;
mod lock;
mod look;
mod open;
mod outcome;
mod pages;
mod query;
mod rates;
mod read;
mod record;
mod standing;
mod submit;
mod take;
mod value;
mod wish;

use database::{Connection, Database};

pub use attempt::{Block, Claim, Ending, Provenance};
pub use claims::{Registered, Spent};
pub use error::Error;
pub use lease::{Mark, Tenure};
pub use location::{Location, Server, shown};
pub use look::{Attempt, Curve, LastRow, Noted, Progress, Scheduler};
pub use outcome::{Outcome, State};
pub use pages::{Page, Times};
pub use query::QueryResult;
pub use read::{ExperimentSummary, Rows, Wanted};
pub use record::Listed;
pub use standing::{Place, Standing};
pub use submit::{Controller, Sight, Stand, Task};
pub use take::Taken;
pub use wish::{SchedulerWish, Wish};

/// An open store.
#[derive(Debug)]
pub struct Store {
    location: Location,
    database: Database,
}

impl Store {
    pub fn location(&self) -> &Location {
        &self.location
    }

    async fn connection(&self) -> Result<Connection<'_>, Error> {
        Ok(self.database.connection().await?)
    }
}

/// Counts are BIGINT; none of ours comes near its end.
fn big(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
