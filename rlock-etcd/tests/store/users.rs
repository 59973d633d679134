//! Servers with authentication, and the requests that they reject.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Program, SOON, Server, config_at, leave_spares, mutex};
use etcd_client::{Permission, PutOptions, RoleRevokePermissionOptions};
use rlock_core::{Acquired, Backend as _, BackendError, Client, Guard, LockOptions, Released, SimpleLock};
use rlock_etcd::{ConnectError, EtcdBackend, EtcdConfig};
use rlock_testkit::faults::{Proxy, Way};
use rlock_testkit::wait::{eventually, within};

const TTL: Duration = Duration::from_secs(60);
/// The time limit for notifications. An expired token once delayed them by seven seconds.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Gives the server a user `jobs` with the password `secret`, who may read and write `billing/…`, and a user `reader`
/// with the same password, who may only read it.
async fn add_users(mut admin: etcd_client::Client) {
    admin.user_add("root", "root secret", None).await.unwrap();
    admin.role_add("root").await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    admin.user_add("jobs", "secret", None).await.unwrap();
    admin.role_add("jobs").await.unwrap();
    admin.role_grant_permission("jobs", all()).await.unwrap();
    admin.user_grant_role("jobs", "jobs").await.unwrap();
    admin.user_add("reader", "secret", None).await.unwrap();
    admin.role_add("reader").await.unwrap();
    admin.role_grant_permission("reader", Permission::read("billing/").with_prefix()).await.unwrap();
    admin.user_grant_role("reader", "reader").await.unwrap();
    admin.auth_enable().await.unwrap();
}

/// The rights of the role `jobs`.
fn all() -> Permission {
    Permission::read_write("billing/").with_prefix()
}

async fn as_root(server: &Server) -> etcd_client::Client {
    let options = etcd_client::ConnectOptions::new().with_user("root", "root secret");
    etcd_client::Client::connect([server.address()], Some(options)).await.unwrap()
}

async fn with_users(arguments: &[&str]) -> Server {
    let server = Server::start_with(&[&["--bcrypt-cost", "4"], arguments].concat());
    add_users(server.admin().await).await;
    server
}

fn config(server: &Server, user: &str, namespace: &str) -> EtcdConfig {
    let options = "restart_grace=0s&connect_timeout=20s"; // a busy machine takes its time
    let url = format!("etcd://{user}{}?namespace={namespace}&{options}", server.address());
    EtcdConfig::from_url(&url).unwrap()
}

async fn jobs(server: &Server) -> Client {
    client(config(server, "jobs:secret@", "billing")).await
}

async fn client(config: EtcdConfig) -> Client {
    Client::builder().connect(EtcdBackend::connect(config)).await.unwrap()
}

async fn lock(client: &Client, name: &str) -> Guard {
    let lock = SimpleLock::new(name, client).unwrap();
    within(SOON, "a lock", lock.lock_with(LockOptions::new().ttl(TTL))).await.unwrap()
}

/// One client releases a lock that the other waits for, which is notified.
async fn hand_over(from: &Client, to: &Client) {
    let guard = lock(from, "a").await;
    guard.extend(TTL).await.unwrap();
    guard.extend(TTL * 2).await.unwrap();
    let (resource, waiting) = (guard.resource().clone(), to.clone());
    let waiter = tokio::spawn(async move { lock(&waiting, "a").await });
    eventually(SOON, "the waiter", async || from.inspect(&resource).await.unwrap().queue.len() == 1).await;
    guard.unlock().await.unwrap();
    let next = within(AT_ONCE, "the hand-over", waiter).await.unwrap();
    next.unlock().await.unwrap();
}

