//! The jobs of the thread that works on the file, and its sleep between them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::bell::Bell;
use crate::error::CallError;
use crate::request::{Answer, Operation};

/// Operations, and where the answers go.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) operations: Arc<[Operation]>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Answer>, CallError>>,
}

/// The queue in front of the thread.
#[derive(Debug)]
pub(crate) struct Jobs {
    waiting: Mutex<Waiting>,
    alarm: Alarm,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: Vec<Job>,
    is_closed: bool,
    /// The thread has found nothing to do, and has not been woken since.
    is_asleep: bool,
}

/// The end of a [wait](Jobs::wait).
#[derive(Debug)]
pub(crate) enum Woken {
    Jobs(Vec<Job>),
    /// The time is over, or the bell was rung.
    Idle,
    Closed,
}

impl Jobs {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { waiting: Mutex::default(), alarm: Alarm::new()? })
    }

    pub(crate) fn send(&self, job: Job) {
        self.change(|waiting| waiting.jobs.push(job));
    }

    pub(crate) fn close(&self) {
        self.change(|waiting| waiting.is_closed = true);
    }

    /// Makes a change, and wakes the thread if it sleeps. A busy thread looks before it sleeps.
    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        let is_asleep = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut waiting);
            std::mem::take(&mut waiting.is_asleep)
        };
        if is_asleep {
            self.alarm.ring();
        }
    }

    /// Sleeps until there are jobs, until `pause` is over, or until the bell is rung.
    pub(crate) fn wait(&self, pause: Option<Duration>, bell: Option<&Bell>) -> Woken {
        loop {
            if let Some(woken) = self.take() {
                return woken;
            }
            if !self.alarm.sleep(pause, bell) {
                return self.take().unwrap_or(Woken::Idle);
            }
        }
    }

    fn take(&self) -> Option<Woken> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = if !waiting.jobs.is_empty() {
            Some(Woken::Jobs(std::mem::take(&mut waiting.jobs)))
        } else {
            waiting.is_closed.then_some(Woken::Closed)
        };
        waiting.is_asleep = woken.is_none();
        woken
    }
}

/// Wakes one thread, which may sleep for a bell as well.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Alarm(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl Alarm {
    fn new() -> std::io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    fn ring(&self) {
        let _it_rings_already = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Returns whether it was rung.
    fn sleep(&self, pause: Option<Duration>, bell: Option<&Bell>) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        let alarm = PollFd::new(&self.0, PollFlags::IN);
        let _interrupted_by_a_signal = match bell {
            Some(bell) => poll(&mut [alarm, PollFd::new(bell.fd(), PollFlags::IN)], pause.as_ref()),
            None => poll(&mut [alarm], pause.as_ref()),
        };
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

/// Wakes one thread.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Default)]
struct Alarm(Mutex<bool>, std::sync::Condvar);

#[cfg(not(target_os = "linux"))]
impl Alarm {
    fn new() -> std::io::Result<Self> {
        Ok(Self::default())
    }

    fn ring(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_one();
    }

    /// Returns whether it was rung.
    fn sleep(&self, pause: Option<Duration>, _bell: Option<&Bell>) -> bool {
        let is_rung = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = pause.unwrap_or(Duration::from_secs(3600));
        let waited = self.1.wait_timeout_while(is_rung, pause, |is_rung| !*is_rung);
        std::mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeping_thread_is_woken() {
        let jobs = Jobs::new().unwrap();
        let send = || jobs.send(Job { operations: Vec::<Operation>::new().into(), reply: oneshot::channel().0 });
        let is_rung = || jobs.alarm.sleep(Some(Duration::ZERO), None);
        send();
        assert!(matches!(jobs.wait(None, None), Woken::Jobs(_)));
        assert!(!is_rung(), "the thread was busy");
        assert!(matches!(jobs.wait(Some(Duration::ZERO), None), Woken::Idle));
        send();
        send();
        assert!(is_rung());
        assert!(!is_rung(), "it is woken once");
        assert!(matches!(jobs.wait(None, None), Woken::Jobs(jobs) if jobs.len() == 2));
        jobs.close();
        assert!(matches!(jobs.wait(None, None), Woken::Closed));
    }
}
