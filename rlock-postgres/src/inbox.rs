//! What other clients tell this one: by NOTIFY, or by mail where a pooler makes it impossible to listen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rlock_core::{Backoff, Event, Events, LeaseId, Ttl};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Executor as _, Row as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::error::{CallError, Kind};
use crate::link::Link;
use crate::statement::{Statement, Value};

/// How long a listener may hear nothing before it is asked whether it is still there.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// Where this client is told.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) name: String,
    events: Events,
    /// `None` if it listens.
    reader: Option<Arc<Reader>>,
    _task: JoinSet<()>,
}

impl Inbox {
    /// Listens at `options`, and checks that it hears what is said by `link`. `None` if it does not: a pooler is
    /// between.
    pub(crate) async fn listen(
        options: PgConnectOptions,
        link: &Link,
        tell: &Statement,
        connect_timeout: Duration,
        events: Events,
    ) -> Result<Option<Self>, CallError> {
        let name = format!("rlock_{}", LeaseId::random().to_hex());
        let mut listener = open(&options, &name, connect_timeout).await?;
        let test = vec![Value::Texts(vec![name.clone()]), Value::Texts(vec!["?".into()])];
        // If sessions are shared, it may be the one that tells that hears, which it does not understand.
        let told = link.call(tell, test).await;
        if told.is_err() || !matches!(timeout(ANSWERS_WITHIN, listener.try_recv()).await, Ok(Ok(Some(_)))) {
            let _may_be_another_session = listener.unlisten_all().await;
            return Ok(None);
        }
        let listening = listen(options, name.clone(), connect_timeout, events.clone(), listener);
        Ok(Some(Self { name, events, reader: None, _task: JoinSet::from_iter([listening]) }))
    }

    /// Reads mail, from time to time while there may be some.
    pub(crate) fn read(link: Arc<Link>, collect: Statement, events: Events) -> Self {
        let name = format!("mail_{}", LeaseId::random().to_hex());
        let reader = Arc::new(Reader::default());
        let reading = read(reader.clone(), link, collect, name.clone(), events.clone());
        Self { name, events, reader: Some(reader), _task: JoinSet::from_iter([reading]) }
    }

    /// Tells this client itself.
    pub(crate) fn deliver(&self, message: &str) {
        self.reader.iter().for_each(|reader| reader.heard(message));
        deliver(&self.events, message);
    }

    /// Notes what was said of a lease of this client.
    pub(crate) fn note(&self, id: LeaseId, standing: Standing) {
        self.reader.iter().for_each(|reader| reader.note(id, standing));
    }
}

/// What a lease is, as far as somebody may write about it. It is neither any more once it was not extended for its TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Queued(Ttl),
    Held(Ttl),
    Over,
}

async fn open(options: &PgConnectOptions, channel: &str, limit: Duration) -> Result<PgListener, CallError> {
    let open = async {
        let pool = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None).acquire_timeout(limit);
        let mut listener = PgListener::connect_with(&pool.connect_with(options.clone()).await?).await?;
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        Ok(listener)
    };
    match timeout(limit, open).await {
        Ok(opened) => opened.map_err(|error| CallError::connecting(error, 1)),
        Err(_elapsed) => Err(CallError::new(Kind::Unsent, format!("no connection to listen on within {limit:?}"))),
    }
}

async fn listen(options: PgConnectOptions, channel: String, limit: Duration, events: Events, mut listener: PgListener) {
    let mut backoff = Backoff::default();
    loop {
        hear(&mut listener, &events).await;
        tracing::warn!("the connection that listens to Postgres is lost");
        listener = loop {
            let limit = backoff.pause(limit.min(4 * ANSWERS_WITHIN)).await;
            let opened = open(&options, &channel, limit).await;
            backoff.ended();
            match opened {
                Ok(listener) => break listener,
                Err(error) => tracing::debug!(%error, "no connection to listen on"),
            }
        };
        tracing::info!("listening to Postgres again");
        events.send(Event::Resync);
    }
}

/// Passes on what is heard until the connection breaks, or does not answer any more.
async fn hear(listener: &mut PgListener, events: &Events) {
    loop {
        match timeout(LONGEST_SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => deliver(events, notification.payload()),
            Ok(Ok(None) | Err(_)) => return,
            Err(_elapsed) => match timeout(ANSWERS_WITHIN, listener.execute("SELECT 1")).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            },
        }
    }
}

