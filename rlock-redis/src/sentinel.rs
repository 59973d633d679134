//! Asks the sentinels which server is the primary.
//!
//! A failover raises the configuration epoch, and the sentinels learn it from each other. So the answer with the
//! highest epoch counts (<https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/>).

use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rlock_core::Cause;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::address::Address;
use crate::client::Endpoint;
use crate::config::Credentials;
use crate::conn::{Conn, Driver};
use crate::error::{CallError, code_of};
use crate::wire::{Args, Reply};
use crate::{RedisConfig, advice};

/// The interval of asking the sentinels. The client leaves a deposed primary within a second: an earlier look takes up
/// to [`FOR_OTHERS`] longer than the first answer, and the next one ends with the first newer answer.
const BETWEEN_LOOKS: Duration = Duration::from_millis(400);
/// The time limit for the answer of one sentinel.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// The time after the first answer in which further answers count.
const FOR_OTHERS: Duration = Duration::from_millis(300);
/// The time after which a majority of sentinels may undo a failover that they do not know.
const UNDONE_AFTER: Duration = Duration::from_secs(10);

/// The sentinels of one service.
pub(crate) struct Sentinels {
    config: Arc<RedisConfig>,
    service: String,
    credentials: Option<Credentials>,
    sentinels: Vec<Sentinel>,
    primary: watch::Sender<Option<Primary>>,
    /// The time of the last answer that named the primary.
    confirmed: StdMutex<Instant>,
    /// Held by the task that asks on behalf of all.
    looks: Mutex<()>,
}

struct Sentinel {
    address: Address,
    opened: Mutex<Option<Opened>>,
}

/// The connection to a sentinel.
struct Opened {
    conn: Conn,
    _driver: Driver,
    /// The time of the first question since the last answer.
    unanswered: Option<Instant>,
}

/// The primary that a sentinel names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Primary {
    epoch: u64,
    /// False while the sentinel leads a failover: it then reports the new epoch with the old address.
    is_final: bool,
    address: Address,
}

impl Sentinels {
    pub(crate) fn new(
        config: Arc<RedisConfig>,
        hosts: &[Address],
        service: &str,
        credentials: Option<&Credentials>,
    ) -> Self {
        let sentinel = |address: &Address| Sentinel { address: address.clone(), opened: Mutex::default() };
        Self {
            config,
            service: service.to_owned(),
            credentials: credentials.cloned(),
            sentinels: hosts.iter().map(sentinel).collect(),
            primary: watch::Sender::new(None),
            confirmed: StdMutex::new(Instant::now()),
            looks: Mutex::default(),
        }
    }

    /// Asks the sentinels for the primary.
    pub(crate) async fn primary(&self) -> Result<Address, CallError> {
        let known = self.primary.borrow().as_ref().map(|primary| primary.epoch);
        let is_newer = |primary: &Primary| primary.is_final && known.is_some_and(|known| primary.epoch > known);
        let asked: FuturesUnordered<_> = self.sentinels.iter().map(|sentinel| self.ask(sentinel)).collect();
        let (answers, errors) = gather(asked, is_newer).await;
        self.judge(answers).ok_or_else(|| none_answered(&errors))
    }

    /// The primary by the answers of one round.
    fn judge(&self, answers: Vec<Primary>) -> Option<Address> {
        let is_majority = 2 * answers.len() > self.sentinels.len();
        let newest = answers.into_iter().max()?;
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut address = newest.address.clone();
        self.primary.send_if_modified(|known| match known {
            // These sentinels do not know of the failover yet. If a majority does not for a long time, the failover was
            // undone.
            Some(known) if known.epoch > newest.epoch && !(is_majority && confirmed.elapsed() > UNDONE_AFTER) => {
                address = known.address.clone();
                false
            }
            known => {
                *confirmed = Instant::now();
                known.replace(newest.clone()) != Some(newest)
            }
        });
        Some(address)
    }

    async fn ask(&self, sentinel: &Sentinel) -> Result<Primary, CallError> {
        let asked = timeout(ANSWERS_WITHIN, sentinel.ask(self)).await;
        let late = |_elapsed| Err(CallError::Unsent(Cause::new(format!("no answer within {ANSWERS_WITHIN:?}"))));
        let failed = |error| explained(error, &self.service).about(format!("the sentinel at {}", sentinel.address));
        asked.unwrap_or_else(late).map_err(failed)
    }

    /// Returns when the sentinels name another primary than the server at `address`.
    pub(crate) async fn replaced(&self, address: &Address) {
        let mut named = self.primary.subscribe();
        let look = async {
            let _turn = self.looks.lock().await;
            loop {
                sleep(BETWEEN_LOOKS).await;
                let _out_of_reach = self.primary().await;
            }
        };
        tokio::select! {
            _ = named.wait_for(|primary| primary.as_ref().is_some_and(|primary| primary.address != *address)) => {}
            () = look => {}
        }
    }
}

