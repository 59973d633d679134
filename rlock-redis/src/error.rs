//! Maps errors of the server and of connections to the outcome of a request.

use std::fmt;
use std::sync::Arc;

use rlock_core::{BackendError, Cause, ConnectError, Failure};

use crate::advice;

/// The error code of a replica. After a failover the name of the primary may lead to another server; only a new
/// connection finds that out.
pub(crate) const READONLY: &str = "READONLY";

/// The failure of one command.
#[derive(Debug, Clone)]
pub(crate) enum CallError {
    /// The command never left this process.
    Unsent(Cause),
    /// The command may have arrived; no answer came.
    Unanswered(Cause),
    /// The server answered with an error.
    Refused(String),
    /// The server or the user's rights are not sufficient for locks.
    Unfit(String),
}

impl CallError {
    /// Adds the name of the subject to an error; unchanged if the name is empty.
    pub(crate) fn about(self, subject: impl fmt::Display) -> Self {
        let subject = subject.to_string();
        if subject.is_empty() {
            return self;
        }
        let name = |cause: Cause| Cause { reason: format!("{subject}: {}", cause.reason), source: cause.source };
        match self {
            Self::Unsent(cause) => Self::Unsent(name(cause)),
            Self::Unanswered(cause) => Self::Unanswered(name(cause)),
            Self::Unfit(reason) => Self::Unfit(format!("{subject}: {reason}")),
            refused @ Self::Refused(_) => refused, // it begins with the error code
        }
    }

    /// Whether the node of a cluster does not serve the slot, or shares it with another node.
    pub(crate) fn is_of_moving_slot(&self) -> bool {
        ["MOVED", "ASK", "TRYAGAIN"].iter().any(|code| self.is_refusal_with(code))
    }

    pub(crate) fn is_refusal_with(&self, code: &str) -> bool {
        matches!(self, Self::Refused(text) if code_of(text) == code)
    }

    pub(crate) fn into_backend_error(self, operation: &'static str, store: &Arc<str>) -> BackendError {
        match self {
            Self::Unsent(cause) => BackendError::NotApplied(cause.into_failure(operation, store)),
            Self::Unanswered(cause) => BackendError::Unknown(cause.into_failure(operation, store)),
            Self::Refused(text) => refused(&text, operation, store),
            Self::Unfit(reason) => BackendError::Rejected(Failure::new(operation, store.clone(), reason)),
        }
    }

    pub(crate) fn into_connect_error(self, store: &Arc<str>) -> ConnectError {
        match self {
            Self::Unsent(cause) | Self::Unanswered(cause) => {
                ConnectError::Unreachable(cause.into_failure("connect", store))
            }
            Self::Unfit(reason) => ConnectError::Rejected(Failure::new("connect", store.clone(), reason)),
            Self::Refused(text) => match refused(&text, "connect", store) {
                BackendError::NotApplied(failure) | BackendError::Unknown(failure) => {
                    ConnectError::Unreachable(failure)
                }
                BackendError::Rejected(failure) => ConnectError::Rejected(failure),
                other => ConnectError::Rejected(Failure::new("connect", store.clone(), other.to_string())),
            },
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(cause) | Self::Unanswered(cause) => f.write_str(&cause.reason),
            Self::Refused(text) | Self::Unfit(text) => f.write_str(text),
        }
    }
}

