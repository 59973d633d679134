//! Tests of etcd servers.

use std::env;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use rlock_testkit::faults::{Control, Data};
use rlock_testkit::servers::{Etcd, Gateway};

use super::{NOWHERE, connect, failure_of, refuses, run, text};

const STARTS: &str = "etcd::a_server_starts_and_answers";
const STARTS_OWN: &str = "etcd::a_server_with_arguments_is_the_tests_own";

/// Other tests run this one again, in other environments.
#[test]
fn a_server_starts_and_answers() {
    let begun = Instant::now();
    let etcd = Etcd::start();
    println!("it is at {}, after {:?}", etcd.url(), begun.elapsed());
    assert!(etcd.revision() >= 1);
}

/// Other tests run this one again, in other environments.
#[test]
fn a_server_with_arguments_is_the_tests_own() {
    let etcd = Etcd::start_with(&["--max-txn-ops", "3", "--max-request-bytes", "1000"]);
    println!("it is at {}, of the test", etcd.url());
    etcd.gateway().put("key", &"v".repeat(900)).unwrap();
    let refused = etcd.gateway().put("key", &"v".repeat(1100)).unwrap_err();
    assert!(refused.to_string().contains("too large"), "{refused}");
}

#[test]
fn contents_of_a_server_are_visible_outside() {
    let etcd = Etcd::start_durable();
    let gateway = etcd.gateway();
    assert_eq!((etcd.keys(""), etcd.revision(), etcd.leases()), (vec![], 1, 0));

    let proposals = etcd.raft_proposals();
    for (key, value) in [("a/2", "two"), ("a/1", "one"), ("b", ""), ("a", "\u{e9}\u{10ffff}\0")] {
        gateway.put(key, value).unwrap();
    }
    assert_eq!(etcd.raft_proposals(), proposals + 4);
    assert_eq!(etcd.revision(), 5);
    assert_eq!(etcd.keys(""), ["a", "a/1", "a/2", "b"]);
    assert_eq!(etcd.keys("a/"), ["a/1", "a/2"]);
    assert_eq!(etcd.keys("c"), [""; 0]);
    assert_eq!(etcd.raft_proposals(), proposals + 4, "looking proposes nothing");

    let values = ["a", "a/1", "b", "c"].map(|key| gateway.value(key).unwrap());
    assert_eq!(values.each_ref().map(Option::as_deref), [Some("\u{e9}\u{10ffff}\0"), Some("one"), Some(""), None]);

    assert_eq!(etcd.delete("a/"), 2);
    assert_eq!(etcd.keys(""), ["a", "b"]);
    assert_eq!(etcd.delete("a/"), 0);
    assert_eq!(etcd.delete(""), 2);
    assert_eq!(etcd.keys(""), [""; 0]);
}

#[test]
fn leases_are_granted_for_a_second_and_end() {
    let etcd = Etcd::start_durable();
    grant(etcd.url(), 1);
    assert_eq!(etcd.leases(), 1);
    let begun = Instant::now();
    while etcd.leases() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "a lease of 1 s is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_gateway_takes_plain_urls_of_etcd() {
    for url in ["etcd://127.0.0.1:1", "etcd://127.0.0.1:1,127.0.0.1:2/?namespace=a:b"] {
        assert!(Gateway::new(url).is_ok(), "{url}");
    }
    for url in ["etcds://127.0.0.1:1", "etcd://127.0.0.1", "etcd://user:secret@127.0.0.1:1", "127.0.0.1:1", ""] {
        let error = Gateway::new(url).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{url}");
    }
    let error = Gateway::new("etcd://127.0.0.1:1").unwrap().keys("").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
}

