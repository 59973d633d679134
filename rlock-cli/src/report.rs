//! What happens, on standard error, one line an event.

use std::io::Write as _;
use std::sync::OnceLock;
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

static MESSAGES: OnceLock<Sender<Message>> = OnceLock::new();

enum Message {
    Line(String),
    /// Everything told before has been written.
    Written(Sender<()>),
}

pub(crate) fn tell(line: String) {
    send(Message::Line(line));
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
