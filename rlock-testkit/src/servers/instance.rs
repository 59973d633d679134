//! A server that a test starts: a program or a container.

use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use crate::faults::Data;

/// Time limit for a server to become ready.
const READY_WITHIN: Duration = Duration::from_secs(20);
const BETWEEN_PROBES: Duration = Duration::from_millis(5);

/// A server that was started here: a program or a container. Its methods block. Dropping it stops the server and
/// removes its files.
pub(super) trait Instance: fmt::Debug + Send {
    /// See [`Control::pause`](crate::faults::Control::pause); does nothing if the server is paused already.
    fn pause(&mut self) -> io::Result<()>;

    /// See [`Control::resume`](crate::faults::Control::resume); does nothing if the server is not paused.
    fn resume(&mut self) -> io::Result<()>;

    /// See [`Control::kill`](crate::faults::Control::kill); does nothing if the server is killed already.
    fn kill(&mut self) -> io::Result<()>;

    /// See [`Control::restart`](crate::faults::Control::restart). Returns when the server is ready.
    fn restart(&mut self, data: Data) -> io::Result<()>;

    /// The host and port at which another server from the same source reaches it.
    fn address_for_servers(&self) -> io::Result<(String, u16)>;

    /// The output since its last start, as far as it can be read.
    fn log(&self) -> String;
}

/// Waits for a server that was just started.
///
/// # Errors
///
/// [`TimedOut`](io::ErrorKind::TimedOut) if it took too long, [`Other`](io::ErrorKind::Other) if it ended before it was
/// ready: with its output.
pub(super) fn wait_until_ready(
    is_ready: impl Fn() -> bool,
    mut has_ended: impl FnMut() -> io::Result<bool>,
    log: impl FnOnce() -> String,
) -> io::Result<()> {
    let started = Instant::now();
    loop {
        let ended = has_ended()?;
        if !ended && is_ready() {
            return Ok(());
        }
        if ended {
            return Err(io::Error::other(format!("it ended before it was ready: {}", log())));
        }
        if started.elapsed() > READY_WITHIN {
            let message = format!("it was not ready within {READY_WITHIN:?}: {}", log());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        thread::sleep(BETWEEN_PROBES);
    }
}
