//! The task that works on the file for a client.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Acquired, Event, Events, Extended, LeaseId, Moment};
use sqlx::{Connection as _, query, query_scalar};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::SqliteConfig;
use crate::bell::Bell;
use crate::error::{CallError, Kind};
use crate::file::OpenFile;
use crate::host::HostClock;
use crate::place;
use crate::table::{Answer, Operation, Table};
use crate::turns::Turns;

/// Operations, and who waits for the answers.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) operations: Arc<[Operation]>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Answer>, CallError>>,
}

/// How many operations share a transaction, about; meanwhile nobody else can write.
const MOST_TOGETHER: usize = 256;

/// How often what nobody uses any more is looked for, by each client that writes.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The file for one client. Its jobs are done one after the other, those that come together in one transaction.
#[derive(Debug)]
pub(crate) struct Keeper {
    config: Arc<SqliteConfig>,
    turns: Turns,
    /// While leases wait.
    bell: Option<Bell>,
    file: Option<OpenFile>,
    namespace: Arc<str>,
    inbox: Arc<str>,
    events: Events,
    clock: HostClock,
    expecting: Expecting,
    sweep_at: Moment,
}

impl Keeper {
    /// Opens the file, and makes it if it is not there.
    pub(crate) async fn open(config: Arc<SqliteConfig>, events: Events) -> Result<Self, CallError> {
        let mut keeper = Self {
            turns: Turns::at(&config.path),
            bell: None,
            file: None,
            namespace: config.namespace.as_str().into(),
            inbox: LeaseId::random().to_hex().into(),
            events,
            clock: HostClock::new(),
            expecting: Expecting::default(),
            sweep_at: Moment::default(),
            config,
        };
        keeper.reopen().await?;
        Ok(keeper)
    }

