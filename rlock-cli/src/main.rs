//! The program `rlock`: runs other programs under a distributed lock, and shows who holds one.

mod args;
mod exit;
mod report;
mod run;
mod show;
mod sys;

use std::process::ExitCode;

use crate::args::Command;
use crate::exit::Exit;
use crate::report::report;

fn main() -> ExitCode {
    let command = match args::parse() {
        Ok(command) => command,
        Err(exit) => return exit.into(),
    };
    if let Command::Keep = command {
        run::keep();
        return Exit::OK.into();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            report!("the operating system refused to start a runtime: {error}");
            report::flush();
            return Exit::UNAVAILABLE.into();
        }
    };
    let exit = match command {
        Command::Run(args) => runtime.block_on(run::run(args)),
        Command::Show(args) => runtime.block_on(show::show(args)),
        Command::Keep => Exit::OK,
    };
    report::flush();
    exit.into()
}
