//! Shows the leases of a resource.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rlock_core::{Holder, ResourceName, Snapshot, Waiter};

use crate::answer::foreign;
use crate::error::CallError;
use crate::inner::Inner;
use crate::line::Entry;
use crate::record::{State, ago};

/// The maximum number of concurrent reads of etcd leases, one request each.
const ASKED_TOGETHER: usize = 32;

impl Inner {
    pub(crate) async fn snapshot(&self, resource: &ResourceName) -> Result<Snapshot, CallError> {
        let line = self.lines(&[resource]).await?.pop().ok_or_else(foreign)?;
        let life = |entry: &Entry| {
            let lease = entry.lease;
            async move { self.pool.life(lease).await }
        };
        let lives: Vec<_> = stream::iter(&line.leases).map(life).buffered(ASKED_TOGETHER).collect().await;
        let mut snapshot = Snapshot {
            resource: resource.clone(),
            capacity: line.capacity(),
            holders: Vec::new(),
            queue: Vec::new(),
            rest: None,
        };
        let held = line.holders().len();
        for (at, (entry, life)) in line.leases.iter().zip(lives).enumerate() {
            let (remaining, record) = (life?.left, &entry.record);
            let (owner, weight, data) = (record.owner(), record.weight, record.data.clone());
            match record.state {
                State::Resting => snapshot.rest = snapshot.rest.max(Some(remaining)),
                State::Granted(since) | State::Asked(since) if at >= held => {
                    snapshot.queue.push(Waiter { owner, weight, waiting_for: ago(since), remaining, data });
                }
                state => {
                    // The key of a lease that has waited holds the time of its grant only after a while.
                    let held_for = if let State::Granted(since) = state { ago(since) } else { Duration::ZERO };
                    let token = entry.token;
                    snapshot.holders.push(Holder { owner, token, weight, held_for, remaining, data });
                }
            }
        }
        Ok(snapshot)
    }
}
