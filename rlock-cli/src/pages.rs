//! `rlock completions` and `rlock man`, generated from the description of the command line.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Cli;
use crate::exit::Exit;

pub(crate) fn completions(shell: Shell) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rlock", &mut text);
    let _reader_gone = io::stdout().write_all(&text);
    Exit::OK
}

/// Prints the page of the command, followed by those of its subcommands.
pub(crate) fn man() -> Exit {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let parts = command.get_subcommands().filter(|part| !part.is_hide_set());
    let mut text = Vec::new();
    for page in std::iter::once(&command).chain(parts) {
        if let Err(error) = Man::new(page.clone()).render(&mut text) {
            unreachable!("a vector takes everything: {error}");
        }
    }
    let _reader_gone = io::stdout().write_all(&text);
    Exit::OK
}
