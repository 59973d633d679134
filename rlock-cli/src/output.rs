//! Output on standard output.

use std::io::{self, ErrorKind, Write as _};

use crate::exit::Exit;
use crate::report::report;

/// Prints `text`. A reader that has gone is no error; a full disk is.
pub(crate) fn print(text: &str) -> Result<(), Exit> {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Exit::OK),
        Err(error) => {
            report!("the output could not be written: {error}");
            Err(Exit::IO_ERROR)
        }
    }
}
