//! The program `soak`.

use std::process::{Command, Output};

use rlock_testkit::servers::Redis;

fn soak(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_soak")).args(arguments).output().expect("the program runs")
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The number of times that a fault was injected.
fn happened(printed: &str, fault: &str) -> u64 {
    let mishaps = printed.lines().find_map(|line| line.strip_prefix("mishaps ")).expect("they are counted");
    mishaps.split(", ").find_map(|one| one.strip_suffix(fault)?.trim().parse().ok()).unwrap_or_default()
}

#[test]
fn short_soak_with_all_faults_passes() {
    let options = ["--url", "redis:", "--minutes", "0.2", "--processes", "3", "--faults", "all", "--seed", "1"];
    let beside_other_tests = ["--late", "250ms"];
    let folder = tempfile::tempdir().expect("the system has a place for temporary files");
    let table = folder.path().join("table.md");
    let table = table.to_str().expect("a path of characters");
    let output = soak(&[&options[..], &beside_other_tests, &["--table", table]].concat());
    let printed = printed(&output);
    println!("{printed}");
    assert!(output.status.success(), "{output:?}");
    assert!(printed.contains("0 overlaps, 0 overtaken, 0 tokens, 0 writes, 0 late signals, 0 forgotten"));
    assert!(printed.ends_with("nothing was wrong\n"));
    let faults = ["process-killed", "process-frozen", "cut", "stalled", "half-open", "slow", "reordered"];
    let table = std::fs::read_to_string(table).expect("the soak has written it");
    assert!(table.lines().count() == 3 && table.contains("\n| Redis | "), "{table}");
    assert!(faults.iter().filter(|fault| happened(&printed, fault) > 0).count() > 2, "{printed}");
}

#[test]
fn foreign_server_is_left_alone() {
    let server = Redis::start();
    let output = soak(&["--minutes", "0.05", "--url", server.url()]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("server-paused needs a server that is the soak's own: have one started by --url redis:"),
        "{said}"
    );

    let some = ["--minutes", "0.05", "--processes", "2", "--faults", "process-killed,reset", "--url", server.url()];
    let said = String::from_utf8_lossy(&soak(&some).stderr).into_owned();
    assert!(said.contains("no fault is called \"reset\""), "{said}");

    let some = ["--minutes", "0.05", "--processes", "2", "--faults", "process-killed,cut", "--url", server.url()];
    let output = soak(&some);
    assert!(output.status.success(), "{output:?}");
    assert!(printed(&output).contains("granted"), "{output:?}");
}

#[test]
fn other_stores_are_started() {
    for url in ["redis-cluster:", "redis-sentinel:", "etcd:", "pgbouncer:", "sqlite:"] {
        let options = ["--minutes", "0.05", "--ttl", "1s", "--processes", "2", "--faults", "process-killed"];
        let output = soak(&[&options[..], &["--late", "250ms", "--url", url]].concat());
        assert!(output.status.success(), "{url}: {output:?}");
        assert!(printed(&output).contains(" granted, "), "{url}: {output:?}");
    }
    let output = soak(&["--minutes", "0.03", "--faults", "cut", "--url", "sqlite:"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("cut cannot happen to sqlite:"), "{output:?}");
}

#[test]
fn limited_user_outlives_a_restart() {
    let options = ["--minutes", "0.15", "--ttl", "1s", "--processes", "2", "--faults", "data-lost", "--late", "250ms"];
    let output = soak(&[&options[..], &["--url", "redis-user:"]].concat());
    assert!(output.status.success(), "{output:?}");
    let printed = printed(&output);
    assert!(happened(&printed, "data-lost") > 0, "{printed}");
}

#[test]
fn file_is_locked_and_deleted() {
    let options = ["--minutes", "0.25", "--ttl", "1s", "--processes", "2", "--faults", "server-paused,data-lost"];
    let output = soak(&[&options[..], &["--late", "250ms", "--url", "sqlite:"]].concat());
    assert!(output.status.success(), "{output:?}");
    let printed = printed(&output);
    assert!(happened(&printed, "server-paused") + happened(&printed, "data-lost") > 1, "{printed}");
}

/// Processes are cut off from all servers, and all servers lose their data.
mod several_servers {
    use super::{happened, printed, soak};

    #[test]
    fn redis_cluster_passes() {
        pass("redis-cluster:", "1s");
    }

    #[test]
    fn redis_sentinel_passes() {
        pass("redis-sentinel:", "1s");
    }

    #[test]
    fn etcd_cluster_passes() {
        pass("etcd-cluster:", "2s");
    }

    fn pass(url: &str, ttl: &str) {
        let options = ["--minutes", "0.2", "--processes", "2", "--faults", "cut,data-lost", "--late", "250ms"];
        let output = soak(&[&options[..], &["--ttl", ttl, "--url", url]].concat());
        assert!(output.status.success(), "{output:?}");
        let printed = printed(&output);
        assert!(["cut", "data-lost"].iter().all(|fault| happened(&printed, fault) > 0), "{printed}");
    }
}

#[test]
fn what_it_cannot_do_it_says() {
    for (arguments, problem) in [
        (["--url", "redis://127.0.0.1:1", "--faults", "cut"], "refused"),
        (["--url", "nonsense", "--faults", "cut"], "scheme"),
        (["--minutes", "0", "--faults", "cut"], "0.01 to 10000"),
        (["--processes", "0", "--faults", "cut"], "1..=1000"),
    ] {
        let output = soak(&arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(problem), "{arguments:?}: {said}");
    }
}
