//! Locks of processes that are frozen.

use std::time::Duration;

use rlock_core::{Client, Guard, LockOptions, SimpleLock};
use rlock_etcd::EtcdBackend;
use rlock_testkit::process::{Helper, block_on};
use rlock_testkit::servers::EtcdCluster;
use rlock_testkit::this_test;
use rlock_testkit::wait::{eventually, within};

use crate::support::{SOON, config_at};

const TTL: Duration = Duration::from_secs(8);

/// It has no watchdog, whose next renewal would report the loss as well.
#[test]
fn frozen_process_knows_on_waking_with_three_servers() {
    if let Some(helper) = Helper::current() {
        return block_on(holds(helper));
    }
    block_on(async {
        let cluster = EtcdCluster::start();
        let client = client(&cluster.url()).await;
        let mut frozen = this_test!().with("url", cluster.url()).start("holder");
        let token: u64 = frozen.hear().await.parse().expect("a token");
        let other = client.clone();
        let waiting = tokio::spawn(async move { lock(&other).await });
        let is_queued = async || client.inspect("job").await.expect("etcd answers").queue.len() == 1;
        eventually(SOON, "the waiter", is_queued).await;
        frozen.pause();
        assert!(!waiting.is_finished(), "the lock has ended before the process was frozen");

        let next = within(TTL + SOON, "the frozen holder's TTL", waiting).await.expect("the waiter does not panic");
        assert!(next.token().get() > token);
        frozen.say("check");
        frozen.resume();
        assert_eq!(frozen.hear().await, "lost", "a woken holder believes in a lock that another client has");
        assert!(next.is_held());
    });
}

async fn holds(mut helper: Helper) {
    let guard = lock(&client(&helper.setting("url")).await).await;
    helper.say(guard.token());
    helper.hear().await;
    helper.say(if guard.is_held() { "held" } else { "lost" });
    helper.hear().await; // until the test ends
}

async fn client(url: &str) -> Client {
    let backend = EtcdBackend::connect(config_at(url, "n"));
    Client::builder().retry_for(SOON).connect(backend).await.expect("etcd can be reached")
}

async fn lock(client: &Client) -> Guard {
    let lock = SimpleLock::new("job", client).expect("a good name");
    lock.lock_with(LockOptions::new().ttl(TTL).watchdog(false)).await.expect("the lock can be had")
}
