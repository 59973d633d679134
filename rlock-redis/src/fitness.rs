//! Checks whether a server can serve.

use crate::conn::Conn;
use crate::error::CallError;
use crate::keys::Keys;
use crate::wire::Args;
use crate::{RedisConfig, rights, scripts, server, uptime};

const OLDEST: (u64, u64) = (6, 2);

/// Fails if the server is too old, withholds its uptime, or denies a right. Loads the scripts into it. The server has
/// to serve `bucket`.
pub(crate) async fn check(config: &RedisConfig, conn: &Conn, keys: &Keys, bucket: u16) -> Result<(), CallError> {
    check_version(conn)?;
    let grace = uptime::learn_grace(conn, &keys.mark(bucket)).await;
    if let Err(error) = grace
        && !error.is_of_moving_slot()
    {
        return Err(error);
    }
    scripts::load_all(conn).await?;
    rights::try_all(conn, keys, bucket).await?;
    if config.replicas.is_some() {
        let mut nothing = Args::with_capacity(2);
        nothing.fixed("0");
        nothing.fixed("0");
        conn.command("WAIT", nothing).await?;
    }
    if config.is_cluster() {
        conn.command("ASKING", Args::default()).await?;
        server::cluster_info(conn).await?;
    }
    Ok(())
}

fn check_version(conn: &Conn) -> Result<(), CallError> {
    match conn.version() {
        Some(version) if version < OLDEST => {
            let ((major, minor), (needs_major, needs_minor)) = (version, OLDEST);
            let reason =
                format!("the server is version {major}.{minor}: {needs_major}.{needs_minor} or newer is needed");
            Err(CallError::Unfit(reason))
        }
        // A user without the right to INFO does not learn the version; then the scripts report what is missing.
        _ => Ok(()),
    }
}
