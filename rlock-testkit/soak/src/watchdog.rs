//! The end of a run that hangs.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rlock_testkit::process::kill_descendants;

static IS_OVER: AtomicBool = AtomicBool::new(false);

/// Waits for the end of this process if it hung. The end of its servers may free it before that.
pub(crate) fn wait_if_over() {
    while IS_OVER.load(Ordering::Acquire) {
        thread::park();
    }
}

/// Ends this process with status 2, and its servers and helpers with it, if it still runs after `limit`. A thread does
/// that, because the check of a history and the drop of a server block their thread, and cannot be cancelled.
pub(crate) fn end_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        IS_OVER.store(true, Ordering::Release);
        eprintln!("soak: the run hangs: it has not ended within {limit:?}");
        if let Err(error) = kill_descendants() {
            eprintln!("soak: its servers may still run: {error}");
        }
        exit(2)
    });
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use rlock_testkit::process::Helper;
    use rlock_testkit::this_test;
    use tokio::runtime::Runtime;

    use super::*;

    #[test]
    fn hanging_process_ends_with_its_descendants() {
        const LIMIT: Duration = Duration::from_secs(60);
        if let Some(_helper) = Helper::current() {
            let mut child = Command::new("sh").args(["-c", "sleep 1000 & sleep 1000"]).spawn().unwrap();
            end_after(Duration::ZERO);
            child.wait().unwrap();
            wait_if_over();
            unreachable!("the thread ends this process");
        }
        Runtime::new().unwrap().block_on(async {
            let (mut process, begun) = (this_test!().start("hanging"), Instant::now());
            // The descendants write to the same pipe, which is at its end once all of them have ended.
            assert_eq!(process.hear_within(LIMIT).await, None);
            assert!(begun.elapsed() < LIMIT, "a descendant still runs");
            assert_eq!(process.kill_and_hear().await, ["it had ended by itself: exit status: 2"]);
        });
    }
}