/// Asserts that connecting is rejected with a reason that contains `hint` and no secret.
async fn rejects(config: EtcdConfig, hint: &str) {
    assert!(!format!("{config:?}").contains("secret"), "{config:?}");
    let error = EtcdBackend::connect(config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Rejected(_)), "{error:?}");
    assert!(error.to_string().contains(hint), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn user_with_rights_to_a_namespace_can_lock() {
    let server = with_users(&[]).await;
    let (one, other) = (jobs(&server).await, jobs(&server).await);
    hand_over(&one, &other).await;
    assert!(!format!("{one:?}").contains("secret"), "{one:?}");

    let guard = lock(&one, "broken").await;
    assert_eq!(other.break_leases(guard.resource()).await.unwrap(), 1);
    within(AT_ONCE, "the loss", guard.lost()).await;
}

#[tokio::test]
async fn a_wrong_password_or_none() {
    let server = with_users(&[]).await;
    for wrong in ["jobs:my%20secret@", "secretary:secret@"] {
        rejects(config(&server, wrong, "billing"), "check the user and the password in the URL").await;
    }
    rejects(config(&server, "", "billing"), "it wants a user; put user:password@ into the URL").await;
}

#[tokio::test]
async fn a_user_without_rights_to_the_namespace() {
    let server = with_users(&[]).await;
    let hint = "has to read and write all keys that begin with";
    rejects(config(&server, "jobs:secret@", "bills"), hint).await;
}

#[tokio::test]
async fn a_user_where_the_server_knows_none() {
    let server = Server::start();
    rejects(config(&server, "jobs:secret@", "billing"), "leave user:password@ out of the URL").await;
}

#[tokio::test]
async fn client_outlives_its_login_token() {
    let server = with_users(&["--auth-token-ttl", "1"]).await;
    let (one, other) = (jobs(&server).await, jobs(&server).await);
    // An unused token expires without notice.
    tokio::time::sleep(Duration::from_secs(3)).await;
    hand_over(&one, &other).await;
}

#[tokio::test]
async fn client_logs_in_again_after_a_restart() {
    let server = with_users(&[]).await;
    let (one, other) = (jobs(&server).await, jobs(&server).await);
    let guard = lock(&one, "kept").await;
    server.restart().await;
    hand_over(&one, &other).await;
    assert!(guard.is_held());
    guard.extend(TTL * 2).await.unwrap();
    guard.unlock().await.unwrap();
}

#[tokio::test]
async fn enabling_users_rejects_a_client_without_one() {
    let server = Server::start_with(&["--bcrypt-cost", "4"]);
    let client = EtcdBackend::connect(config(&server, "", "billing")).await.unwrap();
    add_users(server.admin().await).await;
    let refused = client.acquire(&[mutex("a", 1)]).await.remove(0);
    let Err(BackendError::Rejected(failure)) = refused else { panic!("{refused:?}") };
    assert!(failure.to_string().contains("it wants a user; put user:password@ into the URL"), "{failure}");
}

#[tokio::test]
async fn a_user_who_may_only_read() {
    let server = with_users(&[]).await;
    let _there = jobs(&server).await;
    let hint = "has to read and write all keys that begin with";
    rejects(config(&server, "reader:secret@", "billing"), hint).await;
}

/// The client watches the key of a lock a moment after its grant. Meanwhile its user has lost the right to read it.
#[tokio::test]
async fn forbidden_watch_is_opened_again() {
    let server = with_users(&[]).await;
    let (proxy, mut admin) = (Proxy::in_front_of(server.url()), as_root(&server).await);
    let url = proxy.url().replacen("://", "://jobs:secret@", 1);
    let client = client(config_at(&url, "billing")).await;
    let watches = || server.metric("etcd_debugging_mvcc_watcher_total");
    let answers = || server.metric(r#"grpc_server_msg_sent_total{grpc_method="Watch""#);
    let answer_after =
        async |before: u64| eventually(SOON, "an answer about a watch", async || answers() > before).await;
    // One watch opens the stream.
    eventually(SOON, "the stream", async || watches() == 1 && answers() > 0).await;
    let guard = loop {
        let before = answers();
        let guard = lock(&client, "a").await;
        proxy.stall(Way::ToServer);
        let prefix = RoleRevokePermissionOptions::new().with_prefix();
        admin.role_revoke_permission("jobs", "billing/", Some(prefix)).await.unwrap();
        proxy.heal();
        answer_after(before).await;
        let is_forbidden = watches() < 2;
        admin.role_grant_permission("jobs", all()).await.unwrap();
        if is_forbidden {
            break guard;
        }
        // On a busy machine the request may be sent before the proxy holds it back.
        let before = answers();
        guard.unlock().await.unwrap();
        answer_after(before).await;
    };
    eventually(SOON, "the watch", async || watches() == 2).await;
    let deleted = admin.delete("billing/a/00000001/x0", None).await.unwrap().deleted();
    assert_eq!(deleted, 1);
    within(AT_ONCE, "the loss", guard.lost()).await;
}

/// The claim is sent twice, and its release cannot end its etcd lease: a key is attached to it that the user may not
/// write. The first copy is carried out after the release, and the client claims the lock again by the same id.
#[tokio::test]
async fn ending_etcd_lease_holds_no_late_claim() {
    const KEY: &str = "billing/a/00000001/x0";
    let server = with_users(&[]).await;
    let proxy = Proxy::in_front_of(server.url());
    let url = proxy.url().replacen("://", "://jobs:secret@", 1);
    let client = EtcdBackend::connect(config_at(&url, "billing").timeout(SOON).unwrap()).await.unwrap();
    let mut admin = as_root(&server).await;
    leave_spares(&server, &client, 1).await;
    let claims = [mutex("a", 1)];
    proxy.strand();
    let held = client.acquire(&claims).await.remove(0);
    assert!(matches!(held, Ok(Acquired::Held(_))), "{held:?}");
    let written = admin.get(KEY, None).await.unwrap().kvs()[0].clone();
    let attached = || Some(PutOptions::new().with_lease(written.lease()));
    admin.put("of others", "", attached()).await.unwrap();
    let released = client.release(&[claims[0].key.clone().into()]).await.remove(0);
    assert!(matches!(released, Ok(Released::Released)), "{released:?}");

    // It stands for the first copy, which the server may drop, because the client has given up its connection.
    admin.put(KEY, written.value(), attached()).await.unwrap();
    let late = client.acquire(&claims).await.remove(0);
    let Err(BackendError::Unknown(failure)) = late else { panic!("{late:?}") };
    assert!(failure.to_string().contains("was carried out late"), "{failure}");

    admin.delete("of others", None).await.unwrap();
    let is_held = async || matches!(client.acquire(&claims).await[0], Ok(Acquired::Held(_)));
    eventually(SOON, "a claim with another etcd lease", is_held).await;
    assert_ne!(admin.get(KEY, None).await.unwrap().kvs()[0].lease(), written.lease());
}

/// A server rejects such a token after any change of a user or a role.
#[tokio::test]
async fn clients_with_web_tokens_outlive_user_changes() {
    let folder = tempfile::tempdir().unwrap();
    let [private, public] = ["private.pem", "public.pem"].map(|name| folder.path().join(name));
    let openssl = |arguments: &[&str]| {
        let status = Command::new("openssl").args(arguments).stderr(Stdio::null()).status();
        assert!(status.expect("openssl runs (Debian: apt-get install openssl)").success(), "{arguments:?}");
    };
    let [private, public] = [&private, &public].map(|file| file.to_str().unwrap());
    openssl(&["genrsa", "-out", private, "2048"]);
    openssl(&["rsa", "-in", private, "-pubout", "-out", public]);
    let tokens = format!("jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=10m");
    let server = Program::start("http", folder, &["--bcrypt-cost", "4", "--auth-token", &tokens]).await;
    let address = format!("127.0.0.1:{}", server.port());
    add_users(etcd_client::Client::connect([&address], None).await.unwrap()).await;

    let url = format!("etcd://jobs:secret@{address}?namespace=billing&restart_grace=0s&connect_timeout=20s");
    let config = EtcdConfig::from_url(&url).unwrap();
    let (one, other) = (client(config.clone()).await, client(config).await);
    let kept = lock(&one, "kept").await;
    for user in ["new", "newer"] {
        let options = etcd_client::ConnectOptions::new().with_user("root", "root secret");
        let mut admin = etcd_client::Client::connect([&address], Some(options)).await.unwrap();
        admin.user_add(user, "secret", None).await.unwrap();
        hand_over(&one, &other).await;
        kept.extend(TTL).await.unwrap();
        assert!(kept.is_held());
    }
    kept.unlock().await.unwrap();
}
