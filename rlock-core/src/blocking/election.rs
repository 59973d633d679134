//! Leader election, for blocking code.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;

use super::park::{block_on_for, next_of};
use super::{Client, block_on};
use crate::contract::{BackendError, Token};
use crate::election::{self, Leader, Observation};
use crate::error::{InvalidConfig, LockError, UnlockError};
use crate::lease::{LossReason, Lost};
use crate::lock::LockOptions;

/// An election. See [`Election`](crate::Election).
#[derive(Debug, Clone)]
pub struct Election(election::Election);

impl Election {
    /// The election called `name`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// As for [`Election::new`](crate::Election::new).
    pub fn new(name: impl AsRef<str>, client: &Client) -> Result<Self, InvalidConfig> {
        election::Election::new(name, client.as_async()).map(Self)
    }

    /// Waits to lead, by default without a time limit. See [`Election::campaign`](crate::Election::campaign).
    ///
    /// # Errors
    ///
    /// As for [`Election::campaign_with`](crate::Election::campaign_with).
    pub fn campaign(&self, data: impl Into<Vec<u8>>) -> Result<Leadership, LockError> {
        self.campaign_with(data, LockOptions::new())
    }

    /// Waits to lead with `options`.
    ///
    /// # Errors
    ///
    /// As for [`Election::campaign_with`](crate::Election::campaign_with).
    pub fn campaign_with(&self, data: impl Into<Vec<u8>>, options: LockOptions) -> Result<Leadership, LockError> {
        block_on(self.0.campaign_with(data, options)).map(Leadership)
    }

    /// Campaigns, and calls `term` each time that this client leads. Returns the output of the first term that returns
    /// before its leadership is lost.
    ///
    /// A loss does not stop `term`. Therefore `term` gets the leadership, to [check](Leadership::check) between two steps.
    /// After a loss, `lead` drops the output of the term, and campaigns again. See
    /// [`Election::lead`](crate::Election::lead).
    ///
    /// ```
    /// # fn next_job() -> Option<u32> { None }
    /// # fn run(_job: u32) {}
    /// # fn doc(election: rlock_core::blocking::Election) -> Result<(), Box<dyn std::error::Error>> {
    /// use rlock_core::{LockOptions, Lost};
    ///
    /// let term = election.lead("http://10.0.0.7:8080", LockOptions::new(), |leadership| {
    ///     while let Some(job) = next_job() {
    ///         leadership.check()?; // ends this term after a loss
    ///         run(job);
    ///     }
    ///     Ok::<_, Lost>(())
    /// })?;
    /// term?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Election::lead`](crate::Election::lead).
    pub fn lead<T>(
        &self,
        data: impl Into<Vec<u8>>,
        options: LockOptions,
        mut term: impl FnMut(&Leadership) -> T,
    ) -> Result<T, LockError> {
        let data = data.into();
        loop {
            let leadership = block_on(self.0.campaign_on(&data, &options)).map(Leadership)?;
            match leadership.run(&mut term) {
                Ok(output) => return Ok(output),
                Err(lost) => tracing::warn!(%lost, "the leadership was lost; the campaign begins again"),
            }
        }
    }

    /// Returns the leader at this instant, as the store reports it; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub fn leader(&self) -> Result<Option<Leader>, BackendError> {
        block_on(self.0.leader())
    }

    /// Observes the leader. See [`Election::observe`](crate::Election::observe).
    pub fn observe(&self) -> Observations {
        Observations(Box::pin(self.0.observe()))
    }
}

/// The changes of an election. `next` blocks until the next change, and returns `None` once the client has ended.
pub struct Observations(Pin<Box<dyn Stream<Item = Observation> + Send>>);

impl Iterator for Observations {
    type Item = Observation;

    fn next(&mut self) -> Option<Observation> {
        next_of(&mut self.0)
    }
}

impl fmt::Debug for Observations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observations").finish_non_exhaustive()
    }
}

/// The leadership of a client, for as long as this value lives. See [`Leadership`](crate::Leadership).
#[derive(Debug)]
#[must_use = "dropping the leadership resigns: bind it to a name, as in `let leadership = …`"]
pub struct Leadership(election::Leadership);

impl Leadership {
    /// The fencing token of this leadership.
    pub fn token(&self) -> Token {
        self.0.token()
    }

    /// Whether this client leads at this instant.
    pub fn is_leader(&self) -> bool {
        self.0.is_leader()
    }

    /// Returns `Ok` while this client leads; for `?` between two steps of the work.
    ///
    /// # Errors
    ///
    /// [`Lost`], with the reason, once this client does not lead.
    pub fn check(&self) -> Result<(), Lost> {
        self.0.check()
    }

    /// Blocks until the leadership is lost, for `limit` at most, and returns the reason; `None` if it is not lost then.
    pub fn wait_lost(&self, limit: Duration) -> Option<LossReason> {
        block_on_for(self.0.lost(), limit)
    }

    /// Runs `work` while this client leads, and resigns after `work` has returned.
    ///
    /// A loss does not stop `work`. Therefore `work` gets the leadership, to [check](Self::check) between two steps.
    ///
    /// # Errors
    ///
    /// As for [`Guard::run`](super::Guard::run).
    pub fn run<T>(self, work: impl FnOnce(&Self) -> T) -> Result<T, Lost> {
        self.check()?;
        let output = work(&self);
        block_on(self.0.resign_after(output))
    }

    /// Resigns, so that the next candidate leads.
    ///
    /// # Errors
    ///
    /// As for [`Leadership::resign`](crate::Leadership::resign).
    pub fn resign(self) -> Result<(), UnlockError> {
        block_on(self.0.resign())
    }

    /// The same leadership for `async` code.
    pub fn as_async(&self) -> &election::Leadership {
        &self.0
    }
}
