//! Servers in containers, run by the Docker engine of this machine.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::time::Duration;
use std::{io, process};

use nix::unistd::{Gid, Uid};
use tempfile::TempDir;
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{ContainerInspectResponse, HostConfig, PortBinding};
use testcontainers::bollard::query_parameters::{KillContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::error::ClientError;
use testcontainers::core::{ContainerPort, IntoContainerPort as _};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt as _, TestcontainersError};
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::instance::{Instance, wait_until_ready};
use super::store::Store;
use crate::faults::Data;

const LABEL: &str = "rlock-test";
/// Number of attempts to pause a container. The engine fails if new processes start faster than it stops them.
const PAUSES: usize = 10;
const ENGINE_ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Runs all requests to the engine, because containers outlive the runtimes of the tests that started them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = runtime::Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("rlock-testkit-docker").enable_all();
    builder.build().expect("the system has threads left")
});

/// The names of the containers of this process.
static OURS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Whether a Docker engine answers. Asks it only once.
///
/// # Errors
///
/// The reason, if none answers.
pub(super) fn engine() -> Result<(), String> {
    static ANSWER: LazyLock<Result<(), String>> = LazyLock::new(|| {
        let ask = async {
            docker().await?.ping().await.map_err(failed)?;
            Ok(())
        };
        let asked = wait_for(async { timeout(ENGINE_ANSWERS_WITHIN, ask).await });
        let answer: io::Result<()> = asked.and_then(|answer| answer.unwrap_or_else(|late| Err(late.into())));
        answer.map_err(|why| format!("no Docker engine answers: {why}"))
    });
    ANSWER.clone()
}

/// A server of `S` in a container.
#[derive(Debug)]
pub(super) struct Container<S> {
    /// `None` after a restart that failed.
    container: Option<Arc<ContainerAsync<GenericImage>>>,
    name: String,
    is_paused: bool,
    store: S,
    image: String,
    /// The port on the host. A restart keeps it, which the engine would not do with a port that it chose itself.
    port: u16,
    /// The files of the server, if they are on this machine ([`Store::ON_HOST`]).
    folder: Option<TempDir>,
}

impl<S: Store> Container<S> {
    /// Runs `image`, which is pulled if it is missing, and returns when the server is ready.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if the image is not available; else as [`wait_until_ready`].
    pub(super) fn start(store: S, image: &str, port: u16) -> io::Result<Box<dyn Instance>> {
        let name = format!("{LABEL}-{}-{port}-{:08x}", S::NAME.to_lowercase(), rand::random::<u32>());
        let mut container =
            Self { container: None, name, is_paused: false, store, image: image.into(), port, folder: None };
        container.run()?;
        Ok(Box::new(container))
    }

    fn run(&mut self) -> io::Result<()> {
        if S::ON_HOST {
            let folder = self.folder.insert(tempfile::tempdir()?);
            let program = S::ENTRYPOINT.unwrap_or(S::PROGRAMS[0]);
            self.store.prepare(Path::new(program), folder.path(), self.port)?;
        }
        let (request, name) = (self.request(), self.name.clone());
        let started = wait_for(async move {
            remove_ours_on_signals();
            ours().insert(name.clone());
            let started = request.start().await;
            if started.is_err() {
                remove(&name).await; // it may have been created without being started
            }
            started
        })?;
        let container = started.map_err(|error| match error {
            TestcontainersError::Client(ClientError::PullImage { err, .. }) => self.no_image(&err),
            error => failed(error),
        })?;
        self.container = Some(Arc::new(container));
        self.wait_until_ready()
    }

    fn request(&self) -> ContainerRequest<GenericImage> {
        let (name, tag) = name_and_tag(&self.image);
        let image = GenericImage::new(name, tag);
        let image = S::ENTRYPOINT.iter().fold(image, |image, program| image.with_entrypoint(program));
        let request = match &self.folder {
            Some(folder) => self.on_host(image, folder.path()),
            None => self.apart(image),
        };
        let request = request.with_container_name(&self.name).with_label(LABEL, S::NAME);
        S::ENVIRONMENT.iter().fold(request, |request, &(name, value)| request.with_env_var(name, value))
    }

    /// A container with its own network.
    fn apart(&self, image: GenericImage) -> ContainerRequest<GenericImage> {
        let port = S::PORT.tcp();
        image
            .with_exposed_port(port)
            .with_cmd(self.store.arguments(S::PORT))
            .with_host_config_modifier(publish(port, self.port))
    }

    /// A container that works in `folder` as the user of this process. See [`Store::ON_HOST`].
    fn on_host(&self, image: GenericImage, folder: &Path) -> ContainerRequest<GenericImage> {
        let folder = folder.display().to_string();
        let bind = format!("{folder}:{folder}");
        image
            .with_cmd(self.store.arguments(self.port))
            .with_working_dir(folder)
            .with_user(format!("{}:{}", Uid::effective(), Gid::effective()))
            .with_host_config_modifier(move |config| {
                config.network_mode = Some("host".into());
                config.pid_mode = Some("host".into());
                config.binds = Some(vec![bind.clone()]);
            })
    }

    fn no_image(&self, error: &dyn Error) -> io::Error {
        let message = format!(
            "the Docker engine has no image `{}`, and cannot pull it ({error}): name another one in \
             RLOCK_TEST_{}_IMAGE=name:tag, or say RLOCK_TEST_SERVERS=local for a server program of this machine",
            self.image,
            S::VARIABLE
        );
        io::Error::new(io::ErrorKind::NotFound, message)
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        let url = self.store.url(self.port);
        let process = self.process()?;
        wait_until_ready(
            || self.store.is_ready(&url, process),
            || self.is_running().map(|running| !running),
            || format!("{}: {}", self.image, self.log()),
        )
    }

