//! The owner of a lease.

use std::fmt;

/// The host and the process that hold a lease or wait for one. They inform people; no decision depends on them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Owner {
    host: String,
    process: u32,
    label: Option<String>,
}

const SEPARATOR: char = '\u{1f}';
const MAX_PART: usize = 255;

impl Owner {
    /// This process on this host.
    pub fn current() -> Self {
        Self { host: clean(&host()), process: std::process::id(), label: None }
    }

    /// The same owner with a label. Control characters are removed from the label, and it is cut to 255 bytes.
    #[must_use]
    pub fn with_label(mut self, label: &str) -> Self {
        self.label = Some(clean(label)).filter(|label| !label.is_empty());
        self
    }

    /// The name of the host; empty if it is unknown.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The process id on that host.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// The label that the user gave.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Formats the owner as one line of text for a store, without line breaks or NUL.
    pub fn to_record(&self) -> String {
        let label = self.label.as_deref().unwrap_or_default();
        format!("{}{SEPARATOR}{}{SEPARATOR}{label}", self.host, self.process)
    }

    /// Parses the text that [`to_record`](Self::to_record) wrote. Any other text is taken for the name of a host.
    pub fn from_record(record: &str) -> Self {
        let mut parts = record.splitn(3, SEPARATOR);
        let host = parts.next().unwrap_or_default();
        let process = parts.next().and_then(|part| part.parse().ok()).unwrap_or_default();
        Self::of_parts(host, process, parts.next())
    }

    /// An owner whose parts come from outside.
    pub(crate) fn of_parts(host: &str, process: u32, label: Option<&str>) -> Self {
        let label = label.map(clean).filter(|label| !label.is_empty());
        Self { host: clean(host), process, label }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.is_empty() { "unknown host" } else { &self.host };
        write!(f, "{host}, process {}", self.process)?;
        match &self.label {
            Some(label) => write!(f, " ({label})"),
            None => Ok(()),
        }
    }
}

fn clean(text: &str) -> String {
    let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.truncate(text.floor_char_boundary(MAX_PART));
    text
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn host() -> String {
    std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        for owner in [Owner::current(), Owner::current().with_label("büro 7\n")] {
            assert_eq!(Owner::from_record(&owner.to_record()), owner);
        }
        assert_eq!(Owner::from_record("elsewhere").host(), "elsewhere");
    }

    #[test]
    fn a_long_label_is_cut_at_a_character() {
        assert_eq!(Owner::current().with_label(&"é".repeat(200)).label().unwrap().len(), 254);
    }
}
