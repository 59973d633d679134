//! A terminal, and a program on it.

use std::fs::File;
use std::io::{PipeWriter, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use nix::pty::openpty;
use rustix::event::{PollFd, PollFlags, poll};

use super::Server;
use crate::support::{PATIENCE, url};

/// A program on its own terminal. Dropping this hangs up the terminal and kills the program.
pub(super) struct Session {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// Stops the thread that reads the screen, when dropped.
    closes: Option<PipeWriter>,
    unread: String,
}

impl Session {
    /// An interactive shell, in which `$RLOCK` is the program under test.
    pub(super) fn shell(server: &Server) -> Self {
        let mut session = Self::start(server, &["bash", "--norc", "--noprofile", "-i"]);
        session.enter("PS1='% '; set -b; echo shell-$((1+1))");
        session.expect("shell-2");
        session
    }

    pub(super) fn start(server: &Server, program: &[&str]) -> Self {
        let pty = openpty(None, None).unwrap_or_else(|error| {
            panic!(
                "the system opened no pseudo-terminal ({error}); these tests need /dev/pts, which root mounts: \
                 mkdir -p /dev/pts && mount -t devpts devpts /dev/pts"
            )
        });
        rustix::io::fcntl_setfd(&pty.master, rustix::io::FdFlags::CLOEXEC).expect("it is open");
        let terminal = || Stdio::from(pty.slave.try_clone().expect("a descriptor is left"));
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .args(program)
            .env("RLOCK_URL", url(server))
            .env("RLOCK", env!("CARGO_BIN_EXE_rlock"))
            .stdin(terminal())
            .stdout(terminal())
            .stderr(terminal())
            .spawn()
            .expect("util-linux has setsid");
        let keyboard = File::from(pty.master);
        let mut master = keyboard.try_clone().expect("a descriptor is left");
        let (sender, screen) = channel();
        let (closed, closes) = std::io::pipe().expect("a descriptor is left");
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                let mut events = [PollFd::new(&master, PollFlags::IN), PollFd::new(&closed, PollFlags::IN)];
                poll(&mut events, None).expect("both are open");
                if !events[1].revents().is_empty() {
                    break;
                }
                let Ok(len @ 1..) = master.read(&mut bytes) else { break };
                if sender.send(bytes[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keyboard, screen, closes: Some(closes), unread: String::new() }
    }

    pub(super) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    pub(super) fn enter(&mut self, line: &str) {
        self.press(line);
        self.press("\r");
    }

    /// Makes the window larger or smaller.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.keyboard, size).expect("the terminal is there");
    }

    /// Closes the window, as a user does who does not wait for the shell.
    pub(super) fn close(&mut self) {
        let null = File::open("/dev/null").expect("the system has it");
        self.keyboard = null;
        self.closes.take();
    }

    /// Reads the screen up to `text`.
    pub(super) fn expect(&mut self, text: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(at) = self.unread.find(text) {
                return self.unread.drain(..at + text.len()).collect();
            }
            match self.screen.recv_timeout(PATIENCE.saturating_sub(started.elapsed())) {
                Ok(bytes) => self.unread.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("{text:?} does not appear ({error}):\n{}", self.unread),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}
