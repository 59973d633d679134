//! The statements, and two ways to send them.
//!
//! In a direct session, a client prepares a statement once and then needs one round trip. A pooler in transaction mode
//! runs each transaction in any free session, in which the statement is not prepared. There the client writes the
//! values into the text, and sends it as one message.

mod value;

use std::fmt::Write as _;
use std::sync::Arc;

use rlock_core::LeaseId;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use crate::config::Schema;
pub(crate) use value::Value;

/// The settings of a direct session, and behind a pooler of each transaction.
///
/// - `search_path`: otherwise Postgres looks up operators and functions without an exact match in the schema `public`,
///   where other roles may be able to plant their own. They would run as the role of rlock.
/// - `enable_seqscan`: the planner prefers no index for a small table, and the plan is kept while the table grows.
/// - `jit`: a short statement costs less than its compilation.
/// - `plan_cache_mode`: the plan does not depend on the values, so one plan serves the whole session.
/// - `lock_timeout`: bounds the wait for a row that an administrator has locked, in ms.
const SETTINGS: [(&str, &str); 5] = [
    ("search_path", SEARCH_PATH),
    ("enable_seqscan", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("lock_timeout", "500"),
];
/// `pg_temp` is last, because the server searches it first for types and tables if it is not named.
pub(crate) const SEARCH_PATH: &str = "pg_catalog, pg_temp";
/// At this level the server evaluates rows again that others have changed meanwhile, and does not fail.
const ISOLATION: &str = "READ COMMITTED";

/// A statement for one schema.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    text: Arc<str>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A query, without transaction control.
    Query,
    /// A call of a procedure that ends transactions, so it must be the only statement of its message. Behind a pooler
    /// the procedure makes the settings.
    Call,
}

impl Statement {
    pub(crate) fn new(text: &str, schema: &Schema) -> Self {
        Self { text: written_for(schema, text).into(), kind: Kind::Query }
    }

    /// A call of a procedure, whose first parameter says whether a pooler reassigns sessions.
    pub(crate) fn call(text: &str, schema: &Schema) -> Self {
        Self { text: written_for(schema, text).into(), kind: Kind::Call }
    }

    /// The server's time in the answer to a call, in µs.
    pub(crate) fn clock_in(&self, rows: &[PgRow]) -> Option<i64> {
        if self.kind == Kind::Call { rows.first()?.try_get("clock").ok() } else { None }
    }

    /// Runs it in a direct session.
    pub(crate) async fn run_prepared(&self, conn: &mut PgConnection, values: Vec<Value>) -> sqlx::Result<Vec<PgRow>> {
        let query = sqlx::query(AssertSqlSafe(self.text.clone()));
        values.into_iter().fold(query, Value::bind).fetch_all(conn).await
    }

    /// Runs it in any session, behind a pooler.
    pub(crate) async fn run_anywhere(&self, conn: &mut PgConnection, values: &[Value]) -> sqlx::Result<Vec<PgRow>> {
        let mut text = String::new();
        if self.kind == Kind::Query {
            text = format!("SET TRANSACTION ISOLATION LEVEL {ISOLATION};");
            for (name, value) in SETTINGS {
                write!(text, "SET LOCAL {name} = {value};").expect("a string takes everything");
            }
        }
        self.write(&mut text, values);
        conn.fetch_all(sqlx::raw_sql(AssertSqlSafe(text))).await
    }

    /// Writes the text, with `values` for `$1`, `$2`, …
    fn write(&self, text: &mut String, values: &[Value]) {
        let own = match self.kind {
            Kind::Query => self.text.to_string(),
            Kind::Call => self.text.replacen("(false", "(true", 1),
        };
        let mut parts = own.split('$');
        text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let number: usize = part[..digits].parse().expect("a $ is followed by a number");
            values[number - 1].write(text);
            text.push_str(&part[digits..]);
        }
    }
}

/// Removes the comments of an SQL text and fills in its placeholders: `{schema}` for the quoted name of the schema and
/// `{name}` for the plain one, `{now}` for the server's clock in µs at that moment, `{settings}` for the settings of a
/// transaction.
pub(crate) fn written_for(schema: &Schema, text: &str) -> String {
    const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let set = |(name, value)| format!("pg_catalog.set_config('{name}', '{value}', true)");
    code_of(text)
        .replace("{settings}", &format!("PERFORM {};", SETTINGS.map(set).join(", ")))
        .replace("{schema}", &schema.quoted())
        .replace("{name}", schema.as_str())
        .replace("{search_path}", SEARCH_PATH)
        .replace("{now}", NOW)
}

/// An SQL text without its comments.
pub(crate) fn code_of(text: &str) -> String {
    let is_code = |line: &&str| !line.trim_start().starts_with("--");
    let code: Vec<_> = text.lines().filter(is_code).collect();
    code.join("\n")
}

/// The SQL that sets up a direct session.
pub(crate) fn session_settings() -> String {
    let set = |(name, value)| format!("SET {name} = {value};");
    format!("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {ISOLATION};{}", SETTINGS.map(set).concat())
}

/// Whether a setting from one transaction is visible in another connection's session, or is gone in the next
/// transaction. Then a pooler is in between, and gives its sessions to any client.
///
/// A pooler may give the same sessions back by chance, while it has no other client; several rounds make that unlikely.
pub(crate) async fn are_sessions_shared(one: &mut PgConnection, other: &mut PgConnection) -> sqlx::Result<bool> {
    const TIMES: usize = 4;
    // Qualified by its schema, because the search path is not set yet.
    const READ: &str = "SELECT coalesce(pg_catalog.current_setting('rlock.session', true), '')";
    async fn read(conn: &mut PgConnection) -> sqlx::Result<String> {
        conn.fetch_one(READ).await?.try_get(0)
    }
    let mark = LeaseId::random().to_hex();
    one.execute(AssertSqlSafe(format!("SELECT pg_catalog.set_config('rlock.session', '{mark}', false)"))).await?;
    for _ in 0..TIMES {
        // An open transaction keeps its session, and most poolers hand out the most recently used one.
        other.execute("BEGIN").await?;
        let (seen_there, seen_here) = (read(other).await?, read(one).await?);
        other.execute("ROLLBACK").await?;
        // Now the transaction's session is the most recently used one.
        let seen_after = read(one).await?;
        if seen_there == mark || seen_here != mark || seen_after != mark {
            return Ok(true);
        }
    }
    Ok(false)
}
