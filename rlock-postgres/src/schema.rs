//! The tables.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use crate::config::Schema;
use crate::error::{CallError, Kind};
use crate::statement::written_for;

/// Of the tables that this crate makes, and works on.
const VERSION: i32 = 1;

/// The SQL that makes the tables, in one transaction; see [`PostgresBackend::schema_sql`](crate::PostgresBackend).
pub(crate) fn sql(schema: &Schema) -> String {
    written_for(schema, include_str!("sql/schema.sql"))
}

/// Makes what is missing.
pub(crate) async fn ensure(conn: &mut PgConnection, schema: &Schema) -> Result<(), CallError> {
    // CREATE SCHEMA IF NOT EXISTS needs the right to create schemas, whether or not the schema exists.
    match check(conn, schema).await {
        Err(error) if !error.is_untrusted() => {}
        checked => return checked,
    }
    conn.execute(AssertSqlSafe(sql(schema))).await.map_err(|error| CallError::executing(error, schema))?;
    check(conn, schema).await
}

/// Checks that the tables are there, trusted, and of this version.
pub(crate) async fn check(conn: &mut PgConnection, schema: &Schema) -> Result<(), CallError> {
    let text = written_for(schema, include_str!("sql/check.sql"));
    let row = conn.fetch_optional(AssertSqlSafe(text)).await.map_err(|error| {
        let error = CallError::executing(error, schema);
        if error.is_without_tables() { CallError { kind: Kind::Refused, ..error } } else { error }
    })?;
    let version: Option<i32> =
        row.map(|row| row.try_get(0)).transpose().map_err(|error| CallError::executing(error, schema))?;
    match version {
        Some(VERSION) => Ok(()),
        Some(other) => Err(CallError::new(
            Kind::Refused,
            format!(
                "the tables in the schema {:?} are of version {other}, and this program knows version {VERSION}: run programs \
             of one version of rlock on them, or choose another schema",
                schema.as_str()
            ),
        )),
        None => Err(CallError::new(
            Kind::Refused,
            format!(
                "the table {}.state is empty, in which one row has to be: make the tables anew by what `rlock schema` prints",
                schema.as_str()
            ),
        )),
    }
}
