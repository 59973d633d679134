//! Keeps etcd leases alive, over a few streams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Error, LeaseKeepAliveStream, LeaseKeeper};
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
    timeout: Duration,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct KeepAlive {
    lease: i64,
    answer: oneshot::Sender<bool>,
}

impl KeepAlives {
    pub(crate) fn new(link: &Arc<Link>, timeout: Duration) -> Self {
        let start = |_| {
            let (sender, receiver) = unbounded_channel();
            (sender, Stream::new(link.clone(), receiver).run())
        };
        let (streams, tasks) = (0..STREAMS).map(start).unzip();
        Self { streams, timeout, _tasks: tasks }
    }

    /// Resets a lease to its full TTL. False if the server does not know the lease, or does not know it yet because it
    /// has just become the leader and is behind.
    pub(crate) async fn keep_alive(&self, lease: i64) -> Result<bool, CallError> {
        let stream = lease.unsigned_abs() as usize % STREAMS;
        let (answer, answered) = oneshot::channel();
        let _the_task_lives = self.streams[stream].send(KeepAlive { lease, answer });
        match timeout(self.timeout, answered).await {
            Ok(Ok(known)) => Ok(known),
            Ok(Err(_)) => Err(CallError::new(Kind::Unanswered, "the client is being closed")),
            Err(_elapsed) => Err(CallError::late(self.timeout)),
        }
    }
}

struct Stream {
    link: Arc<Link>,
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
    /// The server does not know the lease that the stream was opened for. The other requests need a new stream.
    Refused,
    Stuck,
    ClientGone,
}

impl Stream {
    fn new(link: Arc<Link>, requests: UnboundedReceiver<KeepAlive>) -> Self {
        let (waiting, sent) = (VecDeque::new(), VecDeque::new());
        Self { link, requests, waiting, sent, progress: Instant::now(), patience: PATIENCE }
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
                End::Refused => {}
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
        let (mut keeper, mut answers) = match self.open(conn).await {
            Ok(opened) => opened,
            Err(end) => return end,
        };
        loop {
            while self.sent.len() < WINDOW
                && let Some(request) = self.waiting.pop_front()
            {
                if self.sent.is_empty() {
                    self.progress = Instant::now();
                }
                keeper.id = request.lease;
                self.sent.push_back(request);
                if keeper.keep_alive().await.is_err() {
                    return End::Broken;
                }
            }
            tokio::select! {
                request = self.requests.recv(), if self.waiting.len() < WINDOW => match request {
                    Some(request) => self.waiting.push_back(request),
                    None => return End::ClientGone,
                },
                message = answers.message() => match message {
                    Ok(Some(message)) => self.answered(message.id(), message.ttl() > 0),
                    Ok(None) | Err(_) => return End::Broken,
                },
                () = sleep_until(self.progress + self.patience), if !self.sent.is_empty() => return End::Stuck,
            }
        }
    }

    /// Opens a stream by the first request on it.
    async fn open(&mut self, conn: &Conn) -> Result<(LeaseKeeper, LeaseKeepAliveStream), End> {
        let Some(first) = self.waiting.front() else { return Err(End::Broken) };
        let (lease, mut client) = (first.lease, conn.lease());
        let opened = timeout(self.patience, client.keep_alive(lease)).await.map_err(|_elapsed| End::Stuck)?;
        let known = match &opened {
            Ok(_) => true,
            Err(Error::LeaseKeepAliveError(_)) => false,
            Err(_) => return Err(End::Broken),
        };
        self.patience = PATIENCE;
        let first = self.waiting.pop_front().expect("it was there");
        let _nobody_waits = first.answer.send(known);
        opened.map_err(|_| End::Refused)
    }

    fn answered(&mut self, lease: i64, known: bool) {
        self.progress = Instant::now();
        self.patience = PATIENCE;
        // The server skipped the requests before this one, and would never answer them.
        while let Some(request) = self.sent.pop_front() {
            let is_it = request.lease == lease;
            if is_it {
                let _nobody_waits = request.answer.send(known);
                return;
            }
        }
    }
}
