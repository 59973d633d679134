//! The thread that works on the file for a client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Event, Events, LeaseId, Moment};
use rusqlite::Connection;

use crate::SqliteConfig;
use crate::bell::Bell;
use crate::clock::{HostClock, micros};
use crate::connect::OpenFile;
use crate::error::CallError;
use crate::expecting::Expecting;
use crate::file;
use crate::jobs::{Job, Jobs, Woken};
use crate::mail;
use crate::request::{Answer, Transaction};
use crate::sweep::Sweep;
use crate::turns::Turns;

/// How many operations share a transaction, about; meanwhile no other client can write.
const MOST_TOGETHER: usize = 256;
/// The interval at which each client that writes removes what is not used any more.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The file for one client. Its jobs are done one after the other, those that come together in one transaction.
#[derive(Debug)]
pub(crate) struct Worker {
    config: Arc<SqliteConfig>,
    /// The file without links, and its turns.
    path: PathBuf,
    turns: Turns,
    /// Since the first lease waited.
    bell: Option<Bell>,
    file: Option<OpenFile>,
    /// The file was deleted while this client had it open.
    was_lost: bool,
    inbox: String,
    events: Events,
    clock: HostClock,
    expecting: Expecting,
    /// The number of the last notice that was read and is still there, or 0.
    read: i64,
    sweep: Sweep,
    sweep_at: Moment,
}

/// The answers to jobs, and the events that came of them.
type Outcome = (Vec<Vec<Answer>>, Vec<Event>);

impl Worker {
    /// Opens the file, and makes it if it is not there.
    pub(crate) fn open(config: Arc<SqliteConfig>, events: Events) -> Result<Self, CallError> {
        let path = file::prepare(&config)?;
        let mut worker = Self {
            turns: Turns::at(&path),
            path,
            bell: None,
            file: None,
            was_lost: false,
            inbox: LeaseId::random().to_hex(),
            events,
            clock: HostClock::new(),
            expecting: Expecting::default(),
            read: 0,
            sweep: Sweep::default(),
            sweep_at: Moment::default(),
            config,
        };
        worker.reopen()?;
        Ok(worker)
    }

    /// Does jobs until the queue is closed, and looks for notices while there may be some.
    pub(crate) fn work(mut self, jobs: &Jobs) {
        loop {
            if self.expecting.is_queued() && self.bell.is_none() {
                self.bell = Bell::at(self.turns.bell());
                if self.bell.is_some() {
                    self.look(); // it may have been rung for this client before
                }
            }
            let bell = self.bell.as_ref().filter(|_| self.expecting.is_queued());
            let pause = self.expecting.next_look(bell.is_some()).or((self.read > 0).then_some(Expecting::CALM));
            match jobs.wait(pause, bell) {
                Woken::Jobs(jobs) => self.run(jobs),
                Woken::Idle => {
                    if let Some(bell) = &self.bell {
                        bell.clear();
                    }
                    self.look();
                }
                Woken::Closed => return,
            }
        }
    }

    /// Does jobs in as many transactions as they need, so that other clients can write in between.
    fn run(&mut self, mut jobs: Vec<Job>) {
        jobs.retain(|job| !job.reply.is_closed()); // its caller has given up, so it counts as lost on the way
        while !jobs.is_empty() {
            let mut operations = 0;
            let is_enough = |job: &Job| {
                operations += job.operations.len();
                operations >= MOST_TOGETHER
            };
            let last = jobs.iter().position(is_enough).unwrap_or(jobs.len() - 1);
            let later = jobs.split_off(last + 1);
            let outcome = self.transact(&jobs);
            self.answer(std::mem::replace(&mut jobs, later), outcome);
        }
    }

