//! Rule 12: SQLite finds the rows of each statement by keys.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, Result};

/// The tables that grow.
const TABLES: [&str; 3] = ["leases", "resources", "mail"];
/// The sources whose statements open a file, or measure one without locks.
const OTHERS: [&str; 2] = ["connect.rs", "baseline.rs"];
/// The statement that may scan: the sweep reads the oldest notices in the order of their keys, up to a limit.
const LIMITED: &str = "DELETE FROM mail WHERE nr IN (SELECT nr FROM mail ORDER BY nr LIMIT ?) AND sent < ?";
/// A condition on leases, and the search by an index that the plan of such a statement has. The first match decides.
const CONDITIONS: [(&str, &str); 4] = [
    ("AND id = ", "(crowd=? AND id=?)"),
    ("AND expires <= ", "(crowd=? AND state=? AND expires<?)"),
    ("AND nr < ", "(crowd=? AND state=? AND rowid<?)"),
    ("AND state ", "(crowd=? AND state=?)"),
];

#[test]
fn every_statement_finds_its_rows_by_keys() {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(include_str!("../../src/sql/schema.sql")).unwrap();
    let statements = statements();
    assert!(statements.len() > 30, "only {} statements", statements.len());
    for sql in statements {
        let plan = plan(&conn, &sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
        let is_scan = |step: &&String| TABLES.iter().any(|table| step.starts_with(&format!("SCAN {table}")));
        let is_limited = sql == LIMITED;
        assert_eq!(plan.iter().filter(is_scan).count(), usize::from(is_limited), "{sql}: {plan:?}");
        if is_limited {
            // A sort would read the whole table before the limit.
            assert!(!plan.iter().any(|step| step.starts_with("USE TEMP B-TREE")), "{sql}: {plan:?}");
        }
        let is_of_leases = sql.contains("FROM leases") || sql.starts_with("UPDATE leases");
        let condition = CONDITIONS.iter().find(|(condition, _)| is_of_leases && sql.contains(*condition));
        if let Some((_, search)) = condition {
            assert!(plan.iter().any(|step| step.ends_with(*search)), "{sql}: {plan:?}");
        }
    }
}

/// The steps of SQLite's plan for a statement.
fn plan(conn: &Connection, sql: &str) -> Result<Vec<String>> {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    explain.raw_query().mapped(|row| row.get("detail")).collect()
}

/// The statements in the sources of the operations.
fn statements() -> Vec<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut statements = Vec::new();
    for entry in fs::read_dir(sources).unwrap() {
        let path = entry.unwrap().path();
        let is_other = OTHERS.iter().any(|other| path.ends_with(other));
        if is_other || path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let texts = source
            .split('"')
            .filter(|text| ["SELECT ", "INSERT ", "UPDATE ", "DELETE "].iter().any(|verb| text.starts_with(*verb)));
        statements.extend(texts.map(|text| text.split("\\\n").map(str::trim_start).collect::<String>()));
    }
    statements
}