/// Collects the answers that come until [`FOR_OTHERS`] after the first one, or until one of them is enough.
async fn gather(
    mut asked: FuturesUnordered<impl Future<Output = Result<Primary, CallError>>>,
    is_enough: impl Fn(&Primary) -> bool,
) -> (Vec<Primary>, Vec<CallError>) {
    let (mut answers, mut errors, mut until) = (Vec::<Primary>::new(), Vec::new(), None);
    while !answers.last().is_some_and(&is_enough) {
        let late = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = asked.next() => match answer {
                Some(Ok(primary)) => {
                    until.get_or_insert_with(|| Instant::now() + FOR_OTHERS);
                    answers.push(primary);
                }
                Some(Err(error)) => errors.push(error),
                None => break,
            },
            () = late => break,
        }
    }
    (answers, errors)
}

impl Sentinel {
    /// Asks over the connection of the last question, or over a new one if that is broken or has been silent for
    /// [`ANSWERS_WITHIN`].
    ///
    /// # Cancel safety
    ///
    /// The connection stays open: a later answer shows that it is not silent.
    async fn ask(&self, all: &Sentinels) -> Result<Primary, CallError> {
        let mut opened = self.opened.lock().await;
        let is_silent = |opened: &Opened| opened.unanswered.is_some_and(|since| since.elapsed() >= ANSWERS_WITHIN);
        if opened.as_ref().is_some_and(is_silent) {
            *opened = None;
        }
        loop {
            let is_new = opened.is_none();
            let Opened { conn, unanswered, .. } = match &mut *opened {
                Some(opened) => opened,
                none => {
                    let credentials = all.credentials.as_ref();
                    let endpoint = Endpoint { credentials, ..Endpoint::of_node(&all.config, &self.address) };
                    let (conn, driver) = Conn::open(&endpoint).await?;
                    none.insert(Opened { conn, _driver: driver, unanswered: None })
                }
            };
            unanswered.get_or_insert_with(Instant::now);
            match self.ask_over(conn, all).await {
                Err(error @ (CallError::Unsent(_) | CallError::Unanswered(_))) => {
                    *opened = None;
                    if is_new {
                        return Err(error);
                    }
                }
                answer => {
                    *unanswered = None;
                    return answer;
                }
            }
        }
    }

    async fn ask_over(&self, conn: &Conn, all: &Sentinels) -> Result<Primary, CallError> {
        let mut args = Args::with_capacity(2);
        args.fixed("MASTER");
        args.text(all.service.as_str());
        let reply = conn.command("SENTINEL", args).await?;
        let Reply::Array(fields) = &reply else { return Err(foreign(&reply)) };
        let primary = Primary::read(fields, &self.address).ok_or_else(|| foreign(&reply))?;
        Ok(Primary { address: all.config.reached(primary.address), ..primary })
    }
}

impl Primary {
    fn read(fields: &[Reply], sentinel: &Address) -> Option<Self> {
        let field = |name: &str| {
            fields.chunks_exact(2).find_map(|pair| match pair {
                [Reply::Text(found), Reply::Text(value)] if found == name => Some(value.as_str()),
                _ => None,
            })
        };
        let address = Address::announced(field("ip")?, field("port")?.parse().ok()?, sentinel);
        let is_final = !field("flags").unwrap_or_default().contains("failover_in_progress");
        Some(Self { epoch: field("config-epoch")?.parse().ok()?, is_final, address })
    }
}

/// Adds the remedy to the refusal of a sentinel, whose users and options are not those of the servers.
fn explained(error: CallError, service: &str) -> CallError {
    let text = match error {
        CallError::Refused(text) => text,
        other => return other,
    };
    if text.contains("No such master") {
        let reason = format!(
            "it does not know {service:?}: the URL needs the name that the primary has in sentinel.conf, as in \
             redis-sentinel://host:port/NAME"
        );
        return CallError::Unfit(reason);
    }
    if text.contains("unknown command") || text.contains("unknown subcommand") {
        return CallError::Unfit("it is no sentinel: a server alone is redis://host:port".into());
    }
    match code_of(&text) {
        "NOPERM" => CallError::Unfit(advice::give_sentinel_rights()),
        "NOAUTH" => CallError::Unfit(advice::SENTINEL_WANTS_PASSWORD.into()),
        "WRONGPASS" => CallError::Unfit(advice::SENTINEL_REFUSES_LOGIN.into()),
        "ERR" if text.contains("AUTH") => CallError::Unfit(advice::SENTINEL_REFUSES_LOGIN.into()),
        _ => CallError::Refused(text),
    }
}

