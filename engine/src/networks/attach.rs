//! A container on its networks: a namespace with a device for each, published ports, and a resolver, until the end.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use cache::{EndpointPlace, EndpointRecord, NetworkPlace};
use runtime::network::{
    Bridge, BridgeHandle, BridgeOptions, NamespaceAhead, NetworkNamespace, Port, Prefixed, Published, PublishedPort,
    RESOLVER, ReservedPorts, Resolver, Survey,
};
use runtime::{EtcFiles, UserNamespace};
use serde::{Deserialize, Serialize};

use super::addresses::{choose, free_subnet, prefixed};
use super::names::{HostResolvers, NetworkNames, Scope, Upstreams};
use super::realm::Realm;
use super::spec::{MacAddress, Membership, PortBinding, PortSpec, Protocol, is_link_local};
use super::{BRIDGE_NAME, HOST_BINDING, MASQUERADE, MTU, is_on};
use crate::Engine;
use crate::error::{Error, Result};

/// What a container wants of its networks.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The container's id.
    pub(crate) id: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
    /// Its host name.
    pub(crate) hostname: &'a str,
    /// On which networks it is; the first is its way out.
    pub(crate) memberships: &'a [Membership],
    /// `--publish`.
    pub(crate) ports: &'a [PortSpec],
    /// The image's ports, where all of them are published.
    pub(crate) exposed: &'a [(u16, Protocol)],
    /// `--dns`; nobody means the host's.
    pub(crate) servers: &'a [IpAddr],
    /// `--dns-search`; none means the host's, a single `.` none.
    pub(crate) search: &'a [String],
    /// `--dns-option`.
    pub(crate) options: &'a [String],
    /// Where ports are published that name no address.
    pub(crate) binding: IpAddr,
    /// Whose the namespace is; nobody means this process's.
    pub(crate) users: Option<&'a UserNamespace>,
}

/// A container on its networks, for as long as this lives. The order of the fields is that of the end: first nobody finds
/// it any more, then it cannot be reached, then it is off.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// As many as links, in their order.
    pub(super) endpoints: Vec<EndpointPlace>,
    resolver: Resolver,
    pub(super) published: Published,
    pub(super) links: Vec<Link>,
    pub(super) namespace: NetworkNamespace,
    pub(super) realm: Option<Realm>,
    pub(super) scope: Scope,
    /// `--dns`.
    pub(super) servers: Vec<IpAddr>,
    files: EtcFiles,
    gateway: Option<IpAddr>,
}

/// One network of a container, from its side.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) network: String,
    pub(super) subnets: Vec<Prefixed>,
    pub(super) internal: bool,
    pub(super) port: Port,
    /// Packets for elsewhere go here.
    pub(super) leads_out: bool,
    pub(super) bridge: Bridge,
}

impl Attachment {
    /// The namespace that the container joins.
    pub(crate) fn namespace(&self) -> &NetworkNamespace {
        &self.namespace
    }

    /// What its /etc/hosts and /etc/resolv.conf say.
    pub(crate) fn files(&self) -> &EtcFiles {
        &self.files
    }

    /// Ports that were published for everybody, each once.
    pub(crate) fn open_ports(&self) -> impl Iterator<Item = u16> {
        let open = self.published.ports().iter().filter(|port| port.address.is_unspecified());
        open.map(|port| port.host_port).collect::<std::collections::BTreeSet<u16>>().into_iter()
    }

    /// The host, as the container sees it.
    pub(crate) fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }
}

impl Attachment {
    /// Takes the container off, as a process that has nothing else to do: it does not wait for the kernel.
    pub(crate) fn leave(self) {
        let Attachment { endpoints, resolver, published, links, namespace, realm, .. } = self;
        drop((endpoints, resolver));
        drop((namespace, realm));
        runtime::network::leave(links.into_iter().map(|link| link.bridge).collect(), published);
    }
}

