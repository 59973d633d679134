//! The screen of a watch, and the keys and signals that end it.

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal as _, Read as _};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

use crate::exit::Exit;
use crate::output::print;

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_REST: &str = "\x1b[J";
const CLEAR_LINE_REST: &str = "\x1b[K";
/// The size of a terminal that does not report it.
const USUAL: (usize, usize) = (80, 24);

/// The screen of a terminal, or other output.
pub(super) struct Screen {
    pub(super) is_there: bool,
    is_entered: Cell<bool>,
    /// The terminal modes before single keys were read.
    modes: RefCell<Option<Termios>>,
}

impl Screen {
    pub(super) fn new(is_there: bool) -> Self {
        Self { is_there, is_entered: Cell::new(false), modes: RefCell::default() }
    }

    /// The columns, and the rows without the last one, where the cursor stands.
    pub(super) fn size(&self) -> (usize, usize) {
        if !self.is_there {
            return (USUAL.0, usize::MAX);
        }
        let size = terminal_size::terminal_size();
        let (columns, rows) = size.map_or(USUAL, |(width, height)| (width.0.into(), height.0.into()));
        (columns, rows.saturating_sub(1).max(1))
    }

    /// Replaces the shown frame.
    pub(super) fn show(&self, frame: &str) -> Result<(), Exit> {
        if !self.is_there {
            return print(&format!("{frame}\n"));
        }
        let enter = if self.is_entered.replace(true) { "" } else { ENTER };
        let lines = frame.replace('\n', &format!("{CLEAR_LINE_REST}\r\n"));
        print(&format!("{enter}{HOME}{lines}{CLEAR_REST}"))
    }

    /// Gives the screen and the keyboard back.
    pub(super) fn leave(&self) {
        if self.is_entered.take() {
            let _terminal_gone = print(LEAVE);
        }
        if let Some(modes) = self.modes.take() {
            let _terminal_gone = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &modes);
        }
    }

    /// Returns when a key or a signal ends the watch.
    pub(super) async fn ends(&self) {
        let (hangup, quit) = (SignalKind::hangup(), SignalKind::quit());
        let stop = SignalKind::from_raw(Signal::SIGTSTP as i32);
        let signals = [SignalKind::interrupt(), SignalKind::terminate(), hangup, quit, stop].map(signal);
        let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup), Ok(mut quit), Ok(mut stop)] = signals else {
            return;
        };
        let mut keys = self.is_there.then(keys).flatten();
        self.take_keyboard();
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                _ = hangup.recv() => return,
                _ = quit.recv() => return,
                key = next(&mut keys) => if key == b'q' { return },
                _ = stop.recv() => {
                    self.leave();
                    // The shell waits for the whole job. This returns when it is continued.
                    let _cannot_fail = kill(Pid::from_raw(0), Signal::SIGTTOU);
                    self.take_keyboard();
                }
            }
        }
    }

    /// Switches the terminal to single keys without echo.
    fn take_keyboard(&self) {
        if !self.is_there || tcgetpgrp(io::stdin()) != Ok(getpgrp()) {
            return;
        }
        let Ok(before) = tcgetattr(io::stdin()) else { return };
        let mut modes = before.clone();
        modes.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        if tcsetattr(io::stdin(), SetArg::TCSADRAIN, &modes).is_ok() {
            self.modes.replace(Some(before));
        }
    }
}

/// The pressed keys, if standard input is a terminal.
fn keys() -> Option<Receiver<u8>> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let (sender, keys) = channel(8);
    // Leaves the input after q to the shell.
    let read = move || {
        let mut pressed = io::stdin().lock().bytes().map_while(Result::ok);
        pressed.all(|key| sender.blocking_send(key).is_ok() && key != b'q')
    };
    thread::Builder::new().spawn(read).ok().map(|_| keys)
}

async fn next(keys: &mut Option<Receiver<u8>>) -> u8 {
    let key = match keys {
        Some(keys) => keys.recv().await,
        None => None,
    };
    match key {
        Some(key) => key,
        None => std::future::pending().await,
    }
}
