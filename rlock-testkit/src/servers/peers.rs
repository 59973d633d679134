//! Proxies between the members of a cluster.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::time::Duration;
use std::{fs, io, thread};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::sockets;

/// Proxies between the members of a cluster. A member can be cut off from the others, in both directions, for
/// connections that either end has opened.
///
/// All other members reach a member through the same address, so the proxy cannot see from the address which of them
/// connects. It asks the kernel for the process at the other end, on Linux.
#[derive(Debug)]
pub(super) struct Peers {
    fronts: Vec<u16>,
    members: watch::Sender<Vec<Member>>,
    _stop: oneshot::Sender<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Member {
    /// The port at which the member listens for the others, once it was started.
    port: Option<u16>,
    /// Grows each time the port is set; older connections to the member end then.
    starts: u64,
    process: Option<u32>,
    is_cut_off: bool,
}

const NO_HURRY: Duration = Duration::from_millis(50);

impl Peers {
    /// Starts proxies for `count` members.
    ///
    /// # Panics
    ///
    /// Panics if the system has no free ports or no thread.
    pub(super) fn new(count: usize) -> Self {
        let listen = || -> io::Result<(StdListener, u16)> {
            let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            Ok((listener, port))
        };
        let listening: io::Result<Vec<_>> = (0..count).map(|_| listen()).collect();
        let (listeners, fronts): (Vec<_>, Vec<_>) =
            listening.expect("the loopback interface has free ports").into_iter().unzip();
        let (members, watched) = watch::channel(vec![Member::default(); count]);
        let (stop, stopped) = oneshot::channel();
        run(listeners, watched, stopped);
        Self { fronts, members, _stop: stop }
    }

    /// The port of the proxy in front of member `index`.
    pub(super) fn front(&self, index: usize) -> u16 {
        self.fronts[index]
    }

    /// Sets the port at which member `index` listens, and ends the connections to it: an earlier port may belong to a
    /// stranger that answers nothing.
    pub(super) fn lead_to(&self, index: usize, port: u16) {
        self.change(index, |member| {
            member.port = Some(port);
            member.starts += 1;
        });
    }

    /// Sets the process of member `index`.
    pub(super) fn is_process(&self, index: usize, process: u32) {
        self.change(index, |member| member.process = Some(process));
    }

    /// The process of member `index`, if it was started.
    pub(super) fn process(&self, index: usize) -> Option<u32> {
        self.members.borrow()[index].process
    }

    /// Holds back all bytes between member `index` and the others.
    pub(super) fn cut_off(&self, index: usize) {
        self.change(index, |member| member.is_cut_off = true);
    }

    /// Delivers the bytes that were held back, and all later ones.
    pub(super) fn heal(&self, index: usize) {
        self.change(index, |member| member.is_cut_off = false);
    }

    pub(super) fn is_cut_off(&self, index: usize) -> bool {
        self.members.borrow()[index].is_cut_off
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Member)) {
        self.members.send_if_modified(|members| {
            let before = members[index];
            change(&mut members[index]);
            members[index] != before
        });
    }
}

/// Runs the proxies on their own thread.
fn run(listeners: Vec<StdListener>, members: watch::Receiver<Vec<Member>>, stopped: oneshot::Receiver<()>) {
    thread::Builder::new()
        .name("peers".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("the system can start a runtime").block_on(async {
                for (callee, listener) in listeners.into_iter().enumerate() {
                    let listener = TcpListener::from_std(listener).expect("the runtime takes a listener");
                    tokio::spawn(accept(listener, callee, members.clone()));
                }
                let _gone = stopped.await;
            });
        })
        .expect("the system has a thread");
}

async fn accept(listener: TcpListener, callee: usize, members: watch::Receiver<Vec<Member>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, callee, members.clone()))),
            Err(_no_descriptor_left) => sleep(NO_HURRY).await,
        }
    }
}

/// Serves one connection, until either end closes it or the callee gets another port.
async fn serve(stream: TcpStream, callee: usize, mut members: watch::Receiver<Vec<Member>>) {
    let known = members.borrow().clone();
    // Only members may connect. A member whose process is not known yet connects again.
    let Ok(Some(caller)) = caller(&stream, &known) else { return };
    let ends = [caller, callee];
    if !passes(&mut members, ends).await {
        return;
    }
    let Member { port: Some(port), starts, .. } = members.borrow()[callee] else { return };
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let _prompt = (stream.set_nodelay(true), server.set_nodelay(true));
    let ((from_caller, to_caller), (from_callee, to_callee)) = (stream.into_split(), server.into_split());
    tokio::select! {
        () = pass(from_caller, to_callee, members.clone(), ends) => {}
        () = pass(from_callee, to_caller, members.clone(), ends) => {}
        _ = members.wait_for(|members| members[callee].starts != starts) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut members: watch::Receiver<Vec<Member>>,
    ends: [usize; 2],
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let len = from.read(&mut bytes).await.unwrap_or(0);
        if !passes(&mut members, ends).await || len == 0 || to.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
}

/// Waits until neither end is cut off. Returns false if the proxies are gone.
async fn passes(members: &mut watch::Receiver<Vec<Member>>, ends: [usize; 2]) -> bool {
    members.wait_for(|members| ends.iter().all(|&end| !members[end].is_cut_off)).await.is_ok()
}

/// The index of the member that opened this connection.
fn caller(stream: &TcpStream, members: &[Member]) -> io::Result<Option<usize>> {
    let (SocketAddr::V4(there), SocketAddr::V4(here)) = (stream.peer_addr()?, stream.local_addr()?) else {
        return Ok(None);
    };
    let Some(inode) = sockets::inode_of(there, here)? else { return Ok(None) };
    let socket = format!("socket:[{inode}]");
    let has_it = |member: &Member| member.process.is_some_and(|process| has_open(process, &socket).unwrap_or(false));
    Ok(members.iter().position(has_it))
}

fn has_open(process: u32, socket: &str) -> io::Result<bool> {
    for file in fs::read_dir(format!("/proc/{process}/fd"))? {
        // A file that was closed in the meantime is not this socket.
        if fs::read_link(file?.path()).is_ok_and(|link| link.as_os_str() == socket) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Read as _;
    use std::net::TcpStream;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn new_port_ends_older_connections() {
        let peers = Peers::new(2);
        peers.is_process(0, std::process::id());
        let listen = || StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let lead_to = |listener: &StdListener| peers.lead_to(1, listener.local_addr().unwrap().port());
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, peers.front(1))).unwrap();

        let stranger = listen();
        lead_to(&stranger);
        let mut connection = connect();
        connection.set_read_timeout(Some(SOON)).unwrap();
        let _silent = stranger.accept().unwrap();
        let member = listen();
        lead_to(&member);
        assert_eq!(connection.read(&mut [0]).unwrap(), 0, "the connection ends");
        let _connection = connect();
        member.accept().unwrap();
    }
}