impl Engine {
    /// Puts a container on its networks, which are in a realm where they are not the machine's.
    pub(crate) fn attach_to_networks(
        &self,
        wanted: &Wanted<'_>,
        realm: Option<Realm>,
        ahead: Option<NamespaceAhead>,
    ) -> Result<Attachment> {
        for membership in wanted.memberships {
            self.ensure_network(&membership.network)?;
        }
        let reserved = ReservedPorts::take(&self.ports(wanted)?)?;
        let namespace = match (wanted.users, ahead) {
            (Some(users), _) => NetworkNamespace::of(users)?,
            (None, Some(ahead)) => ahead.finish()?,
            (None, None) => NetworkNamespace::new()?,
        };
        let words = words(reserved.ports());
        let (mut links, mut endpoints) = (Vec::<Link>::new(), Vec::new());
        for (number, membership) in (0..).zip(wanted.memberships) {
            let joining = Joining { id: wanted.id, name: wanted.name, membership, number, ports: &words };
            let leads_out = !links.iter().any(|link| link.leads_out);
            let (link, endpoint) = self.join(&joining, &namespace, leads_out, realm.as_ref())?;
            links.push(link);
            endpoints.push(endpoint);
        }
        let published = match (&realm, reachable(&links)) {
            (Some(_), own) => reserved.carry(&namespace, &own)?,
            (None, own) if own.is_empty() => reserved.hold(),
            (None, own) => reserved.publish(short(wanted.id), &namespace, &own)?,
        };
        let scope = Scope::default();
        scope.set(scopes(&links), upstreams(&links, wanted.servers));
        let resolver = Resolver::start(&namespace, Box::new(NetworkNames::new(&self.store, &scope)))?;
        let gateway = links.iter().find_map(|link| link.port.gateways.first().copied());
        // The gateway of a realm is not the machine.
        let gateway = realm.as_ref().and_then(|_| own_address()).or(gateway);
        let own: Vec<IpAddr> = links.iter().flat_map(Link::addresses).collect();
        let files = etc_files(wanted.hostname, wanted.search, wanted.options, &own);
        let servers = wanted.servers.to_vec();
        Ok(Attachment { endpoints, resolver, published, links, namespace, realm, scope, servers, files, gateway })
    }

    /// What is to be published, with the address that each port has or gets.
    fn ports(&self, wanted: &Wanted<'_>) -> Result<Vec<PublishedPort>> {
        let first = wanted.memberships.first().map(|membership| membership.network.as_str());
        let network = first.map(|name| self.store.network(name)).transpose()?.flatten();
        let option = network.and_then(|network| network.options.get(HOST_BINDING)?.parse().ok());
        let binding = option.unwrap_or(wanted.binding);
        let mut found = Vec::new();
        for port in wanted.ports {
            let (transport, address) = (port.protocol.transport(), port.address.unwrap_or(binding));
            match port.host {
                Some(host_port) => {
                    let PortSpec { host_last, container: container_port, count, .. } = *port;
                    found.push(PublishedPort { transport, address, host_port, host_last, container_port, count });
                }
                // Each gets whatever is free.
                None => found.extend((0..port.count).map(|at| PublishedPort {
                    transport,
                    address,
                    host_port: 0,
                    host_last: None,
                    container_port: port.container.saturating_add(at),
                    count: 1,
                })),
            }
        }
        for (container_port, protocol) in wanted.exposed {
            let (transport, container_port) = (protocol.transport(), *container_port);
            let has = |port: &PublishedPort| {
                port.transport == transport
                    && (port.container_port..=port.container_port.saturating_add(port.count - 1))
                        .contains(&container_port)
            };
            if !found.iter().any(has) {
                let (address, host_last) = (binding, None);
                found.push(PublishedPort { transport, address, host_port: 0, host_last, container_port, count: 1 });
            }
        }
        Ok(found)
    }

    /// Puts a container on one network, which is the machine's or in a realm.
    pub(super) fn join(
        &self,
        joining: &Joining<'_>,
        namespace: &NetworkNamespace,
        leads_out: bool,
        realm: Option<&Realm>,
    ) -> Result<(Link, EndpointPlace)> {
        match realm {
            Some(realm) => realm.namespace().within(|| Ok(self.join_here(joining, namespace, leads_out)))?,
            None => self.join_here(joining, namespace, leads_out),
        }
    }

