//! Tests of the programs, of the guide's code and of the pages, on every store.

mod connect;
mod custom_backend;
mod dashboards;
mod early_return;
mod guide;
mod own_code;
mod programs;
mod readme;
