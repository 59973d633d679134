//! What a lock costs beside the transactions that it cannot do without, side by side on one server.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use futures_util::future::join_all;
use rlock_core::Client;
use rlock_etcd::{EtcdBackend, EtcdConfig};
use rlock_testkit::measure::{cycle, median, ratio, timed};
use rlock_testkit::servers::Etcd;
use tokio::runtime::Handle;

const CYCLES: usize = 2_000;
const TASKS: usize = 64;
const CYCLES_OF_A_TASK: usize = 40;

#[tokio::main]
async fn main() {
    let server = Etcd::start();
    let config = EtcdConfig::from_url(&format!("{}?restart_grace=0s", server.url())).expect("a good URL");
    let builder = Client::builder().runtime(Handle::current());
    let here = builder.connect(EtcdBackend::connect(config.clone())).await.expect("etcd can be reached");
    let own = Client::builder().connect(EtcdBackend::connect(config)).await.expect("etcd can be reached");
    let host = server.url().trim_start_matches("etcd://");
    let bare = etcd_client::Client::connect([host], None).await.expect("etcd can be reached");
    let lease = bare.lease_client().grant(60, None).await.expect("etcd grants leases").id();

    let (mut bares, mut heres, mut owns) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..CYCLES {
        bares.push(timed(two_transactions(&bare, lease, "bare")).await);
        heres.push(timed(cycle(&here, "here")).await);
        owns.push(timed(cycle(&own, "own")).await);
        if number == CYCLES / 10 {
            [&mut bares, &mut heres, &mut owns].into_iter().for_each(Vec::clear); // so far it was warming up
        }
    }
    let (bare_half, here_half, own_half) = (median(bares), median(heres), median(owns));
    println!("two bare transactions              {bare_half:?} at the median");
    println!("lock + unlock, caller's runtime    {here_half:?}, {:.2} x", ratio(here_half, bare_half));
    println!("lock + unlock, a thread of its own {own_half:?}, {:.2} x", ratio(own_half, bare_half));

    let before = server.raft_proposals();
    for _ in 0..100 {
        cycle(&here, "counted").await;
    }
    println!("raft entries a cycle               {}", (server.raft_proposals() - before) as f64 / 100.0);

    for _ in 0..3 {
        let names: Vec<_> = (0..TASKS).map(|task| format!("task/{task}")).collect();
        let bare_time = timed(join_all(names.iter().map(|name| times(|| two_transactions(&bare, lease, name))))).await;
        let before = server.raft_proposals();
        let here_time = timed(join_all(names.iter().map(|name| times(|| cycle(&here, name))))).await;
        let cycles = (TASKS * CYCLES_OF_A_TASK) as f64;
        let entries = (server.raft_proposals() - before) as f64 / cycles;
        let per_second = |time: Duration| cycles / time.as_secs_f64();
        println!(
            "{TASKS} tasks: {:.0} cycles/s bare, {:.0} with locks ({:.2} x), {entries:.2} raft entries a cycle",
            per_second(bare_time),
            per_second(here_time),
            ratio(bare_time, here_time)
        );
    }
}

async fn times<F: Future<Output = ()>>(mut cycle: impl FnMut() -> F) {
    for _ in 0..CYCLES_OF_A_TASK {
        cycle().await;
    }
}

async fn two_transactions(client: &etcd_client::Client, lease: i64, key: &str) {
    let mut kv = client.kv_client();
    let options = PutOptions::new().with_lease(lease);
    let absent = Compare::create_revision(key, CompareOp::Equal, 0);
    let put = Txn::new().when([absent]).and_then([TxnOp::put(key, vec![b'x'; 100], Some(options))]);
    assert!(kv.txn(put).await.expect("etcd answers").succeeded());
    let same = Compare::create_revision(key, CompareOp::Greater, 0);
    let delete = Txn::new().when([same]).and_then([TxnOp::delete(key, None)]);
    assert!(kv.txn(delete).await.expect("etcd answers").succeeded());
}
