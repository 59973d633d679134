//! The fencing token.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// The number of a grant, strictly greater than every token granted before on that resource.
///
/// Send the token along with every write to the system that the lock protects, and let that system refuse a token
/// smaller than the largest it has seen. A holder that was paused past its TTL is then harmless. A token is never 0 and
/// stays below 2^53, so that scripts and JSON that keep numbers as doubles preserve it. An extension does not change
/// the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize), serde(transparent))]
pub struct Token(u64);

impl Token {
    /// A token from the number that a store has granted.
    pub const fn new(token: u64) -> Self {
        Self(token)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        token.0
    }
}

/// For databases whose integers are signed. A token stays below 2^53.
impl From<Token> for i64 {
    fn from(token: Token) -> Self {
        Self::try_from(token.0).unwrap_or(Self::MAX)
    }
}

/// Reads the number that the token is shown by.
impl FromStr for Token {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_text_and_signed_integers() {
        let token = Token::new(17);
        assert_eq!(token.to_string().parse(), Ok(token));
        assert_eq!((u64::from(token), i64::from(token)), (17, 17));
        assert!("-1".parse::<Token>().is_err());
    }
}
