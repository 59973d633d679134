//! The reference as a server in a separate process.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rlock_core::{Backend, Namespace};
use rlock_mutants::{Served, Server};
use rlock_testkit::faults::{Control, Data};
use rlock_testkit::process::{Helper, Process, Program};
use rlock_testkit::{Controlled, Harness, Shared, async_trait};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::time::sleep;

/// How long a server that has lost its data grants nothing: the TTL of the histories, so that each holder from before has
/// passed its deadline.
const GRACE: Duration = Duration::from_secs(2);

/// The prefix of failures of the harness itself, which say nothing about the store.
pub(crate) const OURS: &str = "the harness failed";

/// The reference store.
pub(crate) struct Store {
    address: String,
    program: Option<ServerProgram>,
}

/// The server that this test started.
struct ServerProgram {
    /// `None` while the server is down. Declared before the folder, so that it is dropped first.
    process: Mutex<Option<Process>>,
    folder: TempDir,
    port: u16,
}

/// This test is also the program of the servers. As a test, it checks that a server can be started.
#[test]
fn server_can_be_started() {
    match Helper::current() {
        Some(helper) => run_server(helper),
        None => {
            let runtime = Builder::new_current_thread().enable_all().build().expect("the system has threads");
            let address = runtime.block_on(async { Store::start().await.address() });
            assert!(address.starts_with("tcp://127.0.0.1:"), "{address}");
        }
    }
}

fn run_server(helper: Helper) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("the system can start a runtime");
    runtime.block_on(async {
        let grace = helper.setting("grace").parse().expect("a grace in ms");
        let server = Server::open(&PathBuf::from(helper.setting("folder")), Duration::from_millis(grace))
            .unwrap_or_else(|error| panic!("{OURS}: its journal: {error}"));
        let listener = listen(&helper.setting("port")).await;
        helper.say(listener.local_addr().expect("a bound listener has an address").port());
        server.run(listener).await;
    });
}

/// Listens on a port that another process may hold for a moment.
async fn listen(port: &str) -> TcpListener {
    for _ in 0..500 {
        if let Ok(listener) = TcpListener::bind(format!("127.0.0.1:{port}")).await {
            return listener;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{OURS}: port {port} stays in use");
}

impl Store {
    async fn start_server() -> Self {
        let folder = TempDir::new().unwrap_or_else(|error| panic!("{OURS}: a folder: {error}"));
        let mut program = ServerProgram { process: Mutex::default(), folder, port: 0 };
        let (process, port) = program.start(Duration::ZERO).await;
        program.port = port;
        *program.process() = Some(process);
        Self { address: format!("tcp://127.0.0.1:{port}"), program: Some(program) }
    }

    async fn client(&self, namespace: &Namespace) -> Served {
        let address = self.address.strip_prefix("tcp://").expect("every address has this prefix");
        Served::connect(address, namespace).await.unwrap_or_else(|error| panic!("{OURS}: {error}"))
    }
}

impl ServerProgram {
    async fn start(&self, grace: Duration) -> (Process, u16) {
        let program = Program::test(module_path!(), "server_can_be_started")
            .with("folder", self.folder.path().display())
            .with("grace", grace.as_millis())
            .with("port", self.port);
        let mut process = program.start("server");
        let port = process.hear().await;
        (process, port.parse().unwrap_or_else(|_| panic!("{OURS}: the server said {port:?}")))
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Harness for Store {
    async fn start() -> Self {
        Self::start_server().await
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        Arc::new(self.client(namespace).await)
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        let count = self.client(namespace).await.leftovers().await;
        let count = count.unwrap_or_else(|error| panic!("{OURS}: {error}"));
        (0..count).map(|_| "a resource".into()).collect()
    }
}

#[async_trait]
impl Shared for Store {
    fn address(&self) -> String {
        self.address.clone()
    }

    async fn attach(address: &str) -> Self {
        Self { address: address.to_owned(), program: None }
    }
}

#[async_trait]
impl Controlled for Store {
    async fn start_durable() -> Self {
        Self::start_server().await
    }

    fn server(&self) -> &dyn Control {
        self.program.as_ref().expect("only the test that started the server tampers with it")
    }
}

#[async_trait]
impl Control for ServerProgram {
    async fn pause(&self) {
        self.process().as_ref().expect("the server runs").pause();
    }

    async fn resume(&self) {
        self.process().as_ref().expect("the server runs").resume();
    }

    async fn kill(&self) {
        self.process().take();
    }

    async fn restart(&self, data: Data) {
        self.process().take();
        if data == Data::Lost {
            let _not_there = std::fs::remove_file(self.folder.path().join("journal"));
        }
        let (process, _port) = self.start(GRACE).await;
        *self.process() = Some(process);
    }
}
