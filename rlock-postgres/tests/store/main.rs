//! Tests of features that only Postgres has: its tables, roles, errors and processes.

mod clock;
mod config;
mod connections;
mod crash;
mod disk;
mod examine;
mod failover;
mod footprint;
mod late;
mod layout;
mod notices;
mod ownership;
mod pooler;
mod processes;
mod search_path;
mod support;
mod tables;
#[cfg(feature = "tls")]
mod tls;
mod trouble;
