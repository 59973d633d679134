//! A session that listens for notifications, and also serves requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rlock_core::{Backoff, Event, Events};
use sqlx::{Executor as _, Row as _};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::timeout;

use crate::error::CallError;
use crate::notice::deliver;
use crate::session::{ListeningSession, Sessions};

/// The time without notifications after which the listener checks its session.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// Listens on one channel, and reopens its session when it is lost.
#[derive(Debug)]
pub(crate) struct Listener {
    sessions: Arc<Sessions>,
    channel: String,
    events: Events,
    /// `None` while it is lost.
    session: Mutex<Option<ListeningSession>>,
    /// Whether a request uses the session, or waits for it.
    is_taken: AtomicBool,
    /// Asks the listening task to give the session up for a request.
    wanted: Notify,
    /// Wakes the listening task when the request has ended.
    freed: Notify,
    /// Asks the listening task to check the session.
    doubted: Notify,
}

/// The right to use the session for one request.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Listener);

impl Listener {
    pub(crate) fn new(
        sessions: Arc<Sessions>,
        channel: String,
        events: Events,
        session: ListeningSession,
    ) -> Arc<Self> {
        Arc::new(Self {
            sessions,
            channel,
            events,
            session: Mutex::new(Some(session)),
            is_taken: AtomicBool::new(false),
            wanted: Notify::new(),
            freed: Notify::new(),
            doubted: Notify::new(),
        })
    }

    /// The turn for a request, unless another request has it.
    pub(crate) fn try_take(&self) -> Option<Turn<'_>> {
        (!self.is_taken.swap(true, Ordering::Acquire)).then_some(Turn(self))
    }

    /// Has the session checked, because another one has failed.
    pub(crate) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Receives notifications and passes them on, forever.
    pub(crate) async fn hear(self: Arc<Self>) {
        let mut backoff = Backoff::default();
        loop {
            let mut session = self.session.lock().await;
            if self.is_taken.load(Ordering::Acquire) {
                drop(session);
                self.freed.notified().await;
                continue;
            }
            if session.is_none() {
                drop(session);
                let limit = backoff.pause(self.sessions.connect_timeout.min(4 * ANSWERS_WITHIN)).await;
                let mut session = self.session.lock().await;
                if let Err(error) = self.open_again(&mut session, limit).await {
                    tracing::debug!(%error, "no connection to listen on");
                }
                backoff.ended();
                continue;
            }
            if !self.hear_in(&mut session).await {
                tracing::warn!("the connection that listens to Postgres is lost");
                *session = None;
            }
        }
    }

    async fn open_again(
        &self,
        session: &mut MutexGuard<'_, Option<ListeningSession>>,
        limit: Duration,
    ) -> Result<(), CallError> {
        if session.is_none() {
            **session = Some(self.sessions.open_listening(&self.channel, limit).await?);
            tracing::info!("listening to Postgres again");
            self.events.send(Event::Resync);
        }
        Ok(())
    }

    /// Receives one notification, or is interrupted. False if the session is unusable.
    async fn hear_in(&self, session: &mut MutexGuard<'_, Option<ListeningSession>>) -> bool {
        let Some(session) = session.as_mut() else { return false };
        tokio::select! {
            biased;
            () = self.wanted.notified() => return true,
            heard = session.listener().try_recv() => {
                if let Ok(Some(notification)) = heard {
                    deliver(&self.events, notification.payload());
                    return true;
                }
                return false;
            }
            () = self.doubted.notified() => {}
            () = tokio::time::sleep(LONGEST_SILENCE) => {}
        }
        // A pooler may have reassigned the session, and a failover may have moved the primary.
        const CHECK: &str = "SELECT count(*) > 0 AND NOT pg_is_in_recovery() FROM pg_listening_channels()";
        let check = async { session.listener().fetch_one(CHECK).await?.try_get::<bool, _>(0) };
        matches!(timeout(ANSWERS_WITHIN, check).await, Ok(Ok(true))) && !session.is_elsewhere(&self.sessions)
    }
}

impl Turn<'_> {
    /// The session, reopened if it was lost. Set it to `None` if it is unusable.
    pub(crate) async fn session(&self, limit: Duration) -> Result<MutexGuard<'_, Option<ListeningSession>>, CallError> {
        self.0.wanted.notify_one();
        let mut session = self.0.session.lock().await;
        self.0.open_again(&mut session, limit).await?;
        Ok(session)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
        self.0.freed.notify_one();
    }
}
