//! Leader election: a mutex whose holder leads.

mod leadership;
mod observer;

use std::future::Future;

use futures_core::Stream;

pub use self::leadership::Leadership;
pub use self::observer::{Leader, Observation};
use crate::client::{Client, Watching};
use crate::contract::{BackendError, ResourceName};
use crate::error::{InvalidConfig, LockError};
use crate::lock::{Budget, LockOptions, SimpleLock};

/// An election among the clients of a store: at most one of them leads at a time.
///
/// The election is the mutex of its name. Candidates lead in the order in which they began to campaign.
///
/// ```
/// # async fn doc(client: rlock_core::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use rlock_core::Election;
///
/// let election = Election::new("scheduler", &client)?;
/// let leadership = election.campaign("http://10.0.0.7:8080").await?;
/// // This client leads for as long as `leadership` lives and is not lost.
/// leadership.resign().await?;
/// # Ok(()) }
/// ```
#[doc(alias("LeaderElection", "LeaderLatch", "LeaderSelector"))]
#[derive(Debug, Clone)]
pub struct Election {
    client: Client,
    lock: SimpleLock,
}

impl Election {
    /// The election called `name`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig::Name`] if the name cannot be used ([`ResourceName`]).
    pub fn new(name: impl AsRef<str>, client: &Client) -> Result<Self, InvalidConfig> {
        Ok(Self { client: client.clone(), lock: SimpleLock::new(name, client)? })
    }

    /// Waits to lead, by default without a time limit. `data` describe this candidate to others, such as the address at
    /// which it serves. At most 1 KiB; empty for none.
    ///
    /// # Errors
    ///
    /// As for [`campaign_with`](Self::campaign_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`campaign_with`](Self::campaign_with).
    pub async fn campaign(&self, data: impl Into<Vec<u8>>) -> Result<Leadership, LockError> {
        self.campaign_with(data, LockOptions::new()).await
    }

    /// Waits to lead with `options`. See [`campaign`](Self::campaign).
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`]. [`InvalidConfig::NoData`] for data on a store that does not
    /// [keep them](crate::Capabilities::data).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the campaign, in the background.
    pub async fn campaign_with(&self, data: impl Into<Vec<u8>>, options: LockOptions) -> Result<Leadership, LockError> {
        let data = data.into();
        let options = if data.is_empty() { options } else { options.data(data) };
        self.lock.lock_with(options).await.map(Leadership::new)
    }

    /// Returns the leader at this instant, as the store reports it; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn leader(&self) -> Result<Option<Leader>, BackendError> {
        observer::ask(&self.client, self.resource()).await
    }

    /// Observes the leader: yields the state at first, and then each change that the client sees.
    ///
    /// The client asks the store about once a second, and at the end of the leader's lease. It does not see a leader
    /// that came and went between two requests; the next leader's token shows that there was one. When the store does
    /// not answer within two seconds, the stream yields [`Observation::Unsure`] once: the state may have changed
    /// meanwhile. It yields the state again when the store answers. So an outage shows within about three seconds, and a
    /// change within about one, or five if each answer takes two. A reader that leaves 16 changes unread misses later
    /// ones, and then gets the present state.
    ///
    /// Followers that obey the leader send its token along, so that the receiver can distinguish a deposed leader from
    /// the new one.
    ///
    /// The stream ends with the client, which it does not keep alive. It works in one task on the client's runtime,
    /// which ends with the stream.
    pub fn observe(&self) -> impl Stream<Item = Observation> + Send + Unpin + use<> {
        Watching::<Observation>::start(&self.client, self.resource().clone())
    }

    /// Campaigns, and runs `term` each time that this client leads, until a term ends by itself. A term whose
    /// leadership is lost is dropped before its end, and the campaign begins again.
    ///
    /// # Errors
    ///
    /// As for [`campaign_with`](Self::campaign_with), but a campaign continues while the store does not answer. A wait
    /// of the options, or the client's [`default_wait`](crate::ClientBuilder::default_wait), limits each campaign, also
    /// those after a lost term.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the term and resigns, in the background.
    pub async fn lead<T, F>(
        &self,
        data: impl Into<Vec<u8>>,
        options: LockOptions,
        mut term: impl FnMut(&Leadership) -> F,
    ) -> Result<T, LockError>
    where
        F: Future<Output = T>,
    {
        let data = data.into();
        loop {
            let leadership = self.campaign_on(&data, &options).await?;
            let work = term(&leadership);
            match leadership.run(work).await {
                Ok(output) => return Ok(output),
                Err(lost) => tracing::warn!(%lost, "the leadership was lost; the campaign begins again"),
            }
        }
    }

    /// Campaigns until this client leads, also while the store does not answer. The wait limits all attempts together.
    pub(crate) async fn campaign_on(&self, data: &[u8], options: &LockOptions) -> Result<Leadership, LockError> {
        let mut wait = Budget::new(&self.client, options);
        loop {
            let error = match self.campaign_with(data, wait.left_of(options.clone())).await {
                Err(error) if error.is_unavailable() => error,
                campaign => return campaign.map_err(|error| wait.whole(error)),
            };
            wait.pause().await;
            if wait.spent().is_some() {
                return Err(wait.whole(error));
            }
            tracing::warn!(%error, "the store does not answer; the campaign goes on");
        }
    }

    /// The name of the election, which is that of its mutex.
    pub fn resource(&self) -> &ResourceName {
        self.lock.resource()
    }
}
