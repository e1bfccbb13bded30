//! Published ports: the host's port is taken first, by a socket that nobody else can have, then the packet filter sends
//! what comes for it to the container. Between IPv6 and IPv4 it cannot: there a thread carries what comes.
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};

use super::firewall::{Firewall, ports_table};
use super::namespace::NetworkNamespace;
use super::nft::Transport;
use super::proxy::{Proxy, Target, Way};
use crate::error::{Error, Result};

/// Most ports that one container publishes: each holds a socket.
pub const MOST_PORTS: usize = 512;

/// A range of ports of the host that lead to a container; mostly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPort {
    /// TCP or UDP.
    pub transport: Transport,
    /// Of the host; unspecified means all of them.
    pub address: IpAddr,
    /// The first of the host; 0 takes a free one.
    pub host_port: u16,
    /// Where a single port is published: the first that is free from `host_port` to this one is taken.
    pub host_last: Option<u16>,
    /// The first of the container.
    pub container_port: u16,
    /// How many in a row.
    pub count: u16,
}

/// Ports of the host that nobody else can take while this lives.
#[derive(Debug)]
pub struct ReservedPorts {
    ports: Vec<PublishedPort>,
    sockets: Vec<OwnedFd>,
}

impl ReservedPorts {
    /// Takes them all, or none.
    ///
    /// # Errors
    /// When one is in use; the error names it.
    pub fn take(wanted: &[PublishedPort]) -> Result<ReservedPorts> {
        let mut taken = ReservedPorts { ports: Vec::new(), sockets: Vec::new() };
        if wanted.iter().map(|port| usize::from(port.count)).sum::<usize>() > MOST_PORTS {
            return Err(Error::invalid("ports", format!("at most {MOST_PORTS} can be published by one container")));
        }
        for port in wanted {
            let mut port = port.clone();
            if let Some(last) = port.host_last.take() {
                let (socket, number) = take_one_of(&port, last)?;
                (port.host_port, port.count) = (number, 1);
                taken.sockets.push(socket);
                taken.ports.push(port);
                continue;
            }
            for at in 0..port.count {
                let number = match port.host_port {
                    0 => 0,
                    first => first.checked_add(at).ok_or_else(|| Error::invalid("ports", "they end at 65535"))?,
                };
                let (socket, number) = take(port.transport, SocketAddr::new(port.address, number))?;
                if port.host_port == 0 {
                    port.host_port = number;
                }
                taken.sockets.push(socket);
            }
            taken.ports.push(port);
        }
        Ok(taken)
    }

    /// What was taken; no port of the host is 0 any more.
    #[must_use]
    pub fn ports(&self) -> &[PublishedPort] {
        &self.ports
    }

    /// Keeps them, and sends what comes for them nowhere.
    #[must_use]
    pub fn hold(self) -> Published {
        let led = self.ports.iter().filter(|port| can_be_led(port)).cloned().collect();
        Published { led, reserved: self, firewall: None, proxy: None }
    }

    /// Sends what comes for them to the container, under a name that no other container has. What comes to an address of a
    /// kind that the container has none of, or to the loopback of IPv6, is carried.
    ///
    /// # Errors
    /// When the packet filter refuses, or there are no threads.
    pub fn publish(self, name: &str, namespace: &NetworkNamespace, container: &[IpAddr]) -> Result<Published> {
        let led = |port: &PublishedPort| can_be_led(port) && address_for(port, container).is_some();
        let mut published = self.forward(namespace, container, |port| match led(port) {
            true if is_everywhere(port) => Forwarding::Both,
            true => Forwarding::Led,
            false => Forwarding::Carried,
        })?;
        published.lead(name, container)?;
        Ok(published)
    }

    /// Carries what comes for them into the container's namespace, to one of its addresses, without a packet filter.
    ///
    /// # Errors
    /// When there are no threads for it.
    pub fn carry(self, namespace: &NetworkNamespace, container: &[IpAddr]) -> Result<Published> {
        self.forward(namespace, container, |_| Forwarding::Carried)
    }

    fn forward(
        mut self,
        namespace: &NetworkNamespace,
        container: &[IpAddr],
        how: impl Fn(&PublishedPort) -> Forwarding,
    ) -> Result<Published> {
        let mut sockets = std::mem::take(&mut self.sockets).into_iter();
        let (mut ways, mut led) = (Vec::new(), Vec::new());
        for port in &self.ports {
            let own = sockets.by_ref().take(usize::from(port.count));
            let how = how(port);
            if how != Forwarding::Carried {
                led.push(port.clone());
            }
            if how == Forwarding::Led {
                self.sockets.extend(own);
                continue;
            }
            for (at, socket) in (0..port.count).zip(own) {
                let to = port.container_port.saturating_add(at);
                let to = Target { port: to, is_ipv4: port.address.is_ipv4() };
                ways.push(Way { socket, transport: port.transport, to });
            }
        }
        let proxy = if ways.is_empty() { None } else { Some(Proxy::start(namespace, ways, container)?) };
        Ok(Published { reserved: self, led, firewall: None, proxy })
    }
}

