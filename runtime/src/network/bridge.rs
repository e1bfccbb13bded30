//! `Bridge`: a network of containers. Its switch lives in a namespace of its own, and one cable leads from there to the
//! host; whoever holds the `Bridge` keeps it alive.
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use super::firewall::{Firewall, network_table};
use super::links::{self, Device, Prefixed, Which};
use super::namespace::NetworkNamespace;
use super::netlink::Batch;
use super::ports::Published;
use super::share::share_descriptor;
use crate::error::{Error, Result};
use crate::userns::in_user_namespace;

/// Number of the bridge in its namespace. The kernel puts devices of its own into new namespaces, and counts from below.
const BRIDGE: u32 = 1000;
/// Number of the first device of a container in its namespace.
const CONTAINER_DEVICES: u32 = 1000;

/// How a bridge is to be.
#[derive(Debug, Clone)]
pub struct BridgeOptions {
    /// Name of the device on the host: at most fifteen characters.
    pub device: String,
    /// The host's addresses on it, with the lengths of the networks: the gateways of the containers.
    pub gateways: Vec<Prefixed>,
    /// Size of packets.
    pub mtu: u32,
    /// No way to the host or out of it.
    pub internal: bool,
    /// What leaves the host seems to come from it.
    pub masquerade: bool,
}

/// A network of containers, held.
#[derive(Debug)]
pub struct Bridge {
    namespace: NetworkNamespace,
    firewall: Option<Firewall>,
    device: String,
    mtu: u32,
}

/// Where a living process holds a bridge, so that another one can hold it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeHandle {
    /// The holder.
    pub pid: u32,
    /// Its descriptor of the namespace, and what that must be.
    pub namespace: (i32, u64),
    /// Its descriptor of the packet filter's socket, and what that must be.
    pub firewall: Option<(i32, u32)>,
    /// Name of the device on the host.
    pub device: String,
    /// Size of packets.
    pub mtu: u32,
}

/// A container's place on a bridge.
#[derive(Debug, Clone)]
pub struct Port {
    /// Number of the device in the container: 0 is eth0.
    pub number: u16,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its addresses.
    pub addresses: Vec<Prefixed>,
    /// Where packets for elsewhere go.
    pub gateways: Vec<IpAddr>,
    /// What the device is called inside the network: no other there has it.
    pub label: String,
}

impl Bridge {
    /// Makes one. The host becomes a router with the first.
    ///
    /// # Errors
    /// Where the kernel does not allow it.
    pub fn new(options: &BridgeOptions) -> Result<Bridge> {
        let namespace = NetworkNamespace::for_switching()?;
        let mut batch = Batch::default();
        let own = |name| Device { name, mtu: options.mtu, ..Device::default() };
        links::bridge(&mut batch, Device { number: BRIDGE, ..own("bridge") });
        let (name, mtu) = (options.device.clone(), options.mtu);
        if options.internal {
            namespace.links.execute(batch)?;
            return Ok(Bridge { namespace, firewall: None, device: name, mtu });
        }
        let host = NetworkNamespace::current()?;
        let mut cable = Batch::default();
        links::pair(&mut cable, own(&options.device), own("uplink"), namespace.as_fd());
        host.links.execute(cable)?;
        links::plug(&mut batch, "uplink", BRIDGE);
        namespace.links.execute(batch)?;
        let table = network_table(format!("dunnage-{name}"), &name, &options.gateways, options.masquerade);
        let firewall = Firewall::new(&table)?;
        let number = links::link(&host.links, Which::Name(&name))?.number;
        let mut batch = Batch::default();
        for gateway in &options.gateways {
            links::address(&mut batch, number, *gateway);
            links::route(&mut batch, number, Some(*gateway), None, gateway.address);
        }
        links::route_loopback(&mut batch, number);
        host.links.execute(batch)?;
        forward(&options.gateways)?;
        Ok(Bridge { namespace, firewall: Some(firewall), device: name, mtu })
    }

    /// Holds one that another process holds.
    ///
    /// # Errors
    /// When that process is gone, or holds it no more.
    pub fn adopt(handle: &BridgeHandle) -> Result<Bridge> {
        let gone = || Error::Network {
            doing: "joining a network".to_owned(),
            source: std::io::Error::other("the process that holds it has ended"),
        };
        let shared = |number| share_descriptor(handle.pid, number);
        let (number, identity) = handle.namespace;
        let namespace = NetworkNamespace::from_fd(shared(number)?)?;
        let mut firewall = None;
        if let Some((number, port)) = handle.firewall {
            let shared = Firewall::adopt(shared(number)?, format!("dunnage-{}", handle.device));
            if shared.port()? != port {
                return Err(gone());
            }
            firewall = Some(shared);
        }
        if namespace.identity()? != identity {
            return Err(gone());
        }
        Ok(Bridge { namespace, firewall, device: handle.device.clone(), mtu: handle.mtu })
    }

