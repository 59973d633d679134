//! Errors: their kinds and texts.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::slice;
use std::time::{Duration, Instant};

use crate::support::{SOON, Server, beside_a_crowd, claim, extension, free_port, key, mutex, try_mutex};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions};
use rlock_core::{Acquired, Backend as _, BackendError, Extended, Finding, IfBusy, Released, Share, Verdict};
use rlock_etcd::{ConnectError, EtcdBackend, EtcdConfig};

async fn connect(url: &str) -> Result<EtcdBackend, ConnectError> {
    EtcdBackend::connect(EtcdConfig::from_url(url).unwrap()).await
}

async fn finding(client: &EtcdBackend, subject: &str) -> Finding {
    let findings = client.examine().await.unwrap();
    findings.into_iter().find(|finding| finding.subject == subject).unwrap_or_else(|| panic!("{subject} is missing"))
}

/// Asserts that connecting is rejected with a reason that contains `hint` and no secret.
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
async fn silent_server_is_unreachable() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for user in ["", "jobs:secret@"] {
        let begun = Instant::now();
        let address = silent.local_addr().unwrap();
        let error = connect(&format!("etcd://{user}{address}?connect_timeout=200ms")).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
        assert!(error.to_string().contains("is it an etcd server"), "{error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}, as without the option", begun.elapsed());
    }
}

/// The client library refuses it. On a slow machine the request was sent twice by then, so its error is not `Rejected`.
#[tokio::test(flavor = "multi_thread")]
async fn too_long_an_answer_is_named() {
    let (_server, client, _) = beside_a_crowd().await;
    let refused = client.inspect(&key("crowd", 1).resource).await.unwrap_err();
    assert!(refused.to_string().contains("the answer is too long"), "{refused}");
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
    let error = connect(&format!("etcd://jobs:secret@{address}?connect_timeout=2s")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains("is it an etcd server"), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
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
        // The client tries the hosts in a random order.
        for _ in 0..4 {
            let client = connect(&format!("etcd://{hosts}?restart_grace=0s&connect_timeout=20s")).await.unwrap();
            let held = client.acquire(&[try_mutex("a", 1)]).await.remove(0);
            assert!(matches!(held, Ok(Acquired::Held(_))), "{held:?}");
            assert!(matches!(client.release(&[mutex("a", 1).key.into()]).await[0], Ok(Released::Released)));
        }
    }
}

#[tokio::test]
async fn namespace_of_another_program_is_refused() {
    let server = Server::start();
    server.gateway().put("theirs/", "another value").unwrap();
    let url = format!("{}?namespace=theirs", server.url());
    rejects(&url, r#"another program uses the key "theirs/": choose another namespace"#).await;
    assert_eq!(server.gateway().value("theirs/").unwrap().unwrap(), "another value");
}

/// The server does not end the lease, and so it never answers the keep-alive.
#[tokio::test]
async fn unanswered_keep_alive_names_what_was_tried() {
    const BRIEF: Duration = Duration::from_secs(3);
    let server = Server::start();
    let client = server.client_in("n").await;
    let claim = claim("a", 1, Share::EXCLUSIVE, 3_000, IfBusy::Queue);
    let held = client.acquire(slice::from_ref(&claim)).await.remove(0);
    assert!(matches!(held, Ok(Acquired::Held(_))), "{held:?}");
    server.keep_expired_leases().await;
    tokio::time::sleep(BRIEF).await;
    let extended = client.extend(&[extension(claim.key, 3_000)]).await.remove(0);
    let Err(BackendError::Unknown(failure)) = extended else { panic!("{extended:?}") };
    let text = failure.to_string();
    for words in ["may have expired", "no answer within 250ms"] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[tokio::test]
async fn history_is_good_once_it_was_compacted() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let whole = finding(&client, "history").await;
    assert!(whole.verdict == Verdict::Note && whole.text.contains("--auto-compaction-retention"), "{whole:?}");
    let mut admin = server.admin().await;
    let revision = admin.put("filler", "", None).await.unwrap().header().unwrap().revision();
    admin.compact(revision, None).await.unwrap();
    let compacted = finding(&client, "history").await;
    assert_eq!((compacted.verdict, &*compacted.text), (Verdict::Good, "compacted"));
}

#[tokio::test]
async fn lack_of_space_refuses_only_new_locks() {
    let server = Server::start_with(&["--quota-backend-bytes", "16777216"]);
    let config = server.config("n").timeout(SOON).unwrap();
    let client = EtcdBackend::connect(config).await.unwrap();
    let (released, kept) = (mutex("released", 1), mutex("kept", 2));
    for answer in client.acquire(&[released.clone(), kept.clone()]).await {
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    }
    let database = finding(&client, "database").await;
    assert!(database.verdict == Verdict::Good && database.text.ends_with(" of 16 MiB"), "{database:?}");
    let mut admin = server.admin().await;
    let megabyte = vec![b'x'; 1 << 20];
    let mut written = 0;
    let full = loop {
        match admin.put("filler", megabyte.clone(), None).await {
            Ok(_) => written += 1,
            Err(error) => break error.to_string(),
        }
        assert!(written < 64, "there is space still");
    };
    assert!(full.contains("space"), "{full}");

    let refused = client.acquire(&[mutex("new", 3)]).await.remove(0);
    let Err(BackendError::NotApplied(failure)) = refused else { panic!("{refused:?}") };
    let text = failure.to_string();
    for word in ["its database is full", "--quota-backend-bytes", "disarm"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let longer = client.extend(&[extension(kept.key.clone(), 60_000)]).await.remove(0);
    assert!(matches!(longer, Err(BackendError::NotApplied(_))), "{longer:?}");
    let extended = client.extend(&[extension(kept.key.clone(), 30_000)]).await.remove(0);
    assert!(matches!(extended, Ok(Extended::Held(_))), "{extended:?}");
    let given_back = client.release(&[released.key.into()]).await.remove(0);
    assert!(matches!(given_back, Ok(Released::Released)), "{given_back:?}");
    // A spare etcd lease is left for this claim. etcd may carry the claim out although it denies that.
    let denied = client.acquire(&[mutex("denied", 4)]).await.remove(0);
    assert!(matches!(denied, Ok(Acquired::Held(_)) | Err(BackendError::Unknown(_))), "{denied:?}");

    let another = EtcdBackend::connect(server.config("n")).await.unwrap();
    for (subject, words) in [("alarms", "NOSPACE"), ("database", "of 16 MiB")] {
        let found = finding(&another, subject).await;
        assert!(found.verdict == Verdict::Risk && found.text.contains(words), "{found:?}");
    }

    let revision = admin.delete("filler", None).await.unwrap().header().unwrap().revision();
    admin.compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();
    admin.defragment().await.unwrap();
    let member = admin.status().await.unwrap().leader();
    let mut options = AlarmOptions::new();
    options.with_member(member);
    admin.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options)).await.unwrap();
    let extended = client.extend(&[extension(kept.key, 60_000)]).await.remove(0);
    assert!(matches!(extended, Ok(Extended::Held(_))), "{extended:?}");
    for served in client.acquire(&[mutex("new", 3), mutex("denied", 4)]).await {
        assert!(matches!(served, Ok(Acquired::Held(_))), "{served:?}");
    }
}
