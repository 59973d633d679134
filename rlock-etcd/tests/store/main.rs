//! Tests of features that only etcd has: its servers, clusters, users, certificates and errors.

mod claims;
mod cluster;
mod config;
mod cost;
mod disk;
mod errors;
mod faults;
mod footprint;
mod late;
mod processes;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod users;
