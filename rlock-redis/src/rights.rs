//! Tests the access rights that a user of the server needs.

use crate::advice;
use crate::conn::Conn;
use crate::error::{CallError, code_of};
use crate::keys::Keys;
use crate::scripts;
use crate::wire::Reply;

/// Tests the rights that connecting does not use, so that a missing one is reported now and not at the first wait. The
/// server has to serve `bucket`.
pub(crate) async fn try_all(conn: &Conn, keys: &Keys, bucket: u16) -> Result<(), CallError> {
    let key = keys.unused(bucket);
    let script = async {
        let answer = scripts::RIGHTS.call(conn, false, |args| {
            args.fixed("2");
            args.text(key.as_str());
            args.text(keys.unused_set(bucket));
        });
        match answer.await {
            Ok(Reply::Array(commands)) if commands.is_empty() => Ok(()),
            Ok(Reply::Array(commands)) => {
                let name = |name| if let Reply::Text(name) = name { Some(name) } else { None };
                let commands: Vec<_> = commands.into_iter().filter_map(name).collect();
                Err(unfit(&format!("run {}", commands.join(" and "))))
            }
            Ok(other) => Err(CallError::Refused(format!("{other:?} to a script that tries rights"))),
            // The server checks the keys of a script before it runs the script.
            Err(CallError::Refused(text)) if is_key_denial(&text) => {
                Err(unfit(&format!("use the keys of the namespace, {}* (it tried {key})", keys.front())))
            }
            // The slot of the key is moving to another node, which says nothing about rights.
            Err(error) if error.is_of_moving_slot() => Ok(()),
            Err(error) => Err(error),
        }
    };
    tokio::try_join!(script, conn.run_empty_script()).map(drop)
}

fn unfit(denied: &str) -> CallError {
    CallError::Unfit(format!("the server does not let this user {denied}: {}", advice::give_rights()))
}

fn is_key_denial(text: &str) -> bool {
    code_of(text) == "NOPERM" && text.contains("permissions to access")
}