    fn join_here(
        &self,
        joining: &Joining<'_>,
        namespace: &NetworkNamespace,
        leads_out: bool,
    ) -> Result<(Link, EndpointPlace)> {
        let Joining { id, name, membership, number, ports } = *joining;
        let mut place = self.store.lock_network(&membership.network)?;
        let others = place.endpoints()?;
        if others.iter().any(|other| other.container == id) {
            return Err(Error::Usage(format!("the container is on network `{}` already", membership.network)));
        }
        // A holder that has just ended cannot share any more; another one may.
        let bridge = match others.iter().find_map(|other| Hold::read(other).and_then(|hold| Bridge::adopt(&hold).ok()))
        {
            Some(bridge) => bridge,
            None => self.make_bridge(&mut place, others.is_empty())?,
        };
        let record = place.record();
        let mut addresses = Vec::new();
        for subnet in &record.subnets {
            let asked = match subnet.address {
                IpAddr::V4(_) => membership.ip.map(IpAddr::V4),
                IpAddr::V6(_) => membership.ip6.map(IpAddr::V6),
            };
            let address = choose(&record.name, subnet, asked, &others)?;
            addresses.push(Prefixed { address, length: subnet.length });
        }
        for (asked, kind) in [(membership.ip.map(IpAddr::V4), "IPv4"), (membership.ip6.map(IpAddr::V6), "IPv6")] {
            if let Some(address) = asked.filter(|asked| !addresses.iter().any(|own| own.address == *asked)) {
                let name = &record.name;
                return Err(Error::Usage(format!("{address}: network `{name}` has no {kind} addresses")));
            }
        }
        // Docker's lengths of these networks.
        let length = |address: &IpAddr| if address.is_ipv4() { 16 } else { 64 };
        let own = addresses.clone();
        addresses.extend(membership.link_local.iter().map(|own| Prefixed { address: *own, length: length(own) }));
        let gateways = match record.internal {
            true => Vec::new(),
            false => record.subnets.iter().map(|subnet| subnet.gateway).collect::<Vec<_>>(),
        };
        let mac = membership.mac.unwrap_or_else(|| hardware_address(&own));
        let leads_out = leads_out && !gateways.is_empty();
        let port = Port { number, mac: mac.0, addresses, gateways, label: label(id)? };
        bridge.connect(namespace, &port, leads_out)?;
        let endpoint = EndpointRecord {
            container: id.to_owned(),
            name: Some(name.to_owned()),
            aliases: membership.aliases.clone(),
            addresses: own.iter().map(|own| own.address).collect(),
            mac: mac.to_string(),
            ports: ports.to_vec(),
            hold: Hold::write(&bridge.handle()?),
        };
        let endpoint = place.add(endpoint)?;
        let record = place.record();
        let subnets = record.subnets.iter().map(prefixed).collect();
        let (network, internal) = (record.name.clone(), record.internal);
        Ok((Link { network, subnets, internal, port, leads_out, bridge }, endpoint))
    }

    /// Nobody holds it: it is made anew. What is decided about the host is decided by one at a time.
    fn make_bridge(&self, place: &mut NetworkPlace, is_empty: bool) -> Result<Bridge> {
        let host = NetworkNamespace::current()?;
        let _lock = host.lock()?;
        let survey = Survey::take()?;
        let own = self.device_prefix(&place.record().name);
        let conflict = |place: &NetworkPlace| {
            let mut subnets = place.record().subnets.iter();
            subnets
                .find(|subnet| !survey.is_free(prefixed(subnet), &own))
                .map(|subnet| format!("{}/{}", subnet.address, subnet.length))
        };
        if let Some(subnet) = conflict(place).filter(|_| !place.record().internal) {
            let name = place.record().name.clone();
            if !place.record().automatic || !is_empty {
                return Err(Error::Usage(format!(
                    "network `{name}` has {subnet}, which this machine reaches another way by now: remove the network and make it with another --subnet"
                )));
            }
            let taken = self.taken_subnets(Some(&name))?;
            let moved = free_subnet(name == super::DEFAULT, &survey, &own, &taken)?;
            let mut subnets = place.record().subnets.clone();
            if let Some(first) = subnets.iter_mut().find(|subnet| subnet.address.is_ipv4()) {
                *first = moved;
            }
            place.move_to(subnets)?;
        }
        let record = place.record();
        let number = |name: &str| record.options.get(name).and_then(|text| text.parse::<u32>().ok());
        let device = match record.options.get(BRIDGE_NAME) {
            Some(name) => name.clone(),
            None => format!("{own}{}", four_digits()?),
        };
        let gateway = |subnet: &cache::NetworkSubnet| Prefixed { address: subnet.gateway, length: subnet.length };
        let options = BridgeOptions {
            device,
            gateways: record.subnets.iter().map(gateway).collect(),
            mtu: number(MTU).unwrap_or(survey.mtu()),
            internal: record.internal,
            masquerade: is_on(&record.options, MASQUERADE),
        };
        Ok(Bridge::new(&options)?)
    }
}

/// A container that comes onto a network.
#[derive(Clone, Copy)]
pub(super) struct Joining<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) membership: &'a Membership,
    /// Of its device: 0 is eth0.
    pub(super) number: u16,
    /// What is published, in words.
    pub(super) ports: &'a [String],
}

impl Link {
    /// Those by which it is found.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.port.addresses.iter().map(|own| own.address).filter(|address| !is_link_local(*address))
    }
}

