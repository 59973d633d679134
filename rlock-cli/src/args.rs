//! The command line.

#[cfg(feature = "bench")]
mod bench;
mod check;
mod elect;
mod help;
mod hint;
mod lock;
mod run;
mod store;
mod values;

use std::io::{self, Write as _};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use rlock::{ResourceName, WatchdogConfig};

use crate::exit::Exit;

#[cfg(feature = "bench")]
pub(crate) use bench::BenchArgs;
pub(crate) use check::CheckArgs;
pub(crate) use elect::{ElectArgs, LeaderArgs};
pub(crate) use lock::{AcquireArgs, HandleArgs, LockArgs};
pub(crate) use run::{OnLost, RunArgs, WaitFor};
pub(crate) use store::Store;
use values::{resource_name, time};

/// Runs programs under a distributed lock.
#[derive(Debug, Parser)]
#[command(name = "rlock", version, after_help = help::STORES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Takes a lock, runs a program, and releases the lock when the program has ended
    #[command(
        override_usage = "rlock run [--url URL] [--ttl TIME] [--wait TIME | --try] [--shared | --exclusive | --slots N] NAME [--name NAME]... -- PROGRAM [ARG]...",
        after_help = help::STORES,
        after_long_help = help::RUN
    )]
    Run(RunArgs),
    /// Runs a program while this host leads, and again each time it leads
    #[command(override_usage = "rlock elect [--url URL] [--ttl TIME] [--data TEXT] NAME -- PROGRAM [ARG]...", after_help = help::STORES, after_long_help = help::ELECT)]
    Elect(ElectArgs),
    /// Shows which candidate leads
    #[command(override_usage = "rlock leader [--url URL] [--follow] [--json] NAME", after_help = help::STORES, after_long_help = help::LEADER)]
    Leader(LeaderArgs),
    /// Takes a lock, prints a handle for it, and leaves it held until its TTL ends
    #[command(
        override_usage = "rlock acquire [--url URL] [--ttl TIME] [--wait TIME | --try] [--shared | --exclusive | --slots N] NAME",
        mut_arg("names", |names| names.hide(true)), // a handle is of one lock
        after_help = help::STORES,
        after_long_help = help::ACQUIRE
    )]
    Acquire(AcquireArgs),
    /// Extends the lock of a handle
    #[command(override_usage = "rlock extend [--url URL] [--ttl TIME] HANDLE", after_help = help::STORES, after_long_help = help::HANDLE)]
    Extend(HandleArgs),
    /// Releases the lock of a handle
    #[command(
        override_usage = "rlock release [--url URL] HANDLE",
        mut_arg("ttl", |ttl| ttl.hide(true)), // only for rlock extend
        after_help = help::STORES,
        after_long_help = help::HANDLE
    )]
    Release(HandleArgs),
    /// Shows who holds a lock and who waits for it
    #[command(override_usage = "rlock show [--url URL] [--json] NAME", after_help = help::STORES, after_long_help = help::SHOW)]
    Show(ShowArgs),
    /// Lists the locks that are held or waited for
    #[command(override_usage = "rlock list [--url URL] [--json] [PREFIX]", after_help = help::STORES, after_long_help = help::LIST)]
    List(ListArgs),
    /// Shows the locks that are held or waited for, as they change
    #[command(override_usage = "rlock watch [--url URL] [--json] [PREFIX]", after_help = help::STORES, after_long_help = help::WATCH)]
    Watch(WatchArgs),
    /// Waits until a lock has neither a holder nor a waiter
    #[command(override_usage = "rlock wait [--url URL] [--json] [--wait TIME] NAME", after_help = help::STORES, after_long_help = help::WAIT)]
    Wait(WaitArgs),
    /// Takes a lock away from its holders by force
    #[command(override_usage = "rlock break [--url URL] [--json] [--yes] NAME", after_help = help::STORES, after_long_help = help::BREAK)]
    Break(BreakArgs),
    /// Checks whether a store is fit for locks
    #[command(override_usage = "rlock check [--json] [--no-suite | --case NAME]... [URL]", after_help = help::STORES, after_long_help = help::CHECK)]
    Check(CheckArgs),
    /// Measures how fast a store is for locks, and where the time goes
    #[cfg(feature = "bench")]
    #[command(override_usage = "rlock bench [--json] [--seconds N] [--only BENCHMARK]... [URL]", after_help = help::BENCH_STORES, after_long_help = help::BENCH)]
    Bench(BenchArgs),
    /// Runs one case of the suite, in a process that `check` starts
    #[cfg(feature = "suite")]
    #[command(hide = true)]
    Case { name: String },
    /// Prints the SQL that creates rlock's tables in Postgres, or creates them
    #[cfg(feature = "postgres")]
    #[command(override_usage = "rlock schema [--url URL] [--create]", after_long_help = help::SCHEMA)]
    Schema(SchemaArgs),
    /// Prints the command-line completions for a shell
    #[command(after_help = "Example:\n  rlock completions bash > ~/.local/share/bash-completion/completions/rlock")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Prints the manual page
    #[command(after_help = "Example:\n  rlock man > ~/.local/share/man/man1/rlock.1")]
    Man,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The lock
    #[arg(value_name = "NAME", value_parser = resource_name)]
    pub(crate) name: ResourceName,

    #[command(flatten)]
    pub(crate) store: Store,

    /// Prints JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only locks whose names begin with this
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,

    #[command(flatten)]
    pub(crate) store: Store,

    /// Prints JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only locks whose names begin with this
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,

    #[command(flatten)]
    pub(crate) store: Store,

    /// The time between two requests to the store
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub(crate) interval: Duration,

    /// Prints JSON: each time a line for each lock, with the fields of rlock show
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The lock
    #[arg(value_name = "NAME", value_parser = resource_name)]
    pub(crate) name: ResourceName,

    #[command(flatten)]
    pub(crate) store: Store,

    /// Maximum time to wait [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) wait: Option<Duration>,

    /// Reports events in JSON, one object per line, on standard error
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BreakArgs {
    /// The lock
    #[arg(value_name = "NAME", value_parser = resource_name)]
    pub(crate) name: ResourceName,

    #[command(flatten)]
    pub(crate) store: Store,

    /// Breaks without asking; without this, rlock asks on a terminal
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Reports events in JSON, one object per line, on standard error
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(feature = "postgres")]
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    #[command(flatten)]
    pub(crate) store: Store,

    /// Creates the missing tables; the role in the URL needs the right to create a schema in the database
    #[arg(long)]
    pub(crate) create: bool,
}

