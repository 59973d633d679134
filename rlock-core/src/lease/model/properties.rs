//! The properties of every state, and the promises at the end of a second.

use std::time::Duration;

use stateright::Property;

use super::Bounds;
use super::live::{Live, User};
use super::world::World;
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
        Property::always("a holder that needs an answer asks in time", |bounds: &Bounds, world: &World| {
            leases(world).all(|live| {
                let Phase::Held(held) = live.machine.phase() else { return true };
                let has_time = held.deadline().since(world.moment()) >= bounds.terms.ttl.get() / 2;
                !has_time || !held.needs_answer() || held.asks_again().is_some_and(|moment| moment < held.deadline())
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
pub(super) fn broken_by_a_tick(bounds: &Bounds, world: &mut World) -> Option<&'static str> {
    let mut settled = world.store.clone();
    settled.settle(world.now.saturating_sub(1), bounds.capacity, &mut Vec::new());
    let (second, is_unharmed, network) = (world.now, world.budget == bounds.budget, &world.network);
    let awake = world.clients.iter_mut().filter(|client| !client.is_frozen);
    let mut awake = awake.filter_map(|client| client.lease.as_mut());
    awake.find_map(|live| {
        let is_granted = settled.held.iter().any(|held| held.entry.id == live.id && held.entry.expires > second);
        let is_claimed = !matches!(live.machine.phase(), Phase::Claiming(_)); // else other promises hold
        let is_unaware = live.user == User::Waits && is_granted && (is_claimed || !live.is_disturbed);
        live.unaware = if is_unaware { live.unaware + 1 } else { 0 };
        let broken = broken_promise(bounds, live, second, is_granted, is_unharmed);
        live.recover(network);
        broken
    })
}

/// The promise to the user of one lease that is broken at the end of a second. `is_granted`: the store has granted the
/// lease by the last second. `is_unharmed`: no mishap so far.
fn broken_promise(
    bounds: &Bounds,
    live: &Live,
    second: u64,
    is_granted: bool,
    is_unharmed: bool,
) -> Option<&'static str> {
    let (terms, now) = (&bounds.terms, Bounds::moment(second));
    let (waits, is_held) = (live.user == User::Waits, live.machine.deadline().is_some());
    let is_late = |since: u64, limit: Duration| !live.is_disturbed || Bounds::moment(since).after(limit) <= now;
    if waits && terms.wait.until().is_some_and(|until| until <= now) {
        return Some("a wait ends in time");
    }
    if waits && terms.wait == Wait::Never && is_unharmed {
        return Some("a try is answered within its second");
    }
    if waits && live.calls.is_empty() && !terms.pushes {
        let soon = now.after(Duration::from_secs(1));
        if live.machine.timer().is_none_or(|timer| timer > soon) {
            return Some("a store without events is polled");
        }
    }
    let most_unaware = match live.is_disturbed {
        true => bounds.ttl().div_ceil(3) + 1 + u64::from(live.is_endangered),
        false => u64::from(!terms.pushes),
    };
    if live.unaware > most_unaware {
        return Some("a waiter learns of its grant");
    }
    if waits && matches!(live.machine.phase(), Phase::Claiming(_)) && terms.queues {
        let patience = terms.retry_for + Duration::from_secs(1);
        if is_late(live.since, patience) {
            return Some("a waiter learns that the store fails");
        }
    }
    if live.has_to_know && (is_held && !is_granted || waits && is_granted) {
        return Some("an event about a lease is asked about at once");
    }
    if matches!(live.user, User::Unlocks(since) if is_late(since, terms.retry_for)) {
        return Some("a release gets a reply");
    }
    let patience = Duration::from_secs(1);
    live.tickets.values().any(|since| is_late(*since, patience)).then_some("an extension gets a reply")
}
