//! Sends script calls to the primaries that serve their keys.

use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Cause, Events};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::address::Address;
use crate::cluster::{AFTER_ANOTHER, Cluster};
use crate::config::Servers;
use crate::conn::Conn;
use crate::connect::{Connector, Server};
use crate::error::{CallError, READONLY, code_of};
use crate::keys::Keys;
use crate::primary::Primary;
use crate::scripts::Script;
use crate::sentinel::Sentinels;
use crate::silent_spell::SUSPICIOUS;
use crate::stragglers::without_stragglers;
use crate::wire::{Args, Reply};
use crate::{RedisConfig, deadline, fitness, uptime};

/// The maximum number of redirections that one call follows.
const MOST_REDIRECTIONS: u32 = 5;
/// The time that a call waits for the connection to a node that it is redirected to.
const OPENED_WITHIN: Duration = Duration::from_secs(1);

/// The primaries behind a URL.
#[derive(Debug)]
pub(crate) struct Route {
    config: Arc<RedisConfig>,
    keys: Keys,
    to: To,
}

#[derive(Debug)]
enum To {
    One(Arc<Primary>),
    Cluster(Cluster),
}

/// A reply, and its source.
pub(crate) struct Replied {
    pub(crate) conn: Arc<Conn>,
    pub(crate) primary: Arc<Primary>,
    pub(crate) reply: Reply,
}

/// The purpose of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It grants on behalf of a claim, fails during the grace, and has a [deadline].
    Claim,
    /// It ends leases by force, and has a [deadline].
    Break,
    /// It releases a lease that the client may claim again by the same id, and has a [deadline].
    GiveBack,
    Other,
}

impl Route {
    /// Connects to the primaries, and makes sure that they can serve.
    pub(crate) async fn open(
        config: Arc<RedisConfig>,
        keys: Keys,
        events: &Events,
        doubted: &Arc<Notify>,
    ) -> Result<Self, CallError> {
        let server = match &config.servers {
            Servers::One(address) => Server::At(address.clone()),
            Servers::Sentinels { hosts, service, credentials } => {
                let sentinels = Sentinels::new(config.clone(), hosts, service, credentials.as_ref());
                Server::Named(Arc::new(sentinels))
            }
            Servers::Cluster(seeds) => {
                let opened = Cluster::open(config.clone(), seeds, keys.clone(), events.clone(), doubted.clone());
                let route = Self { to: To::Cluster(opened.await?), config, keys };
                route.check().await?;
                return Ok(route);
            }
        };
        let connector = Connector { config: config.clone(), server, mark: Some(keys.mark(0).into()) };
        let (conn, driver) = connector.open().await?;
        fitness::check(&config, &conn, &keys, 0).await?;
        let primary = Primary::new(connector, Some((conn, driver)), events, doubted);
        Ok(Self { to: To::One(Arc::new(primary)), config, keys })
    }

    /// The connector for the inbox, to a primary that receives the messages to this client.
    pub(crate) fn listener(&self) -> Connector {
        match &self.to {
            To::One(primary) => Connector { mark: None, ..primary.connector().clone() },
            To::Cluster(cluster) => {
                Connector { config: self.config.clone(), server: Server::AnyOf(cluster.addresses()), mark: None }
            }
        }
    }

    /// Whether a call is limited to one bucket.
    pub(crate) fn is_by_bucket(&self) -> bool {
        matches!(self.to, To::Cluster(_))
    }

    /// All primaries, always in the same order.
    pub(crate) fn primaries(&self) -> Vec<Arc<Primary>> {
        match &self.to {
            To::One(primary) => vec![primary.clone()],
            To::Cluster(cluster) => cluster.primaries(),
        }
    }

    /// The name of a primary in texts; empty if it is the only one.
    pub(crate) fn name_of(&self, primary: &Primary) -> String {
        match &self.to {
            To::One(..) => String::new(),
            To::Cluster(_) => primary.address().to_string(),
        }
    }