/// Parses the command line. Where it names nothing to run, prints the help or an error and returns the exit status.
pub(crate) fn parse() -> Result<Command, Exit> {
    let given: Vec<_> = std::env::args_os().collect();
    Cli::try_parse_from(&given).and_then(with_store).map_err(|error| {
        let _reader_gone = error.print();
        if let Some(hint) = hint::of(&error, &given) {
            let _reader_gone = writeln!(io::stderr(), "\n{hint}");
        }
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::OK,
            _ => Exit::USAGE,
        }
    })
}

fn with_store(mut cli: Cli) -> Result<Command, clap::Error> {
    let at = match &mut cli.command {
        Command::Check(CheckArgs { at, store, .. }) => at.take().zip(Some(store)),
        #[cfg(feature = "bench")]
        Command::Bench(BenchArgs { at, store, .. }) => at.take().zip(Some(store)),
        _ => None,
    };
    if let Some((url, store)) = at {
        store.given = Some(url);
    }
    let store = match &cli.command {
        Command::Run(RunArgs { lock: LockArgs { store, .. }, .. })
        | Command::Acquire(AcquireArgs { lock: LockArgs { store, .. } })
        | Command::Elect(ElectArgs { store, .. })
        | Command::Leader(LeaderArgs { store, .. })
        | Command::Extend(HandleArgs { store, .. })
        | Command::Release(HandleArgs { store, .. })
        | Command::Show(ShowArgs { store, .. })
        | Command::List(ListArgs { store, .. })
        | Command::Watch(WatchArgs { store, .. })
        | Command::Wait(WaitArgs { store, .. })
        | Command::Break(BreakArgs { store, .. })
        | Command::Check(CheckArgs { store, .. }) => store,
        #[cfg(feature = "bench")]
        Command::Bench(BenchArgs { store, .. }) => store,
        #[cfg(feature = "suite")]
        Command::Case { .. } => return Ok(cli.command),
        #[cfg(feature = "postgres")]
        Command::Schema(SchemaArgs { create: false, .. }) => return Ok(cli.command),
        #[cfg(feature = "postgres")]
        Command::Schema(SchemaArgs { store, .. }) => store,
        Command::Completions { .. } | Command::Man => return Ok(cli.command),
    };
    match &cli.command {
        Command::Run(run) if run.handle.is_none() && run.lock.names().is_empty() => {
            return Err(wrong(&cli.command, ErrorKind::MissingRequiredArgument, "give the NAME of the lock"));
        }
        Command::Run(run) if run.pid_namespace && run.wait_for == WaitFor::Program => {
            let reason = "--pid-namespace leaves no process behind: leave out --wait-for program";
            return Err(wrong(&cli.command, ErrorKind::ArgumentConflict, reason));
        }
        Command::Acquire(acquire) if acquire.lock.names().len() != 1 => {
            return Err(wrong(&cli.command, ErrorKind::MissingRequiredArgument, "give the NAME of one lock"));
        }
        _ => {}
    }
    if let Command::Run(RunArgs { interval: Some(interval), lock: LockArgs { ttl, .. }, .. })
    | Command::Elect(ElectArgs { interval: Some(interval), ttl, .. }) = &cli.command
        && !(WatchdogConfig::MIN_INTERVAL..=ttl.get() / 2).contains(interval)
    {
        // A longer interval leaves no time for a failed extension before the program is asked to end.
        let half = humantime::format_duration(ttl.get() / 2);
        let given = humantime::format_duration(*interval);
        let reason = format!("--interval {given} is not from 1ms to {half}, half of the TTL");
        return Err(wrong(&cli.command, ErrorKind::InvalidValue, &reason));
    }
    if store.url().is_empty() {
        let missing = match store.given {
            Some(_) => "the URL is empty: leave out --url, or unset RLOCK_URL",
            None => "no store is named: give --url URL or set RLOCK_URL, for example to redis://localhost:6379",
        };
        return Err(wrong(&cli.command, ErrorKind::MissingRequiredArgument, missing));
    }
    #[cfg(feature = "bench")]
    if let Command::Bench(_) = cli.command {
        return Ok(cli.command); // in memory, too: a benchmark needs no second process
    }
    if store.url().trim_start().to_ascii_lowercase().starts_with("memory:") {
        let alone = "memory: is a store inside one process, and excludes no other process: name one that all can reach";
        return Err(wrong(&cli.command, ErrorKind::InvalidValue, alone));
    }
    Ok(cli.command)
}

