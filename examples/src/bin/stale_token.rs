//! A resource that rejects a stale token, which protects it from a holder that was frozen past its TTL.
//!
//! `cargo run -p rlock-examples --bin stale_token`. It needs no server: the lock is in a temporary file, or in the
//! store at `RLOCK_URL`. A holder whose watchdog is off loses its lock. Another client takes the lock and writes, and
//! then the first client writes too late.

use std::time::Duration;

use rlock::{LockOptions, SimpleLock, Token};
use rlock_examples::Store;

/// The protected resource: a file, a row, or an object in a store. It remembers the largest token that it has seen.
#[derive(Default)]
struct Register {
    value: String,
    fence: Option<Token>,
}

impl Register {
    fn write(&mut self, value: &str, token: Token) -> Result<(), String> {
        match self.fence {
            Some(newest) if token < newest => Err(format!("token {token} is older than {newest}")),
            _ => {
                self.fence = Some(token);
                value.clone_into(&mut self.value);
                Ok(())
            }
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let client = rlock::connect(store.url()).await?;
    let lock = SimpleLock::new("register", &client)?;
    let mut register = Register::default();

    let short = LockOptions::new().ttl(Duration::from_millis(200)).watchdog(false);
    let frozen = lock.lock_with(short).await?;
    println!("the first holder has token {} and freezes", frozen.token());

    let next = lock.lock().await?;
    println!("the second holder has token {}", next.token());
    anyhow::ensure!(next.token() > frozen.token(), "tokens grow with every grant");
    register.write("by the second", next.token()).map_err(anyhow::Error::msg)?;

    let rejected = register.write("by the first", frozen.token()).expect_err("a stale token is rejected");
    println!("the first holder wakes up and is rejected: {rejected}");
    println!("its guard says why: {}", frozen.check().expect_err("the lock was lost"));
    anyhow::ensure!(register.value == "by the second", "the register holds what the lock's holder wrote");
    next.unlock().await?;
    Ok(())
}