    /// Runs a script whose keys are in one bucket.
    ///
    /// # Cancel safety
    ///
    /// A call whose future is dropped may be carried out.
    pub(crate) async fn run(
        &self,
        bucket: u16,
        purpose: Purpose,
        script: &Script,
        build: impl Fn(&mut Args),
    ) -> Result<Replied, CallError> {
        let cluster = match &self.to {
            To::One(primary) => return self.run_on(primary, false, bucket, purpose, script, &build).await,
            To::Cluster(cluster) => cluster,
        };
        let (mut primary, mut asking) = (cluster.primary_of(bucket)?, false);
        for _ in 0..MOST_REDIRECTIONS {
            let call = self.run_on(&primary, asking, bucket, purpose, script, &build);
            let error = match unless_replaced(cluster, &primary, call).await {
                Ok(answered) => return Ok(answered),
                Err(error) => error,
            };
            let reached = |announced| self.config.reached(announced);
            match Redirection::of(&error, primary.address()) {
                Some(Redirection::Moved(to)) => (primary, asking) = (cluster.moved(bucket, &reached(to)), false),
                Some(Redirection::Ask(to)) => (primary, asking) = (cluster.importing(bucket, &reached(to)), true),
                None => {
                    if !error.is_refusal_with("TRYAGAIN") {
                        cluster.look_again();
                    }
                    return Err(error);
                }
            }
            primary.opened(OPENED_WITHIN).await.map_err(|error| error.about(primary.address()))?;
        }
        let reason = format!("the nodes of the cluster redirect to each other: {MOST_REDIRECTIONS} times so far");
        Err(CallError::Unsent(Cause::new(reason)))
    }

    async fn run_on(
        &self,
        primary: &Arc<Primary>,
        asking: bool,
        bucket: u16,
        purpose: Purpose,
        script: &Script,
        build: &impl Fn(&mut Args),
    ) -> Result<Replied, CallError> {
        let conn = primary.commands()?;
        let is_asked_later = purpose == Purpose::Claim && conn.grace().was_over();
        if !conn.grace().is_over() && !is_asked_later {
            self.pass_grace(&conn, primary, bucket, purpose).await?;
        }
        let with_grace = |args: &mut Args| {
            build(args);
            let grace = conn.grace().left();
            if !grace.is_zero() {
                args.number(u64::try_from(grace.as_micros()).unwrap_or(u64::MAX)); // as scripts/library.lua reads it
            }
        };
        let reply = match purpose {
            Purpose::Claim => self.claim(&conn, primary, asking, bucket, script, build).await,
            Purpose::Break => deadline::run(&conn, asking, script, with_grace).await,
            Purpose::GiveBack => deadline::run_once(&conn, asking, script, with_grace).await,
            Purpose::Other => script.call(&conn, asking, with_grace).await,
        };
        if reply.as_ref().is_err_and(|error| error.is_refusal_with(READONLY)) {
            conn.give_up();
        }
        Ok(Replied { reply: reply?, primary: primary.clone(), conn })
    }

    /// Sends a claim, and the question for the server's identity right behind it if that is due: a server that was not
    /// promoted before it answered the question was not before it granted. A call that took so long that the question
    /// is due afterwards may have been repeated, and is followed by another question. A grant after a promotion is
    /// unknown.
    async fn claim(
        &self,
        conn: &Conn,
        primary: &Arc<Primary>,
        asking: bool,
        bucket: u16,
        script: &Script,
        build: &impl Fn(&mut Args),
    ) -> Result<Reply, CallError> {
        let in_doubt = |error: CallError| match error {
            CallError::Unsent(cause) | CallError::Unanswered(cause) => CallError::Unanswered(cause),
            CallError::Refused(reason) | CallError::Unfit(reason) => CallError::Unanswered(Cause::new(reason)),
        };
        let pass_grace = || self.pass_grace(conn, primary, bucket, Purpose::Claim);
        let is_over = conn.grace().is_over();
        let claim = deadline::run(conn, asking, script, build);
        let reply = if is_over {
            claim.await?
        } else {
            let (reply, passed) = tokio::join!(claim, pass_grace());
            let reply = reply?;
            passed.map_err(in_doubt)?;
            reply
        };
        if !conn.grace().is_over() {
            pass_grace().await.map_err(in_doubt)?;
        }
        Ok(reply)
    }

    /// Fails claims during the grace. Other requests proceed, and try to find out how long it lasts.
    async fn pass_grace(
        &self,
        conn: &Conn,
        primary: &Arc<Primary>,
        bucket: u16,
        purpose: Purpose,
    ) -> Result<(), CallError> {
        let is_known = self.learn_grace(conn, primary, bucket).await;
        match purpose {
            Purpose::Claim => {
                is_known?;
                conn.grace().pass().await
            }
            Purpose::Break | Purpose::GiveBack | Purpose::Other => Ok(()),
        }
    }

