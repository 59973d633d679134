//! A server whose clock a test sets, by libfaketime.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rlock_testkit::servers::Postgres;
use tempfile::TempDir;

use super::Server;

/// The clock of a server: that of this machine, plus an offset.
pub(crate) struct Clock {
    folder: TempDir,
    /// The first process of the server.
    process: String,
}

impl Server {
    /// Starts a server with a clock of its own, which is right at first.
    pub(crate) async fn start_with_clock() -> (Self, Clock) {
        Self::start_with_clock_and(&[]).await
    }

    /// The same with more arguments.
    pub(crate) async fn start_with_clock_and(arguments: &[&str]) -> (Self, Clock) {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap(); // the server may have another user
        let mut clock = Clock { folder, process: String::new() };
        clock.write(0);
        let environment = [
            // The loader replaces $LIB, as in the command `faketime`.
            ("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1"),
            ("FAKETIME_TIMESTAMP_FILE", &clock.file()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        let server = Self::with_tables(Postgres::start_program(arguments, &environment)).await;
        clock.process = server.value("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)");
        (server, clock)
    }
}

impl Clock {
    /// Sets the clock to an offset from that of this machine, in seconds.
    ///
    /// # Panics
    ///
    /// Panics if the server keeps its time, as without libfaketime.
    pub(crate) fn set(&self, server: &Server, offset: i64) {
        const NOW: &str = "SELECT extract(epoch FROM clock_timestamp())::bigint";
        self.write(offset);
        let here = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed();
        let off = server.number(NOW) - here - offset;
        assert!(
            off.abs() < 600,
            "the server's clock cannot be set: install faketime (Debian: apt-get install faketime)"
        );
    }

    fn write(&self, offset: i64) {
        // The server reads the file at any time.
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{offset:+}")).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn file(&self) -> String {
        self.folder.path().join("offset").to_str().unwrap().to_owned()
    }
}

impl Drop for Clock {
    /// A server that is killed leaves libfaketime's shared memory.
    fn drop(&mut self) {
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            let _missing = fs::remove_file(format!("/dev/shm/{name}{}", self.process));
        }
    }
}
