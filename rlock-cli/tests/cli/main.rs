//! The program `rlock` on a real Redis server.

mod exit;
mod loss;
mod proxy;
mod run;
mod show;
mod signals;
mod support;
mod terminal;
