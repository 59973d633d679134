//! A client of the JSON gateway of etcd, for direct requests to a server.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use super::base64;
use super::http::Http;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A client of one etcd server by JSON over HTTP, so that tests need no client library.
#[derive(Debug, Clone)]
pub struct Gateway {
    http: Http,
}

/// The status that a server reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) id: u64,
    /// The id of the leader; 0 if the server knows none.
    pub(super) leader: u64,
    pub(super) term: u64,
    pub(super) revision: u64,
    pub(super) raft_index: u64,
}

impl Gateway {
    /// Makes a client of the first server in `etcd://host:port,host:port`, without credentials and without TLS.
    ///
    /// # Errors
    ///
    /// If the URL has another form.
    pub fn new(url: &str) -> io::Result<Self> {
        let servers = url.strip_prefix("etcd://").and_then(|rest| rest.split(['/', '?']).next());
        let first = servers.and_then(|servers| servers.split(',').next());
        let plain = first.filter(|server| server.contains(':') && !server.contains('@'));
        let plain = plain.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not an etcd://host:port URL"))?;
        Ok(Self { http: Http::at(plain, TIMEOUT) })
    }

    /// Sets the timeout for the answers of the server; the default is 10 s.
    pub fn within(self, timeout: Duration) -> Self {
        Self { http: self.http.within(timeout) }
    }

    /// The keys that begin with `prefix`, sorted, with bytes that are not UTF-8 replaced.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or refuses, as it does without a leader.
    pub fn keys(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut range = range(prefix);
        range["keys_only"] = true.into();
        let found = self.call("kv/range", &range)?;
        list(&found, "kvs").iter().map(|entry| text(&entry["key"])).collect()
    }

    /// The value of `key`, if it exists.
    ///
    /// # Errors
    ///
    /// As [`keys`](Self::keys).
    pub fn value(&self, key: &str) -> io::Result<Option<String>> {
        let found = self.call("kv/range", &json!({ "key": base64::encode(key.as_bytes()) }))?;
        list(&found, "kvs").first().map(|entry| text(&entry["value"])).transpose()
    }

    /// Sets `key` to `value`, without a lease.
    ///
    /// # Errors
    ///
    /// As [`keys`](Self::keys).
    pub fn put(&self, key: &str, value: &str) -> io::Result<()> {
        let (key, value) = (base64::encode(key.as_bytes()), base64::encode(value.as_bytes()));
        self.call("kv/put", &json!({ "key": key, "value": value })).map(drop)
    }

    /// Deletes the keys that begin with `prefix`, and returns their number.
    ///
    /// # Errors
    ///
    /// As [`keys`](Self::keys).
    pub fn delete(&self, prefix: &str) -> io::Result<u64> {
        number(&self.call("kv/deleterange", &range(prefix))?, "deleted")
    }

    /// The number of leases. An expired lease counts until the server has revoked it, at most half a second later.
    ///
    /// # Errors
    ///
    /// As [`keys`](Self::keys).
    pub fn leases(&self) -> io::Result<usize> {
        Ok(list(&self.call("lease/leases", &json!({}))?, "leases").len())
    }

    /// The revision of the store. It grows by one with each transaction that changes keys.
    ///
    /// # Errors
    ///
    /// As [`keys`](Self::keys).
    pub fn revision(&self) -> io::Result<u64> {
        let any = json!({ "key": base64::encode(b"\0"), "limit": 1, "keys_only": true });
        number(&self.call("kv/range", &any)?["header"], "revision")
    }

    /// The status of the server itself, which needs no other server.
    pub(super) fn status(&self) -> io::Result<Status> {
        let status = self.call("maintenance/status", &json!({}))?;
        Ok(Status {
            id: number(&status["header"], "member_id")?,
            leader: number(&status, "leader")?,
            term: number(&status, "raftTerm")?,
            revision: number(&status["header"], "revision")?,
            raft_index: number(&status, "raftIndex")?,
        })
    }

    /// Whether the server serves clients, and its cluster has a member with this name.
    pub(super) fn is_ready(&self, name: &str) -> bool {
        let is_healthy = self.http.get("/health").is_ok_and(|health| health.contains(r#""health":"true""#));
        let members = || self.call("cluster/member/list", &json!({}));
        is_healthy && members().is_ok_and(|found| list(&found, "members").iter().any(|member| member["name"] == name))
    }

    fn call(&self, method: &str, request: &Value) -> io::Result<Value> {
        let reply = self.http.post(&format!("/v3/{method}"), &request.to_string())?;
        Ok(serde_json::from_str(&reply)?)
    }
}

/// The range of keys that begin with `prefix`: up to the first key after all of them.
fn range(prefix: &str) -> Value {
    let (mut begin, mut end) = (prefix.as_bytes().to_vec(), prefix.as_bytes().to_vec());
    match end.last_mut() {
        Some(last) => *last += 1,                  // no byte of UTF-8 is 255
        None => (begin, end) = (vec![0], vec![0]), // all keys
    }
    json!({ "key": base64::encode(&begin), "range_end": base64::encode(&end) })
}

/// etcd leaves out an empty list, and a number that is 0.
fn list<'a>(reply: &'a Value, name: &str) -> &'a [Value] {
    reply[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn number(reply: &Value, name: &str) -> io::Result<u64> {
    match &reply[name] {
        Value::Null => Ok(0),
        number => number.as_str().and_then(|digits| digits.parse().ok()).ok_or_else(|| unknown(number)),
    }
}

fn text(value: &Value) -> io::Result<String> {
    let bytes = base64::decode(value.as_str().unwrap_or_default()).ok_or_else(|| unknown(value))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unknown(value: &Value) -> io::Error {
    io::Error::other(format!("not what etcd replies: {value}"))
}
