//! The properties of every state, and the promises at the end of a second.

use std::time::Duration;

use stateright::Property;

use super::Bounds;
use super::world::{Client, Live, User, World};
use crate::lease::{Phase, Wait};

/// The requests of a lease in a second, at most.
const MOST_CALLS: u64 = 6;

pub(super) fn all() -> Vec<Property<Bounds>> {
    vec![
        Property::always("exclusion", |bounds: &Bounds, world: &World| world.believers() <= bounds.capacity),
        Property::always("promises", |_, world: &World| world.broken.is_none()),
        Property::always("no lease sleeps for ever", |_, world: &World| {
            leases(world).all(|live| {
                let is_ended = matches!(live.machine.phase(), Phase::Ended(_));
                is_ended || live.machine.timer().is_some() || !live.calls.is_empty()
            })
        }),
        Property::always("no lease sends requests without end", |_, world: &World| {
            leases(world).all(|live| u64::from(live.machine.last_call) <= MOST_CALLS * (world.now + 1))
        }),
        Property::always("a loss is signalled by its deadline", |_, world: &World| {
            leases(world).all(|live| {
                let timer = live.machine.timer();
                live.machine.deadline().is_none_or(|deadline| {
                    let end = live.limit.map_or(deadline, |limit| deadline.min(Bounds::moment(limit)));
                    timer.is_some_and(|timer| timer <= end)
                })
            })
        }),
        Property::always("a quiet network leaves nothing behind", |_, world: &World| {
            let is_quiet = world.network.is_empty() && leases(world).next().is_none();
            !is_quiet || world.store.alive(world.now).all(|entry| entry.is_excused)
        }),
    ]
}

fn leases(world: &World) -> impl Iterator<Item = &Live> {
    world.clients.iter().filter_map(|client| client.lease.as_ref())
}

/// The promise that is broken if this second ends now.
pub(super) fn broken_by_a_tick(bounds: &Bounds, world: &World) -> Option<&'static str> {
    let now = world.moment();
    let awake = |client: &&Client| !client.is_frozen;
    let mut awake = world.clients.iter().filter(awake).filter_map(|client| client.lease.as_ref());
    awake.find_map(|live| {
        let waits = live.user == User::Waits;
        if waits && bounds.terms.wait.until().is_some_and(|until| until <= now) {
            return Some("a wait ends in time");
        }
        if waits && bounds.terms.wait == Wait::Never && world.budget == bounds.budget {
            return Some("a try is answered within its second");
        }
        let is_late = live.machine.timer().is_none_or(|timer| timer > now.after(Duration::from_secs(1)));
        if waits && live.calls.is_empty() && !bounds.terms.pushes && is_late {
            return Some("a store without events is polled");
        }
        (live.ends_now && live.machine.deadline().is_some()).then_some("a break that was heard of ends the lock")
    })
}
