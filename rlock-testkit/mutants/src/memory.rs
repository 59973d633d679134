//! The copy of the reference backend.

// It is the text of another crate, where it is checked, with choices put in by the build script.
#![allow(warnings, missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/memory.rs"));

impl MemoryStore {
    /// An empty store that goes on from a token.
    pub(crate) fn starting_after(last_token: u64, clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::new(State { last_token, ..State::default() }) })
    }
}
