//! Ids of leases in a process and its fork.
#![cfg(unix)]
#![allow(unsafe_code, reason = "a fork has no safe face")]

use std::fs::File;
use std::io::{Read as _, Write as _};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe};
use rlock_core::LeaseId;

/// Both halves of a fork have the state of every generator in the process.
#[test]
fn ids_differ_after_a_fork() {
    LeaseId::random();
    let (reader, writer) = pipe().unwrap();
    // SAFETY: the child calls nothing that needs the other threads, creates an id, and ends.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let id = LeaseId::random().as_u128().to_be_bytes();
            let status = i32::from(File::from(writer).write_all(&id).is_err());
            // SAFETY: this ends the process without running its exit handlers.
            unsafe { nix::libc::_exit(status) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut id = [0; 16];
            File::from(reader).read_exact(&mut id).unwrap();
            waitpid(child, None).unwrap();
            assert_ne!(LeaseId::random(), LeaseId::from_u128(u128::from_be_bytes(id)));
        }
    }
}
