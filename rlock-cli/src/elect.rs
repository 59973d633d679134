//! `rlock elect`: a program that runs in each term of a candidate.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::args::ElectArgs;
use crate::exit::Exit;
use crate::report::{self, event, report};
use crate::run::signals::Signals;
use crate::run::{Ran, run_once};

/// The pause before this candidate asks a store again that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The option by which a process knows that it is in a later term.
const AGAIN: &str = "--again";

pub(crate) fn elect(args: ElectArgs) -> Exit {
    let is_later = args.again;
    let mut run = args.into_run();
    let ran = run_once(&mut run);
    let pause = match &ran {
        Ran::Lost => Duration::ZERO,
        Ran::Refused(error) if error.is_loss() => Duration::ZERO,
        Ran::Refused(error) if is_later && error.is_outage() => RETRY_AFTER,
        Ran::Ended(_) | Ran::Refused(_) => return ran.exit(&run.lock),
    };
    let name = run.lock.names().remove(0);
    match ran {
        Ran::Refused(error) => {
            event!("campaigning", name: name.as_str(); "{error}; campaigning for {name} again");
        }
        _ => event!("campaigning", name: name.as_str(); "campaigning for {name} again"),
    }
    if !pause.is_zero() {
        let mut signal = None;
        let refused = crate::on_this_thread(async {
            signal = pause_for(pause).await;
            Exit::OK
        });
        if refused != Exit::OK {
            return refused;
        }
        if let Some(exit) = signal {
            return exit;
        }
    }
    report::flush();
    let error = start_again();
    report!("the operating system refused to start {name}'s next term: {error}");
    Exit::SYSTEM
}

/// The status to end with, if a signal ends the pause.
async fn pause_for(time: Duration) -> Option<Exit> {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            report!("the operating system refused: {error}");
            return Some(Exit::SYSTEM);
        }
    };
    tokio::select! {
        () = tokio::time::sleep(time) => None,
        signal = signals.next_to_end() => Some(Exit::of_signal(signal)),
    }
}

/// Replaces this process by a new one with the same arguments, for the keeper has to be forked by a process with one thread.
/// Returns only if the system refuses.
fn start_again() -> io::Error {
    let program = match program() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut given = std::env::args_os();
    let own = given.next().unwrap_or_default();
    Command::new(program).arg0(own).args(later(given)).exec()
}

/// The file that this process runs, also if another one has taken its path since.
fn program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

/// The arguments of a later term.
fn later(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut given: Vec<_> = given.collect();
    if given.get(1).is_none_or(|second| second != OsStr::new(AGAIN)) {
        given.insert(1.min(given.len()), AGAIN.into());
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_terms_say_so_once() {
        let given = ["elect", "x", "--", "true"].map(OsString::from);
        let once = later(given.into_iter());
        assert_eq!(once, ["elect", "--again", "x", "--", "true"].map(OsString::from));
        assert_eq!(later(once.clone().into_iter()), once);
    }
}
