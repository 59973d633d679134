//! The statements, and how they are sent.
//!
//! Where the session is ours, a statement is prepared once per connection and then takes one round trip. A pooler in
//! transaction mode gives each transaction whichever session is free, in which it is not prepared, or somebody else's
//! is by the same name. There the arguments are written into the text, and the text is one message.

use std::fmt::Write as _;
use std::sync::Arc;

use rlock_core::LeaseId;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Executor as _, Postgres, Row as _};

use crate::config::Schema;

/// The settings of a session of ours, and behind a pooler of each transaction.
///
/// - `search_path`: operators and functions that match no object of Postgres exactly are looked up in the schema `public`
///   otherwise, where other roles may be able to plant their own. They would run as the role of rlock.
/// - `enable_seqscan`: a small table does not seem to be worth its index, and the plan is kept while the table grows.
/// - `jit`: a short statement costs less than its compilation.
/// - `lock_timeout`: bounds the wait for a row that an administrator has locked.
const SETTINGS: [(&str, &str); 4] =
    [("search_path", SEARCH_PATH), ("enable_seqscan", "off"), ("jit", "off"), ("lock_timeout", "'500ms'")];
/// `pg_temp` stands last, since the server looks there first for types and tables if it is not named.
const SEARCH_PATH: &str = "pg_catalog, pg_temp";
/// The statements look at rows again that others have changed meanwhile, and are not refused for it.
const ISOLATION: &str = "READ COMMITTED";

/// A statement for one schema.
#[derive(Debug, Clone)]
pub(crate) struct Statement(Arc<str>);

/// One of its arguments.
#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    Texts(Vec<String>),
    Numbers(Vec<i64>),
}

impl Statement {
    pub(crate) fn new(text: &str, schema: &Schema) -> Self {
        Self(written_for(schema, &code_of(text)).into())
    }

    /// Runs it in a session that is ours.
    pub(crate) async fn run_prepared(&self, conn: &mut PgConnection, values: Vec<Value>) -> sqlx::Result<Vec<PgRow>> {
        let query = sqlx::query(AssertSqlSafe(self.0.clone()));
        values.into_iter().fold(query, Value::bind).fetch_all(conn).await
    }

    /// Runs it in whichever session.
    pub(crate) async fn run_anywhere(&self, conn: &mut PgConnection, values: &[Value]) -> sqlx::Result<Vec<PgRow>> {
        let mut text = format!("SET TRANSACTION ISOLATION LEVEL {ISOLATION};");
        for (name, value) in SETTINGS {
            write!(text, "SET LOCAL {name} = {value};").expect("a string takes everything");
        }
        self.write(&mut text, values);
        conn.fetch_all(sqlx::raw_sql(AssertSqlSafe(text))).await
    }

    /// Writes the text with `values` in place of `$1`, `$2`, …
    fn write(&self, text: &mut String, values: &[Value]) {
        let mut parts = self.0.split('$');
        text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let number: usize = part[..digits].parse().expect("a $ is followed by a number");
            values[number - 1].write(text);
            text.push_str(&part[digits..]);
        }
    }
}

/// Fills in the placeholders of an SQL text: `{schema}` for its name in quotes and `{name}` without, `{search_path}`,
/// `{now}` for the server's clock at that moment in µs, and `{fault}` for a query for what makes the schema untrusted.
pub(crate) fn written_for(schema: &Schema, text: &str) -> String {
    const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    text.replace("{fault}", &code_of(include_str!("sql/fault.sql")))
        .replace("{schema}", &schema.quoted())
        .replace("{name}", schema.as_str())
        .replace("{search_path}", SEARCH_PATH)
        .replace("{now}", NOW)
}

/// An SQL text without its comments.
fn code_of(text: &str) -> String {
    let is_code = |line: &&str| !line.trim_start().starts_with("--");
    let code: Vec<_> = text.lines().filter(is_code).collect();
    code.join("\n")
}

/// Sets up a session of ours.
pub(crate) async fn settle(conn: &mut PgConnection) -> sqlx::Result<()> {
    let set = |(name, value)| format!("SET {name} = {value};");
    let isolation = format!("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {ISOLATION};");
    conn.execute(AssertSqlSafe(isolation + &SETTINGS.map(set).concat())).await.map(drop)
}

/// Whether what one transaction leaves in its session is there for others, or is not there for the next one: then a pooler
/// is between, and gives sessions to whoever has something to do.
///
/// It may give the same ones back by chance, to somebody who has them to himself for the moment; not so many times.
pub(crate) async fn are_sessions_shared(one: &mut PgConnection, other: &mut PgConnection) -> sqlx::Result<bool> {
    const TIMES: usize = 4;
    // With the schema in front, since the search path is not set yet.
    const READ: &str = "SELECT coalesce(pg_catalog.current_setting('rlock.session', true), '')";
    async fn read(conn: &mut PgConnection) -> sqlx::Result<String> {
        conn.fetch_one(READ).await?.try_get(0)
    }
    let mark = LeaseId::random().to_hex();
    one.execute(AssertSqlSafe(format!("SELECT pg_catalog.set_config('rlock.session', '{mark}', false)"))).await?;
    for _ in 0..TIMES {
        // Whoever is in a transaction keeps a session, and most poolers give the one that was used last.
        other.execute("BEGIN").await?;
        let (seen_there, seen_here) = (read(other).await?, read(one).await?);
        other.execute("ROLLBACK").await?;
        if seen_there == mark || seen_here != mark {
            return Ok(true);
        }
    }
    Ok(false)
}

type Bound<'q> = Query<'q, Postgres, PgArguments>;

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn bind(query: Bound<'_>, value: Self) -> Bound<'_> {
        match value {
            Self::Text(text) => query.bind(text),
            Self::Number(number) => query.bind(number),
            Self::Texts(texts) => query.bind(texts),
            Self::Numbers(numbers) => query.bind(numbers),
        }
    }

    /// As a literal, which means the same whatever the server's `standard_conforming_strings`.
    fn write(&self, text: &mut String) {
        match self {
            Self::Text(value) => write_text(text, value),
            Self::Number(number) => write!(text, "({number})").expect("a string takes everything"),
            Self::Texts(values) => {
                let quote = |value: &String| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
                write_text(text, &format!("{{{}}}", values.iter().map(quote).collect::<Vec<_>>().join(",")));
            }
            Self::Numbers(numbers) => {
                let numbers: Vec<_> = numbers.iter().map(i64::to_string).collect();
                write_text(text, &format!("{{{}}}", numbers.join(",")));
            }
        }
    }
}

fn write_text(text: &mut String, value: &str) {
    text.push_str("E'");
    for character in value.chars() {
        if matches!(character, '\'' | '\\') {
            text.push(character);
        }
        text.push(character);
    }
    text.push('\'');
}
