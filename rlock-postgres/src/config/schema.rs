//! The schema of rlock's tables.

use rlock_core::InvalidOption;

use super::error::ConfigError;

/// The name of the schema of rlock's tables: an identifier that is safe in SQL text. It may be a reserved word, so it
/// is quoted there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema(String);

impl Default for Schema {
    fn default() -> Self {
        Self("rlock".to_owned())
    }
}

impl Schema {
    pub(super) fn new(name: &str) -> Result<Self, ConfigError> {
        let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        let leading_digit = name.starts_with(|c: char| c.is_ascii_digit());
        if !plain || leading_digit || !(1..=63).contains(&name.len()) || name.starts_with("pg_") {
            return Err(InvalidOption::unreadable("schema", SCHEMA_REMEDY).into());
        }
        Ok(Self(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The quoted name, for SQL.
    pub(crate) fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

const SCHEMA_REMEDY: &str =
    "it becomes part of SQL, so write 1 to 63 of a to z, 0 to 9 and _, with no digit and no pg_ in front";
