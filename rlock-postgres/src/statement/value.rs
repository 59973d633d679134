//! The values of a statement.

use std::fmt::Write as _;

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

/// A value of a statement.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    /// The time from which on this client no longer waits for the answer, by the server's clock in µs. The link fills it
    /// in when it sends the statement.
    Deadline,
    Texts(Vec<String>),
    Numbers(Vec<i64>),
    Data(Vec<Option<Vec<u8>>>),
}

type Bound<'q> = Query<'q, Postgres, PgArguments>;

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The value, with `deadline` filled in.
    pub(crate) fn by(self, deadline: i64) -> Self {
        if let Self::Deadline = self { Self::Number(deadline) } else { self }
    }

    pub(super) fn bind(query: Bound<'_>, value: Self) -> Bound<'_> {
        match value {
            Self::Text(text) => query.bind(text),
            Self::Number(number) => query.bind(number),
            Self::Deadline => query.bind(i64::MAX),
            Self::Texts(texts) => query.bind(texts),
            Self::Numbers(numbers) => query.bind(numbers),
            Self::Data(data) => query.bind(data),
        }
    }

    /// Writes the value as a literal, independent of the server's `standard_conforming_strings`.
    pub(super) fn write(&self, text: &mut String) {
        match self {
            Self::Text(value) => write_text(text, value),
            Self::Number(number) => write!(text, "({number})").expect("a string takes everything"),
            Self::Deadline => Self::Number(i64::MAX).write(text),
            Self::Texts(values) => {
                let quote = |value: &String| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
                write_array(text, values.iter().map(quote));
            }
            Self::Numbers(numbers) => write_array(text, numbers.iter().map(i64::to_string)),
            Self::Data(data) => write_array(
                text,
                data.iter().map(|data| match data {
                    None => "NULL".to_owned(),
                    Some(bytes) => {
                        bytes.iter().fold("\"\\\\x".to_owned(), |hex, byte| format!("{hex}{byte:02x}")) + "\""
                    }
                }),
            ),
        }
    }
}

fn write_array(text: &mut String, elements: impl Iterator<Item = String>) {
    write_text(text, &format!("{{{}}}", elements.collect::<Vec<_>>().join(",")));
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
