//! The program `rlock`: runs other programs under a distributed lock, and shows who holds one.

mod args;
mod ask;
#[cfg(feature = "bench")]
mod bench;
mod break_lock;
mod check;
mod elect;
mod exit;
mod handle;
mod keep;
mod leader;
mod list;
mod output;
mod pages;
mod ready;
mod report;
mod run;
#[cfg(feature = "postgres")]
mod schema;
mod show;
mod sys;
mod text;
#[cfg(any(feature = "bench", feature = "suite"))]
mod throw_away;
mod wait;
mod watch;

use std::future::Future;
use std::process::ExitCode;

use crate::args::Command;
use crate::exit::Exit;
use crate::report::report;

fn main() -> ExitCode {
    let exit = match args::parse() {
        Ok(Command::Run(args)) => run::run(args),
        Ok(Command::Elect(args)) => elect::elect(args),
        Ok(Command::Leader(args)) => on_this_thread(leader::leader(args)),
        Ok(Command::Acquire(args)) => on_this_thread(handle::acquire(args)),
        Ok(Command::Extend(args)) => on_this_thread(handle::extend(args)),
        Ok(Command::Release(args)) => on_this_thread(handle::release(args)),
        Ok(Command::Show(args)) => on_this_thread(show::show(args)),
        Ok(Command::List(args)) => on_this_thread(list::list(args)),
        Ok(Command::Watch(args)) => on_this_thread(watch::watch(args)),
        Ok(Command::Wait(args)) => on_this_thread(wait::wait(args)),
        Ok(Command::Break(args)) => on_this_thread(break_lock::break_lock(args)),
        Ok(Command::Check(args)) => on_this_thread(check::check(args)),
        #[cfg(feature = "bench")]
        Ok(Command::Bench(args)) => on_this_thread(bench::bench(args)),
        #[cfg(feature = "suite")]
        Ok(Command::Case { name }) => check::suite::case(&name),
        #[cfg(feature = "postgres")]
        Ok(Command::Schema(args)) => on_this_thread(schema::schema(args)),
        Ok(Command::Completions { shell }) => pages::completions(shell),
        Ok(Command::Man) => pages::man(),
        Err(exit) => exit,
    };
    report::flush();
    exit.end()
}

fn on_this_thread(command: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            report!("the operating system refused to start a runtime: {error}");
            Exit::SYSTEM
        }
    }
}
