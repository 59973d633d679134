//! The text format of an entry, one line each: instant, keyword, fields, and the name of the resource last, because it
//! may contain any character except a line break.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

use rlock_core::{LossReason, ResourceName, Share};

use super::entry::{Entry, Op, What};

/// Formats `entry` as a line, with its line break.
pub(super) fn line(entry: &Entry) -> String {
    let mut line = format!("{} ", Instant(entry.at));
    let written = match &entry.what {
        What::Asked { op, resource, share } => {
            write!(line, "asked {op} {} {} {resource}", share.weight(), share.capacity())
        }
        What::Granted { op, token, until } => write!(line, "granted {op} {token} {}", Instant(*until)),
        What::Believed { op, until } => write!(line, "believed {op} {}", Instant(*until)),
        What::Refused { op } => write!(line, "refused {op}"),
        What::Unknown { op } => write!(line, "unknown {op}"),
        What::Lost { op, reason, until: Some(until) } => {
            write!(line, "lost {op} {} {}", reason.as_str(), Instant(*until))
        }
        What::Lost { op, reason, until: None } => write!(line, "lost {op} {} -", reason.as_str()),
        What::Releasing { op } => write!(line, "releasing {op}"),
        What::Released { op, known: true } => write!(line, "released {op}"),
        What::Released { op, known: false } => write!(line, "release-unknown {op}"),
        What::Opened { op, resource, token, value } => write!(line, "opened {op} {token} {value} {resource}"),
        What::OpenRefused { op, resource, token } => write!(line, "open-refused {op} {token} {resource}"),
        What::Wrote { op, resource, token, base, value } => {
            write!(line, "wrote {op} {token} {base} {value} {resource}")
        }
        What::WriteRefused { op, resource, token } => write!(line, "write-refused {op} {token} {resource}"),
        What::Breaking { resource } => write!(line, "breaking {resource}"),
        What::Died { process } => write!(line, "died {process}"),
        What::Frozen { process } => write!(line, "frozen {process}"),
        What::Woken { process } => write!(line, "woken {process}"),
        What::Starved { process, since } => write!(line, "starved {process} {}", Instant(*since)),
        What::Down => write!(line, "down"),
        What::Up => write!(line, "up"),
        What::Split { since, until } => write!(line, "split {} {}", Instant(*since), Instant(*until)),
        What::End => write!(line, "end"),
    };
    written.expect("a string can be written to");
    line.push('\n');
    line
}

/// Parses a line without its line break; `None` if it is not an entry.
pub(super) fn parse(line: &str) -> Option<Entry> {
    let mut fields = Fields(line);
    let at = fields.instant()?;
    let what = match fields.word()? {
        "asked" => {
            let op = fields.op()?;
            let share = Share::new(fields.number()?, fields.number()?).ok()?;
            What::Asked { op, share, resource: fields.resource()? }
        }
        "granted" => What::Granted { op: fields.op()?, token: fields.number()?, until: fields.instant()? },
        "believed" => What::Believed { op: fields.op()?, until: fields.instant()? },
        "refused" => What::Refused { op: fields.op()? },
        "unknown" => What::Unknown { op: fields.op()? },
        "lost" => {
            let (op, reason) = (fields.op()?, fields.reason()?);
            let until = if fields.0 == "-" { fields.word().map(|_| None) } else { fields.instant().map(Some) };
            What::Lost { op, reason, until: until? }
        }
        "releasing" => What::Releasing { op: fields.op()? },
        "released" => What::Released { op: fields.op()?, known: true },
        "release-unknown" => What::Released { op: fields.op()?, known: false },
        "opened" => {
            let (op, token, value) = (fields.op()?, fields.number()?, fields.number()?);
            What::Opened { op, token, value, resource: fields.resource()? }
        }
        "open-refused" => {
            let (op, token) = (fields.op()?, fields.number()?);
            What::OpenRefused { op, token, resource: fields.resource()? }
        }
        "wrote" => {
            let (op, token, base, value) = (fields.op()?, fields.number()?, fields.number()?, fields.number()?);
            What::Wrote { op, token, base, value, resource: fields.resource()? }
        }
        "write-refused" => {
            let (op, token) = (fields.op()?, fields.number()?);
            What::WriteRefused { op, token, resource: fields.resource()? }
        }
        "breaking" => What::Breaking { resource: fields.resource()? },
        "died" => What::Died { process: fields.number()? },
        "frozen" => What::Frozen { process: fields.number()? },
        "woken" => What::Woken { process: fields.number()? },
        "starved" => What::Starved { process: fields.number()?, since: fields.instant()? },
        "down" => What::Down,
        "up" => What::Up,
        "split" => What::Split { since: fields.instant()?, until: fields.instant()? },
        "end" => What::End,
        _ => return None,
    };
    fields.0.is_empty().then_some(Entry { at, what })
}

/// Formats as seconds, with all nine digits of the fraction.
struct Instant(Duration);

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0.as_secs(), self.0.subsec_nanos())
    }
}

/// The rest of a line that is being parsed.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    fn word(&mut self) -> Option<&'a str> {
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    fn number<N: FromStr>(&mut self) -> Option<N> {
        self.word()?.parse().ok()
    }

    fn op(&mut self) -> Option<Op> {
        let (process, sequence) = self.word()?.strip_prefix('p')?.split_once('#')?;
        Some(Op { process: process.parse().ok()?, sequence: sequence.parse().ok()? })
    }

    fn instant(&mut self) -> Option<Duration> {
        let (seconds, nanos) = self.word()?.split_once('.')?;
        let nanos = Some(nanos).filter(|nanos| nanos.len() == 9)?.parse().ok()?;
        Some(Duration::new(seconds.parse().ok()?, nanos))
    }

    fn reason(&mut self) -> Option<LossReason> {
        use LossReason::{Broken, Expired, GaveUp, Gone, Shutdown, TakenOver};
        let word = self.word()?;
        [Broken, Expired, GaveUp, Gone, Shutdown, TakenOver].into_iter().find(|reason| reason.as_str() == word)
    }

    fn resource(&mut self) -> Option<ResourceName> {
        ResourceName::new(std::mem::take(&mut self.0)).ok()
    }
}
