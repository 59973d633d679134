//! Tests of what Redis alone has: its servers, users, clusters, errors and processes.

mod access;
mod cluster;
mod config;
mod deleted;
mod errors;
mod faults;
mod footprint;
mod processes;
mod support;
