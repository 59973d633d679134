//! Many who want the same locks, while things go wrong; what they did becomes a [`History`](crate::history::History).
//!
//! [`contend`] is one who locks, works on the [`Register`](crate::history::Register) that the lock protects, gives back
//! or goes away, and notes what it does. Tasks of one process do that by themselves; processes are started, killed,
//! frozen and cut off by an [`Arena`], which also tampers with the server, and in the end has the history judged.

mod arena;
mod contender;
mod mishap;
mod plan;
mod registers;

pub(crate) use arena::ROLE;
pub use arena::{Arena, Outcome, contend_as_told};
pub use contender::contend;
pub use mishap::{Mishap, UnknownMishap};
pub use plan::Plan;
pub use registers::Registers;
