//! Reasons why a program was not run, or not to its end.

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;
use rlock::{AdoptError, BackendError, ConnectError, ExtendError, LockError, Lost, ResourceName, StartWatchdogError};

use super::held;
use super::start_error::StartError;
use crate::args::LockArgs;
use crate::exit::Exit;

/// The reason why a program was not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{name} is {holders}; leave out --try to wait")]
    Busy { name: ResourceName, holders: String },
    #[error("gave up on {name} after {}: it is {holders}", shown(*waited))]
    TimedOut { name: ResourceName, waited: Duration, holders: String },
    #[error("gave up on {name} after {}: {source}", shown(*waited))]
    Unreachable { name: ResourceName, waited: Duration, source: BackendError },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("stopped by {signal} while waiting for {names}")]
    Interrupted { names: String, signal: Signal },
    #[error(
        "{name} is held by the rlock run that this one runs in, which waits for this one: take it once, or give this lock \
         another name"
    )]
    Nested { name: ResourceName },
    #[error("lost {} ({}) while waiting for {name}", lost.resource, lost.reason)]
    LostWhileWaiting { lost: Lost, name: ResourceName },
    #[error("{name} is {kind}: every user of a lock has to name the same kind")]
    OtherKind { name: ResourceName, kind: String },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("gave up after the grant, and started nothing: {0}")]
    NotConfirmed(#[from] ExtendError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the operating system refused: {0}")]
    System(#[from] io::Error),
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    #[error(transparent)]
    Watchdog(#[from] StartWatchdogError),
    #[error("{0}")]
    Keeper(io::Error),
    #[error("the keeper of the program was killed, and the program with it")]
    KeeperDied,
    #[error(
        "the keeper did not say within {} whether it had started the program, and was killed with what it had \
         started; was it stopped?",
        shown(*waited)
    )]
    KeeperUnanswered { waited: Duration },
    #[error("{names} was lost while rlock started the program; what had started was killed")]
    LostAtStart { names: String },
    #[error("the program was not started: {names} was about to be lost")]
    TooLate { names: String },
}

impl RunError {
    pub(crate) fn interrupted(args: &LockArgs, signal: Signal) -> Self {
        Self::Interrupted { names: held::joined(args.names().iter(), ", "), signal }
    }

    /// The status to end with, and the event in JSON.
    pub(crate) fn exit(&self) -> (Exit, &'static str) {
        match self {
            Self::Busy { .. } => (Exit::NOT_ACQUIRED, "busy"),
            Self::TimedOut { .. } => (Exit::NOT_ACQUIRED, "timed_out"),
            Self::Unreachable { .. } => (Exit::UNAVAILABLE, "unavailable"),
            Self::Connect(error) => match Exit::of_connect_error(error) {
                Exit::USAGE => (Exit::USAGE, "wrong_usage"),
                Exit::SYSTEM => (Exit::SYSTEM, "refused"),
                exit => (exit, "unavailable"),
            },
            Self::Interrupted { signal, .. } => (Exit::of_signal(*signal), "interrupted"),
            Self::Nested { .. } => (Exit::USAGE, "nested"),
            Self::OtherKind { .. } => (Exit::UNAVAILABLE, "other_kind"),
            Self::Lock(error @ LockError::Unanswered { .. }) => (Exit::of_lock_error(error), "unanswered"),
            Self::Lock(LockError::InvalidConfig(_)) => (Exit::USAGE, "wrong_usage"),
            Self::Lock(error) => (Exit::of_lock_error(error), "not_acquired"),
            Self::LostWhileWaiting { .. }
            | Self::NotConfirmed(ExtendError::Lost(_))
            | Self::Adopt(AdoptError::Lost(_))
            | Self::Watchdog(StartWatchdogError::Lost(_))
            | Self::LostAtStart { .. }
            | Self::TooLate { .. } => (Exit::LOCK_LOST, "lost"),
            Self::Adopt(_) => (Exit::UNAVAILABLE, "unavailable"),
            Self::Watchdog(_) => (Exit::USAGE, "wrong_usage"),
            Self::NotConfirmed(_) => (Exit::UNAVAILABLE, "unavailable"),
            Self::Start(error) => (error.exit(), "not_started"),
            Self::System(_) | Self::Keeper(_) | Self::KeeperDied | Self::KeeperUnanswered { .. } => {
                (Exit::SYSTEM, "refused")
            }
        }
    }
}

impl RunError {
    /// Whether a candidate campaigns again: it lost the lock before its program was started.
    pub(crate) fn is_loss(&self) -> bool {
        self.exit().0 == Exit::LOCK_LOST
    }

    /// Whether the store did not confirm the extension of a lock that it had granted.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::NotConfirmed(_))
    }
}

/// A time for people, without more digits than matter.
pub(crate) fn shown(time: Duration) -> String {
    let step = match time.as_secs() {
        0 => 1,
        1..10 => 100,
        _ => 1000,
    };
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX - step);
    let rounded = (millis + step / 2) / step * step;
    humantime::format_duration(Duration::from_millis(rounded)).to_string()
}

#[cfg(test)]
mod tests {
    use rlock::{InvalidConfig, LossReason};

    use super::*;

    #[test]
    fn wrong_options_have_their_own_event() {
        let error = RunError::from(LockError::from(InvalidConfig::NoFailureAllowed));
        assert_eq!(error.exit(), (Exit::USAGE, "wrong_usage"));
        let error = RunError::from(StartWatchdogError::from(InvalidConfig::NoFailureAllowed));
        assert_eq!(error.exit(), (Exit::USAGE, "wrong_usage"));
    }

    #[test]
    fn wait_without_an_answer_has_its_own_event() {
        let resource = ResourceName::new("x").unwrap();
        let error = RunError::from(LockError::Unanswered { resource: resource.clone(), wait: Duration::from_secs(2) });
        assert_eq!(error.exit(), (Exit::UNAVAILABLE, "unanswered"));
        let error = RunError::from(LockError::Closed { resource });
        assert_eq!(error.exit(), (Exit::UNAVAILABLE, "not_acquired"));
    }

    #[test]
    fn error_after_a_grant_names_no_program() {
        let lost = Lost { resource: ResourceName::new("nightly").unwrap(), reason: LossReason::Gone };
        let error = RunError::NotConfirmed(lost.into()).to_string();
        assert!(error.contains("nightly") && !error.contains("program"), "{error}");
    }

    #[test]
    fn times_are_rounded() {
        for (micros, text) in
            [(19_999_999, "20s"), (1_999_999, "2s"), (2_001_000, "2s"), (200_700, "200ms"), (61_400_000, "1m 1s")]
        {
            assert_eq!(shown(Duration::from_micros(micros)), text);
        }
    }
}
