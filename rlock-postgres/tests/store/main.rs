//! Tests of what Postgres alone has: its tables, roles, errors and processes.

mod config;
mod footprint;
mod ownership;
mod processes;
mod search_path;
mod support;
mod trouble;
