//! Tests of fault injection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rlock_core::{Acquired, Backend, BackendError, Claim, Event, Extended, MemoryStore, Namespace, Released};
use rlock_testkit::faults::{Fault, Faults, Faulty, Odds, Proxy, Verb, Way};
use rlock_testkit::peer::{LONG, Peer, Shape, claim};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const MOMENT: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_secs(10);

/// A server that sends everything back, with `mark` in front.
async fn echo(mark: u8) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("echo://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 64];
                while let Ok(len @ 1..) = stream.read(&mut bytes).await {
                    let _closed = stream.write_all(&[&[mark], &bytes[..len]].concat()).await;
                }
            });
        }
    });
    url
}

async fn through(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.url().trim_start_matches("echo://")).await.unwrap()
}

/// The answer to one byte: `None` for no answer in time, an error for the end of the connection, or the bytes.
async fn answer(stream: &mut TcpStream) -> Option<Result<Vec<u8>, ()>> {
    let mut bytes = [0; 64];
    if stream.write_all(b"x").await.is_err() {
        return Some(Err(()));
    }
    match timeout(MOMENT, stream.read(&mut bytes)).await.ok()? {
        Ok(0) | Err(_) => Some(Err(())),
        Ok(len) => Some(Ok(bytes[..len].to_vec())),
    }
}

#[tokio::test]
async fn a_proxy_passes_on_and_counts() {
    let proxy = Proxy::in_front_of(&echo(b'a').await);
    let mut stream = through(&proxy).await;
    for round_trip in 1..=2 {
        assert_eq!(answer(&mut stream).await, Some(Ok(b"ax".to_vec())));
        assert_eq!((proxy.passed(), proxy.round_trips()), (3 * round_trip, round_trip));
    }
}

#[tokio::test]
async fn one_proxy_stands_before_all_hosts() {
    let servers = [echo(b'a').await, echo(b'b').await, echo(b'c').await];
    let [a, b, c] = servers.each_ref().map(|url| url.trim_start_matches("echo://"));
    let (url, proxy) = Proxy::in_front_of_hosts(&format!("echo://{a},{b}"));
    let fronts: Vec<&str> = proxy.urls().iter().map(|url| url.trim_start_matches("tcp://")).collect();
    assert_eq!(url, format!("echo://{},{}", fronts[0], fronts[1]));
    let mut stream = TcpStream::connect(fronts[1]).await.unwrap();
    assert_eq!(answer(&mut stream).await, Some(Ok(b"bx".to_vec())));

    let (url, proxy) = Proxy::in_front_of_announced(&format!("echo://{a},{b}/path?x=1"), &[c]);
    let fronts: Vec<&str> = proxy.urls().iter().map(|url| url.trim_start_matches("tcp://")).collect();
    let [to_a, to_b, to_c] = fronts[..] else { panic!("{fronts:?}") };
    assert_eq!(url, format!("echo://{to_a},{to_b}/path?x=1&address_map={a}={to_a},{b}={to_b},{c}={to_c}"));
    let (url, _proxy) = Proxy::in_front_of_announced(&format!("echo://{a}"), &[]);
    assert!(url.contains("?address_map="), "{url}");
}

#[tokio::test]
async fn cut_resets_all_connections_until_it_heals() {
    let proxy = Proxy::in_front_of(&echo(b'a').await);
    let mut old = through(&proxy).await;
    assert_eq!(answer(&mut old).await, Some(Ok(b"ax".to_vec())));
    proxy.cut();
    let ended = timeout(SOON, old.read(&mut [0; 8])).await.expect("it is reset at once");
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    // The system may report the reset before `connect` returns.
    if let Ok(mut new) = TcpStream::connect(proxy.url().trim_start_matches("echo://")).await {
        assert!(timeout(SOON, new.read(&mut [0; 8])).await.expect("it is reset at once").is_err());
    }
    proxy.heal();
    assert_eq!(answer(&mut through(&proxy).await).await, Some(Ok(b"ax".to_vec())));
}

