//! Tests of arenas.

use std::convert::Infallible;
use std::time::Duration;

use rlock_testkit::contest::{Arena, Mishap, Workload};
use rlock_testkit::process::Helper;
use rlock_testkit::this_test;
use tokio::runtime::Runtime;

/// The first process fails and is killed; the process in its place does nothing wrong.
#[test]
#[should_panic(expected = "process 1 failed before it was killed")]
fn panic_of_a_killed_process_fails_the_run() {
    let runtime = Runtime::new().expect("the system has threads");
    if let Some(mut helper) = Helper::current() {
        if helper.setting("number") == "1" {
            // One write, so that the arena cannot kill the process between the two lines.
            println!("\nrlock-helper: ready\nrlock-helper: a task panicked");
        } else {
            helper.say("ready");
        }
        runtime.block_on(async {
            assert_eq!(helper.hear().await, "stop");
            helper.say("done");
            std::future::pending::<Infallible>().await;
        });
    }
    runtime.block_on(async {
        let (ttl, hold) = (Duration::from_secs(1), Duration::from_millis(1));
        let workload = Workload { ttl, hold, long_holds: 0, tasks: 1, mutexes: 1, rw_locks: 0, semaphores: 0 };
        let arena = Arena::new(workload, this_test!(), "no URL", None, 1, 1).await;
        // The first fault comes within one and a half TTLs.
        let _no_verdict = arena.run(ttl * 3, &[Mishap::ProcessKilled], ttl).await;
    });
}
