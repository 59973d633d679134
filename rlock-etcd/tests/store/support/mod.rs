//! An etcd server for one test, and requests to it that bypass the library.

mod program;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Txn, TxnOp};
use rlock_core::{
    Acquired, Backend as _, Claim, Client, Extension, IfBusy, LeaseData, LeaseKey, Namespace, Owner, Share, Ttl,
};
use rlock_etcd::{EtcdBackend, EtcdConfig};
use rlock_testkit::faults::{Control as _, Data};
use rlock_testkit::servers::{Etcd, Gateway};
use rlock_testkit::wait::eventually;

pub(crate) use program::Program;
pub(crate) use rlock_testkit::peer::key;
pub(crate) use rlock_testkit::servers::free_port;

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A server for one test, which may configure and kill it.
pub(crate) struct Server(Etcd);

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self(Etcd::start_with(arguments))
    }

    pub(crate) fn url(&self) -> &str {
        self.0.url()
    }

    /// `host:port`
    pub(crate) fn address(&self) -> &str {
        self.url().trim_start_matches("etcd://")
    }

    pub(crate) fn gateway(&self) -> Gateway {
        self.0.gateway()
    }

    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        self.0.keys(prefix)
    }

    pub(crate) fn delete(&self, prefix: &str) -> u64 {
        self.0.delete(prefix)
    }

    pub(crate) fn leases(&self) -> usize {
        self.0.leases()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.0.revision()
    }

    /// The number of proposals from clients, without the server's own proposals, which end expired leases.
    pub(crate) fn proposals(&self) -> u64 {
        loop {
            let ended = self.metric("etcd_debugging_server_lease_expired_total");
            let proposals = self.0.raft_proposals();
            if self.metric("etcd_debugging_server_lease_expired_total") == ended {
                return proposals - ended;
            }
        }
    }

    /// The sum of the metrics whose lines begin with `front`: a name, or a name and labels.
    pub(crate) fn metric(&self, front: &str) -> u64 {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let value = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
        let values: Vec<_> = page.lines().filter(|line| line.starts_with(front)).map(value).collect();
        assert!(!values.is_empty(), "etcd has no metric {front}");
        format!("{:.0}", values.iter().sum::<f64>()).parse().expect("counts are not negative")
    }

    /// Makes the server keep leases that expire: with this alarm it refuses all writes, also its own revocations.
    pub(crate) async fn keep_expired_leases(&self) {
        let mut admin = self.admin().await;
        let mut options = AlarmOptions::new();
        options.with_member(admin.status().await.unwrap().leader());
        admin.alarm(AlarmAction::Activate, AlarmType::Corrupt, Some(options)).await.unwrap();
    }

    /// The granted TTL of the etcd lease that `key` is attached to.
    pub(crate) async fn granted_ttl(&self, key: &str) -> Duration {
        self.granted_ttl_if_there(key).await.unwrap_or_else(|| panic!("{key} is gone"))
    }

    /// The same; `None` if the key or the etcd lease has ended.
    pub(crate) async fn granted_ttl_if_there(&self, key: &str) -> Option<Duration> {
        let mut admin = self.admin().await;
        let lease = admin.get(key, None).await.unwrap().kvs().first()?.lease();
        let life = admin.lease_time_to_live(lease, None).await.unwrap();
        let granted = Duration::from_secs(life.granted_ttl().try_into().unwrap());
        Some(granted).filter(|granted| !granted.is_zero())
    }

    /// etcd's own client, without a user.
    pub(crate) async fn admin(&self) -> etcd_client::Client {
        etcd_client::Client::connect([self.address()], None).await.unwrap()
    }

    /// A client in a separate namespace.
    pub(crate) async fn client(&self) -> EtcdBackend {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.client_in(&format!("test {}", NEXT.fetch_add(1, Ordering::Relaxed))).await
    }

    pub(crate) async fn client_in(&self, namespace: &str) -> EtcdBackend {
        EtcdBackend::connect(self.config(namespace)).await.unwrap()
    }

    /// A client as users have it, with guards and watchdogs.
    pub(crate) async fn locks_in(&self, namespace: &str) -> Client {
        let builder = Client::builder().retry_for(SOON); // thousands of requests are slow on a busy machine
        builder.connect(EtcdBackend::connect(self.config(namespace))).await.unwrap()
    }

    pub(crate) fn config(&self, namespace: &str) -> EtcdConfig {
        config_at(self.url(), namespace)
    }

    pub(crate) async fn kill(&self) {
        self.0.kill().await;
    }

    pub(crate) async fn restart(&self) {
        self.0.restart(Data::Kept).await;
    }

    /// Restarts it without its data.
    pub(crate) async fn restart_empty(&self) {
        self.0.restart(Data::Lost).await;
    }
}