#[tokio::test]
async fn a_reset_leaves_new_connections_alone() {
    let proxy = Proxy::in_front_of(&echo(b'a').await);
    let mut old = through(&proxy).await;
    assert!(answer(&mut old).await.is_some());
    proxy.reset();
    assert!(timeout(SOON, old.read(&mut [0; 8])).await.expect("it is reset at once").is_err());
    assert_eq!(answer(&mut through(&proxy).await).await, Some(Ok(b"ax".to_vec())));
}

#[tokio::test]
async fn what_was_stalled_is_delivered_afterwards() {
    for way in [Way::ToServer, Way::ToClient, Way::Both] {
        let proxy = Proxy::in_front_of(&echo(b'a').await);
        let mut stream = through(&proxy).await;
        assert!(answer(&mut stream).await.is_some());
        proxy.stall(way);
        assert_eq!(answer(&mut stream).await, None);
        proxy.heal();
        let mut bytes = [0; 2];
        timeout(SOON, stream.read_exact(&mut bytes)).await.expect("it is delivered").unwrap();
        assert_eq!(&bytes, b"ax");
    }
}

#[tokio::test]
async fn a_connection_that_lost_bytes_stays_silent() {
    for way in [Way::ToServer, Way::ToClient, Way::Both] {
        let proxy = Proxy::in_front_of(&echo(b'a').await);
        let (mut dead, mut idle) = (through(&proxy).await, through(&proxy).await);
        assert!(answer(&mut dead).await.is_some());
        proxy.lose(way);
        assert_eq!(answer(&mut dead).await, None);
        proxy.heal();
        assert_eq!(answer(&mut dead).await, None);
        assert_eq!(answer(&mut idle).await, Some(Ok(b"ax".to_vec())), "it had lost nothing");
    }
}

#[tokio::test]
async fn a_slow_proxy_takes_its_time() {
    let proxy = Proxy::in_front_of(&echo(b'a').await);
    let mut stream = through(&proxy).await;
    proxy.slow(MOMENT);
    let begun = Instant::now();
    stream.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0; 2]).await.unwrap();
    assert!(begun.elapsed() >= 2 * MOMENT, "there and back took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_proxy_can_lead_elsewhere() {
    let proxy = Proxy::in_front_of(&echo(b'a').await);
    let mut old = through(&proxy).await;
    assert_eq!(answer(&mut old).await, Some(Ok(b"ax".to_vec())));
    proxy.lead_to(&echo(b'b').await);
    assert_eq!(answer(&mut old).await, Some(Err(())));
    assert_eq!(answer(&mut through(&proxy).await).await, Some(Ok(b"bx".to_vec())));
}

#[tokio::test]
async fn a_proxy_can_lead_new_connections_elsewhere() {
    let proxy = Proxy::in_front_of(&echo(b'a').await);
    let mut old = through(&proxy).await;
    assert_eq!(answer(&mut old).await, Some(Ok(b"ax".to_vec())));
    proxy.lead_new_to(&echo(b'b').await);
    assert_eq!(answer(&mut through(&proxy).await).await, Some(Ok(b"bx".to_vec())));
    assert_eq!(answer(&mut old).await, Some(Ok(b"ax".to_vec())));
}

/// A backend with `faults` in its requests, and a peer without faults on the same store.
fn peers(faults: &Faults) -> (Arc<dyn Backend>, Peer) {
    let store = MemoryStore::new();
    let faulty = Faulty::new(store.client(Namespace::default()), faults.clone());
    (Arc::new(faulty), Peer::new(Arc::new(store.client(Namespace::default()))))
}

async fn acquire(backend: &Arc<dyn Backend>, claim: &Claim) -> Result<Acquired, BackendError> {
    backend.acquire(std::slice::from_ref(claim)).await.remove(0)
}

#[tokio::test]
async fn a_peer_repeats_a_release_without_an_answer() {
    for fault in [Fault::DropReply, Fault::DropRequest] {
        let faults = Faults::none();
        let (backend, other) = peers(&faults);
        let peer = Peer::new(backend);
        let held = peer.hold(&claim("x")).await;
        faults.next(Verb::Release, fault);
        assert_eq!(peer.release(&held.key).await, Released::Released, "{fault:?}");
        assert!(other.inspect("x").await.is_free());
        assert_eq!(peer.release(&held.key).await, Released::Absent);
    }
}

