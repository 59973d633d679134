//! The ways between the members of a cluster.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::time::Duration;
use std::{fs, io, thread};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::sockets;

/// Proxies in front of the members of a cluster, for what they say to each other. A member can be cut off from the
/// others: in both directions, whoever has opened the connection.
///
/// Each member is known to the others by one address only, so that a proxy cannot tell by its own which of them calls.
/// It asks the kernel whose socket is at the other end, on Linux.
#[derive(Debug)]
pub(super) struct Peers {
    fronts: Vec<u16>,
    members: watch::Sender<Vec<Member>>,
    _stop: oneshot::Sender<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Member {
    /// Where it listens for the others, once it was started.
    port: Option<u16>,
    process: Option<u32>,
    is_cut_off: bool,
}

const NO_HURRY: Duration = Duration::from_millis(50);

impl Peers {
    /// Proxies for so many members.
    ///
    /// # Panics
    ///
    /// Panics if the system has no ports or no thread to spare.
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

    /// The port by which the others reach member `index`.
    pub(super) fn front(&self, index: usize) -> u16 {
        self.fronts[index]
    }

    /// Where member `index` listens from now on.
    pub(super) fn lead_to(&self, index: usize, port: u16) {
        self.change(index, |member| member.port = Some(port));
    }

    /// Which process member `index` is from now on.
    pub(super) fn is_process(&self, index: usize, process: u32) {
        self.change(index, |member| member.process = Some(process));
    }

    /// Keeps back whatever member `index` and the others say to each other.
    pub(super) fn cut_off(&self, index: usize) {
        self.change(index, |member| member.is_cut_off = true);
    }

    /// Delivers what was kept back, and what comes.
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

/// Runs the proxies on a thread of their own.
fn run(listeners: Vec<StdListener>, members: watch::Receiver<Vec<Member>>, stopped: oneshot::Receiver<()>) {
    thread::Builder::new()
        .name("peers".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("the system has what a runtime takes").block_on(async {
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

/// One connection, until either end closes it.
async fn serve(stream: TcpStream, callee: usize, mut members: watch::Receiver<Vec<Member>>) {
    let known = members.borrow().clone();
    // Nobody else has any business here. A member that the kit does not know yet calls again.
    let Ok(Some(caller)) = caller(&stream, &known) else { return };
    let ends = [caller, callee];
    if !passes(&mut members, ends).await {
        return;
    }
    let Some(port) = members.borrow()[callee].port else { return };
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let _prompt = (stream.set_nodelay(true), server.set_nodelay(true));
    let ((from_caller, to_caller), (from_callee, to_callee)) = (stream.into_split(), server.into_split());
    tokio::select! {
        () = pass(from_caller, to_callee, members.clone(), ends) => {}
        () = pass(from_callee, to_caller, members.clone(), ends) => {}
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

/// Waits until neither end is cut off; false if the proxies are gone.
async fn passes(members: &mut watch::Receiver<Vec<Member>>, ends: [usize; 2]) -> bool {
    members.wait_for(|members| ends.iter().all(|&end| !members[end].is_cut_off)).await.is_ok()
}

/// Which of the members has opened this connection.
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
        // One that was closed meanwhile is not what is looked for.
        if fs::read_link(file?.path()).is_ok_and(|link| link.as_os_str() == socket) {
            return Ok(true);
        }
    }
    Ok(false)
}
