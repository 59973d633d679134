//! Many contenders for the same locks, while faults happen. Their events become a [`History`](crate::history::History).
//!
//! [`contend`] acquires locks, works on the [`Register`](crate::history::Register) that each lock protects, releases or
//! drops them, and notes its events. Tasks of one process can call it directly. An [`Arena`] starts, kills, freezes and
//! cuts off whole processes, injects faults into the server, and has the history checked in the end.

mod arena;
mod contender;
mod deck;
mod mishap;
mod registers;
mod worker;
mod workload;

pub use arena::{Arena, Outcome};
pub use contender::contend;
pub use mishap::{Mishap, UnknownMishap};
pub use registers::Registers;
pub(crate) use worker::ROLE;
pub use worker::run_contender;
pub use workload::Workload;
