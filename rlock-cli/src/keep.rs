//! The keeper: the process between `rlock` and the program, which starts the program and ends all that descends from it.
//!
//! `rlock` forks it before there is a thread. The keeper is a *subreaper*: a process whose parent dies becomes its child,
//! whatever process group or session it has moved to. So everything that the program starts stays below the keeper, and
//! nothing is left once the keeper has no child. `rlock` is a subreaper as well, and inherits the tree from a keeper that dies.
//!
//! Each of the two watches the other. The keeper kills the tree when `rlock` dies, and shortly before the lock ends when
//! `rlock` has not renewed its word: it was stopped then. `rlock` kills a keeper that does not answer, and then the tree. The
//! program itself is killed with the keeper by the system.
//!
//! Without subreapers, outside Linux, all of that holds for the process group of the program alone.

mod launch;
mod message;
mod process;
mod tree;

pub(crate) use launch::Launch;
pub(crate) use message::{News, Order, Survivor, to_line};
pub(crate) use process::keep;
pub(crate) use tree::Tree;
