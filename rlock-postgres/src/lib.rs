//! rlock on Postgres, version 13 to 18, with nothing installed in it but tables, and by a role without privileges.
//!
//! Most users depend on the package `rlock-client` with its feature `postgres` and call `rlock::connect("postgres://…")`, which
//! uses this crate.
//!
//! ```no_run
//! use rlock_postgres::{PostgresBackend, PostgresConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = PostgresConfig::from_url("postgres://jobs@localhost/app?namespace=billing")?;
//! PostgresBackend::ensure_schema(&config).await?; // once, by a role that may make tables
//! let backend = PostgresBackend::connect(config).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! A resource is one row, with its leases in arrays. Each operation is one statement, a transaction of its own: one round
//! trip and one flush of the log. What most of them are has a short statement: to claim what is free, to extend a lease,
//! to release a mutex and hand it over to whoever is next. The statement finds by the way whether it will do. Everything
//! else is done by one longer statement, for up to 64 leases at a time: it locks the rows that have to change, in the order
//! of their names, drops what has expired by the server's clock, does what was asked for, and grants from the head of the
//! queue. A client remembers which resources took the longer one, and begins with it the next time. Nothing is written if
//! nothing has to change, as when a claim is refused.
//!
//! No index has what changes, so that the server keeps new versions of a row on its page, and clears away old ones by the
//! way. A row without leases stays for an hour; whoever deletes it notes its last token, above which all rows begin.
//!
//! A waiter that is granted is told by NOTIFY on a channel of its client's own, by a statement of its own: the server lets
//! those that notify commit one after the other, and a grant should not wait in that line for its flush. A transaction that
//! only notifies is not flushed. It is not sent when nobody waits.
//!
//! # Poolers
//!
//! Behind a pooler that gives sessions away after each transaction, as PgBouncer with `pool_mode=transaction`, statements
//! cannot be prepared, and nobody can listen. Connecting finds that out. Statements then have their arguments in their
//! text, and what clients are told is put into a table for those that cannot listen, in the transaction that grants. They
//! look there while they wait: 10 ms after they began to, then after a tenth of the time that they have waited, and every
//! 200 ms at last. A look is a read of one index. While they hold locks, they look every second, for somebody may break
//! them. With `listen_url` they listen to the server itself.
//!
//! # Objects of other roles
//!
//! Postgres resolves operators and functions by the search path, which by default includes the schema `public`. Other
//! roles may create objects there before version 15, and in databases upgraded from there: an operator of theirs that fits
//! an expression better would run as rlock's role. rlock therefore sets `search_path` to `pg_catalog, pg_temp`,
//! whatever the role, the database or the URL says: once in each session of its own, in each transaction behind a pooler,
//! in the same message as the statement, and in the SQL that makes the tables. The connection that listens resolves no
//! names.
//!
//! The owner of a table, and each role that may create triggers on it, can run code as the role that writes to the table.
//! Connecting and [`PostgresBackend::ensure_schema`] therefore refuse, before they use the tables:
//!
//! - a schema or a table of another role than rlock's own, a superuser, the owner of the database or a member of that role;
//! - a trigger whose function belongs to another role than those, and the privilege TRIGGER of such a role;
//! - a schema in which every role may create objects.
//!
//! The SQL that makes the tables refuses the same, as the role that runs it. The error names the object, its owner and the
//! remedy. Tables that a role with CREATE on the database makes serve that role alone.
//!
//! # What it guarantees
//!
//! All that [`rlock_core::Backend`] asks for, on a server that keeps what it has confirmed:
//!
//! - Fencing tokens are max(previous + 1, the server's time in microseconds). They keep increasing when the server was
//!   restored from a backup, unless its clock went back as well.
//! - What is held survives a restart and a crash of the server, for it is in its log.
//! - A statement that gets no answer within a second is sent again over a new connection; the longest wait doubles for as
//!   long as nothing answers.
//!
//! # What Postgres cannot promise
//!
//! - **Failover.** A standby that is promoted may lack the latest grants, unless replication is synchronous, and grant
//!   them again. Two holders then overlap until the first one's TTL has passed or it learns that its lease is gone. Only the
//!   fencing token protects what they write to.
//! - **Durability.** With `synchronous_commit=off` or `fsync=off` a crash forgets the latest grants, as in a failover.
//! - **Clock.** TTLs are counted on the clock of the server's host. If somebody sets that clock, leases end early or late by
//!   as much.
//! - **Long transactions** of anybody in the database keep old versions of rows from being cleared away: a row that is
//!   changed often then grows, and is read more slowly, until the transaction ends.

mod answers;
mod backend;
mod baseline;
mod config;
mod error;
mod examine;
mod guesses;
mod inbox;
mod link;
mod list;
mod operation;
mod schema;
mod statement;
mod sweep;

pub use backend::PostgresBackend;
pub use baseline::PostgresBaseline;
pub use config::{ConfigError, PostgresConfig};
pub use rlock_core::ConnectError;
