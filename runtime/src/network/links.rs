//! Links, addresses and routes: what is asked of the kernel for them, one batch for all that belongs together.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netlink::{Attributes, Batch, CREATE, EXCLUSIVE, REPLACE, Socket, word};
use crate::error::Result;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const INET_CONFIGURATION: u16 = 1;
const ROUTE_LOCALNET: u16 = 26;

/// A device that is to be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Device<'a> {
    /// Its number; 0 leaves it to the kernel.
    pub(super) number: u32,
    pub(super) name: &'a str,
    pub(super) mtu: u32,
    pub(super) mac: Option<[u8; 6]>,
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefixed {
    /// The address.
    pub address: IpAddr,
    /// Bits of it that are the network's.
    pub length: u8,
}

/// A bridge, up.
pub(super) fn bridge(batch: &mut Batch, device: Device<'_>) {
    batch.message("making a bridge", NEW_LINK, CREATE | EXCLUSIVE, &link_head(device.number, true));
    describe(batch, device, None);
    batch.nest(IFLA_LINKINFO, |info| {
        info.put_text(INFO_KIND, "bridge");
    });
}

/// A pair of devices that are one another's cable: the first up, the second in another namespace and not yet up.
pub(super) fn pair(batch: &mut Batch, here: Device<'_>, there: Device<'_>, namespace: BorrowedFd<'_>) {
    batch.message("making a pair of devices", NEW_LINK, CREATE | EXCLUSIVE, &link_head(here.number, true));
    describe(batch, here, None);
    batch.nest(IFLA_LINKINFO, |info| {
        info.put_text(INFO_KIND, "veth").nest(INFO_DATA, |data| {
            data.nest(VETH_PEER, |peer| {
                peer.raw(&link_head(there.number, false));
                describe(peer, there, Some(namespace));
            });
        });
    });
}

fn describe(batch: &mut Batch, device: Device<'_>, namespace: Option<BorrowedFd<'_>>) {
    batch.put_text(IFLA_IFNAME, device.name).put_u32(IFLA_MTU, device.mtu);
    if let Some(mac) = device.mac {
        batch.put(IFLA_ADDRESS, &mac);
    }
    if let Some(namespace) = namespace {
        batch.put_u32(IFLA_NET_NS_FD, namespace.as_raw_fd().unsigned_abs());
    }
}

/// Makes the device of this name a port of a bridge, and brings it up.
pub(super) fn plug(batch: &mut Batch, name: &str, bridge: u32) {
    batch.message("plugging a device into a bridge", NEW_LINK, 0, &link_head(0, true));
    batch.put_text(IFLA_IFNAME, name).put_u32(IFLA_MASTER, bridge);
}

/// Packets from and to 127.0.0.0/8 may pass this device.
pub(super) fn route_loopback(batch: &mut Batch, number: u32) {
    batch.message("setting up a device", NEW_LINK, 0, &link_head(number, false)).nest(IFLA_AF_SPEC, |families| {
        families.nest(libc::AF_INET as u16, |inet| {
            inet.nest(INET_CONFIGURATION, |configuration| {
                configuration.put_u32(ROUTE_LOCALNET, 1);
            });
        });
    });
}

/// Changes nothing; it fails where nothing may be changed.
pub(super) fn touch(batch: &mut Batch) {
    const LOOPBACK: u32 = 1;
    batch.message("changing devices of this machine", NEW_LINK, 0, &link_head(LOOPBACK, false));
}

/// Removes a device, and the one at the other end of its cable.
pub(super) fn remove(batch: &mut Batch, number: u32) {
    batch.message("removing a device", DELETE_LINK, 0, &link_head(number, false));
}

fn link_head(number: u32, up: bool) -> [u8; 16] {
    let mut head = [0_u8; 16];
    let flag = if up { libc::IFF_UP as u32 } else { 0 };
    let fields = [0_u32, number, flag, flag];
    for (to, from) in head.iter_mut().zip(fields.iter().flat_map(|field| field.to_ne_bytes())) {
        *to = from;
    }
    head
}

