//! The address of a relay, whose bytes a test passes on by itself.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;
use url::Url;

/// Returns a listener, the URL of the server with the address of the listener, and the addresses of the server.
pub(crate) async fn listener_in_front_of(server: &str) -> (TcpListener, String, Vec<SocketAddr>) {
    let mut url = Url::parse(server).unwrap();
    let addresses = url.socket_addrs(|| None).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let relay = listener.local_addr().unwrap();
    url.set_ip_host(relay.ip()).unwrap();
    url.set_port(Some(relay.port())).unwrap();
    (listener, url.into(), addresses)
}
