//! One question to a store.

use rlock::{BackendError, Client};

use crate::args::Store;
use crate::exit::Exit;
use crate::report::report;

/// Connects and asks the store. On failure, reports the error and returns the exit status.
pub(crate) async fn ask<T>(
    store: &Store,
    question: impl AsyncFnOnce(&Client) -> Result<T, BackendError>,
) -> Result<T, Exit> {
    let client = match rlock::connect_with(store.url(), Client::builder()).await {
        Ok(client) => client,
        Err(error) => {
            report!("{error}");
            return Err(Exit::of_connect_error(&error));
        }
    };
    question(&client).await.map_err(|error| {
        report!("{error}");
        Exit::UNAVAILABLE
    })
}
