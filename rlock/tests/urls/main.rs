//! Tests of the URLs that a client is connected by.

mod bad_input;
mod connect;