fn foreign(reply: &Reply) -> CallError {
    CallError::Refused(format!("{reply:?} to SENTINEL MASTER"))
}

fn none_answered(errors: &[CallError]) -> CallError {
    let all = errors.iter().map(CallError::to_string).collect::<Vec<_>>().join("; ");
    let lasting = errors.iter().find(|error| matches!(error, CallError::Unfit(_) | CallError::Refused(_)));
    match lasting {
        Some(CallError::Refused(text)) => CallError::Refused(text.clone()),
        Some(_) if errors.iter().all(|error| matches!(error, CallError::Unfit(_))) => CallError::Unfit(all),
        _ => CallError::Unsent(Cause::new(format!("no sentinel names the primary: {all}"))),
    }
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinels")
            .field("service", &self.service)
            .field("primary", &self.primary)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentinels() -> Sentinels {
        let config = RedisConfig::from_url("redis-sentinel://a,b,c/main").unwrap();
        let hosts: Vec<_> = ["a", "b", "c"].map(|host| Address::new(host, 26379)).into();
        Sentinels::new(Arc::new(config), &hosts, "main", None)
    }

    fn primary(epoch: u64, host: &str) -> Primary {
        Primary { epoch, is_final: true, address: Address::new(host, 6379) }
    }

    #[test]
    fn highest_epoch_names_the_primary() {
        let sentinels = sentinels();
        assert_eq!(sentinels.judge(Vec::new()), None);
        let judged = sentinels.judge(vec![primary(1, "old"), primary(2, "new"), primary(1, "old")]);
        assert_eq!(judged, Some(Address::new("new", 6379)));
    }

    #[test]
    fn leader_of_a_failover_names_no_primary() {
        let leader = Primary { is_final: false, ..primary(2, "z-old") };
        assert_eq!(sentinels().judge(vec![leader, primary(2, "new")]), Some(Address::new("new", 6379)));
    }

    #[tokio::test(start_paused = true)]
    async fn stale_sentinels_do_not_undo_a_failover() {
        let sentinels = sentinels();
        sentinels.judge(vec![primary(2, "new"), primary(2, "new")]);
        let stale = || vec![primary(1, "old"), primary(1, "old")];
        assert_eq!(sentinels.judge(stale()), Some(Address::new("new", 6379)));
        sleep(UNDONE_AFTER * 2).await;
        assert_eq!(sentinels.judge(vec![primary(1, "old")]), Some(Address::new("new", 6379)));
        assert_eq!(sentinels.judge(stale()), Some(Address::new("old", 6379)));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_sentinels_delay_no_failover() {
        let sentinel =
            |answers: bool| async move { if answers { Ok(primary(2, "new")) } else { std::future::pending().await } };
        let asked = || [sentinel(false), sentinel(true)].into_iter().collect::<FuturesUnordered<_>>();
        let begun = Instant::now();
        let (answers, _errors) = gather(asked(), |primary| primary.epoch > 1).await;
        assert_eq!((answers, begun.elapsed()), (vec![primary(2, "new")], Duration::ZERO));
        let (answers, _errors) = gather(asked(), |primary| primary.epoch > 2).await;
        assert_eq!((answers, begun.elapsed() >= FOR_OTHERS), (vec![primary(2, "new")], true));
    }

    #[test]
    fn refusals_name_the_options_of_sentinels() {
        for (text, remedy) in [
            (
                "NOPERM this user has no permissions to run the 'sentinel|master' command",
                RedisConfig::SENTINEL_ACL_RULES,
            ),
            ("NOAUTH Authentication required.", "sentinel_password="),
            ("WRONGPASS invalid username-password pair or user is disabled.", "sentinel_user and sentinel_password"),
            ("ERR AUTH <password> called without any password configured", "sentinel_user and sentinel_password"),
        ] {
            let explained = explained(CallError::Refused(text.into()), "main");
            assert!(matches!(&explained, CallError::Unfit(reason) if reason.contains(remedy)), "{explained:?}");
        }
    }

    #[test]
    fn fields_of_a_primary_are_read() {
        let text = |text: &str| Reply::Text(text.into());
        let fields = ["name", "main", "ip", "10.0.0.7", "port", "6380", "config-epoch", "3"].map(text);
        let own = Address::new("a", 26379);
        let read = Primary { epoch: 3, is_final: true, address: Address::new("10.0.0.7", 6380) };
        assert_eq!(Primary::read(&fields, &own), Some(read));
        assert_eq!(Primary::read(&fields[..6], &own), None);
    }
}
