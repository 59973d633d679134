//! A server of any store, from any source.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, iter, thread};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::instance::Instance;
use super::local::Local;
use super::service::Service;
use super::source::{self, Source};
use super::store::Store;
use crate::faults::{Control, Data};

const TRIES: u32 = 5;
/// The number of free ports to choose one from for each try.
const PORTS: usize = 1_000;

/// Implements [`Control`] for a type by its field `server`.
macro_rules! control_by_server {
    ($type:ty) => {
        #[::async_trait::async_trait]
        impl $crate::faults::Control for $type {
            async fn pause(&self) {
                $crate::faults::Control::pause(&self.server).await;
            }

            async fn resume(&self) {
                $crate::faults::Control::resume(&self.server).await;
            }

            async fn kill(&self) {
                $crate::faults::Control::kill(&self.server).await;
            }

            async fn restart(&self, data: $crate::faults::Data) {
                $crate::faults::Control::restart(&self.server, data).await;
            }
        }
    };
}
pub(super) use control_by_server;

/// A running server. Dropping this stops it, if it was started here.
#[derive(Debug)]
pub(super) struct Server {
    url: String,
    own: Option<Own>,
}

/// `None` once the server was dropped.
type Own = Arc<Mutex<Option<Box<dyn Instance>>>>;

impl Server {
    /// Uses the server from the environment, or else starts one for the caller.
    pub(super) fn start<S: Store>(store: S) -> Self {
        match source::url::<S>() {
            Some(url) => Self { url, own: None },
            None => Self::start_own(store),
        }
    }

    /// Starts a server for the caller.
    pub(super) fn start_own<S: Store>(store: S) -> Self {
        match Source::of::<S>() {
            #[cfg(feature = "containers")]
            Source::Image(image) => {
                let start = |port| super::containers::Container::start(store.clone(), &image, port);
                Self::start_somewhere(&store, start)
            }
            Source::Program(program) => Self::start_program(&program, store),
        }
    }

    /// Starts a server for the caller, as a program of this machine.
    pub(super) fn start_program<S: Service>(program: &Path, service: S) -> Self {
        Self::start_somewhere(&service, |port| Local::start(service.clone(), program, port))
    }

    fn start_somewhere<S: Service>(service: &S, start: impl Fn(u16) -> io::Result<Box<dyn Instance>>) -> Self {
        let mut tried = 0;
        loop {
            let port = iter::repeat_with(free_port).take(PORTS).find(|&port| service.can_use(port));
            let port = port.unwrap_or_else(|| panic!("{}: none of {PORTS} free ports suits it", S::NAME));
            tried += 1;
            match start(port) {
                Ok(instance) => {
                    return Self { url: service.url(port), own: Some(Arc::new(Mutex::new(Some(instance)))) };
                }
                // Another process may have taken the port.
                Err(error) if tried < TRIES && error.kind() == io::ErrorKind::Other => {}
                Err(error) => panic!("{} did not start: {error}", S::NAME),
            }
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// See [`Instance::address_for_servers`].
    pub(super) fn address_for_servers(&self) -> (String, u16) {
        let own = self.own.as_ref().expect("other servers cannot use one from the environment");
        let address = lock(own).as_ref().expect("it was not dropped").address_for_servers();
        address.unwrap_or_else(|error| panic!("other servers cannot reach that at {}: {error}", self.url))
    }

    /// See [`Instance::log`].
    pub(super) fn log(&self) -> String {
        let own = self.own.as_ref().map(|own| lock(own).as_ref().map(|instance| instance.log()));
        own.flatten().unwrap_or_default()
    }

    /// Lets `act` block on its own thread, instead of a thread of the caller's runtime.
    async fn act(&self, what: &str, act: impl FnOnce(&mut dyn Instance) -> io::Result<()> + Send + 'static) {
        let own = self.own.as_ref().expect("tests must not change a server from the environment");
        let own = Arc::clone(own);
        let (done, outcome) = oneshot::channel();
        thread::spawn(move || {
            if let Some(instance) = lock(&own).as_deref_mut() {
                let _caller_gone = done.send(act(instance));
            }
        });
        match outcome.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("cannot {what} the server at {}: {error}", self.url),
            Err(_) => panic!("cannot {what} the server at {}: its thread panicked", self.url),
        }
    }
}

#[async_trait]
impl Control for Server {
    async fn pause(&self) {
        self.act("pause", |instance| instance.pause()).await;
    }

    async fn resume(&self) {
        self.act("resume", |instance| instance.resume()).await;
    }

    async fn kill(&self) {
        self.act("kill", |instance| instance.kill()).await;
    }

    async fn restart(&self, data: Data) {
        self.act("restart", move |instance| instance.restart(data)).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A call whose future was dropped may still be running; it ends before the server does.
        drop(self.own.take().and_then(|own| lock(&own).take()));
    }
}

fn lock(own: &Own) -> MutexGuard<'_, Option<Box<dyn Instance>>> {
    own.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port of the loopback interface that was free a moment ago.
///
/// # Panics
///
/// Panics if the loopback interface has no free port.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}
