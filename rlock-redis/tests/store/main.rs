//! Tests of features that only Redis has: its servers, users, clusters, sentinels, replicas, errors and processes.

mod access;
mod clock;
mod cluster;
mod config;
mod deleted;
mod disk;
mod down;
mod errors;
mod faults;
mod footprint;
mod forgotten;
mod large_batches;
mod late;
mod processes;
mod replicas;
mod resp2;
mod sentinel;
#[cfg(unix)]
mod socket;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod vanished;
mod without_flags;
