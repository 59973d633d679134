//! `rlock run`: a program under a lock.

pub(crate) mod acquire;
pub(crate) mod connect;
pub(crate) mod error;
mod grace;
pub(crate) mod held;
mod keeper;
pub(crate) mod nested;
mod release;
pub(crate) mod signals;
mod start_error;
mod supervise;
mod terminal;
mod waiting;

use std::future::pending;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::try_join;
use nix::sys::signal::Signal;
use rlock::Client;
use tokio::time::{Instant, sleep};

use crate::args::{LockArgs, OnLost, RunArgs};
use crate::exit::Exit;
use crate::keep::Namespace;
use crate::report::{self, event, fact, report};
use crate::run::acquire::Upkeep;
use crate::run::connect::connect;
use crate::run::error::RunError;
use crate::run::grace::Grace;
use crate::run::held::Held;
use crate::run::keeper::{Forked, Keeper, NotStarted};
use crate::run::release::Ended;
use crate::run::signals::Signals;
use crate::run::start_error::StartError;
use crate::run::supervise::{Outcome, Supervision, described};
use crate::run::terminal::{Terminal, stop_the_job};

/// The longest wait for a release that no result depends on.
const GIVING_BACK: Duration = Duration::from_secs(1);

pub(crate) fn run(mut args: RunArgs) -> Exit {
    run_once(&mut args).exit(&args.lock)
}

/// The outcome of a run.
#[derive(Debug)]
pub(crate) enum Ran {
    /// The program has ended, or the operating system refused to start a runtime.
    Ended(Exit),
    /// The lock was lost.
    Lost {
        /// The status of a program that had ended by itself before rlock noticed.
        ended: Option<Exit>,
        /// The signal that asked rlock to end.
        signal: Option<Signal>,
    },
    /// The program was not run.
    Refused(RunError),
}

impl Ran {
    /// The status to end with. Reports why the program was not run.
    pub(crate) fn exit(self, lock: &LockArgs) -> Exit {
        match self {
            Self::Ended(exit) => exit,
            Self::Lost { .. } => Exit::LOCK_LOST,
            Self::Refused(error) => refuse(lock, &error),
        }
    }
}

/// Runs the program under its lock. To be called before this process has a second thread.
pub(crate) fn run_once(args: &mut RunArgs) -> Ran {
    if args.lock.json {
        report::in_json();
    }
    if args.lock.quiet {
        report::quietly();
    }
    args.lock.label = Some(label(args));
    let outside = if let Some(handle) = &args.handle {
        args.lock.be_of(handle);
        None
    } else {
        nested::held_outside(&args.lock)
    };
    let forked = match outside {
        Some(name) => Err(RunError::Nested { name }),
        None => {
            let namespace = if args.pid_namespace { Namespace::Own } else { Namespace::Shared };
            Forked::new(&args.program, namespace).map_err(RunError::Keeper)
        }
    };
    let keeper = match forked {
        Ok(keeper) => keeper,
        Err(error) => return Ran::Refused(error),
    };
    let mut ran = None;
    let exit = crate::on_this_thread(async {
        ran = Some(connect_and_run(args, keeper).await.unwrap_or_else(Ran::Refused));
        Exit::OK
    });
    ran.unwrap_or(Ran::Ended(exit))
}

/// Reports why the program was not run, and returns the exit status.
pub(crate) fn refuse(args: &LockArgs, error: &RunError) -> Exit {
    let (exit, event) = error.exit();
    let exit = match exit {
        Exit::NOT_ACQUIRED if args.skip_ok => Exit::OK,
        Exit::NOT_ACQUIRED => args.conflict_status.map_or(exit, Exit::new),
        exit => exit,
    };
    let names: Vec<_> = args.names().iter().map(ToString::to_string).collect();
    if exit == Exit::OK {
        fact!(event, names: names, exit: exit.status(); "{error}");
    } else {
        event!(event, names: names, exit: exit.status(); "{error}");
    }
    exit
}

