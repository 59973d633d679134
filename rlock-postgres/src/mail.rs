//! Mail: notifications in a table, for a client that cannot listen because a pooler is between it and the server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rlock_core::{Event, Events, LeaseId, Ttl};
use sqlx::Row as _;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::link::Link;
use crate::notice::deliver;
use crate::statement::{Statement, Value};

/// The state of a lease that decides which notifications to expect. A lease that is not extended for its TTL is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Queued(Ttl),
    Held(Ttl),
    Over,
}

/// The mailbox of this client, and the schedule of its polls.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    expecting: Mutex<Expecting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Expecting {
    queued: HashMap<LeaseId, Life>,
    /// The time at which the queue last moved: one joined, or got its lock.
    moved: Option<Instant>,
    held: HashMap<LeaseId, Life>,
    /// The time at which expired leases were last dropped.
    forgot: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    ttl: Ttl,
    until: Instant,
}

impl Mailbox {
    /// The interval of polls while leases are held, which other clients may break.
    const CALM: Duration = Duration::from_secs(1);
    /// The shortest and the longest interval of polls while leases wait: a tenth of the time since their queue moved.
    const EAGER: Duration = Duration::from_millis(10);
    const PATIENT: Duration = Duration::from_millis(200);

    pub(crate) fn note(&self, id: LeaseId, standing: Standing) {
        let mut expecting = self.lock();
        let (queued, held) = (expecting.queued.remove(&id), expecting.held.remove(&id));
        let is_new = queued.is_none() && held.is_none();
        match standing {
            Standing::Queued(ttl) => {
                expecting.queued.insert(id, Life::of(ttl));
                if is_new {
                    expecting.moved = Some(Instant::now());
                }
            }
            Standing::Held(ttl) => {
                expecting.held.insert(id, Life::of(ttl));
                if queued.is_some() {
                    expecting.moved = Some(Instant::now());
                }
            }
            Standing::Over => return,
        }
        if is_new {
            self.more.notify_one();
        }
    }

    /// Notes a grant. From now on the lease lives for the TTL that it waited with.
    fn granted(&self, id: LeaseId) {
        let waited = self.lock().queued.get(&id).copied();
        if let Some(Life { ttl, .. }) = waited {
            self.note(id, Standing::Held(ttl));
        }
    }

    fn heard(&self, message: &str) {
        match Event::from_notice(message) {
            Some(Event::Granted { id, .. }) => self.granted(id),
            Some(Event::Broken { id }) => self.note(id, Standing::Over),
            _ => {}
        }
    }

    /// The time until the next poll; `None` if no mail can come.
    fn next_look(&self) -> Option<Duration> {
        let mut expecting = self.lock();
        expecting.forget();
        match expecting.moved {
            Some(moved) if !expecting.queued.is_empty() => {
                let pause = (moved.elapsed() / 10).clamp(Self::EAGER, Self::PATIENT);
                Some(pause.mul_f64(rand::random_range(0.75..1.0)))
            }
            _ => (!expecting.held.is_empty()).then_some(Self::CALM),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Expecting> {
        self.expecting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expecting {
    /// Drops expired leases, at most once per [`Mailbox::CALM`].
    fn forget(&mut self) {
        let now = Instant::now();
        if self.forgot.is_some_and(|forgot| now - forgot < Mailbox::CALM) {
            return;
        }
        self.forgot = Some(now);
        self.queued.retain(|_, life| now < life.until);
        self.held.retain(|_, life| now < life.until);
    }
}

impl Life {
    fn of(ttl: Ttl) -> Self {
        Self { ttl, until: Instant::now() + ttl.get() }
    }
}

impl Mailbox {
    /// Polls for mail whenever some may come, forever. `started` is the start of the server that the client connected to.
    pub(crate) async fn read(
        self: Arc<Self>,
        link: Arc<Link>,
        collect: Statement,
        name: String,
        mut started: i64,
        events: Events,
    ) {
        let (mut last_look, mut has_failed) = (Instant::now(), false);
        // In the table until the next poll, which deletes it.
        let mut is_read = Vec::new();
        loop {
            let mut pause = self.next_look();
            if !is_read.is_empty() {
                // Unless the next poll is soon, the program may end before it, and leave the mail in the table.
                pause = Some(pause.filter(|pause| *pause < Self::CALM).unwrap_or_default());
            }
            let Some(pause) = pause else {
                self.more.notified().await;
                continue;
            };
            let pause = if has_failed { Self::PATIENT } else { pause };
            let left = (last_look + pause).saturating_duration_since(Instant::now());
            // A lease that begins to wait now interrupts a long pause.
            if !left.is_zero() && timeout(left, self.more.notified()).await.is_ok() {
                continue;
            }
            last_look = Instant::now();
            let polled = link.call(&collect, vec![Value::text(&name), Value::Texts(is_read.clone())]).await;
            has_failed = polled.is_err();
            match polled {
                Ok(rows) => {
                    let answering = rows.first().and_then(|row| row.try_get::<i64, _>(0).ok());
                    // Another server, or one that crashed, may have lost mail.
                    if answering.is_some_and(|answering| std::mem::replace(&mut started, answering) != answering) {
                        events.send(Event::Resync);
                    }
                    is_read =
                        rows.iter().filter_map(|row| row.try_get::<Option<String>, _>(1).ok().flatten()).collect();
                    for message in &is_read {
                        self.heard(message);
                        deliver(&events, message);
                    }
                }
                Err(error) => tracing::debug!(%error, "mail could not be read"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn polls_are_frequent_while_the_queue_moves() {
        let (first, second) = (LeaseId::from_u128(1), LeaseId::from_u128(2));
        let ttl = Ttl::new(Duration::from_secs(10)).unwrap();
        let reader = Mailbox::default();
        reader.note(first, Standing::Queued(ttl));
        reader.note(second, Standing::Queued(ttl));
        advance(Duration::from_secs(1)).await;
        assert!(reader.next_look().unwrap() >= Duration::from_millis(75));
        reader.heard(&format!("g {} 1", first.to_hex()));
        assert!(reader.next_look().unwrap() <= Mailbox::EAGER);
        advance(Duration::from_secs(1)).await;
        assert!(reader.next_look().unwrap() >= Duration::from_millis(75));
    }

    #[tokio::test(start_paused = true)]
    async fn expired_leases_are_no_longer_looked_for() {
        let (waits, is_granted, is_extended) = (LeaseId::from_u128(1), LeaseId::from_u128(2), LeaseId::from_u128(3));
        let ttl = Ttl::new(Duration::from_secs(10)).unwrap();
        let reader = Mailbox::default();
        reader.note(waits, Standing::Queued(ttl));
        reader.note(is_granted, Standing::Queued(ttl));
        reader.note(is_extended, Standing::Held(ttl));
        assert!(reader.next_look().unwrap() <= Mailbox::EAGER);
        advance(Duration::from_secs(8)).await;
        reader.heard(&format!("g {} 1", is_granted.to_hex()));
        reader.note(is_extended, Standing::Held(ttl));
        advance(Duration::from_secs(8)).await;
        assert_eq!(reader.next_look(), Some(Mailbox::CALM), "none waits any more, and two are held");
        assert_eq!(reader.lock().held.len(), 2);
        advance(Duration::from_secs(8)).await;
        assert_eq!(reader.next_look(), None);
    }
}