    /// What another process needs to hold it too. It is good for as long as this is held.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn handle(&self) -> Result<BridgeHandle> {
        let firewall = self.firewall.as_ref();
        Ok(BridgeHandle {
            pid: std::process::id(),
            namespace: (self.namespace.as_fd().as_raw_fd(), self.namespace.identity()?),
            firewall: firewall
                .map(|socket| Ok::<_, Error>((socket.as_fd().as_raw_fd(), socket.port()?)))
                .transpose()?,
            device: self.device.clone(),
            mtu: self.mtu,
        })
    }

    /// Puts a container on it: a cable from here into its namespace, with addresses and routes.
    ///
    /// # Errors
    /// When the kernel refuses; a name or address that is taken, for instance.
    pub fn connect(&self, container: &NetworkNamespace, port: &Port, default_route: bool) -> Result<()> {
        let mut batch = Batch::default();
        let number = CONTAINER_DEVICES + u32::from(port.number);
        let name = format!("eth{}", port.number);
        let inside = Device { number, name: &name, mtu: self.mtu, mac: Some(port.mac) };
        let outside = Device { name: &port.label, mtu: self.mtu, ..Device::default() };
        links::pair(&mut batch, inside, outside, self.namespace.as_fd());
        for address in &port.addresses {
            links::address(&mut batch, number, *address);
            links::route(&mut batch, number, Some(*address), None, address.address);
        }
        if default_route {
            ways_out(&mut batch, port);
        }
        container.links.execute(batch)?;
        let mut batch = Batch::default();
        links::plug(&mut batch, &port.label, BRIDGE);
        self.namespace.links.execute(batch)
    }

    /// Sends a container's packets for elsewhere here, in place of where they went.
    ///
    /// # Errors
    /// When it is not on it.
    pub fn lead_out(container: &NetworkNamespace, port: &Port) -> Result<()> {
        let mut batch = Batch::default();
        ways_out(&mut batch, port);
        container.links.execute(batch)
    }

    /// Takes a container off.
    ///
    /// # Errors
    /// When it is not on it.
    pub fn disconnect(&self, label: &str) -> Result<()> {
        let mut batch = Batch::default();
        links::remove(&mut batch, links::link(&self.namespace.links, Which::Name(label))?.number);
        self.namespace.links.execute(batch)
    }

    /// Name of the device on the host.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }
}

fn ways_out(batch: &mut Batch, port: &Port) {
    for address in &port.addresses {
        let gateway = port.gateways.iter().find(|gateway| gateway.is_ipv4() == address.address.is_ipv4());
        if let Some(gateway) = gateway {
            links::route(batch, CONTAINER_DEVICES + u32::from(port.number), None, Some(*gateway), address.address);
        }
    }
}

/// Whether this machine lets the caller have networks: all that they need is tried, where it disturbs nobody.
///
/// # Errors
/// What is refused.
pub fn probe_networks() -> Result<()> {
    // Without root they are in a namespace of the user's, and nothing of the machine is changed.
    if !in_user_namespace() {
        let mut batch = Batch::default();
        links::touch(&mut batch);
        NetworkNamespace::current()?.links.execute(batch)?;
    }
    NetworkNamespace::new()?.within(|| {
        let gateway = Prefixed { address: std::net::Ipv4Addr::new(10, 0, 0, 1).into(), length: 24 };
        let (device, gateways) = ("dn-probe".to_owned(), vec![gateway]);
        Bridge::new(&BridgeOptions { device, gateways, mtu: 1400, internal: false, masquerade: true }).map(drop)
    })
}

/// Ends the holding of networks, of which this process may be the last holder, without waiting until the kernel has taken
/// them away: a process aside does that, and ends.
pub fn leave(bridges: Vec<Bridge>, published: Published) {
    let sockets: Vec<Firewall> =
        bridges.into_iter().filter_map(|bridge| bridge.firewall).chain(published.withdraw()).collect();
    let mut descriptors: Vec<i32> = sockets.iter().map(|socket| socket.as_fd().as_raw_fd()).collect();
    descriptors.sort_unstable();
    if !descriptors.is_empty() {
        // Without it, this process waits.
        let _ = crate::sys::process::close_aside(&descriptors);
    }
}

/// Packets are passed on between devices, for the families that need it.
fn forward(gateways: &[Prefixed]) -> Result<()> {
    let switches = [
        ("/proc/sys/net/ipv4/ip_forward", gateways.iter().any(|gateway| gateway.address.is_ipv4())),
        ("/proc/sys/net/ipv6/conf/all/forwarding", gateways.iter().any(|gateway| gateway.address.is_ipv6())),
    ];
    for (path, needed) in switches {
        if needed && std::fs::read(path).map_or(true, |now| now.first() == Some(&b'0')) {
            std::fs::write(path, "1").map_err(|source| Error::Network {
                doing: format!("letting this machine pass packets on ({path})"),
                source,
            })?;
        }
    }
    Ok(())
}
