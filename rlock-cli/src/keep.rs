//! The keeper: the process between `rlock` and the program, which starts the program and ends all that descends from
//! it.
//!
//! `rlock` forks it before it starts a thread. The keeper is a *subreaper*: a process whose parent dies becomes its
//! child, whatever process group or session it has moved to. So every descendant of the program stays below the keeper,
//! and the tree is gone once the keeper has no child. `rlock` is a subreaper as well, and inherits the tree from a
//! keeper that dies.
//!
//! Each of the two watches the other. The keeper kills the tree when `rlock` dies. It also kills the tree shortly
//! before the lock ends if `rlock` has not sent a later time, as when `rlock` was stopped. `rlock` kills a keeper that
//! does not answer, and then the tree. The system kills the program itself with the keeper.
//!
//! A stopped keeper notices nothing. The system continues it when `rlock` dies. In a PID namespace, the keeper's death
//! ends the whole tree: the system kills it when `rlock` dies, and shortly after the time at which it should have
//! killed the tree.
//!
//! Outside Linux there are no subreapers: all this then holds for the program's process group alone.

mod alarm;
mod launch;
mod message;
mod namespace;
mod process;
mod survivors;
mod tree;

pub(crate) use message::{News, Order, to_line};
pub(crate) use namespace::{Namespace, name_of_namespace};
pub(crate) use process::keep;
pub(crate) use survivors::Survivors;
pub(crate) use tree::Tree;