    /// Does jobs until nobody can send any more, and looks for mail while there may be some.
    pub(crate) async fn keep(mut self, mut jobs: mpsc::Receiver<Job>) {
        loop {
            let is_deaf = self.expecting.is_queued() && self.bell.is_none();
            if is_deaf {
                self.bell = Bell::at(self.turns.path());
                if self.bell.is_some() {
                    // It may have been rung for this client before.
                    self.look().await;
                }
            }
            let look = async {
                let Some(pause) = self.expecting.next_look(self.bell.is_some()) else { return pending().await };
                tokio::select! {
                    () = sleep(pause) => {}
                    () = rung(self.bell.as_ref()) => {}
                }
            };
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                received = jobs.recv_many(&mut batch, MOST_TOGETHER) => if received == 0 { return },
                () = look => self.look().await,
                () = self.turns.decline() => {}
            }
            while !batch.is_empty() {
                let mut operations = 0;
                let mut is_enough = |job: &Job| {
                    operations += job.operations.len();
                    operations >= MOST_TOGETHER
                };
                let last = batch.iter().position(&mut is_enough).unwrap_or(batch.len() - 1);
                let later = batch.split_off(last + 1);
                self.work(std::mem::replace(&mut batch, later)).await;
            }
        }
    }

    /// Looks whether there is mail, and reads it.
    async fn look(&mut self) {
        self.expecting.prune(self.clock.now());
        if !self.expecting.is_queued()
            && let Some(bell) = self.bell.take()
        {
            bell.put_away();
        }
        if self.expecting.leases.is_empty() {
            return;
        }
        let looked = async {
            let Some(file) = &mut self.file else { return Ok::<_, CallError>(true) };
            file.check(&self.config)?;
            file.notice().await.map_err(CallError::undone)?;
            if file.is_unread {
                let is_mail = query_scalar("SELECT EXISTS (SELECT 1 FROM mail WHERE inbox = ?)").bind(&*self.inbox);
                file.is_unread = is_mail.fetch_one(&mut file.conn).await.map_err(CallError::undone)?;
            }
            Ok(file.is_unread)
        };
        match looked.await {
            Ok(false) => {}
            Ok(true) => self.work(Vec::new()).await,
            Err(error) => {
                tracing::warn!(%error, file = %self.config.path.display(), "rlock's file cannot be read");
                self.file = None;
            }
        }
    }

    async fn work(&mut self, jobs: Vec<Job>) {
        // For a disk that does not answer: everything else has its own limit.
        let longest = 4 * self.config.timeout;
        let outcome = match timeout(longest, self.transact(&jobs)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                self.file = None;
                Err(CallError::new(Kind::Uncertain, format!("no answer within {longest:?}: the disk is stuck or slow")))
            }
        };
        match outcome {
            Ok((answers, events)) => {
                let now = self.clock.now();
                for event in &events {
                    self.expecting.heard(event);
                    self.events.send(*event);
                }
                for (job, answers) in jobs.into_iter().zip(answers) {
                    self.expecting.answered(&job.operations, &answers, now);
                    let _nobody_waits_any_more = job.reply.send(Ok(answers));
                }
            }
            Err(error) => {
                if jobs.is_empty() {
                    tracing::warn!(%error, file = %self.config.path.display(), "rlock's file cannot be read");
                }
                for job in jobs {
                    let _nobody_waits_any_more = job.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Does jobs in one transaction.
    async fn transact(&mut self, jobs: &[Job]) -> Result<(Vec<Vec<Answer>>, Vec<Event>), CallError> {
        if self.file.is_none() {
            self.reopen().await?;
        }
        let Some(file) = &mut self.file else { unreachable!("it has been opened") };
        // Without it, the others do not get theirs fairly. One of them may have been stopped while it waited.
        let turn = self.turns.take(self.config.timeout / 2).await?;
        if let Err(replaced) = file.check(&self.config) {
            drop(turn);
            self.file = None;
            // Those who hold are told by it to ask, and find that they do not.
            self.reopen().await?;
            return Err(replaced);
        }
        file.notice().await.map_err(CallError::undone)?;
        let mut transaction = file.conn.begin_with("BEGIN IMMEDIATE").await.map_err(CallError::undone)?;
        // Nobody else writes from here on.
        let now = self.clock.now();
        let is_to_sweep = now >= self.sweep_at;
        if is_to_sweep {
            self.sweep_at = now.after(SWEEP_EVERY);
        }
        let mut table = Table {
            conn: &mut transaction,
            namespace: self.namespace.clone(),
            inbox: self.inbox.clone(),
            now,
            events: Vec::new(),
            is_mail: false,
        };
        let answers = async {
            if is_to_sweep {
                table.sweep().await?;
            }
            if file.is_unread {
                table.collect().await?;
            }
            let mut answers = Vec::with_capacity(jobs.len());
            for job in jobs {
                let mut of_job = Vec::with_capacity(job.operations.len());
                for operation in &*job.operations {
                    of_job.push(table.run(operation).await?);
                }
                answers.push(of_job);
            }
            Ok(answers)
        };
        let answers = answers.await.map_err(CallError::undone);
        let (events, is_mail) = (std::mem::take(&mut table.events), table.is_mail);
        let committed = match answers {
            Ok(answers) => transaction.commit().await.map(|()| answers).map_err(CallError::committing),
            Err(error) => {
                drop(transaction);
                Err(error)
            }
        };
        let answers = match committed {
            Ok(answers) => answers,
            Err(error) => {
                // On some errors SQLite has ended the transaction by itself, of which sqlx does not know.
                self.file = None;
                return Err(error);
            }
        };
        file.is_unread = false;
        drop(turn);
        if is_mail {
            self.turns.ring();
        }
        Ok((answers, events))
    }

    async fn reopen(&mut self) -> Result<(), CallError> {
        place::prepare(&self.config.path)?;
        let Some(turn) = self.turns.take(self.config.timeout).await? else {
            return Err(self.turns.late(self.config.timeout));
        };
        let mut file = OpenFile::open(&self.config, &self.clock, &turn).await?;
        // Whoever held something before the host was started again does not any more.
        let mut transaction = file.conn.begin_with("BEGIN IMMEDIATE").await.map_err(CallError::undone)?;
        let enter = async {
            // A new file has no boot yet, and a grace of this one.
            const ENTER: &str =
                "UPDATE state SET opens = CASE boot WHEN '' THEN opens ELSE 0 END, boot = ?1 WHERE boot <> ?1";
            let entered = query(ENTER).bind(self.clock.name()).execute(&mut *transaction).await?;
            if entered.rows_affected() > 0 {
                query("DELETE FROM leases").execute(&mut *transaction).await?;
                query("DELETE FROM mail").execute(&mut *transaction).await?;
            }
            Ok(())
        };
        enter.await.map_err(CallError::undone)?;
        transaction.commit().await.map_err(CallError::undone)?;
        drop(turn);
        self.bell = None; // the one that there may be belongs to a file that is gone
        self.file = Some(file);
        self.events.send(Event::Resync);
        Ok(())
    }
}

async fn rung(bell: Option<&Bell>) {
    match bell {
        Some(bell) => bell.rung().await,
        None => pending().await,
    }
}

/// What decides how often mail is looked for.
#[derive(Debug, Default)]
struct Expecting {
    leases: HashMap<LeaseId, Expected>,
    queued: usize,
}

/// A lease of this client.
#[derive(Debug, Clone, Copy)]
struct Expected {
    is_queued: bool,
    /// When it is over, if nobody says so before.
    until: Moment,
}

impl Expecting {
    /// While leases wait, and there is no bell.
    const EAGER: Duration = Duration::from_millis(10);
    /// While leases are held, which somebody may break, or wait for the bell; and before that is put away.
    const CALM: Duration = Duration::from_millis(100);

    fn is_queued(&self) -> bool {
        self.queued > 0
    }

    fn next_look(&self, is_bell: bool) -> Option<Duration> {
        let pause = if self.is_queued() && !is_bell { Self::EAGER } else { Self::CALM };
        (!self.leases.is_empty() || is_bell).then_some(pause)
    }

    /// Forgets what is over.
    fn prune(&mut self, now: Moment) {
        self.leases.retain(|_, lease| lease.until > now);
        self.queued = self.leases.values().filter(|lease| lease.is_queued).count();
    }

    fn expect(&mut self, id: LeaseId, is_queued: bool, until: Moment) {
        let before = self.leases.get(&id).map_or(until, |before| before.until);
        self.forget(id);
        self.queued += usize::from(is_queued);
        self.leases.insert(id, Expected { is_queued, until: until.max(before) });
    }

    fn forget(&mut self, id: LeaseId) {
        let before = self.leases.remove(&id);
        self.queued -= usize::from(before.is_some_and(|lease| lease.is_queued));
    }

    fn heard(&mut self, event: &Event) {
        match event {
            Event::Granted { id, .. } => {
                if let Some(Expected { until, .. }) = self.leases.get(id).copied() {
                    self.expect(*id, false, until);
                }
            }
            Event::Broken { id } => self.forget(*id),
            _ => {}
        }
    }

    fn answered(&mut self, operations: &[Operation], answers: &[Answer], now: Moment) {
        for pair in operations.iter().zip(answers) {
            match pair {
                (Operation::Acquire(claim), Answer::Acquired(Acquired::Held(_))) => {
                    self.expect(claim.key.id, false, now.after(claim.ttl.get()));
                }
                (Operation::Acquire(claim), Answer::Acquired(Acquired::Queued(_))) => {
                    self.expect(claim.key.id, true, now.after(claim.ttl.get()));
                }
                (Operation::Extend(extension), Answer::Extended(extended)) => match extended {
                    Extended::Held(grant) => self.expect(extension.key.id, false, now.after(grant.ttl)),
                    Extended::Queued(_) => self.expect(extension.key.id, true, now.after(extension.ttl.get())),
                    Extended::Gone { .. } => self.forget(extension.key.id),
                },
                (Operation::Release(lease), _) => self.forget(lease.id),
                _ => {}
            }
        }
    }
}
