//! Keeps etcd leases alive, over a few streams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Error, LeaseKeepAliveStream, LeaseKeeper};
use rlock_core::{Clock, Moment};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::conn::Conn;
use crate::error::{CallError, Kind};
use crate::link::Link;

/// The number of streams. A server handles the requests of one stream one after the other. If it is not the leader, it
/// asks the leader for each.
const STREAMS: usize = 8;
/// How long a stream may owe an answer before its connection is probed, and all unanswered requests are retried on
/// another stream. It doubles after each failure up to the longest, and an answer resets it.
const PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_PATIENCE: Duration = Duration::from_secs(8);
/// The maximum number of unanswered requests on a stream; the client library takes a hundred without blocking.
const WINDOW: usize = 64;
/// The pause before a broken stream is replaced.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends the keep-alives of a client, on its streams.
#[derive(Debug)]
pub(crate) struct KeepAlives {
    streams: Vec<UnboundedSender<KeepAlive>>,
    clock: Clock,
    timeout: Duration,
    _tasks: JoinSet<()>,
}

/// The result of a keep-alive.
#[derive(Debug)]
pub(crate) enum KeptAlive {
    /// The lease has its full TTL again.
    Renewed,
    /// The server does not know the lease, or does not know it yet because it has just become the leader and is behind.
    Unknown,
    /// The lease may have expired before the request could be sent, or sent again. A keep-alive of an expired lease
    /// would block the stream.
    Expired,
}

#[derive(Debug)]
struct KeepAlive {
    lease: i64,
    /// The earliest time at which the lease can expire.
    expires: Moment,
    answer: oneshot::Sender<KeptAlive>,
}

impl KeepAlives {
    pub(crate) fn new(link: &Arc<Link>, clock: &Clock, timeout: Duration) -> Self {
        let start = |_| {
            let (sender, receiver) = unbounded_channel();
            (sender, Stream::new(link.clone(), clock.clone(), receiver).run())
        };
        let (streams, tasks) = (0..STREAMS).map(start).unzip();
        Self { streams, clock: clock.clone(), timeout, _tasks: tasks }
    }

    /// Resets a lease that expires at `expires` or later to its full TTL.
    pub(crate) async fn keep_alive(&self, lease: i64, expires: Moment) -> Result<KeptAlive, CallError> {
        if expires <= self.clock.now() {
            return Ok(KeptAlive::Expired);
        }
        let stream = lease.unsigned_abs() as usize % STREAMS;
        let (answer, answered) = oneshot::channel();
        let _the_task_lives = self.streams[stream].send(KeepAlive { lease, expires, answer });
        match timeout(self.timeout, answered).await {
            Ok(Ok(kept)) => Ok(kept),
            Ok(Err(_)) => Err(CallError::new(Kind::Unanswered, "the client is being closed")),
            Err(_elapsed) => Err(CallError::late(self.timeout)),
        }
    }
}

struct Stream {
    link: Arc<Link>,
    clock: Clock,
    requests: UnboundedReceiver<KeepAlive>,
    waiting: VecDeque<KeepAlive>,
    /// Requests that were sent and not answered. The answers come in this order.
    sent: VecDeque<KeepAlive>,
    /// The time of the last answer, or of the first request of `sent`.
    progress: Instant,
    patience: Duration,
}

/// The reason that a stream ended.
enum End {
    Broken,
    /// No request is left to open the stream with.
    Idle,
    /// The server does not know the lease that the stream was opened for. The other requests need a new stream.
    Refused,
    Stuck,
    ClientGone,
}

impl Stream {
    fn new(link: Arc<Link>, clock: Clock, requests: UnboundedReceiver<KeepAlive>) -> Self {
        let (waiting, sent) = (VecDeque::new(), VecDeque::new());
        Self { link, clock, requests, waiting, sent, progress: Instant::now(), patience: PATIENCE }
    }

    async fn run(mut self) {
        loop {
            if self.waiting.is_empty() {
                match self.requests.recv().await {
                    Some(request) => self.waiting.push_back(request),
                    None => return,
                }
            }
            let conn = self.link.another(None).await;
            let end = tokio::select! {
                end = self.serve(&conn) => end,
                () = conn.ended() => End::Broken,
            };
            match end {
                End::Broken => sleep(PAUSE).await,
                End::Refused | End::Idle => {}
                End::Stuck => {
                    self.link.doubt();
                    self.patience = (self.patience * 2).min(LONGEST_PATIENCE);
                }
                End::ClientGone => return,
            }
            // Retry all unanswered requests, except those that no caller waits for any more.
            while let Some(request) = self.sent.pop_back() {
                self.waiting.push_front(request);
            }
            self.waiting.retain(|request| !request.answer.is_closed());
        }
    }

    /// Opens a stream, and serves requests on it until it ends.
    async fn serve(&mut self, conn: &Conn) -> End {
        let (mut sender, mut answers) = match self.open(conn).await {
            Ok(opened) => opened,
            Err(end) => return end,
        };
        loop {
            while self.sent.len() < WINDOW
                && let Some(request) = self.next_to_send()
            {
                if self.sent.is_empty() {
                    self.progress = Instant::now();
                }
                sender.id = request.lease;
                self.sent.push_back(request);
                if sender.keep_alive().await.is_err() {
                    return End::Broken;
                }
            }
            tokio::select! {
                request = self.requests.recv(), if self.waiting.len() < WINDOW => match request {
                    Some(request) => self.waiting.push_back(request),
                    None => return End::ClientGone,
                },
                message = answers.message() => match message {
                    Ok(Some(message)) => {
                        let kept = if message.ttl() > 0 { KeptAlive::Renewed } else { KeptAlive::Unknown };
                        self.answered(message.id(), kept);
                    }
                    Ok(None) | Err(_) => return End::Broken,
                },
                () = sleep_until(self.progress + self.patience), if !self.sent.is_empty() => return End::Stuck,
            }
        }
    }

    /// The next request to send. Those whose leases may have expired meanwhile go back to their callers.
    fn next_to_send(&mut self) -> Option<KeepAlive> {
        while let Some(request) = self.waiting.pop_front() {
            if request.expires > self.clock.now() {
                return Some(request);
            }
            let _caller_gone = request.answer.send(KeptAlive::Expired);
        }
        None
    }

    /// Opens a stream by the first request on it.
    async fn open(&mut self, conn: &Conn) -> Result<(LeaseKeeper, LeaseKeepAliveStream), End> {
        let Some(first) = self.next_to_send() else { return Err(End::Idle) };
        let (lease, mut client) = (first.lease, conn.lease());
        self.sent.push_back(first);
        let opened = timeout(self.patience, client.keep_alive(lease)).await.map_err(|_elapsed| End::Stuck)?;
        let kept = match &opened {
            Ok(_) => KeptAlive::Renewed,
            Err(Error::LeaseKeepAliveError(_)) => KeptAlive::Unknown,
            Err(_) => return Err(End::Broken),
        };
        self.answered(lease, kept);
        opened.map_err(|_| End::Refused)
    }

    fn answered(&mut self, lease: i64, kept: KeptAlive) {
        self.progress = Instant::now();
        self.patience = PATIENCE;
        // The server skipped the requests before this one, and would never answer them.
        while let Some(request) = self.sent.pop_front() {
            if request.lease == lease {
                let _caller_gone = request.answer.send(kept);
                return;
            }
        }
    }
}
