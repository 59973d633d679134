//! `rlock elect`: a program that runs in each term of a candidate.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::execv;
use tokio::time::{Instant, sleep};

use crate::args::ElectArgs;
use crate::exit::Exit;
use crate::ready::ready;
use crate::report::{self, event, report};
use crate::run::error::RunError;
use crate::run::signals::Signals;
use crate::run::{Ran, refuse, run_once};

/// The shortest time between the beginnings of two terms.
const SHORTEST_TERM: Duration = Duration::from_secs(1);
/// The option by which a process knows that it is in a later term.
const AGAIN: &str = "--again";

pub(crate) fn elect(args: ElectArgs) -> Exit {
    let (is_later, begun) = (args.again, Instant::now());
    if is_later {
        name_this_process();
    }
    let mut run = args.into_run();
    let name = run.lock.names().remove(0);
    match run_once(&mut run) {
        Ran::Lost { signal: Some(signal), .. } => return Exit::of_signal(signal),
        Ran::Lost { ended: Some(exit), .. } => return exit,
        Ran::Lost { .. } => event!("campaigning", name: name.as_str(); "campaigning for {name} again"),
        Ran::Refused(error) if error.is_loss() || error.is_outage() => {
            event!("campaigning", name: name.as_str(); "{error}; campaigning for {name} again");
        }
        ran => return ran.exit(&run.lock),
    }
    let pause = SHORTEST_TERM.saturating_sub(begun.elapsed());
    let mut signal = Ok(None);
    let exit = crate::on_this_thread(async {
        signal = pause_for(pause).await;
        Exit::OK
    });
    match signal {
        _ if exit != Exit::OK => exit,
        Ok(Some(signal)) => refuse(&run.lock, &RunError::interrupted(&run.lock, signal)),
        Ok(None) => {
            let Err(error) = start_again(is_later);
            report!("the operating system refused to start another term: {error}");
            Exit::SYSTEM
        }
        Err(error) => refuse(&run.lock, &RunError::System(error)),
    }
}

/// Returns the signal that ends the pause. Signals that come later are kept for the next term.
async fn pause_for(time: Duration) -> io::Result<Option<Signal>> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        () = sleep(time) => {}
        signal = signals.next_to_end() => return Ok(Some(signal)),
    }
    Signals::keep()?;
    Ok(ready(signals.next_to_end()).await)
}

/// Replaces this process by a new one with the same arguments, for only a process with one thread may fork the keeper.
/// Returns if the system refuses.
fn start_again(is_later: bool) -> io::Result<Infallible> {
    let linux = cfg!(target_os = "linux");
    let program = if linux { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
    let given = std::env::args_os().collect();
    let arguments = if is_later { given } else { later(given) };
    report::flush();
    let text = |text: OsString| CString::new(text.into_vec()).map_err(io::Error::from);
    let arguments = arguments.into_iter().map(text).collect::<io::Result<Vec<_>>>()?;
    Ok(execv(&text(program.into_os_string())?, &arguments)?)
}

/// The arguments of a later term.
fn later(mut given: Vec<OsString>) -> Vec<OsString> {
    let command = given.iter().position(|argument| argument == OsStr::new("elect")).unwrap_or_default();
    given.insert((command + 1).min(given.len()), AGAIN.into());
    given
}

/// Linux names a process after the file that it runs, which is `exe` here.
fn name_this_process() {
    #[cfg(target_os = "linux")]
    let _only_a_name = nix::sys::prctl::set_name(c"rlock");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_terms_say_so() {
        let given = ["rlock", "elect", "x", "--", "true"].map(OsString::from);
        assert_eq!(later(given.into()), ["rlock", "elect", "--again", "x", "--", "true"].map(OsString::from));
    }
}
