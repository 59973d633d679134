//! Server programs on this machine.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;

use super::instance::{Instance, wait_until_ready};
use super::program::RunningProgram;
use super::service::Service;
use crate::faults::Data;

/// A server of `S` in a temporary folder.
#[derive(Debug)]
pub(super) struct Local<S: Service> {
    running: Option<RunningProgram>,
    folder: TempDir,
    service: S,
    program: PathBuf,
    port: u16,
}

impl<S: Service> Local<S> {
    /// Runs `program`, and returns when the server is ready.
    ///
    /// # Errors
    ///
    /// As [`Service::prepare`] and [`wait_until_ready`].
    pub(super) fn start(service: S, program: &Path, port: u16) -> io::Result<Box<dyn Instance>> {
        let folder = tempfile::tempdir()?;
        service.prepare(program, folder.path(), port)?;
        let mut local = Self { running: None, folder, service, program: program.into(), port };
        local.run()?;
        Ok(Box::new(local))
    }

    fn run(&mut self) -> io::Result<()> {
        let log_file = self.log_file();
        let log = File::create(&log_file)?;
        let mut command = self.service.command(&self.program, self.port);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let running = self.running.insert(RunningProgram::start(&mut command)?);

        let (url, process) = (self.service.url(self.port), running.id());
        wait_until_ready(
            || self.service.is_ready(&url, Some(process)),
            || running.has_ended(),
            || format!("{command:?}: {}", fs::read_to_string(&log_file).unwrap_or_default()),
        )
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn end(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running);
            self.service.tidy(self.folder.path());
        }
    }

    fn running(&mut self) -> io::Result<&mut RunningProgram> {
        self.running.as_mut().ok_or_else(|| io::Error::other("it does not run"))
    }
}

impl<S: Service> Instance for Local<S> {
    fn pause(&mut self) -> io::Result<()> {
        self.running()?.pause()
    }

    fn resume(&mut self) -> io::Result<()> {
        self.running()?.resume()
    }

    fn kill(&mut self) -> io::Result<()> {
        self.end();
        Ok(())
    }

    fn restart(&mut self, data: Data) -> io::Result<()> {
        self.end();
        if data == Data::Lost {
            self.folder = tempfile::tempdir()?;
            self.service.prepare(&self.program, self.folder.path(), self.port)?;
        }
        self.run()
    }

    fn address_for_servers(&self) -> io::Result<(String, u16)> {
        Ok(("127.0.0.1".to_owned(), self.port))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl<S: Service> Drop for Local<S> {
    fn drop(&mut self) {
        self.end(); // before its folder is removed
    }
}