/// By what the traffic of a port comes to the container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forwarding {
    /// The packet filter.
    Led,
    /// A thread.
    Carried,
    /// A thread carries what the packet filter has to leave.
    Both,
}

/// Published ports, until this ends.
#[derive(Debug)]
pub struct Published {
    reserved: ReservedPorts,
    /// Those that the packet filter leads on.
    led: Vec<PublishedPort>,
    firewall: Option<Firewall>,
    proxy: Option<Proxy>,
}

impl Published {
    /// Which ones.
    #[must_use]
    pub fn ports(&self) -> &[PublishedPort] {
        self.reserved.ports()
    }

    /// Sends what comes for them to other addresses of the container. A port of a kind that it has no address of leads
    /// nowhere.
    ///
    /// # Errors
    /// When the packet filter refuses.
    pub fn redirect(&mut self, name: &str, container: &[IpAddr]) -> Result<()> {
        if let Some(proxy) = &self.proxy {
            proxy.lead_to(container);
        }
        if let Some(firewall) = self.firewall.take() {
            firewall.remove()?;
        }
        self.lead(name, container)
    }

    fn lead(&mut self, name: &str, container: &[IpAddr]) -> Result<()> {
        let led: Vec<_> = self.led.iter().filter_map(|port| Some((port, *address_for(port, container)?))).collect();
        if !led.is_empty() {
            self.firewall = Some(Firewall::new(&ports_table(format!("dunnage-{name}"), &led))?);
        }
        Ok(())
    }
}

impl Published {
    /// Nothing leads to the container any more. What is left of it is the socket, whose end the kernel takes its time for.
    pub(super) fn withdraw(mut self) -> Option<Firewall> {
        let firewall = self.firewall.take()?;
        // The end of the socket takes away what this could not.
        let _ = firewall.remove();
        Some(firewall)
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if let Some(firewall) = self.firewall.take() {
            // The end of the socket takes away what this could not.
            let _ = firewall.remove();
        }
    }
}

/// The container's address of the kind that the port's is.
fn address_for<'a>(port: &PublishedPort, container: &'a [IpAddr]) -> Option<&'a IpAddr> {
    container.iter().find(|own| own.is_ipv4() == port.address.is_ipv4())
}

/// All addresses of IPv6, the loopback among them.
fn is_everywhere(port: &PublishedPort) -> bool {
    port.address.is_ipv6() && port.address.is_unspecified()
}

/// Packets that are of the machine's IPv6 loopback the kernel sends nowhere else.
fn can_be_led(port: &PublishedPort) -> bool {
    port.address.is_ipv4() || !port.address.is_loopback()
}

/// The first that is free.
fn take_one_of(port: &PublishedPort, last: u16) -> Result<(OwnedFd, u16)> {
    for number in port.host_port..=last {
        match take(port.transport, SocketAddr::new(port.address, number)) {
            Err(Error::PortInUse { .. }) => {}
            taken => return taken,
        }
    }
    let (address, first, transport) = (port.address, port.host_port, port.transport);
    Err(Error::PortsInUse { address, first, last, transport })
}

fn take(transport: Transport, address: SocketAddr) -> Result<(OwnedFd, u16)> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse { address, transport, holder: holder(transport, address) },
        _ => Error::Network { doing: format!("taking port {address}"), source },
    };
    bound(transport, address).map_err(failed)
}

/// IPv6 apart from IPv4: both may be wanted, for different things.
fn bound(transport: Transport, address: SocketAddr) -> io::Result<(OwnedFd, u16)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if transport == Transport::Tcp {
        // Connections of before that are still fading away take nothing.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if transport == Transport::Tcp {
        listen(&socket, 1)?;
    }
    let number = SocketAddr::try_from(getsockname(&socket)?)?.port();
    Ok((socket, number))
}

/// The process that has a port, in words, where it can be found.
fn holder(transport: Transport, address: SocketAddr) -> Option<String> {
    let inode = socket_inode(transport, address)?;
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let path = process.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = std::fs::read_dir(path.join("fd")) else { continue };
        let has = |entry: &std::fs::DirEntry| {
            std::fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        };
        if descriptors.flatten().any(|entry| has(&entry)) {
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim().escape_debug()));
        }
    }
    None
}

/// The socket that listens on a port, on this address or on all.
fn socket_inode(transport: Transport, address: SocketAddr) -> Option<String> {
    let tables = match transport {
        Transport::Tcp => ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"],
        Transport::Udp => ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"],
    };
    const LISTENING: &str = "0A";
    let port = format!(":{:04X}", address.port());
    for table in tables {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(state), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else {
                continue;
            };
            if local.ends_with(&port) && (transport == Transport::Udp || *state == LISTENING) {
                return Some((*inode).to_owned());
            }
        }
    }
    None
}
