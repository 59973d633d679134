//! Asks the kernel for the inode of a TCP socket, by netlink: `sock_diag(7)`.
//!
//! `/proc/net/tcp` has the inode too, but it lists every socket of the machine, and closed ones for another minute.

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::inode_of;
#[cfg(target_os = "linux")]
pub(super) use linux::inode_of;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::net::SocketAddrV4;
    use std::os::fd::AsRawFd as _;

    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const HEADER: usize = 16;
    /// The length of the addresses and ports of both ends, an interface and a cookie.
    const SOCKET_ID: usize = 48;
    /// After the header: the state of the socket in 4 bytes, its id, four counters, then the inode.
    const INODE_AT: usize = HEADER + 4 + SOCKET_ID + 16;

    /// The inode of the TCP socket at `local` that is connected to `remote`; `None` if there is none.
    pub(in super::super) fn inode_of(local: SocketAddrV4, remote: SocketAddrV4) -> io::Result<Option<u32>> {
        let family = AddressFamily::Netlink;
        let netlink = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
        send(netlink.as_raw_fd(), &request(local, remote), MsgFlags::empty())?;
        let mut answer = [0; 512];
        let len = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        if kind != SOCK_DIAG_BY_FAMILY || len < INODE_AT + 4 {
            return Ok(None); // an error: no such socket
        }
        let inode = answer[INODE_AT..].first_chunk().copied().map(u32::from_ne_bytes);
        Ok(inode.filter(|&inode| inode != 0))
    }

    fn request(local: SocketAddrV4, remote: SocketAddrV4) -> Vec<u8> {
        const AF_INET: u8 = 2;
        const IPPROTO_TCP: u8 = 6;
        let mut id = Vec::with_capacity(SOCKET_ID);
        id.extend(local.port().to_be_bytes());
        id.extend(remote.port().to_be_bytes());
        for address in [local, remote] {
            id.extend(address.ip().octets());
            id.extend([0; 12]); // the rest of the space for an IPv6 address
        }
        id.extend([0; 4]); // any interface
        id.extend([0xff; 8]); // no cookie
        let mut request = vec![AF_INET, IPPROTO_TCP, 0, 0];
        request.extend([0xff; 4]); // in any state
        request.extend(id);
        let mut message = Vec::new();
        message.extend(u32::try_from(HEADER + request.len()).expect("it is short").to_ne_bytes());
        message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message.extend(NLM_F_REQUEST.to_ne_bytes());
        message.extend([0; 8]); // sequence number and port
        message.extend(request);
        message
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::io;
    use std::net::SocketAddrV4;

    pub(in super::super) fn inode_of(_local: SocketAddrV4, _remote: SocketAddrV4) -> io::Result<Option<u32>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        let SocketAddr::V4(address) = address else { panic!("{address} is not an IPv4 address") };
        address
    }

    #[test]
    fn inode_is_that_of_the_open_file() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, remote) = (v4(client.local_addr().unwrap()), v4(client.peer_addr().unwrap()));
        let link = fs::read_link(format!("/proc/self/fd/{}", client.as_raw_fd())).unwrap();
        assert_eq!(format!("socket:[{}]", inode_of(local, remote).unwrap().unwrap()), link.to_str().unwrap());
        let unused = SocketAddrV4::new(*local.ip(), 1);
        assert_eq!(inode_of(unused, remote).unwrap(), None);
    }
}
