//! The keeper: a process that ends the program's group when `rlock` was killed.
//!
//! The system can end a program with its parent (on Linux), but not what the program has started. The keeper holds
//! the reading end of a pipe. The program itself, before its first instruction, writes its process id there, which is
//! that of its group: were it `rlock` that wrote it, a group could live before its keeper knew of it. `rlock` writes at
//! last that all is well; when the pipe ends without that, `rlock` has died.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

use crate::exit::Exit;

const ALL_IS_WELL: u8 = b'!';

/// A running keeper. Dropping this tells it that all is well, and waits for its end: in a container, nobody else may.
#[derive(Debug)]
pub(super) struct Keeper {
    process: Child,
    /// `None` once it was told that all is well.
    pipe: Option<PipeWriter>,
    /// Open, so that nobody who writes is killed by SIGPIPE because somebody has killed the keeper.
    _reader: PipeReader,
}

impl Keeper {
    /// Starts one that keeps nothing yet, away from the signals of the terminal.
    pub(super) fn start() -> io::Result<Self> {
        let (reader, pipe) = io::pipe()?;
        let mut command = Command::new(this_program()?);
        command.arg0("rlock").arg("keep").process_group(0);
        let process = command.stdin(reader.try_clone()?).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { process, pipe: Some(pipe), _reader: reader })
    }

    /// Where a program writes its process id, as the bytes of an `i32`, before its first instruction.
    pub(super) fn cradle(&self) -> io::Result<OwnedFd> {
        let pipe = self.pipe.as_ref().expect("it is not told that all is well before there is a program");
        pipe.try_clone().map(OwnedFd::from)
    }

    /// Tells it that all is well.
    pub(super) fn dismiss(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _the_reader_is_open = pipe.write_all(&[ALL_IS_WELL]);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        const MOMENT: Duration = Duration::from_micros(200);
        const MOMENTS: usize = 500; // for one that somebody has stopped

        self.dismiss();
        let mut is_there = || matches!(self.process.try_wait(), Ok(None));
        (0..MOMENTS).take_while(|_| is_there()).for_each(|_| sleep(MOMENT));
    }
}

/// What the keeper does. It outlives the signals that end a whole service.
pub(crate) fn keep() -> Exit {
    let _cannot_fail = SigSet::all().thread_block();
    let mut pipe = io::stdin().lock();
    let mut group = [0; size_of::<i32>()];
    if pipe.read_exact(&mut group).is_ok() && pipe.read_exact(&mut [0]).is_err() {
        let _nobody_left = killpg(Pid::from_raw(i32::from_ne_bytes(group)), Signal::SIGKILL);
    }
    Exit::OK
}

/// This program, on Linux also if its file has been replaced meanwhile.
fn this_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}
