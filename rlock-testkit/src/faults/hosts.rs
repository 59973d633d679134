//! Proxies in front of all servers in one URL.

use super::proxy::Proxy;

impl Proxy {
    /// Starts one proxy in front of all servers in `scheme://host:port,host:port/path?options`. Returns the URL through
    /// it. A fault applies to the connections of all servers.
    ///
    /// # Panics
    ///
    /// As [`in_front_of`](Self::in_front_of).
    pub fn in_front_of_hosts(url: &str) -> (String, Self) {
        let (scheme, hosts, rest) = split(url);
        let (proxy, fronts) = in_front_of(&hosts);
        (format!("{scheme}://{}{rest}", fronts.join(",")), proxy)
    }

    /// Starts one proxy in front of all servers in the URL, as [`in_front_of_hosts`](Self::in_front_of_hosts), and of
    /// the further servers at `announced`, each `host:port`. The URL gets the option `address_map`, so that a client of
    /// Redis also reaches the servers through the proxy whose addresses it learns from other servers.
    ///
    /// # Panics
    ///
    /// As [`in_front_of`](Self::in_front_of).
    pub fn in_front_of_announced(url: &str, announced: &[&str]) -> (String, Self) {
        let (scheme, hosts, rest) = split(url);
        let all: Vec<&str> = hosts.iter().chain(announced).copied().collect();
        let (proxy, fronts) = in_front_of(&all);
        let pairs: Vec<String> = all.iter().zip(&fronts).map(|(host, front)| format!("{host}={front}")).collect();
        let separator = if rest.contains('?') { '&' } else { '?' };
        let (fronts, map) = (fronts[..hosts.len()].join(","), pairs.join(","));
        (format!("{scheme}://{fronts}{rest}{separator}address_map={map}"), proxy)
    }
}

/// The scheme of a URL, its hosts with their ports, and what follows them.
fn split(url: &str) -> (&str, Vec<&str>, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or_else(|| panic!("{url}: no URL with host and port"));
    let (hosts, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (scheme, hosts.split(',').collect(), rest)
}

/// The proxy, with the hosts and ports at which it listens.
fn in_front_of(hosts: &[&str]) -> (Proxy, Vec<String>) {
    const SCHEME: &str = "tcp://";
    let urls: Vec<String> = hosts.iter().map(|host| format!("{SCHEME}{host}")).collect();
    let proxy = Proxy::in_front_of_all(&urls.iter().map(String::as_str).collect::<Vec<_>>());
    let fronts = proxy.urls().iter().map(|url| url.trim_start_matches(SCHEME).to_owned()).collect();
    (proxy, fronts)
}
