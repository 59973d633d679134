//! `rlock schema`: prints or creates rlock's tables in Postgres.

use std::io::Write as _;

use rlock::ConnectError;
use rlock::postgres::{PostgresBackend, PostgresConfig};

use crate::args::SchemaArgs;
use crate::exit::Exit;
use crate::report::report;

pub(crate) async fn schema(args: SchemaArgs) -> Exit {
    if args.create && args.store.given.is_none() {
        report!("--create needs a database: name it with --url or RLOCK_URL, and write postgres://HOST:PORT/DATABASE");
        return Exit::USAGE;
    }
    match print_or_create(&args).await {
        Ok(()) => Exit::OK,
        Err(error) => {
            report!("{error}");
            Exit::of_connect_error(&error)
        }
    }
}

async fn print_or_create(args: &SchemaArgs) -> Result<(), ConnectError> {
    const ANY: &str = "postgres://localhost";
    let url = if args.create { args.store.url() } else { args.store.given.as_deref().unwrap_or(ANY) };
    let config = PostgresConfig::from_url(url)?;
    if args.create {
        PostgresBackend::ensure_schema(&config).await?;
    } else {
        let _reader_gone = write!(std::io::stdout(), "{}", PostgresBackend::schema_sql(&config));
    }
    Ok(())
}
