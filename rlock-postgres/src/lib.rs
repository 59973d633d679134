//! rlock on Postgres, version 13 to 18. It needs no extension, only its own tables and two procedures, and a role without
//! special privileges.
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
//! Connecting creates missing tables if the role may create them. An administrator can create them instead, with the
//! output of `rlock schema` or by [`PostgresBackend::ensure_schema`]; `?create=off` leaves that to the administrator.
//!
//! # How it works
//!
//! A resource is a row of the table `locks`, which contains its sole holder. Each waiter has a row of the table
//! `leases`, and so does each further holder of a semaphore or a reader-writer lock. A waiter's renewal changes its own
//! row and no index. A hand-over deletes one row and changes another, however many wait. The first waiter learns when the
//! lease of a holder expires. Beside more than sixteen holders that time may be too early, because its request does not
//! read all of them: the waiter then asks once more.
//!
//! Nearly every request is one call of a procedure, with up to 64 leases: one round trip, with cached plans. The procedure
//! locks the rows of `locks` in the order of their names. It drops expired leases that are in the way, by the server's
//! clock, carries out the request, and grants from the head of the queue. A claim that is refused writes nothing.
//!
//! A session compiles a procedure before its first call. So that a program which takes one lock and ends does not wait for
//! the long one, a client begins with a short procedure for free resources. It undoes a call with an operation that needs more; the
//! client then repeats that call with the long one, and uses only that from then on.
//!
//! No index contains a column that changes. So the server keeps new versions of a row on the same page, and removes old
//! versions during later reads. A row without leases stays for an hour. The client that deletes it notes its last
//! token; the tokens of new rows start above it.
//!
//! # Flushes
//!
//! A request waits until its changes are in the log on disk (`synchronous_commit`) if it grants a lease, renews the
//! lease of a holder, breaks leases or begins a rest. Other changes do not wait: a release that grants nothing, a place
//! in the queue and its renewal. So an uncontended lock costs one flush. A crash of the server may lose the latest of
//! these changes:
//!
//! - A lost release leaves the resource taken until the lease expires, for its TTL at most. No other client holds it
//!   then, because its grant would have been flushed, and the log is flushed in order.
//! - A waiter whose place is lost learns that at its next request, and joins the queue again.
//! - A lost renewal of a waiter ends its place at the time that the previous renewal set.
//!
//! A repeated claim of a held lease writes its row again, and waits for that. The session of the first claim may have
//! been ended while it waited for a synchronous replica: its grant is visible then, and no replica may have it.
//!
//! # Notifications
//!
//! The procedure notifies a granted waiter by NOTIFY on the channel of its client. It commits the grant first, and
//! notifies in a second transaction: the server serializes the commits of transactions that notify, and a grant should
//! not wait in that line for its flush. The second transaction is not flushed, and is left out when no client waits. A
//! release whose answer was lost is sent again, and repeats its notifications. The procedure sends none while the
//! server's notification queue is nearly full; waiters then learn of their grants by their renewals.
//!
//! # Connections
//!
//! A client has at most [`connections`](PostgresConfig::connections), and opens the second only when requests overlap:
//! the first one listens, and serves requests meanwhile. A request that times out gives up its connection; the next
//! connection that opens ends the session on the server. A claim also carries the time, by the server's clock, at which
//! the client gives it up. The server undoes it after that: otherwise a claim that was stuck in a pooler could bring
//! back a lease that the client has released since. The client knows the server's clock from the answers. A claim that
//! has begun its commit by then is not undone: a release waits for it, also for one that inserts the row of its resource.
//!
//! # TLS
//!
//! sqlx 0.9.0 leaves TCP_NODELAY off ([issue 4335](https://github.com/transact-rs/sqlx/issues/4335); the mend,
//! [pull request 4336](https://github.com/transact-rs/sqlx/pull/4336), is in no release yet). The kernel then holds a
//! small packet back while the server has not acknowledged the one before, which Linux delays for 40 ms or so. That
//! affects only a write behind another one that the server has not answered. Without TLS there is none: a request is
//! one write, and the next one follows its answer. With TLS, each record is a write:
//!
//! - The client ends the handshake with two records or more, so each new connection may take 40 ms longer. It may take
//!   another 40 ms if the server does not support X25519, as before version 18 by default (`ssl_ecdh_curve`): the client
//!   then sends two records in the middle of the handshake as well.
//! - A request of up to 16 KiB is one record, and is not delayed. A longer one may take 40 ms longer: a batch of claims
//!   with long names or data, and the SQL that creates the tables.
//!
//! A client that lives as long as its program pays this once for each of its connections. A program that connects for
//! one lock, as `rlock run` does, avoids it by a socket on the server's host, or by a PgBouncer on its own host that keeps
//! the connections with TLS open. `sslmode=disable` avoids it in a network that you trust.
//!
//! # Poolers
//!
//! A pooler may reassign sessions after each transaction or statement, as PgBouncer does with `pool_mode=transaction`.
//! Behind it, a client can neither prepare statements nor listen. Connecting detects that. Requests then contain their
//! arguments in their text, and the transaction that grants writes notifications into a table for clients that cannot
//! listen. These clients poll the table while they wait: first after 10 ms, then at intervals of a tenth of the time
//! since one of their waiters joined a queue or got its lock, at most 200 ms. A poll is a read of one index, and deletes
//! what the previous poll read. While they hold locks, they poll every second, because other clients may break the
//! locks. With `listen_url` they listen to the server itself.
//!
//! # Versions
//!
//! The tables have a version, and a program refuses tables of another version. Within a version columns may be added.
//! The names of the procedures have a version as well: programs of several versions of rlock work on the same tables at
//! the same time, each with its own procedures.
//!
//! # Objects of other roles
//!
//! Postgres resolves operators and functions by the search path, which by default includes the schema `public`. Before
//! version 15, and in databases upgraded from there, other roles may create objects there: their operator that fits an
//! expression better would run as rlock's role. rlock therefore sets `search_path` to `pg_catalog, pg_temp`, and
//! overrides the role, the database and the URL. It does so once in each direct session; behind a pooler in each
//! transaction, in the same message as the statement; and in the SQL that creates the tables. The connection that
//! listens resolves no names.
//!
//! The owner of a table, and each role that may create triggers on it, can run code as the role that writes to the table.
//! Connecting and [`PostgresBackend::ensure_schema`] therefore refuse, before they use the tables:
//!
//! - a schema, a table or a procedure of another role than rlock's own, a superuser, the owner of the database or a member
//!   of that role;
//! - a trigger whose function belongs to another role than those, and the privilege TRIGGER of such a role;
//! - a schema in which every role may create objects.
//!
//! The SQL that creates the tables refuses the same, as the role that runs it. The error names the object, its owner
//! and the remedy. If a role with CREATE on the database creates the tables, only that role can use them.
//!
//! A role that may read the tables can forge the notification of a grant: they contain the channels and the ids of the
//! leases, and NOTIFY needs no privilege. Grant SELECT on them only to roles that you trust with the locks.
//!
//! # What it guarantees
//!
//! All that [`rlock_core::Backend`] asks for, on a server that keeps what it has confirmed:
//!
//! - Fencing tokens are max(previous + 1, the server's time in microseconds). They keep increasing after the server was
//!   restored from a backup, unless its clock went back as well.
//! - Held leases survive a restart and a crash of the server, because they are in its log on disk.
//! - A statement that gets no answer within a second is sent again over a new connection. This time limit doubles for
//!   as long as no answer comes.
//!
//! # What Postgres cannot promise
//!
//! - **Failover.** A standby that is promoted may lack the latest grants, unless replication is synchronous, and grant
//!   them again. Two holders then overlap until the first one's TTL has passed or it learns that its lease is gone. Only the
//!   fencing token protects what they write to. With synchronous replication, a `statement_timeout` or an administrator
//!   that cancels the wait for a standby has the server confirm a grant that no standby has.
//! - **Durability.** With `synchronous_commit=off` or `fsync=off` a crash loses the latest grants, as in a failover.
//! - **Clock.** TTLs run by the clock of the server's host. If that clock is set, leases end early or late by as much.
//! - **Long transactions** in the database, and on a standby with `hot_standby_feedback`, prepared transactions and
//!   idle replication slots keep the server from removing old versions of rows: reads of a row that changes often
//!   become slower until they end. `rlock check` reports them. A separate database protects rlock from the transactions
//!   of an application.

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
mod notice;
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
