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
use crate::lock::{LockOptions, SimpleLock};

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

    /// Waits to lead, for ever if need be. `data` tell others about this candidate, such as the address at which it serves:
    /// at most 1 KiB, and empty for none.
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

    /// Waits to lead as `options` say. See [`campaign`](Self::campaign).
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

    /// The leader at this instant, by the store's word; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Those of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn leader(&self) -> Result<Option<Leader>, BackendError> {
        observer::ask(&self.client, self.resource()).await
    }

    /// Watches who leads: the state at first, and then each change that is seen.
    ///
    /// The client asks the store about once a second, and when the leader's lease would end. A leader who came and went between
    /// two questions is not seen; that one was there shows in the next leader's token. When the store does not answer, the
    /// stream says so once, by [`Observation::Unsure`]: the state may have changed meanwhile. It says the state again when
    /// the store answers.
    ///
    /// Followers that act on the leader's word send its token along, so that a deposed leader can be told from the new one.
    ///
    /// The stream ends with the client. It works on the client's runtime, in one task, which ends with the stream.
    pub fn observe(&self) -> impl Stream<Item = Observation> + Send + Unpin + use<> {
        Watching::<Observation>::start(&self.client, self.resource().clone())
    }

    /// Leads whenever it can, and runs `term` for each time, until `term` says that it is done. A term whose leadership is
    /// lost is dropped where it stands, and the campaign begins again.
    ///
    /// # Errors
    ///
    /// As for [`campaign_with`](Self::campaign_with).
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
            let leadership = self.campaign_with(data.clone(), options.clone()).await?;
            let work = term(&leadership);
            match leadership.run(work).await {
                Ok(output) => return Ok(output),
                Err(lost) => tracing::warn!(%lost, "the leadership was lost; the campaign begins again"),
            }
        }
    }

    /// The name of the election, which is that of its mutex.
    pub fn resource(&self) -> &ResourceName {
        self.lock.resource()
    }
}
