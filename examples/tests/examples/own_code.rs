//! Tests of code that holds locks, as a user of rlock writes them: without a server, on a clock that is paused.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rlock::memory::MemoryStore;
use rlock::{Client, Clock, Namespace, RunError, SimpleLock};
use rlock_testkit::faults::{Faults, Faulty};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// The code under test: imports rows for 100 s if no other host does.
async fn import(lock: &SimpleLock, rows: &Cell<u32>) -> Result<Option<()>, RunError> {
    let work = async {
        for _ in 0..100 {
            sleep(SECOND).await;
            rows.set(rows.get() + 1);
        }
    };
    lock.try_run(work).await
}

fn store() -> Arc<MemoryStore> {
    MemoryStore::with_clock(Clock::tokio())
}

fn client(store: &Arc<MemoryStore>, faults: &Faults) -> Client {
    let backend = Faulty::new(store.client(Namespace::default()), faults.clone());
    Client::builder().runtime(Handle::current()).clock(Clock::tokio()).build(backend)
}

#[tokio::test(start_paused = true)]
async fn second_host_imports_nothing() {
    let store = store();
    let [one, other] = [(); 2].map(|()| SimpleLock::new("import", &client(&store, &Faults::none())).unwrap());
    let guard = other.lock().await.unwrap();
    let rows = Cell::new(0);
    assert_eq!(import(&one, &rows).await.unwrap(), None);
    assert_eq!(rows.get(), 0);
    guard.unlock().await.unwrap();
    assert_eq!(import(&one, &rows).await.unwrap(), Some(()));
    assert_eq!(rows.get(), 100);
}

#[tokio::test(start_paused = true)]
async fn import_stops_when_its_lock_is_broken() {
    let client = client(&store(), &Faults::none());
    let (lock, rows) = (SimpleLock::new("import", &client).unwrap(), Cell::new(0));
    let breaking = async {
        sleep(SECOND * 10).await;
        client.break_leases(lock.resource()).await.unwrap(); // takes the lock away now
    };
    let (imported, ()) = tokio::join!(import(&lock, &rows), breaking);
    assert!(imported.unwrap_err().is_lost());
    assert!(rows.get() <= 10, "{} rows", rows.get());
}

#[tokio::test(start_paused = true)]
async fn import_stops_when_the_store_is_silent() {
    let faults = Faults::none();
    let lock = SimpleLock::new("import", &client(&store(), &faults)).unwrap();
    let (rows, begun) = (Cell::new(0), Instant::now());
    let freezing = async {
        sleep(SECOND * 10).await;
        faults.freeze(); // the store answers nothing from here on
    };
    let (imported, ()) = tokio::join!(import(&lock, &rows), freezing);
    assert!(imported.unwrap_err().is_lost());
    assert!(begun.elapsed() <= SECOND * 40, "it stops by the deadline: {:?}", begun.elapsed());
    faults.thaw();
}
