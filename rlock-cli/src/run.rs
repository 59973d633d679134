//! `rlock run`: a program under a lock.

mod acquire;
mod grace;
mod held;
mod keeper;
mod program;
mod signals;
mod supervise;
mod terminal;

use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use rlock::{Client, ConnectError, ExtendError, LockError, ResourceName, UnlockError};
use tokio::time::{Instant, sleep};

use crate::args::{OnLost, RunArgs};
use crate::exit::Exit;
use crate::report::{self, event, report};
use crate::run::held::Held;
use crate::run::keeper::Keeper;
use crate::run::program::{Program, StartError};
use crate::run::signals::Signals;
use crate::run::supervise::{Outcome, Supervision};
use crate::run::terminal::{Terminal, stop_the_job};
use crate::sys::Birth;

/// How long giving back may take when nothing depends on it any more.
const GIVING_BACK: Duration = Duration::from_secs(1);

pub(crate) use keeper::keep;

pub(crate) async fn run(args: RunArgs) -> Exit {
    if args.json {
        report::in_json();
    }
    match connect_and_run(&args).await {
        Ok(exit) => exit,
        Err(error) => {
            report!("{error}");
            match error.exit() {
                Exit::NOT_ACQUIRED if args.skip_ok => Exit::OK,
                exit => exit,
            }
        }
    }
}

async fn connect_and_run(args: &RunArgs) -> Result<Exit, RunError> {
    Terminal::block_sigttou().map_err(io::Error::from)?;
    let mut signals = Signals::listen()?;
    let connecting = rlock::connect_with(args.store.url(), Client::builder().label(&label(args)));
    let client = tokio::select! {
        client = connecting => client?,
        signal = signals.next_to_end() => return Err(RunError::interrupted(args, signal)),
    };
    let result = take_and_run(args, &client, &mut signals).await;
    if matches!(result, Err(_) | Ok(Exit::LOCK_LOST))
        && let Err(error) = client.shutdown(GIVING_BACK).await
    {
        report!("{error}");
    }
    result
}

async fn take_and_run(args: &RunArgs, client: &Client, signals: &mut Signals) -> Result<Exit, RunError> {
    let held = acquire::acquire(args, client, signals).await?;
    let names = held.names();
    let acquired = Instant::now();
    signals.expect_program()?;
    let mut keeper = Keeper::start()?;
    let mut terminal = Terminal::of_the_session();
    let birth = Birth { keeper: keeper.cradle()?, terminal: terminal.as_mut().and_then(Terminal::lend) };
    let program = Program::start(&args.program, &held, birth)?;
    let outcome = Supervision::new(&held, args, program, terminal, signals).until_the_end().await;
    keeper.dismiss();
    let (status, is_asked_to) = match outcome {
        Outcome::Ended { status, is_asked_to } => (status, is_asked_to),
        Outcome::LockLost(status) => {
            report!("the program has ended ({status}); {names} was lost");
            return Ok(Exit::LOCK_LOST);
        }
    };
    if let Some(min_hold) = args.min_hold
        && !is_asked_to
    {
        keep_for(min_hold.saturating_sub(acquired.elapsed()), &held, signals).await;
    }
    let list = held.list();
    match held.unlock().await {
        Ok(()) => event!("released", names: list; "released {names}"),
        Err(error @ UnlockError::Lost(_)) => {
            report!("{error}; the program had ended by itself ({status})");
            if args.on_lost != OnLost::Ignore {
                return Ok(Exit::LOCK_LOST);
            }
        }
        Err(error) => report!("{error}"),
    }
    Ok(Exit::of_program(status))
}

/// Keeps the locks though the program has ended, until somebody asks `rlock` to end.
async fn keep_for(time: Duration, held: &Held, signals: &mut Signals) {
    let (names, shown) = (held.names(), humantime::format_duration(Duration::from_secs(time.as_secs())));
    event!("keeping", names: held.list(), for_ms: held::millis(time); "keeping {names} for {shown}");
    let is_asked_to_end = async {
        loop {
            match signals.next().await {
                Signal::SIGTSTP => stop_the_job(),
                signal if signals::asks_to_end(signal) => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = sleep(time) => {}
        () = is_asked_to_end => {}
        () = held.lost() => {}
    }
}

/// What others see beside host and process id.
fn label(args: &RunArgs) -> String {
    let program = || args.program.first().and_then(|program| Path::new(program).file_name());
    args.label.clone().or_else(|| Some(program()?.to_string_lossy().into_owned())).unwrap_or_default()
}

/// Why a program was not run, or not to its end.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("{name} was not acquired: others hold it or wait for it; leave out --try to wait, or see rlock show")]
    Busy { name: ResourceName },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{names} was not acquired: ended by {signal} before")]
    Interrupted { names: String, signal: Signal },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("the program was not started: {0}")]
    NotConfirmed(#[from] ExtendError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the operating system refused: {0}")]
    System(#[from] io::Error),
}

impl RunError {
    fn interrupted(args: &RunArgs, signal: Signal) -> Self {
        Self::Interrupted { names: held::joined(args.names().iter(), ", "), signal }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Busy { .. } => Exit::NOT_ACQUIRED,
            Self::Connect(error) => Exit::of_connect_error(error),
            Self::Interrupted { signal, .. } => Exit::of_signal(*signal),
            Self::Lock(error) => Exit::of_lock_error(error),
            Self::NotConfirmed(ExtendError::Lost(_)) => Exit::LOCK_LOST,
            Self::NotConfirmed(_) | Self::System(_) => Exit::UNAVAILABLE,
            Self::Start(error) => error.exit(),
        }
    }
}
