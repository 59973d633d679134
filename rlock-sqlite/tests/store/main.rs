//! Tests of what SQLite alone has: its file, disks and processes.

mod baseline;
#[cfg(target_os = "linux")]
mod disk;
mod file;
mod processes;
