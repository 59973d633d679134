//! The URL of a Postgres server.

use std::io;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

/// The parts of `postgres://[user[:password]@]host[:port][/database][?options]`. By default, user and database are
/// `postgres` and the port is 5432.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PgUrl {
    pub(super) user: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
}

impl PgUrl {
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the URL has another form.
    pub(super) fn parse(url: &str) -> io::Result<Self> {
        let url = Url::parse(url).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let host = url.host_str().filter(|host| !host.is_empty() && matches!(url.scheme(), "postgres" | "postgresql"));
        let host = host.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a postgres://host URL"))?;
        let part = |text: &str| match percent_decode_str(text).decode_utf8_lossy() {
            silent if silent.is_empty() => "postgres".to_owned(),
            said => said.into_owned(),
        };
        Ok(Self {
            user: part(url.username()),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(5432),
            database: part(url.path().trim_start_matches('/')),
        })
    }

    /// The URL of the same user and database at 127.0.0.1:`port`.
    pub(super) fn at(&self, port: u16) -> String {
        let [user, database] = [&self.user, &self.database].map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC));
        format!("postgres://{user}@127.0.0.1:{port}/{database}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_split_into_its_parts() {
        let all = PgUrl::parse("postgresql://a%2Fb:secret@[::1]:1/x%20y?sslmode=disable").unwrap();
        assert_eq!((&*all.user, &*all.host, all.port, &*all.database), ("a/b", "::1", 1, "x y"));
        let little = PgUrl::parse("postgres://db.example").unwrap();
        assert_eq!((&*little.user, &*little.host, little.port), ("postgres", "db.example", 5432));
        assert_eq!(all.at(7), "postgres://a%2Fb@127.0.0.1:7/x%20y");
        assert_eq!(little.at(7), "postgres://postgres@127.0.0.1:7/postgres");
        for url in ["", "127.0.0.1:1", "redis://127.0.0.1:1", "postgres:", "postgres:///postgres"] {
            assert_eq!(PgUrl::parse(url).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{url}");
        }
    }
}
