//! Access rules (ACL): the documented ones suffice, each is needed, and a missing right is named.

use std::slice;
use std::time::Duration;

use crate::support::{Server, claim, key, ttl};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use rlock_core::{
    Acquired, Backend as _, BackendError, Event, Extended, Extension, IfBusy, ListFilter, Released, Share,
};
use rlock_redis::{ConnectError, RedisBackend, RedisConfig};
use rlock_testkit::wait::within;

const SOON: Duration = Duration::from_secs(10);

async fn connect(url: &str) -> Result<RedisBackend, ConnectError> {
    RedisBackend::connect(RedisConfig::from_url(url).unwrap()).await
}

fn rules_without(left_out: &str) -> String {
    RedisConfig::ACL_RULES.split(' ').filter(|rule| *rule != left_out).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn documented_rights_are_all_that_connecting_needs() {
    let server = Server::start();
    connect(&server.add_user("locks", RedisConfig::ACL_RULES)).await.unwrap();
}

#[tokio::test]
async fn documented_rights_suffice_for_one_namespace() {
    let server = Server::start();
    let rules = RedisConfig::ACL_RULES.replace("~rlock:*", "~rlock:2:{billing:*");
    let url = server.add_user("locks", &rules);
    connect(&format!("{url}?namespace=billing")).await.unwrap();
    let error = connect(&format!("{url}?namespace=mail")).await.unwrap_err();
    assert!(error.to_string().contains(RedisConfig::ACL_RULES), "{error}");
}

#[tokio::test]
async fn each_documented_right_is_needed_at_connect() {
    let server = Server::start();
    // Only clusters and replicas need these.
    let elsewhere = ["resetchannels", "+cluster|slots", "+cluster|info", "+asking", "+wait"];
    let needed = RedisConfig::ACL_RULES.split(' ').filter(|rule| !elsewhere.contains(rule));
    for (number, left_out) in needed.enumerate() {
        let url = server.add_user(&format!("user{number}"), &rules_without(left_out));
        let error = match connect(&url).await {
            Err(error @ ConnectError::Rejected(_)) => error.to_string(),
            other => panic!("without {left_out}: {other:?}"),
        };
        let remedy = if left_out == "+info" { left_out } else { RedisConfig::ACL_RULES };
        assert!(error.contains(remedy), "without {left_out}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn missing_rights_are_named_together() {
    let server = Server::start();
    let url = server.add_user("locks", &format!("{} -zadd -pexpireat", RedisConfig::ACL_RULES));
    let error = connect(&url).await.unwrap_err().to_string();
    assert!(error.contains("run pexpireat and zadd"), "{error}");
}

#[tokio::test]
async fn forbidden_keys_are_named_without_commands() {
    let server = Server::start();
    let front = "the server does not let this user use the keys of the namespace, rlock:2:{billing:* (it tried rlock:2:{billing:60}:)";
    for (user, keys) in [("one", "~rlock:2:{billing:7}*"), ("other", "~rlock:2:{billing:60}:")] {
        let url = server.add_user(user, &RedisConfig::ACL_RULES.replace("~rlock:*", keys));
        let error = connect(&format!("{url}?namespace=billing")).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{front}: ")), "{keys}: {error}");
        assert!(error.contains(RedisConfig::ACL_RULES), "{keys}: {error}");
    }
}

#[tokio::test]
async fn right_that_is_taken_away_later_is_named() {
    let server = Server::start();
    let url = server.add_user("locks", RedisConfig::ACL_RULES);
    let client = connect(&format!("{url}?restart_grace=1ms")).await.unwrap();
    server.run(&["ACL", "SETUSER", "locks", "-zadd"]);
    let claims = [1, 2].map(|id| claim("a", id, Share::EXCLUSIVE, 30_000, IfBusy::Queue));
    let answers = client.acquire(&claims).await;
    let Err(BackendError::Rejected(failure)) = &answers[1] else { panic!("{answers:?}") };
    assert!(failure.to_string().contains(RedisConfig::ACL_RULES), "{failure}");
}

/// Only keys of other programs are left out of a list.
#[tokio::test]
async fn unreadable_resource_fails_the_list() {
    let server = Server::start();
    let url = server.add_user("locks", RedisConfig::ACL_RULES);
    let client = connect(&format!("{url}?restart_grace=1ms")).await.unwrap();
    let claims = [1, 2].map(|id| claim("a", id, Share::EXCLUSIVE, 30_000, IfBusy::Queue));
    let answers = client.acquire(&claims).await;
    assert!(matches!(answers[..], [Ok(Acquired::Held(_)), Ok(Acquired::Queued(_))]), "{answers:?}");
    server.run(&["ACL", "SETUSER", "locks", "-zlexcount"]);
    let listed = client.list(&ListFilter { limit: 10, ..Default::default() }).await;
    let Err(BackendError::Rejected(failure)) = &listed else { panic!("{listed:?}") };
    assert!(failure.to_string().contains(RedisConfig::ACL_RULES), "{failure}");
}

#[tokio::test]
async fn server_that_hides_its_age_is_refused() {
    let server = Server::start();
    let url = server.add_user("locks", &rules_without("+info"));
    let error = match connect(&url).await {
        Err(error @ ConnectError::Rejected(_)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    for remedy in ["+info", "restart_grace=0s"] {
        assert!(error.contains(remedy), "{error}");
    }
    let client = connect(&format!("{url}?restart_grace=0s")).await.unwrap();
    let request = claim("a", 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse);
    assert!(matches!(client.acquire(&[request]).await[0], Ok(Acquired::Held(_))));
    let findings = client.examine().await.unwrap();
    assert!(findings.iter().any(|finding| finding.text.contains("+info")), "{findings:?}");
}

#[tokio::test]
async fn age_hidden_after_a_reconnect_stops_grants() {
    let server = Server::start();
    let url = server.add_user("locks", RedisConfig::ACL_RULES);
    let client = connect(&format!("{url}?restart_grace=1ms")).await.unwrap();
    let mut events = client.events();
    let [held, new] = ["held", "new"].map(|name| claim(name, 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse));
    assert!(matches!(client.acquire(slice::from_ref(&held)).await[0], Ok(Acquired::Held(_))));

    server.run(&["ACL", "SETUSER", "locks", "-info"]);
    server.run(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(within(SOON, "the reconnect", events.next()).await, Some(Event::Resync));
    let refused = client.acquire(slice::from_ref(&new)).await.remove(0);
    let Err(BackendError::Rejected(failure)) = refused else { panic!("{refused:?}") };
    for remedy in ["+info", "restart_grace=0s"] {
        assert!(failure.to_string().contains(remedy), "{failure}");
    }
    let extension = Extension { key: held.key.clone(), ttl: ttl(40_000) };
    assert!(matches!(client.extend(&[extension]).await[0], Ok(Extended::Held(_))));
    assert!(matches!(client.release(&[held.key.into()]).await[0], Ok(Released::Released)));

    server.run(&["ACL", "SETUSER", "locks", "+info"]);
    assert!(matches!(client.acquire(&[new]).await[0], Ok(Acquired::Held(_))));
}

#[tokio::test]
async fn age_hidden_under_an_open_connection_stops_grants() {
    let server = Server::start();
    let url = server.add_user("locks", RedisConfig::ACL_RULES);
    let client = connect(&format!("{url}?restart_grace=1ms")).await.unwrap();
    let [first, doubted, refused, last] =
        ["first", "doubted", "refused", "last"].map(|name| [claim(name, 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse)]);
    assert!(matches!(client.acquire(&first).await[0], Ok(Acquired::Held(_))));

    server.run(&["ACL", "SETUSER", "locks", "-info"]);
    tokio::time::sleep(Duration::from_secs(1)).await; // a connection in use asks the server again each second
    let answer = client.acquire(&doubted).await.remove(0);
    assert!(matches!(answer, Err(BackendError::Unknown(_))), "{answer:?}");
    let answer = client.acquire(&refused).await.remove(0);
    let Err(BackendError::Rejected(failure)) = answer else { panic!("{answer:?}") };
    assert!(failure.to_string().contains("+info"), "{failure}");
    let other = connect(&format!("{}?restart_grace=1ms", server.url())).await.unwrap();
    assert!(matches!(other.acquire(&refused).await[0], Ok(Acquired::Held(_))));

    server.run(&["ACL", "SETUSER", "locks", "+info"]);
    assert!(matches!(client.acquire(&last).await[0], Ok(Acquired::Held(_))));
}

#[tokio::test]
async fn hidden_age_is_asked_for_once_for_many() {
    let server = Server::start();
    let url = server.add_user("locks", RedisConfig::ACL_RULES);
    let client = connect(&format!("{url}?restart_grace=1ms")).await.unwrap();
    server.run(&["ACL", "SETUSER", "locks", "-info"]);
    tokio::time::sleep(Duration::from_secs(1)).await; // a connection in use asks the server again each second
    let extensions: Vec<_> = (1..=20).map(|id| [Extension { key: key("a", id), ttl: ttl(60_000) }]).collect();
    for answers in join_all(extensions.iter().map(|extension| client.extend(extension))).await {
        assert!(matches!(answers[0], Ok(Extended::Gone { .. })), "{answers:?}");
    }
    let stats = server.run(&["INFO", "commandstats"]);
    let denied = stats.iter().find_map(|line| line.strip_prefix("cmdstat_info:")?.split_once("rejected_calls="));
    let denied = denied.and_then(|(_, denied)| denied.split(',').next()).unwrap_or_default();
    assert!((1..20).contains(&denied.parse::<u32>().unwrap()), "{denied} questions");
}
