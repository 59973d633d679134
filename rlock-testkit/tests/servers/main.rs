//! Tests of servers, which behave the same in containers and as programs of this machine.
//!
//! `RLOCK_TEST_SERVERS=containers` and `RLOCK_TEST_SERVERS=local` select one of the two.

#[cfg(feature = "containers")]
mod engine;
mod etcd;
mod etcd_cluster;
mod pgbouncer;
mod postgres;
mod redis_cluster;
#[cfg(feature = "sqlite")]
mod sqlite_file;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Duration;
use std::{env, io};

use rlock_testkit::faults::{Control, Data};
use rlock_testkit::servers::{Redis, Reply, Resp};

/// Other tests run this one again, in other environments.
#[test]
fn a_server_starts_and_answers() {
    let redis = Redis::start();
    println!("it is at {}", redis.url());
    assert_eq!(redis.resp().command(&["PING"]), Reply::Text("PONG".into()));
}

/// Other tests run this one again, in other environments.
#[test]
fn a_server_with_arguments_is_the_tests_own() {
    let redis = Redis::start_with(&["--requirepass", "pass/word", "--databases", "3"]);
    println!("it is at {}", redis.url());
    assert!(redis.url().starts_with("redis://:pass%2Fword@127.0.0.1:"), "{}", redis.url());
    assert_eq!(redis.resp().command(&["CONFIG", "GET", "databases"]), list(&["databases", "3"]));
    let without = format!("redis://127.0.0.1:{}", port(redis.url()));
    let refused = Resp::connect(&without).and_then(|mut resp| resp.send(&["PING"])).unwrap_err();
    assert!(refused.to_string().contains("NOAUTH"), "{refused}");
}