async fn connect_and_run(args: &RunArgs, keeper: Forked) -> Result<Ran, RunError> {
    Terminal::block_sigttou().map_err(io::Error::from)?;
    let mut signals = Signals::listen()?;
    // The keeper gets ready while rlock connects. An error of the store waits for the keeper, which is then dismissed.
    let met = async { Keeper::meet(keeper).await.map_err(RunError::Keeper) };
    let connected = async { Ok::<_, RunError>(connect(&args.lock).await) };
    let (keeper, connected) = tokio::select! {
        both = try_join(met, connected) => both?,
        signal = signals.next_to_end() => return Err(RunError::interrupted(&args.lock, signal)),
    };
    let (client, started) = connected?;
    let mut result = take_and_run(args, started, &client, keeper, &mut signals).await;
    let gave_up = matches!(result, Err(_) | Ok(Ran::Lost { .. }));
    if gave_up && client.shutdown(GIVING_BACK).await.is_err() {
        let names = held::joined(args.lock.names().iter(), ", ");
        let within = humantime::format_duration(args.lock.ttl.get());
        report!("could not release {names}; the store ends it within {within}");
    }
    // A signal that came meanwhile is meant for rlock, as there is no program any more.
    match &mut result {
        Ok(Ran::Lost { signal: signal @ None, .. }) => {
            report::flush();
            *signal = signals.next_to_end().now_or_never();
        }
        Err(error) if error.is_loss() || error.is_outage() => {
            if let Some(signal) = signals.next_to_end().now_or_never() {
                result = Err(RunError::interrupted(&args.lock, signal));
            }
        }
        _ => {}
    }
    result
}

async fn take_and_run(
    args: &RunArgs,
    started: Instant,
    client: &Client,
    mut keeper: Keeper,
    signals: &mut Signals,
) -> Result<Ran, RunError> {
    let held = match &args.handle {
        Some(handle) => Held::new(vec![client.adopt(handle).await?]),
        None => {
            let upkeep = Upkeep { interval: args.interval, min_hold: args.min_hold };
            acquire::acquire(&args.lock, upkeep, started, client, signals).await?
        }
    };
    let acquired = Instant::now();
    let outcome = run_program(args, &mut keeper, signals, &held).await;
    // Its process ends while the lock is released. The drop of `keeper`, which waits for that end, comes after.
    keeper.dismiss();
    match args.handle {
        Some(_) => leave_held(args, held, outcome).await,
        None => match outcome {
            Err(error @ RunError::Start(_)) => {
                held.give_back();
                Err(error)
            }
            outcome => end(args, client, held, outcome?, acquired, signals).await,
        },
    }
}

/// Starts the program, and returns once it and its tree have ended.
async fn run_program(
    args: &RunArgs,
    keeper: &mut Keeper,
    signals: &mut Signals,
    held: &Held,
) -> Result<Outcome, RunError> {
    let names = held.names();
    signals.expect_program()?;
    let mut terminal = Terminal::of_the_session();
    let in_front = terminal.as_mut().is_some_and(Terminal::lend);
    let grace = Grace::of(args.lock.ttl);
    let until = (args.on_lost != OnLost::Ignore).then(|| grace.for_keeper(held.deadline()));
    let nested = nested::environment(&args.lock, keeper.pid(), keeper.namespace());
    let environment = held.environment().into_iter().chain([nested]).collect();
    let lost = async {
        match args.on_lost {
            OnLost::Ignore => pending().await,
            _ => drop(held.lost().await),
        }
    };
    let program = match keeper.start(environment, in_front, until, grace.patience(), lost).await {
        Ok(program) => program,
        Err(NotStarted::Refused(source)) => return Err(StartError::new(&args.program[0], source).into()),
        Err(NotStarted::TooLate) => return Err(RunError::TooLate { names }),
        Err(_) if args.on_lost != OnLost::Ignore && held.loss().is_some() => {
            return Err(RunError::LostAtStart { names });
        }
        Err(NotStarted::KeeperDied) => return Err(RunError::KeeperDied),
        Err(NotStarted::Unanswered { waited }) => return Err(RunError::KeeperUnanswered { waited }),
    };
    fact!("started", process: program.as_raw(); "started the program");
    Ok(Supervision::new(held, args, (keeper, program), terminal, signals).until_the_end().await)
}

