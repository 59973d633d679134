//! Tests of what SQLite alone has: its file, disks and processes.

#[cfg(unix)]
mod access;
mod baseline;
mod clock;
mod config;
mod cost;
mod deleted;
#[cfg(target_os = "linux")]
mod disk;
mod file;
#[cfg(unix)]
mod fork;
mod links;
mod plans;
mod processes;
mod support;
mod sweep;
mod turns;
