//! A client of the Postgres protocol, for direct requests to a server: version 3.0, simple queries.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::pg_url::PgUrl;

const TIMEOUT: Duration = Duration::from_secs(10);
const VERSION: u32 = 3 << 16;

/// A blocking connection to a Postgres server, or to a pooler in front of one. After a query that failed for any reason
/// but an error of the server, the connection is unusable.
#[derive(Debug)]
pub struct PgWire {
    stream: BufReader<TcpStream>,
}

impl PgWire {
    /// Connects to `postgres://[user@]host[:port][/database]`, without TLS. Each answer has to come within 10 s.
    ///
    /// # Errors
    ///
    /// If the URL has another form, or the server cannot be reached or refuses. The server has to trust the user
    /// without a password.
    pub fn connect(url: &str) -> io::Result<Self> {
        let PgUrl { user, host, port, database } = PgUrl::parse(url)?;
        let stream = TcpStream::connect((host, port))?;
        stream.set_nodelay(true)?;
        let mut wire = Self { stream: BufReader::new(stream) }.within(TIMEOUT)?;
        let startup = ["user", &user, "database", &database, ""].map(|text| [text.as_bytes(), &[0]].concat()).concat();
        wire.send(&[], &[&VERSION.to_be_bytes()[..], &startup].concat())?;
        wire.read_until_ready()?;
        Ok(wire)
    }

    /// Sets the timeout for answers, which must not be zero.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn within(self, timeout: Duration) -> io::Result<Self> {
        self.stream.get_ref().set_read_timeout(Some(timeout))?;
        self.stream.get_ref().set_write_timeout(Some(timeout))?;
        Ok(self)
    }

    /// Runs one statement, or several separated by `;`, and returns the rows of all. NULL is `None`. Bytes that are not
    /// UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// If the connection fails, or the server refuses: with the SQLSTATE and the message of the server.
    pub fn query(&mut self, sql: &str) -> io::Result<Vec<Vec<Option<String>>>> {
        self.send(b"Q", &[sql.as_bytes(), &[0]].concat())?;
        self.read_until_ready()
    }

    fn send(&mut self, kind: &[u8], body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
        self.stream.get_mut().write_all(&[kind, &len.to_be_bytes(), body].concat())
    }

    fn read_until_ready(&mut self) -> io::Result<Vec<Vec<Option<String>>>> {
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            let (kind, body) = match (self.read(), refused.take()) {
                (Err(_hung_up), Some(refused)) => return Err(refused),
                (message, before) => {
                    refused = before;
                    message?
                }
            };
            match kind {
                b'R' if body == [0; 4] => {}
                b'R' => {
                    let message = "the server asks for a password, and the kit looks only at those that trust it: `trust` in \
                                   pg_hba.conf";
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
                }
                b'E' => refused = refused.or(Some(refusal(&body))),
                b'D' => rows.push(row(&body).ok_or_else(foreign)?),
                b'Z' => return refused.map_or(Ok(rows), Err),
                // Settings, the cancel key, notices, the columns of rows, and the end of a statement.
                b'S' | b'K' | b'N' | b'T' | b'C' | b'I' | b'A' => {}
                _ => return Err(foreign()),
            }
        }
    }

    fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [kind, len @ ..] = head;
        let len = u32::from_be_bytes(len).checked_sub(4).ok_or_else(foreign)?;
        // Not allocated in advance, because a server that is not Postgres may seem to announce any length.
        let mut body = Vec::new();
        let read = self.stream.by_ref().take(len.into()).read_to_end(&mut body)?;
        if u32::try_from(read) == Ok(len) { Ok((kind, body)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Parses a DataRow: the number of values, and each value after its length, which is negative for NULL.
fn row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk()?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, after) = rest.split_first_chunk()?;
        let len = usize::try_from(i32::from_be_bytes(*len)).ok();
        let (value, after) = after.split_at_checked(len.unwrap_or(0))?;
        row.push(len.map(|_| String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Some(row)
}

/// Parses an ErrorResponse: texts that end in a zero byte, each after a letter that names its kind.
fn refusal(body: &[u8]) -> io::Error {
    let fields: Vec<_> = body.split(|&byte| byte == 0).filter_map(<[u8]>::split_first).collect();
    let field = |kind| fields.iter().find(|&&(&letter, _)| letter == kind).map_or(&[][..], |&(_, text)| text);
    let [code, message] = [b'C', b'M'].map(|kind| String::from_utf8_lossy(field(kind)));
    io::Error::other(format!("{code}: {message}"))
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is not what a Postgres server says")
}