#[tokio::test]
async fn paused_server_is_silent_until_resumed() {
    let etcd = Etcd::start_durable();
    let mut connection = connect(etcd.url()).unwrap();
    etcd.pause().await;
    etcd.pause().await;
    connection.write_all(b"GET /version HTTP/1.0\r\n\r\n").unwrap();
    connection.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut reply = [0; 12];
    let silent = connection.read(&mut reply).unwrap_err();
    assert!(matches!(silent.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{silent}");

    etcd.resume().await;
    etcd.resume().await;
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"HTTP/1.0 200");
}

#[tokio::test]
async fn server_keeps_confirmed_data() {
    let etcd = Etcd::start_durable();
    let url = etcd.url().to_owned();
    let put = |value| etcd.gateway().put("key", value).unwrap();
    put("1");
    etcd.kill().await;
    refuses(&url);
    etcd.kill().await;
    etcd.restart(Data::Kept).await;
    assert_eq!(etcd.gateway().value("key").unwrap().as_deref(), Some("1"));

    put("2");
    etcd.restart(Data::Kept).await; // while it runs
    assert_eq!(etcd.gateway().value("key").unwrap().as_deref(), Some("2"));

    put("3");
    etcd.pause().await;
    etcd.kill().await;
    refuses(&url);
    etcd.restart(Data::Kept).await;
    assert_eq!(etcd.gateway().value("key").unwrap().as_deref(), Some("3"));

    put("4");
    etcd.pause().await;
    etcd.restart(Data::Kept).await;
    assert_eq!(etcd.gateway().value("key").unwrap().as_deref(), Some("4"));
    assert_eq!((etcd.revision(), etcd.url()), (5, &*url));
}

#[tokio::test]
async fn server_is_durable_after_data_loss() {
    let etcd = Etcd::start_durable();
    etcd.gateway().put("key", "1").unwrap();
    etcd.kill().await;
    etcd.restart(Data::Lost).await;
    assert_eq!((etcd.keys(""), etcd.revision()), (vec![], 1));

    etcd.gateway().put("other", "1").unwrap();
    etcd.restart(Data::Kept).await;
    assert_eq!(etcd.keys(""), ["other"]);
    etcd.pause().await;
    etcd.restart(Data::Lost).await; // while it is paused
    assert_eq!(etcd.keys(""), [""; 0]);
}

#[tokio::test]
async fn dropped_server_is_gone_in_any_state() {
    let [running, paused, killed] = [(); 3].map(|()| Etcd::start_durable());
    paused.pause().await;
    killed.kill().await;
    for etcd in [running, paused, killed] {
        let url = etcd.url().to_owned();
        drop(etcd);
        refuses(&url);
    }
}

#[test]
fn server_of_the_environment_is_left_alone() {
    let etcd = Etcd::start_durable();
    let mut named = vec![("RLOCK_TEST_ETCD_URL", etcd.url())];
    if env::var("RLOCK_TEST_SERVERS").is_ok_and(|source| source == "local") {
        named.push(("DOCKER_HOST", NOWHERE)); // with `local` it would ignore the URL
    }
    let line = format!("it is at {}, ", etcd.url());
    let shared = run(STARTS, &named);
    assert!(shared.status.success() && text(&shared).contains(&line), "{}", text(&shared));
    let own = run(STARTS_OWN, &named);
    assert!(own.status.success() && !text(&own).contains(&line), "{}", text(&own));
}

#[test]
fn local_servers_need_a_program() {
    let message = failure_of(STARTS, &[("RLOCK_TEST_SERVERS", "local"), ("PATH", "")]);
    for part in ["there is no etcd here", "`etcd` on the PATH", "apt-get install etcd-server"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn missing_server_names_what_to_install() {
    let message = failure_of(STARTS, &[("DOCKER_HOST", NOWHERE), ("PATH", "")]);
    for part in ["no etcd to test on", "apt-get install etcd-server", "Docker engine", "RLOCK_TEST_ETCD_URL=etcd://"] {
        assert!(message.contains(part), "{message}");
    }
}

/// Grants a lease of `ttl` seconds at the server at `url`.
pub(crate) fn grant(url: &str, ttl: u32) {
    let answer = ask(url, "POST /v3/lease/grant", &format!(r#"{{"TTL":"{ttl}"}}"#));
    assert!(answer.contains(&format!(r#""TTL":"{ttl}""#)), "{answer}");
}

/// The answer of the server at `url` to a request that the gateway of the kit has no method for.
pub(crate) fn ask(url: &str, request: &str, body: &str) -> String {
    let mut connection = connect(url).unwrap();
    write!(connection, "{request} HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}