pub(crate) fn config_at(url: &str, namespace: &str) -> EtcdConfig {
    let config = EtcdConfig::from_url(url).unwrap().namespace(Namespace::new(namespace).unwrap());
    let config = config.connect_timeout(SOON).unwrap(); // a busy machine takes its time
    config.restart_grace(Duration::ZERO).unwrap() // the namespace is new
}

pub(crate) fn ttl(millis: u64) -> Ttl {
    Ttl::new(Duration::from_millis(millis)).unwrap()
}

pub(crate) fn claim(resource: &str, id: u128, share: Share, millis: u64, if_busy: IfBusy) -> Claim {
    let owner = Arc::new(Owner::current().with_label(&format!("owner of {id}")));
    Claim { key: key(resource, id), share, ttl: ttl(millis), if_busy, owner, data: None }
}

/// A claim on a mutex with a TTL of half a minute, which waits.
pub(crate) fn mutex(name: &str, id: u128) -> Claim {
    claim(name, id, Share::EXCLUSIVE, 30_000, IfBusy::Queue)
}

/// The same, without waiting.
pub(crate) fn try_mutex(name: &str, id: u128) -> Claim {
    claim(name, id, Share::EXCLUSIVE, 30_000, IfBusy::Refuse)
}

pub(crate) fn extension(key: LeaseKey, millis: u64) -> Extension {
    Extension { key, ttl: ttl(millis) }
}

/// Leaves the client spare etcd leases with the TTL of a mutex: those of claims that were sent once.
pub(crate) async fn leave_spares(server: &Server, client: &EtcdBackend, spares: u32) {
    let are_sent_once = async || {
        let claims: Vec<_> = (0..spares).map(|spare| mutex(&format!("spare {spare}"), rand::random())).collect();
        let before = transactions(server);
        let held = client.acquire(&claims).await;
        assert!(held.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))), "{held:?}");
        let copies = transactions(server) - before;
        let releases: Vec<_> = claims.into_iter().map(|claim| claim.key.into()).collect();
        assert!(client.release(&releases).await.iter().all(Result::is_ok));
        copies == 1
    };
    // On a busy machine a request may get no answer within a second, and is sent again.
    eventually(SOON, "claims that are sent once", are_sent_once).await;
}

/// A server and a client in the namespace `n`, where the semaphore `crowd` has more leases than one answer can hold.
/// Also returns its capacity, of which they leave two permits.
pub(crate) async fn beside_a_crowd() -> (Server, EtcdBackend, u32) {
    const LONGEST_ANSWER: usize = 64 << 20;
    const TOGETHER: usize = 1_000;
    let server = Server::start_with(&["--max-txn-ops", &TOGETHER.to_string()]);
    let client = EtcdBackend::connect(server.config("n").timeout(SOON).unwrap()).await.unwrap();
    let data = Some(LeaseData::new([7; LeaseData::MAX_LEN]).unwrap());
    let sample = Claim { data, ..claim("sample", 1, Share::new(4, 8).unwrap(), 600_000, IfBusy::Queue) };
    let held = client.acquire(&[sample]).await.remove(0);
    assert!(matches!(held, Ok(Acquired::Held(_))), "{held:?}");
    let mut admin = server.admin().await;
    let found = admin.get("n/sample/00000008/m0", None).await.unwrap();
    let value = found.kvs()[0].value();
    let leases = u32::try_from(LONGEST_ANSWER / value.len()).unwrap() + 1;
    let capacity = 4 * leases + 2;
    let put = |number| TxnOp::put(format!("n/crowd/{capacity:08x}/m{number}"), value, None);
    let puts: Vec<_> = (0..leases).map(put).collect();
    for some in puts.chunks(TOGETHER) {
        admin.txn(Txn::new().and_then(some)).await.unwrap();
    }
    (server, client, capacity)
}

/// The number of transactions that the server has received.
pub(crate) fn transactions(server: &Server) -> u64 {
    server.metric(r#"grpc_server_started_total{grpc_method="Txn""#)
}

/// The number of requests to end an etcd lease that the server has received.
pub(crate) fn revocations(server: &Server) -> u64 {
    server.metric(r#"grpc_server_started_total{grpc_method="LeaseRevoke""#)
}
