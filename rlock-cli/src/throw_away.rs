//! A store in a temporary namespace.

/// The URL with `restart_grace=0s`: a new namespace has no earlier holders.
pub(crate) fn without_grace(url: &str) -> String {
    const GRACE: &str = "restart_grace=";
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    if matches!(scheme.as_str(), "sqlite" | "memory") {
        return url.to_owned();
    }
    let (address, options) = url.split_once('?').unwrap_or((url, ""));
    let others = options.split('&').filter(|option| !option.is_empty() && !option.starts_with(GRACE));
    let options: Vec<_> = others.map(str::to_owned).chain([format!("{GRACE}0s")]).collect();
    format!("{address}?{}", options.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_grace_is_replaced_in_the_url() {
        assert_eq!(without_grace("redis://h:1/2"), "redis://h:1/2?restart_grace=0s");
        assert_eq!(without_grace("etcd://a,b?restart_grace=5s&timeout=2s"), "etcd://a,b?timeout=2s&restart_grace=0s");
        assert_eq!(without_grace("sqlite:locks.db?timeout=2s"), "sqlite:locks.db?timeout=2s");
        assert_eq!(without_grace("memory:"), "memory:");
    }
}
