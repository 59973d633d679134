//! Leader election, on virtual time.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, poll};
use rlock_core::{
    BackendError, Client, Clock, Election, InvalidConfig, LockError, LockOptions, LossReason, MemoryStore, Observation,
    Semaphore,
};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use support::{Fate, STEP, Scripted, TTL, Verb, World, dropped_after, options, until_idle};

const NAME: &str = "scheduler";

fn election(client: &Client) -> Election {
    Election::new(NAME, client).unwrap()
}

/// The data of the leader that is observed next; `None` for vacancy.
async fn next(observed: &mut (impl futures_util::Stream<Item = Observation> + Unpin)) -> Option<String> {
    let change = timeout(TTL, observed.next()).await.expect("a change is seen in time");
    match change.expect("the client lives") {
        Observation::Led(leader) => Some(leader.data.map(|data| data.to_text()).unwrap_or_default()),
        Observation::Vacant => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_at_a_time() {
    let world = World::new();
    let (one, other) = (election(&world.client), election(&world.other_client()));
    let first = one.campaign("http://one").await.unwrap();
    let mut campaign = Box::pin(other.campaign("http://other"));
    assert!(poll!(&mut campaign).is_pending());
    until_idle().await;
    assert!(poll!(&mut campaign).is_pending());
    let leader = other.leader().await.unwrap().expect("one leads");
    assert_eq!(leader.data.unwrap().to_text(), "http://one");
    assert_eq!(leader.token, first.token());
    let token = first.token();
    first.resign().await.unwrap();
    let second = timeout(TTL, campaign).await.expect("the next candidate leads").unwrap();
    assert!(second.is_leader() && second.token() > token);
    second.resign().await.unwrap();
    assert_eq!(one.leader().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn holder_of_another_kind_leads_nothing() {
    let world = World::new();
    let observer = election(&world.other_client());
    let mut observed = observer.observe();
    assert_eq!(next(&mut observed).await, None);
    let _permit = Semaphore::new(NAME, 2, &world.client).unwrap().acquire().await.unwrap();
    assert_eq!(observer.leader().await.unwrap(), None);
    tokio::time::sleep(TTL).await;
    assert!(poll!(observed.next()).is_pending());
}

#[tokio::test(start_paused = true)]
async fn observer_sees_each_change_once() {
    let world = World::new();
    let (one, watching) = (election(&world.client), election(&world.other_client()));
    let mut observed = watching.observe();
    assert_eq!(next(&mut observed).await, None);
    for term in ["a", "b", "c"] {
        let leadership = one.campaign(term).await.unwrap();
        assert_eq!(next(&mut observed).await.as_deref(), Some(term));
        tokio::time::sleep(TTL * 3).await;
        assert!(poll!(observed.next()).is_pending(), "it leads on");
        leadership.resign().await.unwrap();
        assert_eq!(next(&mut observed).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn leader_who_takes_over_between_questions_is_seen() {
    let world = World::new();
    let one = election(&world.client);
    let observer = world.other_client();
    let mut observed = election(&observer).observe();
    let first = one.campaign("a").await.unwrap();
    assert_eq!(next(&mut observed).await.as_deref(), Some("a"));
    first.resign().await.unwrap();
    let _second = one.campaign("a").await.unwrap();
    assert_eq!(next(&mut observed).await.as_deref(), Some("a"), "another term of the same candidate");
}

#[tokio::test(start_paused = true)]
async fn observer_says_when_it_is_not_sure() {
    let world = World::new();
    let _leadership = election(&world.other_client()).campaign("a").await.unwrap();
    let mut observed = election(&world.client).observe();
    assert_eq!(next(&mut observed).await.as_deref(), Some("a"));
    for hangs in [false, true] {
        world.script.look_away(if hangs { Fate::Hangs } else { Fate::Failed });
        let unsure = observed.next().await.unwrap();
        assert!(matches!(unsure, Observation::Unsure(BackendError::Unknown(_))), "{unsure:?}");
        tokio::time::sleep(TTL).await;
        assert!(poll!(observed.next()).is_pending(), "it says so once");
        world.script.look_away(Fate::Answered);
        assert_eq!(next(&mut observed).await.as_deref(), Some("a"));
    }
}

#[tokio::test(start_paused = true)]
async fn crashed_leaders_end_is_seen_at_once() {
    let world = World::new();
    let observer = world.other_client();
    let mut observed = election(&observer).observe();
    assert_eq!(next(&mut observed).await, None);
    let (begun, ttl) = (Instant::now(), Duration::from_millis(10_300)); // between two questions
    let unrenewed = options().ttl(ttl).watchdog(false);
    let _leadership = election(&world.client).campaign_with("a", unrenewed).await.unwrap();
    assert_eq!(next(&mut observed).await.as_deref(), Some("a"));
    assert_eq!(next(&mut observed).await, None);
    let seen = begun.elapsed();
    assert!(ttl <= seen && seen <= ttl + Duration::from_millis(200), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_reader_misses_changes_and_catches_up() {
    let world = World::new();
    let (one, observer) = (election(&world.client), world.other_client());
    let mut observed = election(&observer).observe();
    for term in 0..20 {
        let leadership = one.campaign(term.to_string()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        leadership.resign().await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let _leadership = one.campaign("last").await.unwrap();
    let mut changes = 0;
    while next(&mut observed).await.as_deref() != Some("last") {
        changes += 1;
    }
    assert!(changes < 20, "{changes} changes waited for the reader");
}

#[tokio::test(start_paused = true)]
async fn observing_ends_with_the_client() {
    let world = World::new();
    let client = world.other_client();
    let mut observed = election(&client).observe();
    assert_eq!(next(&mut observed).await, None);
    client.shutdown(Duration::from_secs(1)).await.unwrap();
    assert!(observed.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn dropped_observer_asks_no_more() {
    let world = World::new();
    let mut observed = election(&world.client).observe();
    assert_eq!(next(&mut observed).await, None);
    drop(observed);
    until_idle().await;
    let asked = world.script.looks();
    tokio::time::sleep(TTL).await;
    assert_eq!(world.script.looks(), asked);
}

#[tokio::test(start_paused = true)]
async fn lost_leadership_begins_another_campaign() {
    let world = World::new();
    let (one, other) = (election(&world.client), world.other_client());
    let terms = Arc::new(AtomicU32::new(0));
    let counted = terms.clone();
    let leading = one.lead("a", options(), move |leadership| {
        let (token, term) = (leadership.token(), counted.fetch_add(1, Ordering::Relaxed));
        async move {
            if term < 2 {
                std::future::pending::<()>().await;
            }
            token
        }
    });
    let breaking = async {
        for _ in 0..2 {
            tokio::time::sleep(TTL).await;
            other.break_leases(NAME).await.unwrap();
        }
    };
    let (token, ()) = tokio::join!(leading, breaking);
    assert!(token.is_ok());
    assert_eq!(terms.load(Ordering::Relaxed), 3);
    assert_eq!(one.leader().await.unwrap(), None, "it has resigned");
}

#[tokio::test(start_paused = true)]
async fn outage_ends_the_term_and_not_the_leading() {
    let world = World::new();
    let one = election(&world.client);
    let terms = AtomicU32::new(0);
    let leading = one.lead("a", options(), |leadership| {
        let (token, term) = (leadership.token(), terms.fetch_add(1, Ordering::Relaxed));
        async move {
            if term == 0 {
                std::future::pending::<()>().await;
            }
            token
        }
    });
    let failing = async {
        let decide = |fate| {
            for verb in [Verb::Acquire, Verb::Extend, Verb::Release] {
                world.script.decide(verb, fate);
            }
        };
        tokio::time::sleep(TTL).await;
        decide(Fate::Failed);
        tokio::time::sleep(TTL + Duration::from_secs(20)).await; // beyond the deadline and `retry_for`
        decide(Fate::Answered);
    };
    let (led, ()) = timeout(TTL * 10, async { tokio::join!(leading, failing) }).await.expect("it leads again");
    assert!(led.is_ok(), "{led:?}");
    assert_eq!(terms.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn wait_limits_a_campaign_in_an_outage() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::Failed);
    let one = election(&world.client);
    let begun = Instant::now();
    let leading = one.lead("a", options().wait(TTL), |_| std::future::ready(()));
    let led = timeout(TTL * 10, leading).await.expect("the wait is over");
    assert!(matches!(&led, Err(error) if error.is_unavailable()), "{led:?}");
    let waited = begun.elapsed();
    assert!(TTL <= waited && waited < TTL + Duration::from_secs(1), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_a_campaign_in_an_outage() {
    let world = World::new();
    world.script.decide(Verb::Acquire, Fate::Failed);
    let one = election(&world.client);
    let leading = one.lead("a", options(), |_| std::future::ready(()));
    let stopping = async {
        tokio::time::sleep(TTL).await;
        world.client.shutdown(TTL).await
    };
    let ended = timeout(TTL * 3, async { tokio::join!(leading, stopping) }).await;
    let (led, stopped) = ended.expect("the shutdown ends both");
    assert!(matches!(led, Err(LockError::Closed { .. })), "{led:?}");
    stopped.unwrap();
}

#[tokio::test(start_paused = true)]
async fn leading_dropped_at_any_await_resigns() {
    let world = World::new();
    for verb in [Verb::Acquire, Verb::Release] {
        world.script.decide(verb, Fate::AnsweredLate(STEP * 2));
    }
    let one = election(&world.client);
    let mut polls = 0;
    loop {
        let led = dropped_after(polls, one.lead("a", options(), |_| tokio::time::sleep(STEP * 2))).await;
        tokio::time::sleep(STEP * 20).await; // the requests under way
        assert_eq!(world.client.open_leases(), 0, "after {polls} polls");
        assert_eq!(one.leader().await.unwrap(), None, "after {polls} polls");
        if let Some(led) = led {
            led.unwrap();
            break;
        }
        polls += 1;
        assert!(polls < 100, "it never ends");
    }
    assert!(polls > 6, "the claim, the term and the release were awaited: {polls}");
}

#[tokio::test(start_paused = true)]
async fn leading_dropped_in_an_outage_leaves_nothing() {
    const OUTAGE: u32 = 20; // steps: longer than an attempt and the pause after it
    let mut polls = 0;
    loop {
        let (backend, script) = Scripted::client_of(&MemoryStore::with_clock(Clock::tokio()));
        let builder = Client::builder().runtime(Handle::current()).clock(Clock::tokio());
        let client = builder.retry_for(STEP * 3).build(backend);
        let one = election(&client);
        script.decide(Verb::Acquire, Fate::Failed);
        let mending = async {
            tokio::time::sleep(STEP * OUTAGE).await;
            script.decide(Verb::Acquire, Fate::Answered);
        };
        let leading = dropped_after(polls, one.lead("a", options(), |_| std::future::ready(())));
        let (led, ()) = tokio::join!(leading, mending);
        tokio::time::sleep(TTL).await;
        assert_eq!(client.open_leases(), 0, "after {polls} polls");
        assert_eq!(one.leader().await.unwrap(), None, "after {polls} polls");
        if let Some(led) = led {
            led.unwrap();
            break;
        }
        polls += 1;
        assert!(polls < 200, "it never ends");
    }
    assert!(polls > OUTAGE, "the attempts and the pauses were awaited: {polls}");
}

#[tokio::test(start_paused = true)]
async fn loss_of_leadership_is_signalled() {
    let world = World::new();
    let leadership = election(&world.client).campaign("").await.unwrap();
    let (lost, token) = (leadership.lost(), leadership.cancellation_token());
    world.other_client().break_leases(NAME).await.unwrap();
    assert_eq!(lost.await, LossReason::Broken);
    assert!(token.is_cancelled() && leadership.check().is_err() && !leadership.is_leader());
}

#[tokio::test(start_paused = true)]
async fn dropped_campaign_leaves_the_queue() {
    let world = World::new();
    let (one, other) = (election(&world.client), election(&world.other_client()));
    let leadership = one.campaign("a").await.unwrap();
    let mut campaign = Box::pin(other.campaign("b"));
    assert!(poll!(&mut campaign).is_pending());
    until_idle().await;
    drop(campaign);
    until_idle().await;
    assert_eq!(world.client.inspect(NAME).await.unwrap().queue, []);
    drop(leadership);
}

#[tokio::test(start_paused = true)]
async fn data_need_a_store_that_keeps_them() {
    let world = World::with(|can| can.data = false);
    let refused = election(&world.client).campaign("a").await;
    assert!(matches!(refused, Err(LockError::InvalidConfig(InvalidConfig::NoData { .. }))), "{refused:?}");
    let _leadership = election(&world.client).campaign_with("", LockOptions::new()).await.unwrap();
}
