//! What happens, on standard error, one line an event.

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// Tells one line. It never waits for a reader: a program has to be ended in time even if nobody reads.
macro_rules! report {
    ($($text:tt)*) => {
        $crate::report::tell(format!("rlock: {}\n", format_args!($($text)*)))
    };
}

pub(crate) use report;

/// How long the end of `rlock` may wait for a reader.
const PATIENCE: Duration = Duration::from_millis(500);

/// Back to the beginning of a line, and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Whether the terminal shows a line that the next one takes the place of.
static IS_PASSING: AtomicBool = AtomicBool::new(false);

static MESSAGES: OnceLock<Sender<Message>> = OnceLock::new();

enum Message {
    Line(String),
    /// Everything told before has been written.
    Written(Sender<()>),
}

pub(crate) fn tell(line: String) {
    let clear = if IS_PASSING.swap(false, Ordering::Relaxed) { CLEAR } else { "" };
    send(Message::Line(format!("{clear}{line}")));
}

/// Shows a line on the terminal until the next one comes.
pub(crate) fn pass(line: &str) {
    let columns = terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| usize::from(width.0));
    let shown: String = format!("rlock: {line}").chars().take(columns.saturating_sub(1)).collect();
    IS_PASSING.store(true, Ordering::Relaxed);
    send(Message::Line(format!("{CLEAR}{shown}")));
}

/// Waits until all that was told has been written, but not for ever.
pub(crate) fn flush() {
    let (sender, written) = channel();
    if MESSAGES.get().is_some() {
        send(Message::Written(sender));
        let _nobody_reads = written.recv_timeout(PATIENCE);
    }
}

fn send(message: Message) {
    let writer = MESSAGES.get_or_init(|| {
        let (sender, messages) = channel();
        thread::spawn(|| write(messages));
        sender
    });
    let _writer_gone = writer.send(message);
}

fn write(messages: Receiver<Message>) {
    for message in messages {
        match message {
            Message::Line(line) => drop(std::io::stderr().write_all(line.as_bytes())),
            Message::Written(sender) => drop(sender.send(())),
        }
    }
}
