//! Flags of `run` about networks, ports and names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Args;
use engine::{HostEntry, LinkSpec, MacAddress, Membership, NameFiles, NetworkChoice, PortSpec};

/// Network, ports and names.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Network: the name of one, `none` for a loopback device only, `host` for this machine's,
    /// `container:NAME` for another container's [default: bridge]; can be
    /// repeated, also as name=NAME,alias=NAME,ip=ADDRESS
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = network)]
    network: Vec<NetworkFlag>,
    /// Name by which others on the network find the container; can be repeated
    #[arg(long, visible_alias = "net-alias", value_name = "NAME", value_parser = alias)]
    network_alias: Vec<String>,
    /// IPv4 address on the network
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address on the network
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Address on the network besides, of 169.254.0.0/16 or fe80::/10; can be repeated
    #[arg(long, value_name = "ADDRESS", value_parser = link_local)]
    link_local_ip: Vec<IpAddr>,
    /// Hardware address, as 02:42:ac:11:00:02
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<MacAddress>,
    /// Port of this machine that leads to the container, as [ADDRESS:][HOST:]CONTAINER[/udp], or ranges of them; of a range
    /// for one port, as 8000-8010:80, one that is free; can be repeated. Without an address it is reached from this machine only (127.0.0.1): 0.0.0.0:8080:80 is for everybody.
    /// $DUNNAGE_PUBLISH_ADDRESS has another default
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<PortSpec>,
    /// Port that --publish-all counts beside the image's, as 80 or 8000-8010/udp; can be repeated
    #[arg(long, value_name = "PORT", value_parser = expose)]
    expose: Vec<Exposed>,
    /// Free ports of this machine for all that the image exposes
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Name in /etc/hosts, as NAME:ADDRESS or NAME:host-gateway; can be repeated
    #[arg(long, value_name = "HOST", value_parser = host)]
    add_host: Vec<HostEntry>,
    /// Container on the same network that is found by a name of this one's own, as NAME:ALIAS, where it is at the start;
    /// can be repeated
    #[arg(long, value_name = "CONTAINER", value_parser = link)]
    link: Vec<LinkSpec>,
    /// Server that finds names that are not containers'; can be repeated [default: this machine's]
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Domain in which names are looked up, or `.` for none; can be repeated
    #[arg(long, value_name = "DOMAIN", value_parser = word)]
    dns_search: Vec<String>,
    /// Option of /etc/resolv.conf; can be repeated
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", value_parser = word)]
    dns_option: Vec<String>,
}

/// The ports of one `--expose`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exposed(Vec<String>);

fn expose(text: &str) -> Result<Exposed, String> {
    grammar::parse_port_spec(text).map(Exposed).map_err(|error| error.to_string())
}

/// One `--network`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NetworkFlag {
    None,
    Host,
    Container(String),
    Named(Box<Membership>),
}

impl NetworkArgs {
    /// The networks, as the engine takes them.
    ///
    /// # Errors
    /// The sentence to show when flags contradict each other.
    pub(crate) fn choice(&self) -> Result<NetworkChoice, String> {
        let own = !self.network_alias.is_empty()
            || self.ip.is_some()
            || self.ip6.is_some()
            || self.mac_address.is_some()
            || !self.link_local_ip.is_empty();
        let publishes = !self.publish.is_empty() || self.publish_all;
        let mut memberships: Vec<Membership> = Vec::new();
        for flag in &self.network {
            match flag {
                NetworkFlag::Named(membership) => {
                    if memberships.iter().any(|other| other.network == membership.network) {
                        return Err(format!("--network {} is given twice", membership.network));
                    }
                    memberships.push((**membership).clone());
                }
                alone if self.network.len() > 1 => return Err(format!("--network {} stands alone", alone.word())),
                alone if own => {
                    return Err(format!(
                        "--network {} has no addresses and names of its own: --network-alias, --ip, --ip6, --link-local-ip and --mac-address need another network",
                        alone.word()
                    ));
                }
                NetworkFlag::None if publishes => {
                    return Err(
                        "ports cannot be published with --network none: nothing leads to the container".to_owned()
                    );
                }
                NetworkFlag::None => return Ok(NetworkChoice::None),
                NetworkFlag::Host => return Ok(NetworkChoice::Host),
                NetworkFlag::Container(_) if publishes => {
                    return Err("ports are published by the container whose network it is".to_owned());
                }
                NetworkFlag::Container(name) => return Ok(NetworkChoice::Container(name.clone())),
            }
        }
        if memberships.is_empty() {
            if !own && !publishes {
                return Ok(NetworkChoice::Default);
            }
            memberships.push(Membership { network: engine::DEFAULT_NETWORK.to_owned(), ..Membership::default() });
        }
        if let Some(first) = memberships.first_mut() {
            first.aliases.extend(self.network_alias.iter().cloned());
            first.ip = self.ip.or(first.ip);
            first.ip6 = self.ip6.or(first.ip6);
            first.mac = self.mac_address.or(first.mac);
            first.link_local.extend(&self.link_local_ip);
        }
        Ok(NetworkChoice::Networks(memberships))
    }

    /// The ports; those without an address have this one, where it is given.
    pub(crate) fn ports(&self, address: Option<IpAddr>) -> Vec<PortSpec> {
        let each = |port: &PortSpec| PortSpec { address: port.address.or(address), ..port.clone() };
        if self.is_hosts() { Vec::new() } else { self.publish.iter().map(each).collect() }
    }

    /// Whether the network is this machine's own, whose ports need no publishing.
    fn is_hosts(&self) -> bool {
        self.network.iter().any(|flag| matches!(flag, NetworkFlag::Host))
    }