/// An address for a device; the route to its network is made apart.
pub(super) fn address(batch: &mut Batch, number: u32, address: Prefixed) {
    const LOCAL: u16 = 2;
    const ADDRESS: u16 = 1;
    const FLAGS: u16 = 8;
    const NO_DUPLICATE_CHECK: u32 = 0x02;
    const NO_PREFIX_ROUTE: u32 = 0x200;
    let (family, bytes) = octets(address.address);
    let [a, b, c, d] = number.to_ne_bytes();
    batch
        .message(
            "giving a device its address",
            NEW_ADDRESS,
            CREATE | REPLACE,
            &[family, address.length, 0, 0, a, b, c, d],
        )
        .put(LOCAL, &bytes)
        .put(ADDRESS, &bytes)
        .put_u32(FLAGS, NO_DUPLICATE_CHECK | NO_PREFIX_ROUTE);
}

/// A route: to a network that is on a device, or to everywhere by a gateway. One that is there is replaced.
pub(super) fn route(batch: &mut Batch, number: u32, to: Option<Prefixed>, gateway: Option<IpAddr>, source: IpAddr) {
    const DESTINATION: u16 = 1;
    const OUT: u16 = 4;
    const GATEWAY: u16 = 5;
    const SOURCE: u16 = 7;
    const MAIN: u8 = 254;
    const BOOT: u8 = 3;
    const UNIVERSE: u8 = 0;
    const LINK: u8 = 253;
    const UNICAST: u8 = 1;
    let (family, source) = octets(source);
    let scope = if gateway.is_none() && family == libc::AF_INET as u8 { LINK } else { UNIVERSE };
    let length = to.map_or(0, |to| to.length);
    let head = [family, length, 0, 0, MAIN, BOOT, scope, UNICAST, 0, 0, 0, 0];
    batch.message("making a route", NEW_ROUTE, CREATE | REPLACE, &head).put_u32(OUT, number).put(SOURCE, &source);
    if let Some(to) = to {
        batch.put(DESTINATION, &octets(network_of(to)).1);
    }
    if let Some(gateway) = gateway {
        batch.put(GATEWAY, &octets(gateway).1);
    }
}

/// Family and bytes of an address.
pub(super) fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    }
}

/// The first address of a network.
pub(super) fn network_of(prefixed: Prefixed) -> IpAddr {
    match prefixed.address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefixed.length.into())).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefixed.length.into())).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// A device of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Link {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) mtu: u32,
}

/// Which device to look at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    Number(u32),
    Name(&'a str),
}

/// Looks at a device.
pub(super) fn link(socket: &Socket, which: Which<'_>) -> Result<Link> {
    let mut batch = Batch::default();
    let number = match which {
        Which::Number(number) => number,
        Which::Name(_) => 0,
    };
    batch.message("looking for a device", GET_LINK, 0, &link_head(number, false));
    if let Which::Name(name) = which {
        batch.put_text(IFLA_IFNAME, name);
    }
    let mut link = Link::default();
    socket.look_up(batch, |body| {
        link.number = word(body, 4).unwrap_or(0);
        for (kind, value) in Attributes(body.get(16..).unwrap_or_default()) {
            match kind {
                IFLA_IFNAME => link.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
                IFLA_MTU => link.mtu = word(value, 0).unwrap_or(0),
                _ => {}
            }
        }
    })?;
    Ok(link)
}

/// A route of a namespace: where to, and by which device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) to: Option<Prefixed>,
    pub(super) device: u32,
}

/// All routes, of both families.
pub(super) fn routes(socket: &Socket) -> Result<Vec<Route>> {
    const DESTINATION: u16 = 1;
    const OUT: u16 = 4;
    let mut found = Vec::new();
    socket.dump(GET_ROUTE, &[0; 12], |body| {
        let length = body.get(1).copied().unwrap_or(0);
        let mut route = Route { to: None, device: 0 };
        for (kind, value) in Attributes(body.get(12..).unwrap_or_default()) {
            match kind {
                DESTINATION => route.to = to_address(value).map(|address| Prefixed { address, length }),
                OUT => route.device = word(value, 0).unwrap_or(0),
                _ => {}
            }
        }
        found.push(route);
    })?;
    Ok(found)
}

fn to_address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(value).ok().map(|bytes| Ipv6Addr::from(bytes).into())
}