#[tokio::test]
async fn a_dropped_request_has_no_effect() {
    let faults = Faults::none();
    let (backend, other) = peers(&faults);
    faults.next(Verb::Acquire, Fault::DropRequest);
    let lost = claim("x");
    assert!(acquire(&backend, &lost).await.unwrap_err().may_have_been_applied());
    assert!(other.inspect("x").await.is_free());
    assert!(matches!(acquire(&backend, &lost).await, Ok(Acquired::Held(_))));
    assert_eq!((faults.calls(Verb::Acquire), faults.happened(Verb::Acquire)), (2, vec![(0, Fault::DropRequest)]));
}

#[tokio::test]
async fn request_with_a_dropped_reply_takes_effect() {
    let faults = Faults::none();
    let (backend, other) = peers(&faults);
    faults.all(Verb::Release, Fault::DropReply);
    let held = other.hold(&claim("x")).await;
    let answer = backend.release(&[held.key.clone().into()]).await.remove(0);
    assert!(answer.unwrap_err().may_have_been_applied());
    assert!(other.inspect("x").await.is_free());
    faults.clear();
    assert!(matches!(backend.release(&[held.key.into()]).await[0], Ok(Released::Absent)));
}

#[tokio::test]
async fn first_reply_to_a_duplicate_counts() {
    let faults = Faults::none();
    let (backend, other) = peers(&faults);
    faults.next(Verb::Release, Fault::Duplicate);
    let held = other.hold(&claim("x")).await;
    assert!(matches!(backend.release(&[held.key.into()]).await[0], Ok(Released::Released)));
}

#[tokio::test]
async fn late_request_arrives_after_its_caller_gave_up() {
    let faults = Faults::none();
    let (backend, other) = peers(&faults);
    faults.next(Verb::Acquire, Fault::Late(MOMENT));
    let late = claim("x");
    assert!(acquire(&backend, &late).await.is_err());
    assert!(other.inspect("x").await.is_free());
    let arrived = async || matches!(other.state(&late.key).await, Extended::Held(_));
    rlock_testkit::wait::eventually(SOON, "the late request", arrived).await;
}

#[tokio::test]
async fn nothing_reaches_a_frozen_store() {
    let faults = Faults::none();
    let (backend, other) = peers(&faults);
    faults.freeze();
    let waiting = claim("x");
    let mut call = std::pin::pin!(acquire(&backend, &waiting));
    assert!(timeout(MOMENT, &mut call).await.is_err());
    assert!(other.inspect("x").await.is_free());
    faults.thaw();
    assert!(matches!(timeout(SOON, call).await.expect("it is answered"), Ok(Acquired::Held(_))));
}

#[tokio::test]
async fn lost_events_are_skipped_later_ones_arrive() {
    use futures_util::StreamExt as _;

    let faults = Faults::none();
    let (backend, other) = peers(&faults);
    let mut events = backend.events();
    let (lost, later) = (claim("x").queued(), claim("x").queued());
    let held = other.hold(&claim("x")).await;
    assert!(matches!(acquire(&backend, &lost).await, Ok(Acquired::Queued(_))));
    assert!(matches!(acquire(&backend, &later).await, Ok(Acquired::Queued(_))));
    faults.lose_events(true);
    other.release(&held.key).await;
    assert!(timeout(MOMENT, events.next()).await.is_err());
    faults.lose_events(false);
    other.release(&lost.key).await;
    let event = timeout(SOON, events.next()).await.expect("the event arrives");
    assert!(matches!(event, Some(Event::Granted { id, .. }) if id == later.key.id), "{event:?}");
}

#[tokio::test]
async fn a_seed_repeats_what_happened() {
    let odds = Odds { delay: 0.2, longest_delay: MOMENT / 100, drop_request: 0.1, drop_reply: 0.1, duplicate: 0.1 };
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let faults = Faults::seeded(seed, odds);
        let (backend, _) = peers(&faults);
        for number in 0..200 {
            let _outcome = acquire(&backend, &claim(&number.to_string()).living(LONG)).await;
        }
        runs.push(faults.happened(Verb::Acquire));
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    let share = runs[0].len() as f64 / 200.0;
    assert!((0.35..0.65).contains(&share), "{share} of the calls went wrong, and 0.5 were to");
}
