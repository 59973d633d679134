//! An HTTP client, for direct requests to a server.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A server that speaks HTTP, without TLS.
#[derive(Debug, Clone)]
pub(super) struct Http {
    authority: String,
    timeout: Duration,
}

impl Http {
    /// The server at `host:port`. Each read and write has this timeout.
    pub(super) fn at(authority: &str, timeout: Duration) -> Self {
        Self { authority: authority.to_owned(), timeout }
    }

    /// Sets another timeout.
    pub(super) fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sends a GET request for `path`.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, times out, or answers with a status other than 200.
    pub(super) fn get(&self, path: &str) -> io::Result<String> {
        self.ask("GET", path, "")
    }

    /// Sends a POST request with `body`, which is JSON.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(super) fn post(&self, path: &str, body: &str) -> io::Result<String> {
        self.ask("POST", path, body)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(&self.authority)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        // A response of HTTP 1.0 is never chunked, and ends with the connection.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.authority,
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;

        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let line = head.lines().next().unwrap_or_default();
        match line.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(io::Error::other(format!("{line}: {body}"))),
        }
    }
}
