//! Disks that lose data or are full, of one server and of a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice;
use std::time::Duration;

use crate::support::{claim, key};
use rlock_core::{Acquired, Backend as _, Client, Guard, IfBusy, LockOptions, LossReason, Share, SimpleLock, Token};
use rlock_etcd::{EtcdBackend, EtcdConfig};
use rlock_testkit::faults::{Control as _, Data, Proxy, Way};
use rlock_testkit::servers::EtcdCluster;
use rlock_testkit::wait::{eventually, within};

/// Longer than any start of the servers.
const TTL: Duration = Duration::from_secs(120);
/// Shorter than the time between two renewals.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn one_restored_server_grants_again() {
    restored_servers_grant_again(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_restored_servers_grant_again() {
    restored_servers_grant_again(3).await;
}

/// The servers come back with older data, and grant a lock that they have granted since, with a token that is not
/// larger. A holder that can reach them learns of it; one that cannot believes in its lock.
async fn restored_servers_grant_again(size: usize) {
    let cluster = EtcdCluster::start_of(size);
    let proxy = in_front_of(&cluster);
    let (holder, other) = (client(&hosts(&proxy), "").await, client(&cluster.url(), "").await);
    lock(&holder, "another").await.unlock().await.unwrap(); // after the grace of a new namespace
    let folders: Vec<_> = (0..size).map(|index| data_of(&cluster, index)).collect();
    cluster.kill().await;
    folders.iter().for_each(|folder| copy(folder, &folder.with_file_name("saved")));
    cluster.restart(Data::Kept).await;
    lock(&holder, "another").await.unlock().await.unwrap();
    let old = lock(&holder, "job").await;

    proxy.stall(Way::Both);
    cluster.kill().await;
    for folder in &folders {
        fs::remove_dir_all(folder).unwrap();
        fs::rename(folder.with_file_name("saved"), folder).unwrap();
    }
    cluster.restart(Data::Kept).await;
    let new = lock(&other, "job").await;
    assert!(new.token() <= old.token());
    assert!(old.is_held(), "a holder that reaches no server believes in its lock until its deadline");
    proxy.heal();
    let reason = within(SOON, "the loss", old.lost()).await;
    assert!(matches!(reason, LossReason::Gone | LossReason::TakenOver), "{reason}");
    assert!(new.is_held());
}

/// The server comes back with older data. The next lease has the key of the one that is released, of the same revision.
#[tokio::test(flavor = "multi_thread")]
async fn release_after_a_restore_spares_other_leases() {
    let cluster = EtcdCluster::start_of(1);
    let (holder, other) = (backend(&cluster.url()).await, backend(&cluster.url()).await);
    let folder = data_of(&cluster, 0);
    cluster.kill().await;
    copy(&folder, &folder.with_file_name("saved"));
    cluster.restart(Data::Kept).await;
    let old = held(&holder, 1).await;
    cluster.kill().await;
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(folder.with_file_name("saved"), &folder).unwrap();
    cluster.restart(Data::Kept).await;
    assert_eq!(held(&other, 2).await, old, "the leases have the same revision");
    let released = async || holder.release(&[key("job", 1).into()]).await[0].is_ok();
    eventually(SOON, "the release", released).await;
    assert_eq!(cluster.node(0).gateway().keys("rlock/job/").unwrap().len(), 1, "the other lease was released");
}

async fn backend(url: &str) -> EtcdBackend {
    let config = EtcdConfig::from_url(&format!("{url}{NO_GRACE}")).unwrap();
    EtcdBackend::connect(config.connect_timeout(SOON).unwrap()).await.unwrap()
}

/// The token of a lease, once it is held.
async fn held(backend: &EtcdBackend, id: u128) -> Token {
    let claim = claim("job", id, Share::EXCLUSIVE, 600_000, IfBusy::Refuse);
    let mut token = None;
    let is_held = async || {
        if let Ok(Acquired::Held(grant)) = backend.acquire(slice::from_ref(&claim)).await.remove(0) {
            token = Some(grant.token);
        }
        token.is_some()
    };
    eventually(SOON, "a lease", is_held).await;
    token.unwrap()
}

/// Nothing is granted for the grace, in which a holder that can reach the servers learns of its loss.
#[tokio::test(flavor = "multi_thread")]
async fn three_empty_servers_grant_after_the_grace() {
    let cluster = EtcdCluster::start();
    let proxy = in_front_of(&cluster);
    let (near, far) = (client(&cluster.url(), "").await, client(&hosts(&proxy), "").await);
    let (known, unknown) = (lock(&near, "known").await, lock(&far, "unknown").await);
    proxy.stall(Way::Both);
    cluster.restart(Data::Lost).await;
    let other = client(&cluster.url(), "").await;
    let next = lock(&other, "known").await;
    assert!(!known.is_held(), "two holders believe in a lock");
    assert!(next.token() > known.token());
    let next = lock(&other, "unknown").await;
    assert!(next.token() > unknown.token());
    assert!(unknown.is_held(), "a holder that reaches no server believes in its lock until its deadline");
    proxy.heal();
    let reason = within(SOON, "the loss", unknown.lost()).await;
    assert!(matches!(reason, LossReason::Gone | LossReason::TakenOver), "{reason}");
    assert!(next.is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_of_one_server_loses_in_time() {
    full_disks_lose_in_time(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disks_of_three_servers_lose_in_time() {
    full_disks_lose_in_time(3).await;
}

/// The servers end at the first write that fails, and the holder loses its lock at its deadline. A waiter has it once the servers
/// are back with free space.
async fn full_disks_lose_in_time(size: usize) {
    const BRIEF: Duration = Duration::from_secs(8);
    let cluster = EtcdCluster::start_of(size);
    let url = cluster.url();
    let (holder, other, writer) =
        (client(&url, NO_GRACE).await, client(&url, NO_GRACE).await, client(&url, NO_GRACE).await);
    let old = SimpleLock::new("job", &holder).unwrap();
    let old = old.lock_with(LockOptions::new().ttl(BRIEF)).await.unwrap();
    let waiting = tokio::spawn(async move { lock(&other, "job").await });
    let is_queued = async || holder.inspect("job").await.unwrap().queue.len() == 1;
    eventually(SOON, "the waiter", is_queued).await;

    (0..size).for_each(|index| fill_disk_of(cluster.process(index)));
    let writing = tokio::spawn(async move { lock(&writer, "another").await });
    assert_eq!(within(SOON, "the loss", old.lost()).await, LossReason::Expired);
    assert!(!waiting.is_finished() && !writing.is_finished(), "a lock was granted without a write");
    cluster.restart(Data::Kept).await;
    let (next, _) = (within(SOON, "the waiter's turn", waiting).await.unwrap(), within(SOON, "a lock", writing).await);
    assert!(next.is_held() && next.token() > old.token());
}

/// Lets each write of a process to a file fail, as on a full disk.
fn fill_disk_of(process: u32) {
    let status = Command::new("prlimit").args(["--pid", &process.to_string(), "--fsize=0"]).status();
    assert!(status.expect("prlimit runs (Debian: apt-get install util-linux)").success());
}

fn data_of(cluster: &EtcdCluster, index: usize) -> PathBuf {
    fs::read_link(format!("/proc/{}/cwd", cluster.process(index))).unwrap().join("data")
}

/// Copies the folder of a server that is down, without the empty files that it prepares.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else if from.extension().is_none_or(|extension| extension != "tmp") {
            fs::copy(from, to).unwrap();
        }
    }
}

/// A proxy in front of all servers, beside the ones that the servers have.
fn in_front_of(cluster: &EtcdCluster) -> Proxy {
    let urls: Vec<_> = (0..cluster.size()).map(|index| cluster.node(index).url()).collect();
    Proxy::in_front_of_all(&urls)
}

fn hosts(proxy: &Proxy) -> String {
    let hosts: Vec<_> = proxy.urls().iter().map(|url| url.trim_start_matches("etcd://")).collect();
    format!("etcd://{}", hosts.join(","))
}

const NO_GRACE: &str = "?restart_grace=0s";

async fn client(url: &str, options: &str) -> Client {
    let config = EtcdConfig::from_url(&format!("{url}{options}")).unwrap();
    // Elections are slow on a busy machine.
    let backend = EtcdBackend::connect(config.connect_timeout(SOON).unwrap());
    Client::builder().retry_for(SOON).connect(backend).await.unwrap()
}

async fn lock(client: &Client, name: &str) -> Guard {
    let lock = SimpleLock::new(name, client).unwrap();
    within(SOON, "a lock", lock.lock_with(LockOptions::new().ttl(TTL))).await.unwrap()
}
