//! rlock on Postgres, version 13 to 18, with nothing installed in it but tables and a procedure, and by a role without
//! privileges.
//!
//! Most users depend on the package `rlock-client` with its feature `postgres` and call `rlock::connect("postgres://…")`, which
//! uses this crate.
//!
//! ```no_run
//! use rlock_postgres::{PostgresBackend, PostgresConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = PostgresConfig::from_url("postgres://jobs@localhost/app?namespace=billing")?;
//! let backend = PostgresBackend::connect(config).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Connecting makes the tables where they are missing and the role may make them. An administrator can make them instead, by
//! what `rlock schema` prints or [`PostgresBackend::ensure_schema`]; `?create=off` leaves it to the administrator.
//!
//! # How it works
//!
//! A resource is a row of the table `locks`, with its sole holder in it. Each waiter has a row of the table `leases`, as has
//! each further holder of a semaphore or a reader-writer lock. A waiter's renewal changes its own row and no index. A
//! hand-over deletes one row and changes another, however many wait.
//!
//! Every request is one call of a procedure, with up to 64 leases: one round trip, for which the server has all plans. It
//! locks the rows of `locks` in the order of their names, drops by the server's clock what has expired and is in the way, does
//! what it was asked for, and grants from the head of the queue. A claim that is refused writes nothing.
//!
//! No index has what changes, so that the server keeps new versions of a row on its page, and clears away old ones by the
//! way. A row without leases stays for an hour; the client that deletes it notes its last token, above which all rows begin.
//!
//! # Flushes
//!
//! A request waits until its changes are in the log on disk (`synchronous_commit`) if it grants a lease, renews the lease of a
//! holder, breaks leases or begins a rest. The others do not wait: a release that grants nothing, a place in the queue and
//! its renewal. So a lock that no other client wants costs one flush. A crash of the server may forget those of the last moments:
//!
//! - A forgotten release leaves the resource taken until the lease expires, for its TTL at most. No other client has it then,
//!   since its grant would have been flushed, and the log is flushed in its order.
//! - A waiter whose place is forgotten learns that when it asks again, and joins the queue again.
//! - A forgotten renewal of a waiter ends its place at the time that the renewal before said.
//!
//! # Notifications
//!
//! A waiter that is granted is notified by NOTIFY on a channel of its client's own. The procedure commits the grant first,
//! and notifies in a second transaction: the server lets those that notify commit one after the other, and a grant should not
//! wait in that line for its flush. A transaction that only notifies is not flushed. There is none when no client waits.
//! A release whose answer was lost is sent again, and repeats its notifications. They are left out while the server's queue
//! of them is nearly full; waiters then learn of their grants by their renewals.
//!
//! # Connections
//!
//! A client has at most [`connections`](PostgresConfig::connections), and opens the second only when requests overlap: the
//! first one listens, and takes requests meanwhile. A request without an answer gives up its connection, and the next one that
//! opens ends the session on the server.
//!
//! # Poolers
//!
//! Behind a pooler that gives sessions away after each transaction or statement, as PgBouncer with `pool_mode=transaction`,
//! statements cannot be prepared, and a client cannot listen. Connecting finds that out. Requests then have their arguments in
//! their text, and what clients are told is put into a table for those that cannot listen, in the transaction that grants.
//! They look there while they wait: 10 ms after they began to, then after a tenth of the time that they have waited, and every
//! 200 ms at last. A look is a read of one index. While they hold locks, they look every second, for others may break
//! them. With `listen_url` they listen to the server itself.
//!
//! # Versions
//!
//! The tables have a version, and a program refuses those of another one. Within a version columns may be added. The name of
//! the procedure has a version as well: programs of several versions of rlock work on the same tables at the same time, each
//! with its own procedure.
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
//! - What is held survives a restart and a crash of the server, for it is in its log on disk.
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
//! - **Long transactions** in the database, and on a standby with `hot_standby_feedback`, prepared transactions and idle
//!   replication slots keep old versions of rows from being cleared away: a row that is changed often then grows, and is read
//!   more slowly, until they end. `rlock check` reports them. A database of its own keeps rlock from the transactions of an
//!   application.

mod acquire;
mod answers;
mod backend;
mod baseline;
mod change;
mod config;
mod connect;
mod error;
mod events;
mod examine;
mod extend;
mod inspect;
mod link;
mod list;
mod listener;
mod mail;
mod operation;
mod release;
mod schema;
mod session;
mod statement;
mod sweep;

pub use backend::PostgresBackend;
pub use baseline::PostgresBaseline;
pub use config::{ConfigError, PostgresConfig};
pub use rlock_core::ConnectError;
