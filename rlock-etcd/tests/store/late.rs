//! Claims that reach etcd after their client has released the lease.

use std::slice;

use etcd_client::PutOptions;
use rlock_core::{Acquired, Backend as _, Extended, Released};
use rlock_etcd::EtcdBackend;
use rlock_testkit::faults::Proxy;
use rlock_testkit::servers::EtcdCluster;
use rlock_testkit::wait::eventually;

use crate::support::{SOON, Server, config_at, extension, leave_spares, mutex, revocations};

const KEY: &str = "n/a/00000001/x0";

/// The client sends the claim again on another connection, and releases its lease, with or without an extension that
/// attaches it to another etcd lease. The first copy of the claim may arrive after that.
#[tokio::test]
async fn late_claim_has_no_effect() {
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let client = EtcdBackend::connect(config_at(proxy.url(), "n").timeout(SOON).unwrap()).await.unwrap();
    let mut admin = server.admin().await;
    for is_longer in [false, true] {
        leave_spares(&server, &client, 1).await;
        let claim = mutex("a", rand::random());
        proxy.strand();
        let held = client.acquire(slice::from_ref(&claim)).await.remove(0);
        assert!(matches!(held, Ok(Acquired::Held(_))), "{held:?}");
        let lease = admin.get(KEY, None).await.unwrap().kvs()[0].lease();
        let mut before = revocations(&server);
        if is_longer {
            let extended = client.extend(&[extension(claim.key.clone(), 60_000)]).await.remove(0);
            assert!(matches!(extended, Ok(Extended::Held(_))), "{extended:?}");
            eventually(SOON, "the first attempt to end it", async || revocations(&server) > before).await;
            before = revocations(&server);
        }
        let released = client.release(&[claim.key.into()]).await.remove(0);
        assert!(matches!(released, Ok(Released::Released)), "{released:?}");
        assert!(revocations(&server) > before, "the release does not wait for the end of the etcd lease");
        assert!(!takes_effect(&mut admin, lease).await, "the late claim would leave a lease");
    }
}

/// The client sends the claim again to another server, and the etcd lease of the first copy ends on all of them.
#[tokio::test(flavor = "multi_thread")]
async fn late_claim_has_no_effect_on_three_servers() {
    let cluster = EtcdCluster::start();
    let (url, proxy) = Proxy::in_front_of_hosts(&cluster.url());
    let client = EtcdBackend::connect(config_at(&url, "n").timeout(SOON).unwrap()).await.unwrap();
    let address = cluster.node(0).url().trim_start_matches("etcd://");
    let mut admin = etcd_client::Client::connect([address], None).await.unwrap();
    let is_ended = async || {
        let claim = mutex("a", rand::random());
        proxy.strand();
        let held = client.acquire(slice::from_ref(&claim)).await.remove(0);
        assert!(matches!(held, Ok(Acquired::Held(_))), "{held:?}");
        let lease = admin.get(KEY, None).await.unwrap().kvs()[0].lease();
        let released = client.release(&[claim.key.into()]).await.remove(0);
        assert!(matches!(released, Ok(Released::Released)), "{released:?}");
        proxy.heal();
        !takes_effect(&mut admin, lease).await
    };
    // The first claim has no etcd lease to use, so the proxy holds back the request for one.
    eventually(SOON * 2, "the end of the etcd lease of a repeated claim", is_ended).await;
}

/// Whether a claim with this etcd lease would take effect. The write stands for the first copy of the claim, which the
/// server may drop, because the client has given up its connection.
async fn takes_effect(admin: &mut etcd_client::Client, lease: i64) -> bool {
    let Err(late) = admin.put(KEY, "", Some(PutOptions::new().with_lease(lease))).await else {
        admin.delete(KEY, None).await.unwrap();
        return true;
    };
    assert!(late.to_string().contains("lease not found"), "{late}");
    false
}
