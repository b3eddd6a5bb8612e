//! A pod's network: the loopback interface and the pod's address on it, told to the kernel by rtnetlink.
//!
//! There is no way out of it and none in, except through the pod's own sockets: what a mesh that allows nothing
//! would leave.

use std::io;
use std::net::Ipv4Addr;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

// From linux/rtnetlink.h, linux/netlink.h and linux/if.h.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
/// Loopback is the first interface of every network namespace.
const LOOPBACK: u32 = 1;
const HEADER: usize = 16;

pub(super) fn bring_up(address: Ipv4Addr) -> io::Result<()> {
    // struct ifinfomsg: family, padding, type, index, flags, change.
    let mut link = vec![0; 4];
    link.extend(LOOPBACK.to_ne_bytes());
    link.extend(IFF_UP.to_ne_bytes());
    link.extend(IFF_UP.to_ne_bytes());
    ask(RTM_NEWLINK, 0, &link)?;
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    let mut local = vec![AF_INET, 32, 0, 0];
    local.extend(LOOPBACK.to_ne_bytes());
    for attribute in [IFA_LOCAL, IFA_ADDRESS] {
        local.extend(8u16.to_ne_bytes());
        local.extend(attribute.to_ne_bytes());
        local.extend(address.octets());
    }
    ask(RTM_NEWADDR, NLM_F_CREATE, &local)
}

fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    // Sequence and port: one question at a time on a socket of its own.
    message.extend([0; 8]);
    message.extend(body);
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 256];
    let (received, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    let answer = answer.get(..received).unwrap_or_default();
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let error = answer.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::Error::other("the kernel's answer on rtnetlink made no sense")),
    }
}
