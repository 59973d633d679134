//! The orders from `rlock` to the keeper, and the news from the keeper: one JSON object per line.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::survivors::Survivors;

/// An order of `rlock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Starts the program.
    Start {
        environment: Vec<(String, String)>,
        /// Makes its group the foreground group of the terminal.
        in_front: bool,
        until: Option<u64>,
        /// The time after `until` at which the system kills the keeper of a PID namespace.
        margin: Duration,
    },
    /// Kills the tree at this time, in nanoseconds since the [epoch](super::keep), unless a new order changes the time.
    Until(u64),
    /// Sends a signal to the program's group, or to the whole tree once the program has ended.
    Signal(i32),
    /// Sends a signal to the whole tree.
    SignalTree(i32),
    /// Sends TERM to each process of the tree that has not got it before, and continues those that are stopped.
    AskToEnd,
    /// Kills the whole tree, until nothing is left of it.
    Kill,
    /// Ends the keeper, and leaves the tree alone.
    Dismiss,
}

/// News from the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum News {
    /// The keeper waits for orders. A program in a PID namespace of its own will run in the one with this name.
    Ready { namespace: Option<String> },
    /// The operating system refused a PID namespace, with this error.
    NoNamespace(i32),
    /// The program runs, with this process id.
    Started(i32),
    /// The operating system refused to start the program, with this error.
    NotStarted(i32),
    /// The time was up before the keeper started the program.
    TooLate,
    /// The program was stopped by this signal.
    Stopped(i32),
    /// The program ended, with this raw wait status.
    Ended(i32),
    /// The program has ended, and these descendants have not.
    Left(Survivors),
    /// The keeper kills the tree, except these processes, which belong to another user.
    Killing(Survivors),
    /// The time was up, and the keeper kills the tree.
    Late,
    /// The keeper is dead, and `rlock` kills the tree. This news comes from `rlock` itself.
    KeeperDied,
    /// The program has ended, and nothing is left of its tree.
    Gone,
}

/// A message as a line for the other side.
pub(crate) fn to_line(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("a message has a form in JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_and_read_back() {
        let environment = vec![("RLOCK_NAME".into(), "a\n\"b\"".into())];
        let start = Order::Start { environment, in_front: true, until: Some(7), margin: Duration::from_millis(1) };
        for order in [start, Order::Until(8), Order::Kill] {
            let line = to_line(&order);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
        }
    }
}