    /// Finds out how long the grace lasts, by the mark in any bucket that the node serves, because the mark of a moving
    /// slot may be on another node. `bucket` is that of the call.
    async fn learn_grace(&self, conn: &Conn, primary: &Arc<Primary>, bucket: u16) -> Result<(), CallError> {
        let mut buckets = match &self.to {
            To::One(_) => vec![0], // as its connections do
            To::Cluster(cluster) => cluster.buckets_of(primary),
        };
        if buckets.is_empty() {
            buckets.push(bucket);
        }
        for bucket in buckets {
            match uptime::learn_grace(conn, &self.keys.mark(bucket)).await {
                Err(error) if error.is_of_moving_slot() => {}
                learned => return learned,
            }
        }
        if let To::Cluster(cluster) = &self.to {
            cluster.look_again();
        }
        // A mark written to the node that takes over the slot would conflict with the one that comes with the slot.
        let reason = "all slots of the node are moving, and with them the marks of the time since which it serves";
        Err(CallError::Unsent(Cause::new(reason)))
    }

    /// Makes sure that the primaries can serve. One that hangs is left out, if another one can serve.
    async fn check(&self) -> Result<(), CallError> {
        let To::Cluster(cluster) = &self.to else { return Ok(()) };
        let primaries = cluster.primaries();
        let checks = primaries.iter().enumerate();
        let checks = checks.map(|(number, primary)| async move { (number, self.check_one(cluster, primary).await) });
        let can_serve = |checked: &Result<bool, CallError>| matches!(checked, Ok(true));
        let checked = without_stragglers(checks.collect(), AFTER_ANOTHER, can_serve).await;
        let (mut is_served, mut silent) = (false, None);
        for checked in checked.into_iter().flatten() {
            match checked {
                Ok(is_checked) => is_served |= is_checked,
                Err(error @ (CallError::Unsent(_) | CallError::Unanswered(_))) => silent = Some(error),
                Err(error) => return Err(error),
            }
        }
        match silent {
            Some(error) if !is_served => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns whether a primary can serve; false if it was not asked.
    async fn check_one(&self, cluster: &Cluster, primary: &Arc<Primary>) -> Result<bool, CallError> {
        let Ok(conn) = primary.commands() else { return Ok(false) }; // the link goes on trying
        let Some(&bucket) = cluster.buckets_of(primary).first() else { return Ok(false) };
        let checked = fitness::check(&self.config, &conn, &self.keys, bucket).await;
        checked.map(|()| true).map_err(|error| error.about(primary.address()))
    }
}

/// Runs a call on a primary of a cluster. A primary that is silent may have been replaced: the call fails as unanswered
/// once the cluster says so.
async fn unless_replaced<T>(
    cluster: &Cluster,
    primary: &Arc<Primary>,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let replaced = async {
        sleep(SUSPICIOUS).await;
        loop {
            cluster.look_again();
            if timeout(SUSPICIOUS, cluster.left(primary)).await.is_ok() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        answered = call => answered,
        () = replaced => {
            Err(CallError::Unanswered(Cause::new("another node replaced the primary, which did not answer")))
        }
    }
}

/// The answer of a node that does not serve a slot, or shares it with another node.
#[derive(Debug, PartialEq, Eq)]
enum Redirection {
    Moved(Address),
    Ask(Address),
}

impl Redirection {
    fn of(error: &CallError, own: &Address) -> Option<Self> {
        let CallError::Refused(text) = error else { return None };
        let address = || Address::parse(text.split_whitespace().nth(2)?, own);
        match code_of(text) {
            "MOVED" => address().map(Self::Moved),
            "ASK" => address().map(Self::Ask),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_read() {
        let own = Address::new("10.0.0.1", 7000);
        let read = |text: &str| Redirection::of(&CallError::Refused(text.into()), &own);
        assert_eq!(read("MOVED 3999 10.0.0.2:7001"), Some(Redirection::Moved(Address::new("10.0.0.2", 7001))));
        assert_eq!(read("ASK 3999 :7001"), Some(Redirection::Ask(Address::new("10.0.0.1", 7001))));
        for other in ["TRYAGAIN Multiple keys", "MOVED 3999", "ERR MOVED"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
