//! Tests of Postgres servers.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rlock_testkit::faults::{Control, Data};
use rlock_testkit::servers::{PgWire, Postgres};

use super::{NOWHERE, connect, refuses, run, test, text};

const STARTS: &str = "postgres::a_server_starts_and_answers";
const STARTS_OWN: &str = "postgres::a_server_with_arguments_is_the_tests_own";
const SEVERAL: &str = "postgres::several_start_at_once";
const SOON: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(300);
/// The request for TLS, which a server answers with one letter before it knows the client.
const WANTS_TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Other tests run this one again, in other environments.
#[test]
fn a_server_starts_and_answers() {
    let begun = Instant::now();
    let postgres = Postgres::start();
    println!("it is at {}, after {:?}", postgres.url(), begun.elapsed());
    assert_eq!(postgres.query("SELECT 1"), [[some("1")]]);
    println!("its segment is {}.", segment(&postgres));
}

/// Other tests run this one again, in other environments.
#[test]
fn a_server_with_arguments_is_the_tests_own() {
    let postgres = Postgres::start_with(&["-c", "max_connections=20", "-c", "deadlock_timeout=7s"]);
    println!("it is at {}, of the test", postgres.url());
    assert_eq!(setting(&postgres, "max_connections"), "20");
    assert_eq!(setting(&postgres, "deadlock_timeout"), "7s");
}

/// Other tests run this one again, in other environments.
#[test]
fn several_start_at_once() {
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(Postgres::start_with(&[]).query("SELECT 1"), [[some("1")]]));
        }
    });
}

#[test]
fn only_a_durable_server_waits_for_the_disk() {
    let servers = [Postgres::start_with(&[]), Postgres::start_durable()];
    assert_eq!(servers.each_ref().map(|postgres| setting(postgres, "fsync")), ["off", "on"]);
    assert_eq!(servers.each_ref().map(|postgres| setting(postgres, "synchronous_commit")), ["on", "on"]);
}