/// What decides how often mail is looked for.
#[derive(Debug, Default)]
struct Reader {
    expecting: Mutex<Expecting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Expecting {
    queued: HashMap<LeaseId, Life>,
    /// When the last one joined the queue.
    since: Option<Instant>,
    held: HashMap<LeaseId, Life>,
    /// When those that are over by their TTLs were last forgotten.
    forgot: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    ttl: Ttl,
    until: Instant,
}

impl Reader {
    /// Between looks, for as long as leases are held that somebody may break.
    const CALM: Duration = Duration::from_secs(1);
    /// Between looks while leases wait, at first, and at most: a tenth of what they have waited.
    const EAGER: Duration = Duration::from_millis(10);
    const PATIENT: Duration = Duration::from_millis(200);

    fn note(&self, id: LeaseId, standing: Standing) {
        let mut expecting = self.lock();
        let (queued, held) = (expecting.queued.remove(&id), expecting.held.remove(&id));
        let is_new = queued.is_none() && held.is_none();
        match standing {
            Standing::Queued(ttl) => {
                expecting.queued.insert(id, Life::of(ttl));
                if is_new {
                    expecting.since = Some(Instant::now());
                }
            }
            Standing::Held(ttl) => {
                expecting.held.insert(id, Life::of(ttl));
            }
            Standing::Over => return,
        }
        if is_new {
            self.more.notify_one();
        }
    }

    /// Notes a grant, from which on a lease lives for the TTL that it was waiting with.
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

    /// In how long to look; `None` if there is nothing to look for.
    fn next_look(&self) -> Option<Duration> {
        let mut expecting = self.lock();
        expecting.forget();
        match expecting.since {
            Some(since) if !expecting.queued.is_empty() => {
                let pause = (since.elapsed() / 10).clamp(Self::EAGER, Self::PATIENT);
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
    /// Forgets now and then what has ended without a word.
    fn forget(&mut self) {
        let now = Instant::now();
        if self.forgot.is_some_and(|forgot| now - forgot < Reader::CALM) {
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

async fn read(reader: Arc<Reader>, link: Arc<Link>, collect: Statement, name: String, events: Events) {
    let (mut last_look, mut is_missing_some) = (Instant::now(), false);
    let mut started_before: Option<Option<i64>> = None;
    loop {
        let Some(pause) = reader.next_look() else {
            reader.more.notified().await;
            continue;
        };
        let pause = if is_missing_some { pause.min(Reader::PATIENT) } else { pause };
        let left = (last_look + pause).saturating_duration_since(Instant::now());
        // Whoever begins to wait meanwhile does not wait for the end of a long pause.
        if !left.is_zero() && timeout(left, reader.more.notified()).await.is_ok() {
            continue;
        }
        last_look = Instant::now();
        match link.call(&collect, vec![Value::text(&name)]).await {
            Ok(rows) => {
                let started = rows.first().and_then(|row| row.try_get::<i64, _>(0).ok());
                let is_another = started_before.replace(started).is_some_and(|before| before != started);
                if std::mem::take(&mut is_missing_some) || is_another {
                    events.send(Event::Resync);
                }
                for message in rows.iter().filter_map(|row| row.try_get::<Option<String>, _>(1).ok().flatten()) {
                    reader.heard(&message);
                    deliver(&events, &message);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "mail could not be read");
                // It may have been deleted without having been read, or be lost.
                is_missing_some = true;
            }
        }
    }
}

fn deliver(events: &Events, message: &str) {
    match Event::from_notice(message) {
        Some(event) => events.send(event),
        None => tracing::warn!("a message in the inbox is not one of rlock's"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leases_that_end_without_a_word_are_looked_for_no_longer() {
        let (waits, is_granted, is_extended) = (LeaseId::from_u128(1), LeaseId::from_u128(2), LeaseId::from_u128(3));
        let ttl = Ttl::new(Duration::from_secs(10)).unwrap();
        let reader = Reader::default();
        reader.note(waits, Standing::Queued(ttl));
        reader.note(is_granted, Standing::Queued(ttl));
        reader.note(is_extended, Standing::Held(ttl));
        assert!(reader.next_look().unwrap() <= Reader::EAGER);
        advance(Duration::from_secs(8)).await;
        reader.heard(&format!("g {} 1", is_granted.to_hex()));
        reader.note(is_extended, Standing::Held(ttl));
        advance(Duration::from_secs(8)).await;
        assert_eq!(reader.next_look(), Some(Reader::CALM), "nobody waits any more, and two are held");
        assert_eq!(reader.lock().held.len(), 2);
        advance(Duration::from_secs(8)).await;
        assert_eq!(reader.next_look(), None);
    }
}