    /// Ports are asked for that are this machine's anyway.
    pub(crate) fn publishes_in_vain(&self) -> bool {
        self.is_hosts() && (self.publish_all || !self.publish.is_empty())
    }

    /// `--expose`, each port by itself.
    pub(crate) fn exposed(&self) -> Vec<String> {
        self.expose.iter().flat_map(|Exposed(ports)| ports.iter().cloned()).collect()
    }

    /// `--publish-all`.
    pub(crate) fn publishes_all(&self) -> bool {
        self.publish_all && !self.is_hosts()
    }

    /// `--link`.
    pub(crate) fn links(&self) -> Vec<LinkSpec> {
        self.link.clone()
    }

    /// What goes into the files of /etc.
    pub(crate) fn names(self) -> NameFiles {
        NameFiles { hosts: self.add_host, servers: self.dns, search: self.dns_search, options: self.dns_option }
    }
}

impl NetworkFlag {
    fn word(&self) -> &str {
        match self {
            NetworkFlag::None => "none",
            NetworkFlag::Host => "host",
            NetworkFlag::Container(_) => "container",
            NetworkFlag::Named(membership) => &membership.network,
        }
    }
}

fn network(text: &str) -> Result<NetworkFlag, String> {
    match text {
        "" => return Err("it must name a network".to_owned()),
        "none" => return Ok(NetworkFlag::None),
        "host" => return Ok(NetworkFlag::Host),
        // Docker's word for the default.
        "default" => return network(engine::DEFAULT_NETWORK),
        _ => {}
    }
    if let Some(name) = text.strip_prefix("container:") {
        return match name.is_empty() {
            true => Err("it must be container:NAME".to_owned()),
            false => Ok(NetworkFlag::Container(name.to_owned())),
        };
    }
    let mut membership = Membership::default();
    if !text.contains('=') {
        membership.network = text.to_owned();
        return Ok(NetworkFlag::Named(Box::new(membership)));
    }
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` must be KEY=VALUE"))?;
        let bad = |_| format!("`{value}` is no {key} address");
        match key {
            "name" => membership.network = value.to_owned(),
            "alias" => membership.aliases.push(alias(value)?),
            "ip" => membership.ip = Some(value.parse().map_err(bad)?),
            "ip6" => membership.ip6 = Some(value.parse().map_err(bad)?),
            "mac-address" => membership.mac = Some(value.parse()?),
            "link-local-ip" => membership.link_local.push(link_local(value)?),
            _ => {
                return Err(format!(
                    "`{key}` is not supported: name, alias, ip, ip6, link-local-ip and mac-address are"
                ));
            }
        }
    }
    match membership.network.is_empty() {
        true => Err("name=NETWORK is missing".to_owned()),
        false => Ok(NetworkFlag::Named(Box::new(membership))),
    }
}

/// What can be asked for as a name.
pub(super) fn alias(text: &str) -> Result<String, String> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match (1..=253).contains(&text.len()) && text.bytes().all(valid) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is no name: it has letters, digits, `-`, `_` and `.`")),
    }
}

/// Docker takes several for one container, and finds none by them.
pub(super) fn link_local(text: &str) -> Result<IpAddr, String> {
    match text.parse() {
        Ok(address) if engine::is_link_local(address) => Ok(address),
        _ => Err(format!("`{text}` is no address of 169.254.0.0/16 or fe80::/10")),
    }
}

/// It becomes a word of a line.
fn word(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("it must be one word".to_owned()),
    }
}

fn link(text: &str) -> Result<LinkSpec, String> {
    let (container, alias_name) = text.split_once(':').unwrap_or((text, text));
    // As `docker inspect` writes them.
    let bare = |name: &str| alias(name.trim_start_matches('/'));
    Ok(LinkSpec { container: bare(container)?, alias: bare(alias_name)? })
}

fn host(text: &str) -> Result<HostEntry, String> {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or("it must be NAME:ADDRESS")?;
    let name = alias(name)?;
    if address == "host-gateway" {
        return Ok(HostEntry { name, address: None });
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse() {
        Ok(address) => Ok(HostEntry { name, address: Some(address) }),
        Err(_) => Err(format!("`{address}` is no IP address, and not host-gateway")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_named_in_two_ways() {
        assert_eq!(network("none"), Ok(NetworkFlag::None));
        let NetworkFlag::Named(long) = network("name=web,alias=a,alias=b,ip=10.0.0.2").unwrap() else {
            unreachable!("it is named")
        };
        assert_eq!((long.network.as_str(), long.aliases.len()), ("web", 2));
        for bad in ["", "name=", "alias=a", "name=web,x=y", "name=web,ip=z", "name=web,alias=a b"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_have_a_name_of_their_own_or_that_of_the_container() {
        let names = |text: &str| link(text).map(|link| (link.container, link.alias));
        assert_eq!(names("web"), Ok(("web".to_owned(), "web".to_owned())));
        assert_eq!(names("/web:/db"), Ok(("web".to_owned(), "db".to_owned())));
        for bad in ["", ":", "web:", ":db", "a b"] {
            assert!(link(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_have_an_address_or_are_this_machine() {
        let address = |text: &str| host(text).map(|host| host.address.map(|address| address.to_string()));
        assert_eq!(address("a:1.2.3.4"), Ok(Some("1.2.3.4".to_owned())));
        assert_eq!(address("a:::1"), Ok(Some("::1".to_owned())));
        assert_eq!(address("a=[::1]"), Ok(Some("::1".to_owned())));
        assert_eq!(address("a:host-gateway"), Ok(None));
        for bad in ["a", "a:", ":1.2.3.4", "a b:1.2.3.4", "a:x"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