#[test]
fn answers_are_text_rows_and_refusals_codes() {
    let postgres = Postgres::start_with(&[]);
    let mut wire = PgWire::connect(postgres.url()).unwrap();
    assert_eq!(wire.query("").unwrap(), [[None; 0]; 0]);
    assert_eq!(wire.query("CREATE TABLE t (n int, x text); INSERT INTO t VALUES (1, NULL)").unwrap(), [[None; 0]; 0]);
    let several = wire.query("SELECT * FROM t; SELECT 2, '\u{e9}\u{10ffff}'; SELECT ''").unwrap();
    assert_eq!(several, [vec![some("1"), None], vec![some("2"), some("\u{e9}\u{10ffff}")], vec![some("")]]);

    let refused = wire.query("SELECT 1; SELECT * FROM nowhere").unwrap_err();
    assert_eq!(refused.to_string(), r#"42P01: relation "nowhere" does not exist"#);
    assert_eq!(wire.query("SELECT 1").unwrap(), [[some("1")]], "it goes on");

    let server = postgres.url().strip_suffix("/postgres").unwrap();
    let refused = PgWire::connect(&format!("{server}/nowhere")).unwrap_err();
    assert_eq!(refused.to_string(), r#"3D000: database "nowhere" does not exist"#);
    let refused = wire.query("SELECT pg_terminate_backend(pg_backend_pid())").unwrap_err();
    assert!(refused.to_string().starts_with("57P01: "), "what it says before it hangs up: {refused}");
}

#[test]
fn server_that_asks_for_passwords_is_refused() {
    let postgres = Postgres::start_with(&[]);
    let rules = "VALUES ('host all asked all scram-sha-256'), ('host all all all trust')";
    let file = setting(&postgres, "hba_file");
    postgres.query(&format!("COPY ({rules}) TO '{file}'; CREATE ROLE asked LOGIN PASSWORD 'secret'"));
    postgres.query("SELECT pg_reload_conf()");
    let asked = postgres.url().replace("postgres@", "asked:secret@");
    let begun = Instant::now();
    let refused = loop {
        match PgWire::connect(&asked) {
            Err(refused) => break refused,
            Ok(_) => assert!(begun.elapsed() < SOON, "it has not read its rules"),
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    assert!(refused.to_string().contains("asks for a password"), "{refused}");
    assert!(!refused.to_string().contains("secret"));
}

#[test]
fn other_urls_are_refused() {
    for url in ["etcd://127.0.0.1:1", "postgres:", "127.0.0.1:1", ""] {
        let error = PgWire::connect(url).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{url}");
    }
    let error = PgWire::connect("postgres://127.0.0.1:1").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
}

/// The server has one process for each connection, and starts another for a new one. All of them have to stop.
#[tokio::test]
async fn paused_server_is_silent_until_resumed() {
    let postgres = Postgres::start_durable();
    let [mut busy, idle] = [(); 2].map(|()| PgWire::connect(postgres.url()).unwrap());
    let mut idle = idle.within(SILENCE).unwrap();
    let answers = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&answers);
    thread::spawn(move || {
        while busy.query("SELECT 1").is_ok() {
            counted.fetch_add(1, SeqCst);
        }
    });
    until_more_than(0, &answers);

    postgres.pause().await;
    postgres.pause().await;
    assert!(is_timeout(&idle.query("SELECT 1").unwrap_err()));
    let before = answers.load(SeqCst);
    let mut newcomer = connect(postgres.url()).unwrap();
    newcomer.set_read_timeout(Some(SILENCE)).unwrap();
    newcomer.write_all(&WANTS_TLS).unwrap();
    let mut letter = [0];
    assert!(is_timeout(&newcomer.read(&mut letter).unwrap_err()));
    let after = answers.load(SeqCst);
    assert!(after <= before + 1, "{} answers beside one on its way", after - before);

    postgres.resume().await;
    postgres.resume().await;
    until_more_than(after, &answers);
    newcomer.set_read_timeout(Some(SOON)).unwrap();
    newcomer.read_exact(&mut letter).unwrap();
    assert_eq!(&letter, b"N");
}

#[tokio::test]
async fn server_keeps_confirmed_data() {
    for postgres in [Postgres::start_with(&[]), Postgres::start_durable()] {
        let url = postgres.url().to_owned();
        postgres.query("CREATE TABLE t (n int)");
        let add = |n: i32| postgres.query(&format!("INSERT INTO t VALUES ({n})"));
        add(1);
        postgres.kill().await;
        refuses(&url);
        postgres.kill().await;
        postgres.restart(Data::Kept).await;

        add(2);
        postgres.restart(Data::Kept).await; // while it runs
        add(3);
        postgres.pause().await;
        postgres.kill().await;
        refuses(&url);
        postgres.restart(Data::Kept).await;
        add(4);
        postgres.pause().await;
        postgres.restart(Data::Kept).await;
        assert_eq!(postgres.query("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t"), [[some("1 2 3 4")]]);
        assert_eq!(postgres.url(), url);
    }
}

/// The server has clients, whose server processes have to end with it.
#[tokio::test]
async fn a_server_is_killed_again_and_again() {
    let postgres = Postgres::start_durable();
    postgres.query("CREATE TABLE t (n int)");
    for round in 1..=10 {
        postgres.query(&format!("INSERT INTO t VALUES ({round})"));
        let mut clients = [(); 3].map(|()| PgWire::connect(postgres.url()).unwrap());
        clients[0].query("BEGIN; INSERT INTO t VALUES (0)").unwrap();
        if round % 3 == 0 {
            postgres.pause().await;
        }
        postgres.kill().await;
        for client in &mut clients {
            let gone = client.query("SELECT 1").unwrap_err();
            assert!(!is_timeout(&gone), "in round {round}, a process still holds the connection: {gone}");
        }
        postgres.restart(Data::Kept).await;
        assert_eq!(postgres.query("SELECT count(*), min(n) FROM t"), [[some(&round.to_string()), some("1")]]);
    }
}

#[tokio::test]
async fn server_is_durable_after_data_loss() {
    let postgres = Postgres::start_durable();
    let tables = || postgres.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").concat();
    postgres.query("CREATE TABLE t ()");
    postgres.kill().await;
    postgres.restart(Data::Lost).await;
    assert_eq!(tables(), []);

    postgres.query("CREATE TABLE other ()");
    postgres.restart(Data::Kept).await;
    assert_eq!(tables(), [some("other")]);
    postgres.pause().await;
    postgres.restart(Data::Lost).await; // while it is paused
    assert_eq!(tables(), []);
}

#[tokio::test]
async fn dropped_server_is_gone_in_any_state() {
    let [running, paused, killed] = [(); 3].map(|()| Postgres::start_durable());
    paused.pause().await;
    killed.kill().await;
    for postgres in [running, paused, killed] {
        let url = postgres.url().to_owned();
        drop(postgres);
        refuses(&url);
    }
}

#[test]
fn server_of_the_environment_is_left_alone() {
    let postgres = Postgres::start_durable();
    let mut named = vec![("RLOCK_TEST_POSTGRES_URL", postgres.url())];
    if env::var("RLOCK_TEST_SERVERS").is_ok_and(|source| source == "local") {
        named.push(("DOCKER_HOST", NOWHERE)); // with `local` it would ignore the URL
    }
    let line = format!("it is at {}, ", postgres.url());
    let shared = run(STARTS, &named);
    assert!(shared.status.success() && text(&shared).contains(&line), "{}", text(&shared));
    let own = run(STARTS_OWN, &named);
    assert!(own.status.success() && !text(&own).contains(&line), "{}", text(&own));
}

/// The first servers find no archive of a data directory yet.
#[test]
fn servers_started_at_once_leave_one_archive() {
    let temporary = Temporary::new();
    let variables = [("RLOCK_TEST_SERVERS", "local"), ("TMPDIR", temporary.path())];
    let start = || test(SEVERAL, &variables).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for started in [start(), start(), start()] {
        let ended = started.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", text(&ended));
    }
    let left = temporary.left();
    assert!(matches!(&*left, [one] if one.starts_with("rlock-test-postgres-") && one.ends_with(".tar")), "{left:?}");

    let archive = format!("{}/{}", temporary.path(), left[0]);
    let begun = run(STARTS, &variables);
    assert!(begun.status.success(), "{}", text(&begun));
    let log = text(&begun);
    let (_, segment) = log.split_once("its segment is ").unwrap();
    let segment = segment.split('.').next().unwrap();
    let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    assert!(segments.lines().all(|line| line.split_whitespace().nth(1) != Some(segment)), "{segment}: {segments}");

    fs::set_permissions(&archive, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = run(STARTS, &variables);
    assert!(!refused.status.success() && text(&refused).contains("others may have written"), "{}", text(&refused));
}

/// A temporary folder that the user who runs the servers for root can access.
struct Temporary(String);

impl Temporary {
    fn new() -> Self {
        let name = format!("rlock-testkit-{}", std::process::id());
        let path = env::temp_dir().join(name).to_str().unwrap().to_owned();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        &self.0
    }

    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.0);
    }
}

fn until_more_than(count: u32, answers: &AtomicU32) {
    let begun = Instant::now();
    while answers.load(SeqCst) <= count {
        assert!(begun.elapsed() < SOON, "it does not answer any more");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The id of the server's shared memory segment.
fn segment(postgres: &Postgres) -> String {
    let file = postgres.query("SELECT pg_read_file('postmaster.pid')").remove(0).remove(0).unwrap();
    file.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned()
}

fn setting(postgres: &Postgres, name: &str) -> String {
    postgres.query(&format!("SHOW {name}")).remove(0).remove(0).unwrap()
}

pub(crate) fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}
