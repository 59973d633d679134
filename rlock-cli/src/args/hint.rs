//! Hints for command lines that other lock commands would take.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// A hint where the command line has an option of another lock command, or lacks `--`.
pub(super) fn of(error: &clap::Error, given: &[OsString]) -> Option<&'static str> {
    if error.kind() != ErrorKind::UnknownArgument && error.kind() != ErrorKind::MissingRequiredArgument {
        return None;
    }
    let separate = match given.get(1).and_then(|command| command.to_str()) {
        Some("run") => "put -- before the program: rlock run NAME -- PROGRAM",
        Some("elect") => "put -- before the program: rlock elect NAME -- PROGRAM",
        _ => return None,
    };
    if given.iter().any(|argument| argument == "--") && error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) if error.kind() == ErrorKind::UnknownArgument => argument.as_str(),
        _ => return Some(separate),
    };
    match unknown {
        option if option.starts_with('-') && given[1] == "elect" => None,
        "-n" | "--nb" | "--nonblock" => Some("-n of flock is --try"),
        "-w" | "--timeout" => Some("-w SECONDS of flock is --wait TIME, as in --wait 5s"),
        "-E" | "--conflict-exit-code" => Some("-E N of flock is --conflict-status N"),
        "-c" | "--command" => Some("-c COMMAND of flock is -- sh -c 'COMMAND'"),
        "-s" => Some("-s of flock is --shared"),
        "-x" | "-e" => Some("-x of flock is --exclusive; leave it out if no user of the lock says --shared"),
        "-o" | "--close" => Some("-o of flock is --wait-for program"),
        "-u" | "--unlock" => Some("-u of flock is rlock release HANDLE"),
        option if option.starts_with('-') => None,
        _ => Some(separate),
    }
}