#[tokio::test]
async fn paused_server_is_silent_until_resumed() {
    let redis = Redis::start_with(&[]);
    let mut connection = connect(redis.url()).unwrap();
    redis.pause().await;
    redis.pause().await;
    connection.write_all(b"PING\r\n").unwrap();
    connection.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut reply = [0; 7];
    let silent = connection.read(&mut reply).unwrap_err();
    assert!(matches!(silent.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{silent}");

    redis.resume().await;
    redis.resume().await;
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

#[tokio::test]
async fn durable_server_keeps_confirmed_data() {
    let redis = Redis::start_durable();
    let url = redis.url().to_owned();
    redis.resp().command(&["SET", "key", "1"]);
    redis.kill().await;
    refuses(&url);
    redis.kill().await;
    redis.restart(Data::Kept).await;
    assert_eq!(redis.resp().command(&["INCR", "key"]), Reply::Int(2));

    redis.restart(Data::Kept).await; // while it runs
    assert_eq!(redis.resp().command(&["INCR", "key"]), Reply::Int(3));

    redis.pause().await;
    redis.kill().await;
    refuses(&url);
    redis.restart(Data::Kept).await;
    assert_eq!(redis.resp().command(&["INCR", "key"]), Reply::Int(4));

    redis.pause().await;
    redis.restart(Data::Kept).await;
    assert_eq!(redis.resp().command(&["INCR", "key"]), Reply::Int(5));
    assert_eq!(redis.url(), url);
}

#[tokio::test]
async fn durable_server_is_durable_after_data_loss() {
    let redis = Redis::start_durable();
    redis.resp().command(&["SET", "key", "1"]);
    redis.kill().await;
    redis.restart(Data::Lost).await;
    assert_eq!(redis.keys("*"), [""; 0]);

    redis.resp().command(&["SET", "other", "1"]);
    redis.restart(Data::Kept).await;
    assert_eq!(redis.keys("*"), ["other"]);
    redis.pause().await;
    redis.restart(Data::Lost).await; // while it is paused
    assert_eq!(redis.keys("*"), [""; 0]);
}

#[tokio::test]
async fn a_server_that_keeps_nothing_comes_back_empty() {
    let redis = Redis::start_with(&[]);
    redis.resp().command(&["SET", "key", "1"]);
    redis.restart(Data::Kept).await;
    assert_eq!(redis.keys("*"), [""; 0]);
}

#[tokio::test]
async fn dropped_server_is_gone_in_any_state() {
    let (running, paused, killed) = (Redis::start_with(&[]), Redis::start_durable(), Redis::start_durable());
    paused.pause().await;
    killed.kill().await;
    for redis in [running, paused, killed] {
        let url = redis.url().to_owned();
        drop(redis);
        refuses(&url);
    }
}

#[test]
fn servers_outlive_the_runtimes_that_start_them() {
    let mut builders = [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()];
    for builder in &mut builders {
        let runtime = builder.enable_all().build().unwrap();
        let left = runtime.block_on(async {
            let redis = Redis::start_with(&[]);
            drop(Redis::start_with(&[]));
            redis
        });
        drop(runtime);
        assert_eq!(left.resp().command(&["PING"]), Reply::Text("PONG".into()));
        futures_util::future::FutureExt::now_or_never(left.pause()); // no runtime, and the future is not awaited
        let url = left.url().to_owned();
        drop(left);
        refuses(&url);
    }
}

#[tokio::test]
async fn a_runtime_goes_on_while_its_server_restarts() {
    let redis = Redis::start_durable();
    let restarted = redis.restart(Data::Kept);
    let mut ticks = 0;
    let ticking = async {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            ticks += 1;
        }
    };
    tokio::select! {
        () = restarted => {}
        () = ticking => {}
    }
    assert!(ticks > 1, "{ticks}");
}

#[test]
fn server_of_the_environment_is_left_alone() {
    let redis = Redis::start_with(&[]);
    let mut named = vec![("RLOCK_TEST_REDIS_URL", redis.url())];
    if env::var("RLOCK_TEST_SERVERS").is_ok_and(|source| source == "local") {
        named.push(("DOCKER_HOST", NOWHERE)); // with `local` it would ignore the URL
    }
    let line = format!("it is at {}\n", redis.url());
    let shared = run("a_server_starts_and_answers", &named);
    assert!(shared.status.success() && text(&shared).contains(&line), "{}", text(&shared));
    let own = run("a_server_with_arguments_is_the_tests_own", &named);
    assert!(own.status.success() && !text(&own).contains(&line), "{}", text(&own));
}

#[test]
fn an_unknown_source_is_refused() {
    let message = failure(&[("RLOCK_TEST_SERVERS", "docker")]);
    assert!(message.contains("RLOCK_TEST_SERVERS=docker: not one of `containers` and `local`"), "{message}");
}

#[cfg(not(feature = "containers"))]
#[test]
fn containers_need_the_feature() {
    let message = failure(&[("RLOCK_TEST_SERVERS", "containers")]);
    assert!(message.contains("without its feature `containers`"), "{message}");
}

#[test]
fn local_servers_need_a_program() {
    let message = failure(&[("RLOCK_TEST_SERVERS", "local"), ("PATH", "")]);
    for part in ["there is no Redis here", "`redis-server` or `valkey-server`", "apt-get install redis-server"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn missing_server_names_what_to_install() {
    let message = failure(&[("DOCKER_HOST", NOWHERE), ("PATH", "")]);
    for part in
        ["no Redis to test on", "apt-get install redis-server", "Docker engine", "RLOCK_TEST_REDIS_URL=redis://"]
    {
        assert!(message.contains(part), "{message}");
    }
}

fn port(url: &str) -> &str {
    url.rsplit_once(':').unwrap().1.split('/').next().unwrap()
}

fn connect(url: &str) -> io::Result<TcpStream> {
    TcpStream::connect(format!("127.0.0.1:{}", port(url)))
}

#[track_caller]
fn refuses(url: &str) {
    let error = connect(url).map(drop).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

fn list(texts: &[&str]) -> Reply {
    Reply::List(texts.iter().map(|&text| Reply::Text(text.into())).collect())
}

const NOWHERE: &str = "unix:///nowhere/docker.sock";

/// The output of the first test, which fails in an environment with `variables`.
fn failure(variables: &[(&str, &str)]) -> String {
    failure_of("a_server_starts_and_answers", variables)
}

/// The output of the test `name`, which fails in an environment with `variables`.
fn failure_of(name: &str, variables: &[(&str, &str)]) -> String {
    let failed = run(name, variables);
    assert!(!failed.status.success(), "{}", text(&failed));
    text(&failed)
}

/// Runs one of these tests again. Of the variables for servers, it gets only `variables` and the names of images.
fn run(name: &str, variables: &[(&str, &str)]) -> Output {
    test(name, variables).output().unwrap()
}

fn test(name: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture"]);
    for variable in ["SERVERS", "REDIS_URL", "ETCD_URL", "POSTGRES_URL"] {
        command.env_remove(format!("RLOCK_TEST_{variable}"));
    }
    command.envs(variables.iter().copied());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
