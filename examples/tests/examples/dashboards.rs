//! Tests that the metrics in the dashboard and the alerts exist, and that Prometheus' own tool accepts the rules.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// The example as a running server. Dropping this ends it.
struct Example(Child, String);

impl Example {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_prometheus"));
        command.arg("127.0.0.1:0").env_remove("RLOCK_URL").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines
            .into_iter()
            .find_map(|line| Some(line.strip_prefix("serving http://")?.strip_suffix("/metrics")?.to_owned()));
        Self(child, address.expect("it says where it serves"))
    }

    fn scrape(&self) -> String {
        let mut stream = TcpStream::connect(&self.1).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.0 200"), "{text}");
        text
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _status = self.0.wait();
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

/// The words of a text that are names of rlock's metrics.
fn metrics(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("rlock_")).collect()
}

#[test]
fn every_metric_that_they_name_is_scraped() {
    let scraped = Example::start().scrape();
    let samples: BTreeSet<&str> = scraped.lines().filter(|line| !line.starts_with('#')).flat_map(metrics).collect();
    for name in ["grafana.json", "alerts.yml"] {
        let text = read(name);
        let named = metrics(&text);
        assert!(named.len() >= 6, "{name} names {named:?}");
        let missing: Vec<_> = named.difference(&samples).collect();
        assert!(missing.is_empty(), "{name} names what is not there: {missing:?}\n{scraped}");
    }
    // Every metric that the example serves is in the dashboard.
    let dashboard = read("grafana.json");
    let families = |names: BTreeSet<&str>| -> BTreeSet<String> {
        let family = |name: &str| {
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
        };
        names.into_iter().map(family).collect()
    };
    assert_eq!(families(metrics(&dashboard)), families(samples));
}

#[test]
fn every_label_that_they_name_is_scraped() {
    let scraped = Example::start().scrape();
    for label in ["backend", "outcome", "reason", "source", "le"] {
        assert!(scraped.contains(&format!("{label}=\"")), "{label}:\n{scraped}");
    }
    let dashboard: Value = serde_json::from_str(&read("grafana.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(panel["targets"][0]["expr"].is_string() && panel["title"].is_string(), "{panel}");
    }
}

#[test]
fn prometheus_approves_of_the_rules() {
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let command = Command::new("promtool").args(arguments).current_dir(file("")).output();
        let output = command.expect("promtool is installed by scripts/setup: on Debian it is part of prometheus");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}{err}");
    }
}
