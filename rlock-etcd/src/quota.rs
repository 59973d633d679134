//! Reads the quota of a server's database from the server's metrics.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const QUOTA: &str = "etcd_server_quota_backend_bytes ";
/// The maximum length of the metrics, in bytes.
const LONGEST: u64 = 16 << 20;

/// The quota in bytes of the server at `host:port`, asked without TLS; less than 0 for none. `None` if the server does not
/// answer with it.
pub(crate) async fn quota_at(address: &str) -> Option<i64> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut page = Vec::new();
    stream.take(LONGEST).read_to_end(&mut page).await.ok()?;
    quota_in(&String::from_utf8_lossy(&page))
}

fn quota_in(page: &str) -> Option<i64> {
    let bytes: f64 = page.lines().find_map(|line| line.strip_prefix(QUOTA))?.trim().parse().ok()?;
    Some(bytes as i64).filter(|quota| *quota != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_is_found_among_the_metrics() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# TYPE etcd_server_quota_backend_bytes gauge\n\
                    etcd_server_quota_backend_bytes 1.6777216e+07\netcd_server_read_indexes_failed_total 0\n";
        assert_eq!(quota_in(page), Some(16 << 20));
        assert_eq!(quota_in("HTTP/1.0 404 Not Found\r\n\r\n"), None);
        assert_eq!(quota_in("etcd_server_quota_backend_bytes -1\n"), Some(-1));
        assert_eq!(quota_in("etcd_server_quota_backend_bytes 0\n"), None, "it was not set yet");
    }
}
