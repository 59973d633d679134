//! A Redis server for one test file, and what the tests say to it behind the library's back.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rlock_core::{Claim, IfBusy, LeaseId, LeaseKey, Namespace, Owner, ResourceName, Share, Ttl};
use rlock_redis::{RedisBackend, RedisConfig};

pub(crate) struct Server {
    child: Child,
    port: u16,
    password: Option<&'static str>,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    pub(crate) fn start_with(password: Option<&'static str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        if let Some(password) = password {
            command.args(["--requirepass", password]);
        }
        let child = command
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("these tests need redis-server on the PATH");
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "redis-server did not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, port, password, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        match self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A client in a namespace of its own.
    pub(crate) async fn client(&self) -> RedisBackend {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.client_in(&format!("test {}", NEXT.fetch_add(1, Ordering::Relaxed))).await
    }

    pub(crate) async fn client_in(&self, namespace: &str) -> RedisBackend {
        let config = RedisConfig::from_url(&self.url()).unwrap().namespace(Namespace::new(namespace).unwrap());
        RedisBackend::connect(config).await.unwrap()
    }

    /// Runs a command, and answers what redis-cli prints, line by line.
    pub(crate) fn cli(&self, args: &[&str]) -> Vec<String> {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string(), "--raw", "--no-auth-warning"]);
        if let Some(password) = self.password {
            command.args(["-a", password]);
        }
        let output = command.args(args).output().expect("these tests need redis-cli on the PATH");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

pub(crate) fn key(resource: &str, id: u128) -> LeaseKey {
    LeaseKey { resource: ResourceName::new(resource).unwrap(), id: LeaseId::from_u128(id) }
}

pub(crate) fn ttl(millis: u64) -> Ttl {
    Ttl::new(Duration::from_millis(millis)).unwrap()
}

pub(crate) fn claim(resource: &str, id: u128, share: Share, millis: u64, if_busy: IfBusy) -> Claim {
    let owner = Arc::new(Owner::current().with_label(&format!("owner of {id}")));
    Claim { key: key(resource, id), share, ttl: ttl(millis), if_busy, owner }
}