/// Leaves the lock of a handle held, however the program ended.
async fn leave_held(args: &RunArgs, held: Held, outcome: Result<Outcome, RunError>) -> Result<Ran, RunError> {
    let (names, list) = (held.names(), held.list());
    let left = held.hand_over(args.lock.ttl.get()).await;
    if let Ok(Some(left)) = left {
        event!("not_extended", names: list; "the store did not confirm the extension of {names}; it ends by itself in {} if it was not extended", error::shown(left));
    }
    match (outcome?, left) {
        (Outcome::Ended { status, .. }, Ok(_)) => Ok(Ran::Ended(Exit::of_program(status))),
        (Outcome::Ended { status, .. }, Err(lost)) => {
            event!("lost", name: lost.resource.as_str(), reason: lost.reason.as_str(); "the program {}; {lost}", described(status));
            Ok(Ran::Lost { ended: Some(Exit::of_program(status)), signal: None })
        }
        (outcome, _) => ended_early(&names, outcome),
    }
}

/// The outcome of a program that was ended, which is reported.
fn ended_early(names: &str, outcome: Outcome) -> Result<Ran, RunError> {
    match outcome {
        Outcome::Ended { status, .. } => Ok(Ran::Ended(Exit::of_program(status))),
        Outcome::LockLost { status, by_itself, asked_to_end: signal } => {
            report!("the program {}; {names} was lost", described(status));
            Ok(Ran::Lost { ended: by_itself.then(|| Exit::of_program(status)), signal })
        }
        Outcome::HeldTooLong(status) => {
            report!("the program {}, after --max-hold", described(status));
            Ok(Ran::Ended(Exit::HELD_TOO_LONG))
        }
        Outcome::KeeperDied => Err(RunError::KeeperDied),
    }
}

/// Releases the lock of a program that has ended.
async fn end(
    args: &RunArgs,
    client: &Client,
    held: Held,
    outcome: Outcome,
    acquired: Instant,
    signals: &mut Signals,
) -> Result<Ran, RunError> {
    let names = held.names();
    let (status, is_asked_to) = match outcome {
        Outcome::Ended { status, is_asked_to } => (status, is_asked_to),
        Outcome::HeldTooLong(_) => {
            let ran = ended_early(&names, outcome);
            release::release(args, client, held, signals).await;
            return ran;
        }
        outcome => return ended_early(&names, outcome),
    };
    if let Some(min_hold) = args.min_hold {
        let left = min_hold.saturating_sub(acquired.elapsed());
        let (shown, list) = (error::shown(left), held.list());
        if client.capabilities().rest {
            event!("keeping", names: list, for_ms: held::millis(left); "keeping {names} taken for {shown}");
        } else if !is_asked_to {
            event!("keeping", names: list, for_ms: held::millis(left); "keeping {names} for {shown}");
            keep_for(left, &held, signals).await;
        }
    }
    Ok(match release::release(args, client, held, signals).await {
        Ended::Released => Ran::Ended(Exit::of_program(status)),
        Ended::Lost if args.on_lost == OnLost::Ignore => Ran::Ended(Exit::of_program(status)),
        Ended::Lost => {
            report!("the program {} before rlock noticed the loss", described(status));
            Ran::Lost { ended: Some(Exit::of_program(status)), signal: None }
        }
        Ended::Unconfirmed if status.success() => Ran::Ended(Exit::IO_ERROR),
        Ended::Unconfirmed => Ran::Ended(Exit::of_program(status)),
    })
}

/// Keeps the locks for `time` after the program has ended, or until a signal asks `rlock` to end.
async fn keep_for(time: Duration, held: &Held, signals: &mut Signals) {
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
        _ = held.lost() => {}
    }
}

/// The label that others see beside host and process id.
fn label(args: &RunArgs) -> String {
    let program = || args.program.first().and_then(|program| Path::new(program).file_name());
    args.lock.label.clone().or_else(|| Some(program()?.to_string_lossy().into_owned())).unwrap_or_default()
}