    fn answer(&mut self, jobs: Vec<Job>, outcome: Result<Outcome, CallError>) {
        match outcome {
            Ok((answers, events)) => {
                let now = self.clock.now();
                for event in &events {
                    self.expecting.heard(event);
                    self.events.send(*event);
                }
                for (job, answers) in jobs.into_iter().zip(answers) {
                    self.expecting.answered(&job.operations, &answers, now);
                    let _caller_gave_up = job.reply.send(Ok(answers));
                }
            }
            Err(error) => {
                for job in jobs {
                    let _caller_gave_up = job.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Reads notices, if other clients have written, and removes those that were read before.
    fn look(&mut self) {
        self.expecting.prune(self.clock.now());
        let looked = match &mut self.file {
            _ if self.read > 0 => self.transact(&[]),
            _ if self.expecting.is_empty() => return,
            Some(file) => file.check().and_then(|()| notices(file, &self.inbox, &mut self.read)),
            None => self.transact(&[]),
        };
        if let Err(error) = &looked {
            tracing::warn!(%error, file = %self.config.path.display(), "rlock's file cannot be read");
            if let Some(file) = self.file.take_if(|file| file.check().is_err()) {
                drop(file);
                self.was_lost = true;
                let _tried_again_later = self.reopen();
            }
        }
        self.answer(Vec::new(), looked);
    }

    /// Does jobs in one transaction.
    fn transact(&mut self, jobs: &[Job]) -> Result<Outcome, CallError> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let turn = self.turns.take()?;
        let Some(file) = &mut self.file else { unreachable!("it has been opened") };
        if let Err(replaced) = file.check() {
            drop(turn);
            self.file = None;
            self.was_lost = true;
            // Holders are notified by it, ask, and find that they have lost their locks.
            self.reopen()?;
            return Err(replaced);
        }
        execute(&file.conn, "BEGIN IMMEDIATE").map_err(CallError::undone)?;
        // No other client writes from here on.
        let now = self.clock.now();
        let mut transaction = Transaction {
            conn: &file.conn,
            namespace: self.config.namespace.as_str(),
            inbox: &self.inbox,
            now: micros(now),
            opens: file.opens,
            events: Vec::new(),
            is_mail: false,
        };
        let mut act = || -> rusqlite::Result<Vec<Vec<Answer>>> {
            if now >= self.sweep_at {
                let is_full = transaction.sweep(&mut self.sweep)?;
                self.sweep_at = if is_full { now } else { now.after(SWEEP_EVERY) };
            }
            if self.read > 0 {
                transaction.discard(self.read)?;
            }
            let mut run = |operation| transaction.run(operation);
            jobs.iter().map(|job| job.operations.iter().map(&mut run).collect()).collect()
        };
        let answers = act().map_err(CallError::undone);
        let (events, is_mail) = (std::mem::take(&mut transaction.events), transaction.is_mail);
        let committed = answers.and_then(|answers| {
            execute(&file.conn, "COMMIT").map_err(CallError::committing)?;
            Ok(answers)
        });
        let answers = committed.inspect_err(|_| self.file = None)?; // which ends the transaction
        self.read = 0;
        drop(turn);
        if is_mail {
            self.turns.ring();
        }
        Ok((answers, events))
    }

    fn reopen(&mut self) -> Result<(), CallError> {
        let path = file::prepare(&self.config)?;
        if path != self.path {
            self.turns = Turns::at(&path);
            self.path = path;
        }
        let turn = self.turns.take()?;
        let opened = OpenFile::open(&self.config, &self.path, &self.clock, &self.turns, self.was_lost)?;
        drop(turn);
        self.was_lost = false;
        self.read = 0;
        self.bell = None; // it may watch a file that was deleted
        self.file = Some(opened);
        self.events.send(Event::Resync);
        Ok(())
    }
}

fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<usize> {
    conn.prepare_cached(sql)?.execute([])
}

/// The notices for this client, which only a commit of another one can have left.
fn notices(file: &mut OpenFile, inbox: &str, read: &mut i64) -> Result<Outcome, CallError> {
    let mut look = || if file.is_changed()? { mail::read(&file.conn, inbox, read) } else { Ok(Vec::new()) };
    look().map(|events| (Vec::new(), events)).map_err(CallError::undone)
}
