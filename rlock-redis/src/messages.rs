//! The messages on a channel of the server.

use fred::types::Message;
use tokio::sync::broadcast;

use crate::RedisConfig;
use crate::advice;
use crate::client::Endpoint;
use crate::conn::Conn;
use crate::error::CallError;
use crate::wire::{Args, Reply};

/// The messages on a subscribed channel.
pub(crate) struct Messages(broadcast::Receiver<Message>);

/// A message, or a report that some were missed.
pub(crate) enum Delivery {
    Message(String),
    Missed,
}

impl Messages {
    /// The message that tests a subscription.
    const TRIAL: &'static str = "trial";

    /// Subscribes a connection to a channel, and returns once the server delivers messages on it.
    pub(crate) async fn subscribe(conn: &Conn, config: &RedisConfig, channel: &str) -> Result<Self, CallError> {
        let messages = Self(conn.listen(channel).await?);
        // The server answers in order, and counts this connection among the receivers if it is subscribed.
        let mut args = Args::with_capacity(2);
        args.text(channel);
        args.fixed(Self::TRIAL);
        let receivers = if conn.has_resp3() {
            conn.command("PUBLISH", args).await?
        } else {
            conn.ping().await?;
            let (other, _driver) = Conn::open(&Endpoint::of_node(config, conn.address())).await?;
            other.command("PUBLISH", args).await?
        };
        match receivers {
            Reply::Number(1..) => Ok(messages),
            _ => Err(CallError::Unfit(format!(
                "the server did not subscribe this user to {channel}: {}",
                advice::give_rights()
            ))),
        }
    }

    /// The next message. After the connection has broken, this waits forever.
    pub(crate) async fn next(&mut self) -> Delivery {
        loop {
            match self.0.recv().await {
                Ok(message) => match message.value.as_string().unwrap_or_default() {
                    text if text == Self::TRIAL => {}
                    text => return Delivery::Message(text),
                },
                Err(broadcast::error::RecvError::Lagged(_)) => return Delivery::Missed,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
