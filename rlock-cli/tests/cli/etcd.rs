//! On etcd.

#[cfg(feature = "bench")]
#[path = "bench.rs"]
mod bench;
#[path = "elect.rs"]
mod elect;
#[path = "exit.rs"]
mod exit;
#[path = "freeze.rs"]
mod freeze;
#[path = "handle.rs"]
mod handle;
#[path = "kinds.rs"]
mod kinds;
#[path = "loss.rs"]
mod loss;
#[path = "manage.rs"]
mod manage;
#[path = "namespace.rs"]
mod namespace;
#[path = "network.rs"]
mod network;
#[path = "run.rs"]
mod run;
#[path = "show.rs"]
mod show;
#[path = "signals.rs"]
mod signals;
#[path = "storm.rs"]
mod storm;
#[path = "terminal.rs"]
mod terminal;
#[path = "tree.rs"]
mod tree;

use rlock_testkit::servers::Etcd as Server;

use crate::support::Store;

impl Store for Server {
    const SCHEME: &str = "etcd";

    #[cfg(any(feature = "bench", feature = "suite"))]
    fn left_in(&self, part: &str) -> Vec<String> {
        let mut keys = self.keys("");
        keys.retain(|key| key.contains(part));
        keys
    }

    fn fresh_url(&self) -> String {
        format!("{}?restart_grace=0s", self.url())
    }
}
