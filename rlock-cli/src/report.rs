//! Events on standard error, one line per event.

use std::fmt::Arguments;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use nix::sys::signal::SigSet;
use serde_json::{Map, Value};

use crate::text;

/// Reports an event: its name, its fields in JSON, and a line for people. It never waits for the reader: rlock has to
/// end a program in time even if nothing reads standard error.
macro_rules! event {
    ($event:expr $(, $field:ident: $value:expr)*; $($text:tt)*) => {
        $crate::report::tell($event, [$((stringify!($field), serde_json::json!($value))),*], format_args!($($text)*))
    };
}

/// Reports an event only with `--json`.
macro_rules! fact {
    ($event:expr $(, $field:ident: $value:expr)*; $($text:tt)*) => {
        if $crate::report::is_json() {
            $crate::report::event!($event $(, $field: $value)*; $($text)*);
        }
    };
}

/// Reports a message, which is an event without fields.
macro_rules! report {
    ($($text:tt)*) => {
        $crate::report::event!("message"; $($text)*)
    };
}

pub(crate) use {event, fact, report};

/// The longest time that the end of `rlock` waits for the reader.
const PATIENCE: Duration = Duration::from_secs(2);

/// Goes back to the beginning of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Whether the terminal shows a line that the next one replaces.
static IS_PASSING: AtomicBool = AtomicBool::new(false);

static IS_JSON: AtomicBool = AtomicBool::new(false);

static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// The events of a run without trouble.
const ROUTINE: [&str; 6] = ["waiting", "acquired", "left", "keeping", "continued", "released"];

/// The channel to the writing thread; `None` if the system refused a thread.
static MESSAGES: OnceLock<Option<Sender<Message>>> = OnceLock::new();

enum Message {
    Line(String),
    /// Asks for a reply once all earlier lines have been written.
    Written(Sender<()>),
}

/// Reports all further events in JSON.
pub(crate) fn in_json() {
    IS_JSON.store(true, Ordering::Relaxed);
}

pub(crate) fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Leaves out all further events of a run without trouble.
pub(crate) fn quietly() {
    IS_QUIET.store(true, Ordering::Relaxed);
}

fn is_quiet() -> bool {
    IS_QUIET.load(Ordering::Relaxed)
}

pub(crate) fn tell<const N: usize>(event: &str, fields: [(&str, Value); N], text: Arguments<'_>) {
    if is_quiet() && ROUTINE.contains(&event) {
        return;
    }
    if is_json() {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let always = [("time", time.into()), ("event", event.into()), ("message", text.to_string().into())];
        let object: Map<_, _> =
            always.into_iter().chain(fields).map(|(name, value)| (name.to_owned(), value)).collect();
        return send(Message::Line(format!("{}\n", Value::Object(object))));
    }
    let clear = if IS_PASSING.swap(false, Ordering::Relaxed) { CLEAR } else { "" };
    send(Message::Line(format!("{clear}rlock: {text}\n")));
}

/// Shows a line until the next one replaces it, if standard error is a terminal.
pub(crate) fn pass(line: &str) {
    if is_json() || is_quiet() || !io::stderr().is_terminal() {
        return;
    }
    let columns = terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| usize::from(width.0));
    let line = format!("rlock: {line}");
    IS_PASSING.store(true, Ordering::Relaxed);
    send(Message::Line(format!("{CLEAR}{}", text::cut(&line, columns.saturating_sub(1)))));
}

/// Removes the line that [`pass`] shows.
#[cfg(any(feature = "bench", feature = "suite"))]
pub(crate) fn clear() {
    if IS_PASSING.swap(false, Ordering::Relaxed) {
        send(Message::Line(CLEAR.into()));
    }
}

/// Waits until all lines have been written, for [`PATIENCE`] at most.
pub(crate) fn flush() {
    let (sender, written) = channel();
    if matches!(MESSAGES.get(), Some(Some(_))) {
        send(Message::Written(sender));
        let _no_reader = written.recv_timeout(PATIENCE);
    }
}

/// Hands the message to the writing thread. Writes it here if the system refuses a thread.
fn send(message: Message) {
    let writer = MESSAGES.get_or_init(|| {
        let (sender, messages) = channel();
        let write_all = || {
            // Signals are for the thread that may block them, as before another term.
            let _cannot_fail = SigSet::all().thread_block();
            messages.into_iter().for_each(write);
        };
        thread::Builder::new().spawn(write_all).ok().map(|_| sender)
    });
    match writer {
        Some(writer) => drop(writer.send(message)),
        None => write(message),
    }
}

fn write(message: Message) {
    match message {
        Message::Line(line) => drop(io::stderr().write_all(line.as_bytes())),
        Message::Written(sender) => drop(sender.send(())),
    }
}
