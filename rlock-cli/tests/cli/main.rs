//! The program `rlock` on a real Redis server.

mod exit;
mod loss;
mod run;
mod show;
mod signals;
mod support;
mod terminal;
