//! Parsers of values.

use std::time::Duration;

use rlock::{ResourceName, Ttl};

pub(super) fn resource_name(name: &str) -> Result<ResourceName, String> {
    ResourceName::new(name).map_err(|error| error.to_string())
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write a number and a unit: 500ms, 30s, 5m"))
}

pub(super) fn ttl(text: &str) -> Result<Ttl, String> {
    let given = time(text)?;
    let shown = humantime::format_duration;
    Ttl::new(given).map_err(|_| {
        let (least, most) = (shown(Ttl::MIN.get()), Ttl::MAX.get().as_secs() / (24 * 60 * 60));
        format!("a TTL of {} cannot be used: choose one from {least} to {most} days", shown(given))
    })
}
