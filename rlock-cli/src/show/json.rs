//! A snapshot as JSON. `--help` documents the fields.

use std::time::Duration;

use rlock::{LeaseData, Owner, Snapshot};
use serde::Serialize;

use super::{since, state};

pub(super) fn render(snapshot: &Snapshot) -> String {
    serde_json::to_string_pretty(&View::new(snapshot)).expect("every field of a view has a form in JSON")
}

/// The snapshot on one line.
pub(crate) fn line(snapshot: &Snapshot) -> String {
    serde_json::to_string(&View::new(snapshot)).expect("every field of a view has a form in JSON")
}

#[derive(Debug, Serialize)]
struct View<'a> {
    name: &'a str,
    state: &'static str,
    rest_ms: Option<u64>,
    capacity: Option<u32>,
    holders: Vec<Holder<'a>>,
    queue: Vec<Waiter<'a>>,
}

#[derive(Debug, Serialize)]
struct Holder<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    token: u64,
    weight: u32,
    since: String,
    held_for_ms: u64,
    remaining_ms: u64,
}

#[derive(Debug, Serialize)]
struct Waiter<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    weight: u32,
    since: String,
    waiting_for_ms: u64,
    remaining_ms: u64,
}

/// The owner of a lease, and its data.
#[derive(Debug, Serialize)]
pub(crate) struct Who<'a> {
    host: &'a str,
    process: u32,
    label: Option<&'a str>,
    data: Option<String>,
}

impl<'a> View<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let holders = snapshot.holders.iter().map(|holder| Holder {
            who: Who::new(&holder.owner, holder.data.as_ref()),
            token: holder.token.get(),
            weight: holder.weight,
            since: since(holder.held_for),
            held_for_ms: millis(holder.held_for),
            remaining_ms: millis(holder.remaining),
        });
        let queue = snapshot.queue.iter().map(|waiter| Waiter {
            who: Who::new(&waiter.owner, waiter.data.as_ref()),
            weight: waiter.weight,
            since: since(waiter.waiting_for),
            waiting_for_ms: millis(waiter.waiting_for),
            remaining_ms: millis(waiter.remaining),
        });
        Self {
            name: snapshot.resource.as_str(),
            state: state(snapshot),
            rest_ms: snapshot.rest.map(millis),
            capacity: snapshot.capacity,
            holders: holders.collect(),
            queue: queue.collect(),
        }
    }
}

impl<'a> Who<'a> {
    pub(crate) fn new(owner: &'a Owner, data: Option<&LeaseData>) -> Self {
        Self { host: owner.host(), process: owner.process(), label: owner.label(), data: data.map(LeaseData::to_text) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
