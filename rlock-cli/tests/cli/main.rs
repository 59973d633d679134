//! The program `rlock` on real servers: the same tests for each store, and some for a single store.
#![allow(clippy::duplicate_mod, reason = "the tests are there once for each store")]

#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "etcd", feature = "postgres", feature = "redis", feature = "sqlite"))]
mod support;
