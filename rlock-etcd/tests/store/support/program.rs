//! An etcd process with files of its own, which a container would not see.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rlock_testkit::wait::eventually;
use tempfile::TempDir;

use super::{SOON, free_port};

pub(crate) struct Program {
    running: Child,
    port: u16,
    folder: TempDir,
}

impl Program {
    /// Starts etcd with additional arguments, on this scheme, with its data in `folder`.
    pub(crate) async fn start(scheme: &str, folder: TempDir, arguments: &[&str]) -> Self {
        let (port, at) = (free_port(), |name: &str| folder.path().join(name));
        let log = File::create(at("server.log")).unwrap();
        let url = format!("{scheme}://127.0.0.1:{port}");
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(at("data")).args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        // It is the only member; no other server connects to this URL.
        let nowhere = "http://127.0.0.1:1";
        command.args(["--initial-cluster", &format!("default={nowhere}"), "--initial-advertise-peer-urls", nowhere]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:0", "--heartbeat-interval", "10"]);
        command.args(["--election-timeout", "100", "--logger", "zap"]).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let running = command.spawn().expect("etcd runs (Debian: apt-get install etcd-server)");
        let mut server = Self { running, port, folder };
        eventually(SOON, "the server", async || {
            let ended = server.running.try_wait().unwrap();
            let log = || fs::read_to_string(server.file("server.log")).unwrap_or_default();
            assert!(ended.is_none(), "etcd did not start: {}", log());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended_already = self.running.kill();
        let _status = self.running.wait();
    }
}
