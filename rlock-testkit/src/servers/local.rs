//! Server programs of this machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::{env, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::server::{Place, wait_until_ready};
use super::store::Store;
use crate::faults::Data;

/// A server of `S` in a temporary folder.
#[derive(Debug)]
pub(super) struct Local<S> {
    /// In front of the folder, to be dropped first.
    running: Option<Program>,
    folder: TempDir,
    store: S,
    program: PathBuf,
    port: u16,
}

impl<S: Store> Local<S> {
    /// Runs `program`, and returns when the server is ready.
    ///
    /// # Errors
    ///
    /// As [`wait_until_ready`].
    pub(super) fn start(store: S, program: &Path, port: u16) -> io::Result<Box<dyn Place>> {
        let mut local = Self { running: None, folder: tempfile::tempdir()?, store, program: program.into(), port };
        local.run()?;
        Ok(Box::new(local))
    }

    fn run(&mut self) -> io::Result<()> {
        let log_file = self.folder.path().join("server.log");
        let log = File::create(&log_file)?;
        let mut command = self.store.command(&self.program, self.port);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut running = Program { child: command.spawn()? };

        let (url, process) = (self.store.url(self.port), running.child.id());
        wait_until_ready(
            || self.store.is_ready(&url, Some(process)),
            || Ok(running.child.try_wait()?.is_some()),
            || format!("{command:?}: {}", fs::read_to_string(&log_file).unwrap_or_default()),
        )?;
        self.running = Some(running);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.running.as_ref().ok_or_else(|| io::Error::other("it does not run"))?.signal(signal)
    }
}

impl<S: Store> Place for Local<S> {
    fn pause(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    fn resume(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn kill(&mut self) -> io::Result<()> {
        self.running = None;
        Ok(())
    }

    fn restart(&mut self, data: Data) -> io::Result<()> {
        self.kill()?;
        if data == Data::Lost {
            self.folder = tempfile::tempdir()?;
        }
        self.run()
    }

    fn address_for_servers(&self) -> io::Result<(String, u16)> {
        Ok(("127.0.0.1".to_owned(), self.port))
    }
}

/// A program that runs. Dropping this kills it.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
}

impl Program {
    /// The first of `names` that the `PATH` has, or else one of `folders`.
    pub(super) fn find(names: &[&str], folders: &[&str]) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = env::split_paths(&path).chain(folders.iter().map(PathBuf::from)).collect();
        names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file()))
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = i32::try_from(self.child.id()).expect("process ids are positive numbers of 31 bits");
        Ok(kill(Pid::from_raw(id), signal)?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}
