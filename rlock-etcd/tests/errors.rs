//! What goes wrong, and what is said about it.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::slice;
use std::time::{Duration, Instant};

use rlock_core::{Acquired, Backend as _, BackendError, Extended, Released};
use rlock_etcd::{ConnectError, EtcdBackend, EtcdConfig};
use support::{Server, extension, free_port, mutex, try_mutex};

async fn connect(url: &str) -> Result<EtcdBackend, ConnectError> {
    EtcdBackend::connect(EtcdConfig::from_url(url).unwrap()).await
}

/// That connecting is refused for good, for a reason that says `hint`, and without what is secret.
async fn rejects(url: &str, hint: &str) {
    let error = connect(url).await.unwrap_err();
    assert!(matches!(error, ConnectError::Rejected(_)), "{error:?}");
    assert!(error.to_string().contains(hint), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn nothing_listens() {
    let port = free_port();
    let error = connect(&format!("etcd://jobs:secret@127.0.0.1:{port}")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
    assert_eq!(
        error.to_string(),
        format!("connect on etcd://127.0.0.1:{port} failed: the connection was refused: is the server running?")
    );
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn nobody_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for user in ["", "jobs:secret@"] {
        let begun = Instant::now();
        let address = silent.local_addr().unwrap();
        let error = connect(&format!("etcd://{user}{address}?connect_timeout=200ms")).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
        assert!(error.to_string().contains("is it an etcd server"), "{error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_server_of_something_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _preface = stream.read(&mut [0; 1024]);
            let _gone = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 5\r\n\r\nhello");
        }
    });
    let error = connect(&format!("etcd://{address}?connect_timeout=2s")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
    println!("HTTP/1.1: {error}\n{error:?}");
}

#[tokio::test]
async fn an_unknown_host() {
    let error = connect("etcd://nowhere.invalid").await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains("check the hosts"), "{error}");
}

#[tokio::test]
async fn of_several_servers_one_is_enough() {
    let server = Server::start();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (dead, silent, alive) = (free_port(), silent.local_addr().unwrap(), server.address());
    for hosts in [format!("127.0.0.1:{dead},{alive}"), format!("{alive},127.0.0.1:{dead}"), format!("{silent},{alive}")]
    {
        // They are tried in an order that is drawn each time.
        for _ in 0..4 {
            let client = connect(&format!("etcd://{hosts}?restart_grace=0s")).await.unwrap();
            let held = client.acquire(&[try_mutex("a", 1)]).await.remove(0);
            assert!(matches!(held, Ok(Acquired::Held(_))), "{held:?}");
            assert!(matches!(client.release(&[mutex("a", 1).key]).await[0], Ok(Released::Released)));
        }
    }
}

#[tokio::test]
async fn a_namespace_that_somebody_else_uses() {
    let server = Server::start();
    server.gateway().put("theirs/", "a text of theirs").unwrap();
    let url = format!("{}?namespace=theirs", server.url());
    rejects(&url, r#"somebody else uses the key "theirs/": choose another namespace"#).await;
    assert_eq!(server.gateway().value("theirs/").unwrap().unwrap(), "a text of theirs");
}

#[tokio::test]
async fn without_space_new_locks_are_refused_and_those_there_are_live_on() {
    let server = Server::start_with(&["--quota-backend-bytes", "16777216"]);
    let client = server.client_in("n").await;
    let claims = [mutex("held", 1), mutex("kept", 2)];
    for answer in client.acquire(&claims).await {
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    }
    let mut admin = server.admin().await;
    let mut full = None;
    for size in [1 << 20, 1 << 16, 1 << 12, 1 << 8] {
        for number in 0..1000 {
            if let Err(error) = admin.put(format!("filler/{number}"), vec![b'x'; size], None).await {
                full = Some(error.to_string());
                break;
            }
        }
        println!(
            "{size}: {} of {}",
            server.metric("etcd_mvcc_db_total_size_in_bytes"),
            server.metric("etcd_server_quota_backend_bytes")
        );
    }
    for number in 0..500 {
        client.acquire(&[mutex("pooled", 6)]).await;
        client.release(&[mutex("pooled", 6).key]).await;
        if number % 100 == 0 {
            println!(
                "{number}: {} of {}",
                server.metric("etcd_mvcc_db_total_size_in_bytes"),
                server.metric("etcd_server_quota_backend_bytes")
            );
        }
    }
    assert!(full.as_ref().is_some_and(|error| error.contains("space")), "{full:?}");

    let refused = client.acquire(&[mutex("new", 3)]).await.remove(0);
    println!("new: {refused:?}");
    let queued = client.acquire(&[mutex("kept", 4)]).await.remove(0);
    println!("queued: {queued:?}");
    let tried = client.acquire(&[try_mutex("tried", 5)]).await.remove(0);
    println!("tried: {tried:?}");
    let extended = client.extend(&[extension(claims[1].key.clone(), 30_000)]).await.remove(0);
    println!("extended: {extended:?}");
    let extended = client.extend(&[extension(claims[1].key.clone(), 40_000)]).await.remove(0);
    println!("extended beyond: {extended:?}");
    let released = client.release(slice::from_ref(&claims[0].key)).await.remove(0);
    println!("released: {released:?}");
    let inspected = client.inspect(&claims[1].key.resource).await;
    println!("inspect: {inspected:?}");
    let pooled = client.acquire(&[mutex("pooled", 6)]).await.remove(0);
    println!("pooled: {pooled:?}");
    panic!();
}
