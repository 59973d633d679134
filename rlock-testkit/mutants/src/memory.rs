//! The copy of the reference backend.

// The source of another crate, which is linted there, with choices that the build script inserts.
#![allow(warnings, missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/memory.rs"));

impl MemoryStore {
    /// An empty store whose first token follows `last_token`.
    pub(crate) fn starting_after(last_token: u64, clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::new(State { last_token, ..State::default() }) })
    }
}
