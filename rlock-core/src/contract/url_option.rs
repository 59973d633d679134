//! URLs of stores: schemes, options that are times, and the errors for invalid options.

use std::fmt;
use std::time::Duration;

/// An invalid option of a store's URL, and what would work.
///
/// The error does not repeat text that was not understood: it may be a piece of a password that is not percent-encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidOption {
    /// The option.
    pub option: &'static str,
    /// The value, if it was understood.
    pub value: Option<String>,
    /// The values that would work.
    pub remedy: &'static str,
}

/// The bounds of timeouts: 1 ms to 1 h.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

const TIMEOUT_REMEDY: &str = "write a duration from 1ms to 1h, as 500ms, 5s, 1m";
const GRACE_REMEDY: &str = "write a duration up to 1h, as 0s, 5s, 1m";

impl InvalidOption {
    /// The error for text that was not understood.
    pub const fn unreadable(option: &'static str, remedy: &'static str) -> Self {
        Self { option, value: None, remedy }
    }

    /// The error for a value that was understood and does not work.
    pub fn unusable(option: &'static str, value: impl fmt::Display, remedy: &'static str) -> Self {
        Self { option, value: Some(value.to_string()), remedy }
    }

    /// Checks a timeout: 1 ms to 1 h.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`] outside these bounds.
    pub fn timeout(option: &'static str, timeout: Duration) -> Result<Duration, Self> {
        if TIMEOUTS.contains(&timeout) {
            return Ok(timeout);
        }
        Err(Self::unusable(option, humantime::format_duration(timeout), TIMEOUT_REMEDY))
    }

    /// Parses a timeout of a URL: `500ms`, `5s`.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`] for other text, and outside the bounds of [`timeout`](Self::timeout).
    pub fn timeout_of(option: &'static str, text: &str) -> Result<Duration, Self> {
        let timeout = humantime::parse_duration(text).map_err(|_| Self::unreadable(option, TIMEOUT_REMEDY))?;
        Self::timeout(option, timeout)
    }

    /// Checks a grace: up to 1 h.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`] for a longer one.
    pub fn grace(option: &'static str, grace: Duration) -> Result<Duration, Self> {
        if grace <= *TIMEOUTS.end() {
            return Ok(grace);
        }
        Err(Self::unusable(option, humantime::format_duration(grace), GRACE_REMEDY))
    }

    /// Parses a grace of a URL: `0s`, `1m`.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`] for other text, and for a longer grace than [`grace`](Self::grace) allows.
    pub fn grace_of(option: &'static str, text: &str) -> Result<Duration, Self> {
        let grace = humantime::parse_duration(text).map_err(|_| Self::unreadable(option, GRACE_REMEDY))?;
        Self::grace(option, grace)
    }

    /// Splits a URL at the `:` behind its scheme; `None` if the text in front of it is no scheme. That text may be a piece
    /// of a password, and an error must not repeat it.
    pub fn split_scheme(url: &str) -> Option<(&str, &str)> {
        let (scheme, rest) = url.split_once(':')?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        is_scheme.then_some((scheme, rest))
    }

    /// The name of an unknown option, for an error. A name that contains anything but lower-case letters and `_` is
    /// withheld.
    pub fn unknown_name(name: &str) -> String {
        let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if is_plain { name.to_owned() } else { "(not shown: it may be a part of a password)".to_owned() }
    }
}

impl fmt::Display for InvalidOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, value, remedy } = self;
        match value {
            Some(value) => write!(f, "the option {option} cannot be {value:?}: {remedy}"),
            None => write!(f, "the value of the option {option} cannot be used: {remedy}"),
        }
    }
}

impl std::error::Error for InvalidOption {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_and_errors_say_what_works() {
        assert_eq!(InvalidOption::timeout_of("timeout", "500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(InvalidOption::grace_of("restart_grace", "0s"), Ok(Duration::ZERO));
        for refused in ["0s", "2h"] {
            let error = InvalidOption::timeout_of("timeout", refused).unwrap_err().to_string();
            assert!(error.contains(refused) && error.contains("from 1ms to 1h"), "{error}");
        }
        assert!(InvalidOption::grace_of("restart_grace", "2h").is_err());
    }

    #[test]
    fn text_that_is_not_understood_is_withheld() {
        for read in [InvalidOption::timeout_of, InvalidOption::grace_of] {
            let error = read("timeout", "hunter2").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        assert!(!InvalidOption::unknown_name("hunter2").contains("hunter2"));
        assert_eq!(InvalidOption::unknown_name("time_out"), "time_out");
    }

    #[test]
    fn text_that_is_no_scheme_is_found() {
        assert_eq!(InvalidOption::split_scheme("redis+unix:///a:b"), Some(("redis+unix", "///a:b")));
        assert_eq!(InvalidOption::split_scheme("SQLite:"), Some(("SQLite", "")));
        for text in ["", "hunter2", ":hunter2@host", "hunter2@host:6379", "//user:hunter2@host", "2hunter2:x"] {
            assert_eq!(InvalidOption::split_scheme(text), None, "{text}");
        }
    }
}