    /// The process id of the server, if the container shares those of this machine.
    fn process(&self) -> io::Result<Option<u32>> {
        if !S::ON_HOST {
            return Ok(None);
        }
        let state = self.inspect()?.state.unwrap_or_default();
        Ok(state.pid.and_then(|process| process.try_into().ok()))
    }

    fn inspect(&self) -> io::Result<ContainerInspectResponse> {
        self.ask(
            |container| async move { docker().await?.inspect_container(container.id(), None).await.map_err(failed) },
        )
    }

    fn is_running(&self) -> io::Result<bool> {
        self.ask(|container| async move { container.is_running().await.map_err(failed) })
    }

    fn ask<T, F>(&self, question: impl FnOnce(Arc<ContainerAsync<GenericImage>>) -> F) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = io::Result<T>> + Send + 'static,
    {
        let container = self.container.as_ref().ok_or_else(|| io::Error::other("there is no container"))?;
        wait_for(question(Arc::clone(container)))?
    }
}

impl<S: Store> Instance for Container<S> {
    fn pause(&mut self) -> io::Result<()> {
        for tries in 1.. {
            if self.is_paused {
                break;
            }
            match self.ask(|container| async move { container.pause().await.map_err(failed) }) {
                Err(error) if tries < PAUSES && error.to_string().contains("unable to freeze") => {}
                paused => self.is_paused = paused.map(|()| true)?,
            }
        }
        Ok(())
    }

    fn resume(&mut self) -> io::Result<()> {
        if self.is_paused {
            self.ask(|container| async move { container.unpause().await.map_err(failed) })?;
            self.is_paused = false;
        }
        Ok(())
    }

    fn kill(&mut self) -> io::Result<()> {
        if self.is_running()? {
            let by_sigkill = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
            self.ask(|container| async move {
                docker().await?.kill_container(container.id(), Some(by_sigkill)).await.map_err(failed)
            })?;
        }
        self.is_paused = false;
        Ok(())
    }

    fn restart(&mut self, data: Data) -> io::Result<()> {
        match data {
            Data::Kept => {
                self.kill()?;
                self.ask(|container| async move { container.start().await.map_err(failed) })?;
                self.wait_until_ready()
            }
            Data::Lost => {
                self.remove()?;
                self.is_paused = false;
                self.run()
            }
        }
    }

    fn address_for_servers(&self) -> io::Result<(String, u16)> {
        if S::ON_HOST {
            return Ok(("127.0.0.1".into(), self.port));
        }
        let mut networks = self.inspect()?.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let addresses = networks.drain().filter_map(|(_, network)| network.ip_address);
        let host = addresses.filter(|address| !address.is_empty()).min();
        Ok((host.ok_or_else(|| io::Error::other("the container is in no network"))?, S::PORT))
    }

    fn log(&self) -> String {
        let log = self.ask(|container| async move {
            let (stdout, stderr) = (container.stdout_to_vec().await, container.stderr_to_vec().await);
            Ok([stdout.unwrap_or_default(), stderr.unwrap_or_default()].concat())
        });
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }
}

impl<S> Container<S> {
    fn remove(&mut self) -> io::Result<()> {
        let Some(container) = self.container.take() else { return Ok(()) };
        let container = Arc::into_inner(container).expect("each request drops its reference with its answer");
        let removed = wait_for(async move { container.rm().await.map_err(failed) })?;
        ours().remove(&self.name);
        removed
    }
}

impl<S> Drop for Container<S> {
    fn drop(&mut self) {
        // A container that the engine cannot remove can be found by its label.
        let _removed = self.remove();
    }
}

/// Binds `port` of the container to `host_port` of the loopback interface.
fn publish(port: ContainerPort, host_port: u16) -> impl Fn(&mut HostConfig) + Send + Sync + 'static {
    move |config| {
        let binding = PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(host_port.to_string()) };
        config.publish_all_ports = Some(false);
        config.port_bindings = Some(HashMap::from([(port.to_string(), Some(vec![binding]))]));
    }
}

/// Splits `name:tag`. The name may contain another colon, before the port of a registry.
fn name_and_tag(image: &str) -> (&str, &str) {
    image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((image, "latest"))
}

async fn docker() -> io::Result<Docker> {
    docker_client_instance().await.map_err(failed)
}

async fn remove(name: &str) {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    if let Ok(docker) = docker().await {
        let _not_there = docker.remove_container(name, Some(options)).await;
    }
    ours().remove(name);
}

/// Removes the containers of this process before SIGINT or SIGTERM ends it as usual. Test runners send SIGTERM to a
/// test that takes too long.
fn remove_ours_on_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            let Ok(mut signals) = signal(kind) else { continue };
            RUNTIME.spawn(async move {
                signals.recv().await;
                let names = ours().clone();
                for name in names {
                    remove(&name).await;
                }
                process::exit(128 + kind.as_raw_value())
            });
        }
    });
}

fn ours() -> MutexGuard<'static, BTreeSet<String>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blocks until `work` is done on the runtime of the kit. Works inside another runtime as well.
fn wait_for<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let (done, outcome) = mpsc::sync_channel(1);
    RUNTIME.spawn(async move {
        let _waits = done.send(work.await);
    });
    outcome.recv().map_err(|_| io::Error::other("a request to the Docker engine panicked"))
}

/// `error` with its sources, which describe the failure of the connection.
fn failed(error: impl Error) -> io::Error {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        source = error.source();
    }
    io::Error::other(text)
}
