//! From a configuration to a working connection: opens sessions, checks the tables and the server's features.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rlock_core::{ConnectError, Events, ServerClock};
use sqlx::postgres::PgConnection;
use tokio::time::timeout;

use crate::config::PostgresConfig;
use crate::error::{CallError, Kind};
use crate::events::Inbox;
use crate::link::Link;
use crate::listener::Listener;
use crate::schema::{self, Checked};
use crate::session::{ListeningSession, Sessions};
use crate::statement::{self, Statement};

const OLDEST: u32 = 130_000;

/// Connects within the time limit for that, and chooses how notifications arrive.
pub(crate) async fn connect(config: &PostgresConfig) -> Result<Connected, CallError> {
    let limit = config.settings.connect_timeout;
    let late = |_elapsed| Err(CallError::new(Kind::Unsent, format!("not connected within {limit:?}")));
    timeout(limit, open(config)).await.unwrap_or_else(late)
}

pub(crate) async fn make_tables(config: &PostgresConfig) -> Result<(), ConnectError> {
    let store = Arc::<str>::from(config.address());
    let failed = |error: CallError| error.into_connect_error(&store);
    let limit = config.settings.connect_timeout;
    let make = async {
        let mut first = connect_first(&sessions(config, false), limit).await?;
        schema::ensure(connection(&mut first).await?, &config.settings.schema).await
    };
    match timeout(limit, make).await {
        Ok(made) => made.map_err(failed),
        Err(_elapsed) => Err(failed(CallError::new(Kind::Unsent, format!("no tables within {limit:?}")))),
    }
}

/// A working connection, and the events that arrive by it.
pub(crate) struct Connected {
    pub(crate) link: Arc<Link>,
    pub(crate) inbox: Inbox,
    pub(crate) events: Events,
}

async fn open(config: &PostgresConfig) -> Result<Connected, CallError> {
    let limit = config.settings.connect_timeout;
    let mut first = connect_first(&sessions(config, false), limit).await?;
    let clock = ServerClock::default();
    let Found { is_pooled, started } = look(config, &mut first, &clock).await?;
    let sessions = Arc::new(sessions(config, is_pooled));
    let events = Events::default();
    let channel = Inbox::channel();
    let failed = |error| CallError::connecting(error, config.connections);

    // The session that listens also serves requests, unless requests use another server or a pooler.
    if !is_pooled && config.listens_where_it_asks() {
        sessions.listen(&mut first, &channel).await.map_err(failed)?;
        let listener = Listener::new(sessions.clone(), channel.clone(), events.clone(), first);
        let link = Link::new(config, sessions, Some(listener.clone()), clock);
        return Ok(Connected { link, inbox: Inbox::listen(channel, listener), events });
    }
    drop(first);
    let link = Link::new(config, sessions, None, clock);
    let inbox = match config.listen_options().filter(|_| !config.listens_where_it_asks()) {
        Some(options) => {
            let there = Arc::new(Sessions::new(config, options, false));
            let session = there.open_listening(&channel, limit).await?;
            Inbox::listen(channel.clone(), Listener::new(there, channel, events.clone(), session))
        }
        None => {
            if config.is_to_listen() {
                tracing::warn!(
                    store = config.address(),
                    "notifications do not arrive, as behind a pooler in transaction mode: waiters poll instead; \
                     give the URL of the server itself as listen_url to have them notified at once"
                );
            }
            let collect = Statement::new(include_str!("sql/collect.sql"), &config.settings.schema);
            Inbox::read(link.clone(), collect, started, events.clone())
        }
    };
    Ok(Connected { link, inbox, events })
}

fn sessions(config: &PostgresConfig, is_pooled: bool) -> Sessions {
    Sessions::new(config, config.connect_options(), is_pooled)
}

/// Opens the first session. Retries while the server is starting, or has no free connection.
async fn connect_first(sessions: &Sessions, limit: Duration) -> Result<ListeningSession, CallError> {
    sessions.connect_listener(limit).await.map_err(|error| CallError::connecting(error, sessions.connections()))
}

async fn connection(session: &mut ListeningSession) -> Result<&mut PgConnection, CallError> {
    session.conn().await.map_err(|error| CallError::connecting(error, 1))
}

/// The server behind a first session.
struct Found {
    /// Whether a pooler reassigns sessions after each transaction.
    is_pooled: bool,
    /// The time of its start, in µs.
    started: i64,
}

/// Checks the server and its tables, and looks for a pooler. Notes the server's time.
async fn look(config: &PostgresConfig, first: &mut ListeningSession, clock: &ServerClock) -> Result<Found, CallError> {
    let schema = &config.settings.schema;
    let conn = connection(first).await?;
    if let Some(version) = conn.server_version_num().filter(|&version| version < OLDEST) {
        let reason = format!("the server is version {}: 13 or newer is needed", version / 10_000);
        return Err(CallError::new(Kind::Refused, reason));
    }
    let mut sent = Instant::now();
    let Checked { is_direct, now, started } = match schema::check(conn, schema).await {
        Err(error) if error.is_without_tables() && config.settings.creates => {
            schema::make(conn, schema).await?;
            tracing::info!(store = config.address(), schema = schema.as_str(), "created the tables");
            sent = Instant::now();
            schema::check(conn, schema).await
        }
        checked => checked,
    }?;
    clock.note(sent, Instant::now(), now);
    let found = |is_pooled| Ok(Found { is_pooled, started });
    if is_direct {
        return found(false);
    }
    if config.connections == 1 || !config.listens_where_it_asks() {
        return found(true);
    }
    // A pooler is in between. If it keeps a session for each client, it passes notifications on.
    let mut second = sessions(config, true).open(config.settings.connect_timeout).await?;
    match statement::are_sessions_shared(conn, &mut second.conn).await {
        Ok(are_shared) => found(are_shared),
        // A pooler that reassigns sessions after each statement refuses transactions.
        Err(error) if error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("08P01")) => {
            found(true)
        }
        Err(error) => Err(CallError::executing(error, schema)),
    }
}
