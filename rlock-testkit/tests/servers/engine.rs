//! Tests with a Docker engine that does not work properly.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{NOWHERE, failure, test};

#[test]
fn containers_need_an_engine_that_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("tcp://{}", listener.local_addr().unwrap());
    for host in [NOWHERE, "tcp://127.0.0.1:1", &silent, "nonsense"] {
        let begun = Instant::now();
        let message = failure(&[("RLOCK_TEST_SERVERS", "containers"), ("DOCKER_HOST", host)]);
        assert!(begun.elapsed() < Duration::from_secs(10), "{host}: {:?}", begun.elapsed());
        for part in
            ["RLOCK_TEST_SERVERS=containers, but no Docker engine answers: ", "install docker.io", "DOCKER_HOST"]
        {
            assert!(message.contains(part), "{host}: {message}");
        }
    }
}

#[test]
fn missing_image_of_a_container_is_reported() {
    let engine = Engine::start(|request| match request {
        HttpRequest("GET", "/_ping") => Some("200 OK"),
        _ => Some("404 Not Found"),
    });
    let message = failure(&[("DOCKER_HOST", &engine.url), ("RLOCK_TEST_REDIS_IMAGE", "127.0.0.1:1/redis:none")]);
    for part in ["no image `127.0.0.1:1/redis:none`", "RLOCK_TEST_REDIS_IMAGE=name:tag", "RLOCK_TEST_SERVERS=local"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn signal_to_a_test_removes_its_containers() {
    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let engine = Engine::start(|request| match request {
            HttpRequest("POST", path) if path.contains("/create") => Some("201 Created"),
            HttpRequest("POST", path) if path.contains("/start") => None,
            _ => Some("200 OK"),
        });
        let mut test = test("a_server_starts_and_answers", &[("DOCKER_HOST", &engine.url)]).spawn().unwrap();
        let name = engine.wait_for("POST", "/containers/create?");
        let (_, name) = name.split_once("name=").unwrap();
        assert!(name.starts_with("rlock-test-redis-"), "{name}");
        let name = name.split('&').next().unwrap();
        engine.wait_for("POST", "/start");
        kill(Pid::from_raw(test.id().cast_signed()), signal).unwrap();
        engine.wait_for("DELETE", name);
        assert_eq!(test.wait().unwrap().code(), Some(status));
    }
}

/// A fake Docker engine.
struct Engine {
    url: String,
    requests: mpsc::Receiver<(String, String)>,
}

/// A method and a path.
struct HttpRequest<'a>(&'a str, &'a str);

impl Engine {
    /// Starts an engine that answers requests with the status from `answer`, or not at all.
    fn start(answer: fn(HttpRequest<'_>) -> Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            let mut unanswered = Vec::new();
            for mut connection in listener.incoming().map_while(Result::ok) {
                let (method, path) = read_request(&connection);
                match answer(HttpRequest(&method, &path)) {
                    Some(status) => {
                        let body = if status.starts_with("201") {
                            r#"{"Id":"0","Warnings":[]}"#
                        } else {
                            r#"{"message":"no"}"#
                        };
                        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close");
                        let len = body.len();
                        let _gone = write!(connection, "{head}\r\ncontent-length: {len}\r\n\r\n{body}");
                    }
                    None => unanswered.push(connection),
                }
                let _test_gone = sender.send((method, path));
            }
        });
        Self { url, requests }
    }

    /// The path of the next request with this method and with `part` in its path.
    fn wait_for(&self, method: &str, part: &str) -> String {
        loop {
            let (got, path) = self.requests.recv_timeout(Duration::from_secs(20)).expect(part);
            if got == method && path.contains(part) {
                return path;
            }
        }
    }
}

fn read_request(connection: &TcpStream) -> (String, String) {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap_or_default());
    let mut len = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            len = value.trim().parse().unwrap();
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; len]).unwrap();
    (method, path)
}
