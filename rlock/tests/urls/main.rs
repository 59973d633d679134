//! Tests of the URLs for connecting clients.

mod bad_input;
mod connect;