/// An error with the usage of the command.
fn wrong(command: &Command, kind: ErrorKind, message: &str) -> clap::Error {
    let mut cli = Cli::command();
    cli.build();
    let usage = match command {
        Command::Run(_) => cli.find_subcommand_mut("run"),
        Command::Elect(_) => cli.find_subcommand_mut("elect"),
        Command::Acquire(_) => cli.find_subcommand_mut("acquire"),
        _ => None,
    };
    match usage {
        Some(command) => command.error(kind, message),
        None => cli.error(kind, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_leaves_out_options_without_effect() {
        for (command, option) in [("acquire", "--name"), ("release", "--ttl")] {
            let mut cli = Cli::command();
            cli.build();
            let help = cli.find_subcommand_mut(command).expect("it is a command").render_long_help().to_string();
            assert!(help.contains("--url") && !help.contains(option), "{help}");
        }
    }

    #[test]
    fn the_commands_in_the_readmes_are_well_formed() {
        // Links to the pages of the workspace. A package has copies in their place.
        for page in [include_str!("../tests/pages/README.md"), include_str!("../tests/pages/README.zh-CN.md")] {
            let blocks = page.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
            let commands: Vec<_> = blocks.flat_map(str::lines).filter(|line| line.starts_with("rlock ")).collect();
            assert!(commands.len() >= 10, "{commands:?}");
            for line in commands {
                let command = line.split(['#', '|', '&']).next().unwrap_or_default();
                let parsed = Cli::try_parse_from(command.split_whitespace());
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
    }
}
