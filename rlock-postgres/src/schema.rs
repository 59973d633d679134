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
    // Who may not create schemas may not say CREATE SCHEMA IF NOT EXISTS either.
    if check(conn, schema).await.is_ok() {
        return Ok(());
    }
    conn.execute(AssertSqlSafe(sql(schema))).await.map_err(|error| CallError::executing(error, schema))?;
    check(conn, schema).await
}

/// Whether the tables are there, and of this version.
pub(crate) async fn check(conn: &mut PgConnection, schema: &Schema) -> Result<(), CallError> {
    let select = format!("SELECT version FROM {}.state WHERE id = 1", schema.quoted());
    let row = conn.fetch_optional(AssertSqlSafe(select)).await.map_err(|error| {
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
