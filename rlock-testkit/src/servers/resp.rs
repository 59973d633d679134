//! A client of the Redis protocol, for direct requests to a server.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A blocking connection to a Redis server: one command, one reply.
#[derive(Debug)]
pub struct Resp {
    stream: BufReader<TcpStream>,
}

/// A reply of a Redis server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nil.
    Nil,
    /// A number.
    Int(i64),
    /// A string of any kind, with bytes that are not UTF-8 replaced.
    Text(String),
    /// Several replies.
    List(Vec<Self>),
}

impl Resp {
    /// Connects to `redis://[[user]:password@]host[:port][/database]`, without TLS.
    ///
    /// # Errors
    ///
    /// If the URL has another form, or the server cannot be reached or refuses.
    pub fn connect(url: &str) -> io::Result<Self> {
        let url = Url::parse(url).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let host = url.host_str().filter(|_| url.scheme() == "redis");
        let host = host.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a redis:// URL with a host"))?;
        let stream = TcpStream::connect((host, url.port().unwrap_or(6379)))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let mut resp = Self { stream: BufReader::new(stream) };

        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        if let Some(password) = url.password().map(decoded) {
            let user = Some(decoded(url.username())).filter(|user| !user.is_empty());
            resp.send(&["AUTH", user.as_deref().unwrap_or("default"), &password])?;
        }
        if let Some(database) = url.path().strip_prefix('/').filter(|database| !database.is_empty()) {
            resp.send(&["SELECT", database])?;
        }
        Ok(resp)
    }

    /// Sends one command and reads its reply.
    ///
    /// # Errors
    ///
    /// If the connection fails, or the server replies with an error.
    pub fn send(&mut self, command: &[&str]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", command.len());
        for word in command {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.read()
    }

    /// Like [`send`](Self::send), but a failure fails the test.
    ///
    /// # Panics
    ///
    /// Panics if the connection fails, or the server replies with an error.
    pub fn command(&mut self, command: &[&str]) -> Reply {
        self.send(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Waits for the next reply: a message of a subscription.
    ///
    /// # Errors
    ///
    /// If the connection fails, or the server replies with an error.
    pub fn read(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::UnexpectedEof)?;
        match kind {
            "+" => Ok(Reply::Text(rest.into())),
            "-" => Err(io::Error::other(rest)),
            ":" => Ok(Reply::Int(number(rest)?)),
            "$" => match usize::try_from(number(rest)?) {
                Ok(len) => self.read_text(len),
                Err(_negative) => Ok(Reply::Nil),
            },
            "*" => {
                let len = number(rest)?;
                if len < 0 {
                    Ok(Reply::Nil)
                } else {
                    (0..len).map(|_| self.read()).collect::<io::Result<_>>().map(Reply::List)
                }
            }
            _ => Err(io::Error::other(format!("not a reply of Redis: {line:?}"))),
        }
    }

    fn read_text(&mut self, len: usize) -> io::Result<Reply> {
        let mut bytes = vec![0; len + "\r\n".len()];
        self.stream.read_exact(&mut bytes)?;
        Ok(Reply::Text(String::from_utf8_lossy(&bytes[..len]).into_owned()))
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| io::Error::other(format!("not a number of Redis: {text:?}")))
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Int(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::List(replies) => f.debug_list().entries(replies).finish(),
        }
    }
}