/// Maps an error of the server, for a whole request or for one entry of it.
///
/// The scripts begin every step with the write that the server may refuse, so a refusal means that nothing was done.
/// The exception is a script on a slot that is being moved.
pub(crate) fn refused(text: &str, operation: &'static str, store: &Arc<str>) -> BackendError {
    let code = code_of(text);
    let failure = |hint: &str| {
        let separator = if hint.is_empty() { "" } else { ": " };
        Failure::new(operation, store.clone(), format!("the server answered {text:?}{separator}{hint}"))
    };
    match code {
        "LOADING" => BackendError::NotApplied(failure("it is still loading its data")),
        "BUSY" => BackendError::NotApplied(failure("another script keeps it busy; SCRIPT KILL ends that")),
        "OOM" => BackendError::NotApplied(failure("it is out of memory; raise maxmemory or remove something")),
        READONLY => BackendError::NotApplied(failure("it is a replica; let the URL name the primary")),
        "MASTERDOWN" => BackendError::NotApplied(failure("it is a replica that lost its primary")),
        "NOREPLICAS" => BackendError::NotApplied(failure("it has fewer replicas than min-replicas-to-write asks for")),
        "MISCONF" => BackendError::NotApplied(failure("it cannot save to its disk; see its log")),
        "TRYAGAIN" => BackendError::NotApplied(failure("a slot is being moved")),
        // A script on a node that allows reads while its cluster is down.
        _ if text.contains("cluster is down") => BackendError::NotApplied(failure(advice::CLUSTER_IS_DOWN)),
        "NOAUTH" => BackendError::Rejected(failure("it wants a password; put user:password@ into the URL")),
        "WRONGPASS" => BackendError::Rejected(failure("check the user and the password in the URL")),
        _ if is_denial(text) => BackendError::Rejected(failure(&advice::give_rights())),
        "MOVED" | "ASK" | "CROSSSLOT" => {
            BackendError::Rejected(failure("it is a node of a cluster; write redis-cluster://host:port"))
        }
        // A part of the step was done. A retry of the request does the rest.
        _ if text.contains("non local key") => BackendError::Unknown(failure("a slot is being moved")),
        "WRONGTYPE" => {
            BackendError::Rejected(failure("another program uses the key of this resource; choose another namespace"))
        }
        "ERR" if text.contains("unknown command") && text.to_lowercase().contains("select") => {
            BackendError::Rejected(failure(advice::IS_SENTINEL))
        }
        "ERR" if text.contains("unknown command") => {
            BackendError::Rejected(failure("Redis 6.2 or newer is needed, with this command enabled"))
        }
        "ERR" if text.contains("max number of clients") => BackendError::NotApplied(failure("raise its maxclients")),
        "ERR" if text.contains("invalid password") || text.contains("AUTH") => {
            BackendError::Rejected(failure("check the user and the password in the URL"))
        }
        "ERR" if text.contains("DB index") => BackendError::Rejected(failure("check the database number in the URL")),
        _ => BackendError::Rejected(failure("")),
    }
}

/// Whether the access rules deny a command. Only some versions have an error code for a denial inside a script.
fn is_denial(text: &str) -> bool {
    code_of(text) == "NOPERM"
        || text.contains("The user executing the script can't")
        || text.contains("ACL failure in script")
}

/// The first word of an error. Redis 6 puts the line of the script before it, once for each level.
pub(crate) fn code_of(text: &str) -> &str {
    let mut rest = text.trim_start();
    if let Some((_, error)) = rest.strip_prefix("ERR Error running script").and_then(|text| text.split_once("): ")) {
        rest = error; // Redis 6 begins an uncaught error with this
    }
    while let Some(behind) = rest.strip_prefix("@user_script:").or_else(|| rest.strip_prefix("user_script:")) {
        rest = behind.trim_start_matches([' ', ':', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    }
    rest.trim_start_matches('-').split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(text: &str) -> BackendError {
        refused(text, "acquire", &Arc::from("redis://localhost:6379/0"))
    }

    #[test]
    fn transient_errors_are_not_applied_others_rejected() {
        let passing = [
            "LOADING Redis is loading the dataset in memory",
            "OOM command not allowed",
            "BUSY x",
            "READONLY x",
            "@user_script: 9: Script attempted to execute a write command while the cluster is down and readonly",
        ];
        for text in passing {
            assert!(matches!(classified(text), BackendError::NotApplied(_)), "{text}");
        }
        let lasting = ["WRONGTYPE x", "NOAUTH x", "NOPERM x", "ERR unknown command 'EVALSHA'", "ERR user_script:1: x"];
        for text in lasting {
            assert!(matches!(classified(text), BackendError::Rejected(_)), "{text}");
        }
    }

    #[test]
    fn denials_of_every_version_have_the_remedy() {
        for text in [
            "NOPERM this user has no permissions to run the 'scan' command",
            "@user_script: 1: The user executing the script can't run this command or subcommand",
            "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
            "ERR ACL failure in script: User locks has no permissions to run the 'hset' command",
        ] {
            let message = classified(text).to_string();
            assert!(message.contains(crate::RedisConfig::ACL_RULES), "{message}");
        }
    }

    #[test]
    fn error_code_follows_the_line_number() {
        let uncaught =
            "ERR Error running script (call to f_0): @user_script:21: @user_script: 21: -WRONGTYPE Operation";
        for text in
            ["WRONGTYPE x", "-WRONGTYPE x", "@user_script: 12: @user_script: 12: -WRONGTYPE Operation", uncaught]
        {
            assert_eq!(code_of(text), "WRONGTYPE");
        }
    }

    #[test]
    fn message_names_the_attempt_and_the_remedy() {
        let message = classified("WRONGPASS invalid username-password pair").to_string();
        assert!(message.starts_with("acquire on redis://localhost:6379/0 failed: "), "{message}");
        assert!(message.contains("check the user and the password"), "{message}");
    }
}