/// What a container's device is called in the network, never the same twice: the kernel may still be taking the one away
/// that the container had until it ended a moment ago.
fn label(id: &str) -> Result<String> {
    Ok(format!("c{}{}", id.get(..10).unwrap_or(id), four_digits()?))
}

/// Others each time.
fn four_digits() -> Result<String> {
    Ok(cache::random_hex(2)?)
}

/// The digits of an id by which the kernel's objects are called.
pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Where published ports can lead to: the host has no way into internal networks.
pub(super) fn reachable(links: &[Link]) -> Vec<IpAddr> {
    links.iter().filter(|link| !link.internal).flat_map(Link::addresses).collect()
}

pub(super) fn scopes(links: &[Link]) -> Vec<(String, Vec<Prefixed>)> {
    links.iter().map(|link| (link.network.clone(), link.subnets.clone())).collect()
}

/// A container of internal networks alone asks nobody outside.
pub(super) fn upstreams(links: &[Link], servers: &[IpAddr]) -> Upstreams {
    match (links.iter().all(|link| link.internal), servers) {
        (true, _) => Upstreams::Fixed(Vec::new()),
        (false, []) => Upstreams::Host,
        (false, servers) => Upstreams::Fixed(servers.to_vec()),
    }
}

pub(super) fn words(ports: &[PublishedPort]) -> Vec<String> {
    bindings(ports).iter().map(PortBinding::words).collect()
}

/// The address of this machine on its way out. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let elsewhere = Ipv4Addr::new(192, 0, 2, 1);
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((elsewhere, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Docker's, made of the address: it is its own as long as the address is.
fn hardware_address(addresses: &[Prefixed]) -> MacAddress {
    let address = addresses.iter().find_map(|own| match own.address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let [a, b, c, d] = address.unwrap_or(Ipv4Addr::LOCALHOST).octets();
    MacAddress([0x02, 0x42, a, b, c, d])
}

fn bindings(ports: &[PublishedPort]) -> Vec<PortBinding> {
    let protocol = |port: &PublishedPort| match port.transport {
        runtime::network::Transport::Tcp => Protocol::Tcp,
        runtime::network::Transport::Udp => Protocol::Udp,
    };
    let each = |port: &PublishedPort| {
        let (protocol, address) = (protocol(port), port.address);
        let (container, host) = (port.container_port, port.host_port);
        (0..port.count).map(move |at| PortBinding {
            container: container.saturating_add(at),
            protocol,
            address,
            host: host.saturating_add(at),
        })
    };
    ports.iter().flat_map(each).collect()
}

/// The host name has the container's addresses; names are asked of its own resolver.
pub(crate) fn etc_files(hostname: &str, search: &[String], options: &[String], own: &[IpAddr]) -> EtcFiles {
    let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for address in own {
        // Writing to a text cannot fail.
        let _ = match hostname.split_once('.') {
            Some((short, _)) if !short.is_empty() => writeln!(hosts, "{address}\t{} {short}", hostname),
            _ => writeln!(hosts, "{address}\t{}", hostname),
        };
    }
    let search = match search {
        [] => HostResolvers::read().search,
        [none] if none == "." => Vec::new(),
        search => search.to_vec(),
    };
    let mut resolv_conf = format!("nameserver {RESOLVER}\n");
    if !search.is_empty() {
        let _ = writeln!(resolv_conf, "search {}", search.join(" "));
    }
    // Names of containers have no dot, and are asked for as they are first.
    let mut all = vec!["ndots:0"];
    if options.iter().any(|option| option.starts_with("ndots:")) {
        all.clear();
    }
    all.extend(options.iter().map(String::as_str));
    let _ = writeln!(resolv_conf, "options {}", all.join(" "));
    EtcFiles { hosts: hosts.into_bytes(), extra_hosts: Vec::new(), resolv_conf: resolv_conf.into_bytes() }
}

/// How a bridge is found by its holder, in an endpoint's record.
#[derive(Debug, Serialize, Deserialize)]
struct Hold {
    pid: u32,
    namespace: (i32, u64),
    firewall: Option<(i32, u32)>,
    device: String,
    mtu: u32,
}

impl Hold {
    fn read(endpoint: &EndpointRecord) -> Option<BridgeHandle> {
        let Hold { pid, namespace, firewall, device, mtu } = serde_json::from_value(endpoint.hold.clone()).ok()?;
        Some(BridgeHandle { pid, namespace, firewall, device, mtu })
    }

    fn write(handle: &BridgeHandle) -> serde_json::Value {
        let BridgeHandle { pid, namespace, firewall, device, mtu } = handle.clone();
        serde_json::to_value(Hold { pid, namespace, firewall, device, mtu }).unwrap_or_default()
    }
}
