//! The tables, and the procedures that use them.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use crate::config::Schema;
use crate::error::{CallError, Kind};
use crate::statement::{code_of, written_for};

/// The version of the tables that this crate creates and uses. A program refuses tables of another version; columns may
/// be added within a version, unless procedures of other builds would have to maintain them.
const VERSION: i32 = 3;
/// The version of the procedures, a part of their names: each build calls its own, and leaves those of other builds
/// alone. A change of their text needs a new version.
pub(crate) const PROCEDURES: &str = "1";

/// The parts of the procedures, each after the parts that contain it.
const PARTS: [(&str, &str); 15] = [
    ("{begin}", include_str!("sql/change/begin.sql")),
    ("{claim_free}", include_str!("sql/change/claim_free.sql")),
    ("{release_alone}", include_str!("sql/change/release_alone.sql")),
    ("{extend_alone}", include_str!("sql/change/extend_alone.sql")),
    ("{await_insert}", include_str!("sql/change/await_insert.sql")),
    ("{extend}", include_str!("sql/change/extend.sql")),
    ("{release}", include_str!("sql/change/release.sql")),
    ("{break}", include_str!("sql/change/break.sql")),
    ("{settle}", include_str!("sql/change/settle.sql")),
    ("{claim}", include_str!("sql/change/claim.sql")),
    ("{extend_later}", include_str!("sql/change/extend_later.sql")),
    ("{stale}", include_str!("sql/change/stale.sql")),
    ("{standing}", include_str!("sql/change/standing.sql")),
    ("{ahead}", include_str!("sql/change/ahead.sql")),
    ("{drop_waiters}", include_str!("sql/change/drop_waiters.sql")),
];

/// The result of a check.
pub(crate) struct Checked {
    /// Whether no pooler is in between.
    pub(crate) is_direct: bool,
    /// The server's time, in µs.
    pub(crate) now: i64,
    /// The time of its start, in µs, which tells servers apart.
    pub(crate) started: i64,
}

/// The SQL that creates the tables, in one transaction; see [`PostgresBackend::schema_sql`](crate::PostgresBackend).
pub(crate) fn sql(schema: &Schema) -> String {
    let mut procedures = code_of(include_str!("sql/free.sql")) + "\n" + &code_of(include_str!("sql/change.sql"));
    for (name, part) in PARTS {
        procedures = procedures.replace(name, code_of(part).trim_end());
    }
    let (comment, text) = include_str!("sql/schema.sql").split_once("DO $rlock$").expect("it has a statement");
    let text = format!("DO $rlock$\n{text}").replace("{change}", &procedures);
    let text = written(schema, &text.replace("{fault}", &code_of(include_str!("sql/fault.sql"))));
    // The leading comments are for the administrator who runs the SQL.
    format!("{}{text}\n", comment.replace("{schema}", &schema.quoted()))
}

/// Creates missing tables and procedures.
pub(crate) async fn ensure(conn: &mut PgConnection, schema: &Schema) -> Result<(), CallError> {
    // A role without the right to create anything needs none if all exists.
    match check(conn, schema).await {
        Err(error) if !error.is_untrusted() => {}
        checked => return checked.map(drop),
    }
    make(conn, schema).await?;
    check(conn, schema).await.map(drop)
}

/// Creates missing tables and procedures, without a check first.
pub(crate) async fn make(conn: &mut PgConnection, schema: &Schema) -> Result<(), CallError> {
    match conn.execute(AssertSqlSafe(sql(schema))).await {
        Ok(_) => Ok(()),
        Err(error) => Err(CallError::making(error, schema)),
    }
}

/// Checks that the tables exist, are trusted, and have this version.
pub(crate) async fn check(conn: &mut PgConnection, schema: &Schema) -> Result<Checked, CallError> {
    match check_by(conn, schema, include_str!("sql/screen.sql")).await {
        // The other query takes longer, and says which role has power over which object.
        Err(error) if error.is_untrusted() => check_by(conn, schema, include_str!("sql/fault.sql")).await,
        checked => checked,
    }
}

/// The same. `reason` is the query for a reason not to trust the tables.
async fn check_by(conn: &mut PgConnection, schema: &Schema, reason: &str) -> Result<Checked, CallError> {
    let text = written(schema, &include_str!("sql/check.sql").replace("{reason}", &code_of(reason)));
    let row = conn.fetch_optional(AssertSqlSafe(text)).await.map_err(|error| {
        let error = CallError::executing(error, schema);
        if error.is_without_tables() { CallError { kind: Kind::Refused, ..error } } else { error }
    })?;
    let Some(row) = row else {
        return Err(CallError::new(
            Kind::Refused,
            format!(
                "the table {}.state is empty, but needs one row: create the tables again with the output of \
                 `rlock schema`",
                schema.as_str()
            ),
        ));
    };
    let times = || Ok((row.try_get(4)?, row.try_get(5)?));
    let (now, started) = times().map_err(|error| CallError::executing(error, schema))?;
    let found = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
    let (version, is_replica, is_direct, has_procedures): (i32, bool, Option<bool>, bool) =
        found().map_err(|error| CallError::executing(error, schema))?;
    if version != VERSION {
        return Err(CallError::other_version(version, VERSION, schema));
    }
    if is_replica {
        return Err(CallError::replica());
    }
    if !has_procedures {
        return Err(CallError::without_procedures(schema));
    }
    Ok(Checked { is_direct: is_direct.unwrap_or(false), now, started })
}

fn written(schema: &Schema, text: &str) -> String {
    written_for(schema, text).replace("{version}", &VERSION.to_string()).replace("{procedures}", PROCEDURES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs of several builds use the same tables, each with the procedure that it was tested with.
    #[test]
    fn another_text_of_the_procedure_has_another_name() {
        const KNOWN: (&str, u64) = ("1", 0xd8c4_2085_ba0a_0aa3);
        let texts = [include_str!("sql/change.sql"), include_str!("sql/free.sql")]
            .into_iter()
            .chain(PARTS.map(|(_, part)| part));
        let code = texts.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("--"));
        // FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/
        let hash = code
            .flat_map(str::bytes)
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        assert_eq!(
            (PROCEDURES, hash),
            KNOWN,
            "raise PROCEDURES and note the hash {hash:#x}; before the first release the hash alone will do"
        );
    }
}
