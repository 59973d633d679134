//! Hearing at once that somebody has been told something, where the system tells of changes to a file: on Linux by
//! inotify. Elsewhere, and where it does not, everybody looks more often.

#[cfg(target_os = "linux")]
pub(crate) use linux::Bell;
#[cfg(not(target_os = "linux"))]
pub(crate) use nowhere::Bell;

#[cfg(target_os = "linux")]
mod linux {
    use std::future::pending;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// Is rung by writing to a file.
    #[derive(Debug)]
    pub(crate) struct Bell(AsyncFd<OwnedFd>);

    impl Bell {
        pub(crate) fn at(path: &Path) -> Option<Self> {
            let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
            inotify::add_watch(&events, path, WatchFlags::MODIFY).ok()?;
            // Deprecated for descriptors that may be closed behind its back; this one is owned. The new way is unsafe.
            #[allow(deprecated)]
            AsyncFd::with_interest(events, Interest::READABLE).ok().map(Self)
        }

        /// Closes it. That takes some ten milliseconds, because the system waits for whoever may be about to ring.
        pub(crate) fn put_away(self) {
            // Without a thread it is closed here and now.
            let _thread = std::thread::Builder::new().name("rlock-sqlite-bell".into()).spawn(move || drop(self));
        }

        /// Waits until it was rung since this was called last.
        ///
        /// # Cancel safety
        ///
        /// What has been heard is not lost.
        pub(crate) async fn rung(&self) {
            let mut buffer = [0; 4096];
            loop {
                let Ok(mut ready) = self.0.readable().await else { return pending().await };
                match rustix::io::read(&self.0, &mut buffer) {
                    Ok(_) => return,
                    Err(_) => ready.clear_ready(),
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use std::path::Path;

    /// There is none.
    #[derive(Debug)]
    pub(crate) enum Bell {}

    impl Bell {
        pub(crate) fn at(_path: &Path) -> Option<Self> {
            None
        }

        pub(crate) fn put_away(self) {}

        pub(crate) async fn rung(&self) {
            match *self {}
        }
    }
}
