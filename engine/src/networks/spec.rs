//! What is asked of a container's networks, as durable data: `--network`, `--publish` and what goes with them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use runtime::network::Transport;
use serde::{Deserialize, Serialize};

/// A container's place on a network, as it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Membership {
    /// Name of the network.
    pub network: String,
    /// `--network-alias`.
    pub aliases: Vec<String>,
    /// `--ip`.
    pub ip: Option<Ipv4Addr>,
    /// `--ip6`.
    pub ip6: Option<Ipv6Addr>,
    /// `--mac-address`.
    pub mac: Option<MacAddress>,
    /// `--link-local-ip`.
    pub link_local: Vec<IpAddr>,
}

/// Addresses that count on one network alone, whatever it is.
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// `--network`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkChoice {
    /// The default network, or none where this machine allows no networks.
    #[default]
    Default,
    /// A network namespace of its own with nothing but loopback.
    None,
    /// The machine's.
    Host,
    /// That of another container.
    Container(String),
    /// Networks by name; the first is the way out.
    Networks(Vec<Membership>),
}

/// What goes into the files of /etc by which names are found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NameFiles {
    /// `--add-host`.
    pub hosts: Vec<HostEntry>,
    /// `--dns`.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`; a single `.` is none.
    pub search: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
}

/// A name in /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Its address; none is the host's, as the container sees it.
    pub address: Option<IpAddr>,
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl std::str::FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let byte = |part: &str| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten();
        let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
        let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        let unicast = bytes.filter(|bytes| bytes.first().is_some_and(|first| first & 1 == 0) && *bytes != [0; 6]);
        unicast
            .map(MacAddress)
            .ok_or_else(|| format!("`{text}` is no address of one device, such as 02:42:ac:11:00:02"))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MacAddress([a, b, c, d, e, g]) = self;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Docker's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    pub(super) fn transport(self) -> Transport {
        match self {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        }
    }
}

/// `--publish [ADDRESS:][HOST[-END]:]CONTAINER[-END][/PROTOCOL]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// Of the host; when it is not said, what the network or the configuration says.
    pub address: Option<IpAddr>,
    /// The first of the host; a free one when it is not said.
    pub host: Option<u16>,
    /// Where one port is published and a range of the host's would do: the last of these.
    #[serde(default)]
    pub host_last: Option<u16>,
    /// The first of the container.
    pub container: u16,
    /// How many in a row.
    pub count: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl std::str::FromStr for PortSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => return Err(format!("the protocol `{other}` is not supported: tcp and udp are")),
        };
        let (rest, container) = match ports.rsplit_once(':') {
            Some((rest, container)) => (Some(rest), container),
            None => (None, ports),
        };
        let (address, host) = match rest.and_then(|rest| rest.rsplit_once(':')) {
            Some((address, host)) => (Some(address), Some(host)),
            None => (None, rest),
        };
        let (container, count) = range(container)?;
        let (host, host_last) = match host.filter(|host| !host.is_empty()) {
            None => (None, None),
            Some(host) => match range(host)? {
                (0, 1) => (None, None),
                (0, _) => return Err("ports of this machine are numbers from 1 to 65535".to_owned()),
                (first, length) if length == count => (Some(first), None),
                // Docker's meaning: whichever of them is free.
                (first, length) if count == 1 => (Some(first), Some(first + (length - 1))),
                (_, length) => {
                    return Err(format!(
                        "the ranges of `{text}` have {length} and {count} ports: they must have equally many, or lead to one port"
                    ));
                }
            },
        };
        if container == 0 {
            return Err("a port of a container is a number from 1 to 65535".to_owned());
        }
        let address = address.filter(|address| !address.is_empty()).map(host_address).transpose()?;
        Ok(PortSpec { address, host, host_last, container, count, protocol })
    }
}

fn host_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| format!("`{text}` is no address of this machine: give numbers such as 127.0.0.1 or [::1]"))
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let bad = || format!("`{text}` is no port or range of ports: write 80 or 8000-8010");
    let number = |text: &str| text.parse::<u16>().map_err(|_| bad());
    match text.split_once('-') {
        None => Ok((number(text)?, 1)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            let length = last.checked_sub(first).and_then(|length| length.checked_add(1)).ok_or_else(bad)?;
            Ok((first, length))
        }
    }
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// Of the container.
    pub container: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Of the host.
    pub address: IpAddr,
    /// Of the host.
    pub host: u16,
}

impl PortBinding {
    /// As docker's lists show it: `127.0.0.1:8080->80/tcp`.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{}->{}/{}", SocketAddr::new(self.address, self.host), self.container, self.protocol.word())
    }
}

impl std::str::FromStr for PortBinding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (host, container) = text.split_once("->")?;
            let (container, protocol) = container.split_once('/')?;
            let host: SocketAddr = host.parse().ok()?;
            let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
            Some(PortBinding { container: container.parse().ok()?, protocol, address: host.ip(), host: host.port() })
        };
        read().ok_or_else(|| format!("`{text}` is no published port"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_docker_takes_them() {
        let spec = |text: &str| text.parse::<PortSpec>();
        let short = |text: &str| {
            let spec = spec(text).unwrap();
            (
                spec.address.map(|address| address.to_string()),
                spec.host,
                spec.container,
                spec.count,
                spec.protocol.word(),
            )
        };
        assert_eq!(short("80"), (None, None, 80, 1, "tcp"));
        assert_eq!(short("8080:80"), (None, Some(8080), 80, 1, "tcp"));
        assert_eq!(short("8080:53/udp"), (None, Some(8080), 53, 1, "udp"));
        assert_eq!(short("0.0.0.0:8000-8010:80-90"), (Some("0.0.0.0".to_owned()), Some(8000), 80, 11, "tcp"));
        assert_eq!(short("127.0.0.1::80"), (Some("127.0.0.1".to_owned()), None, 80, 1, "tcp"));
        assert_eq!(short("127.0.0.1:0:80"), (Some("127.0.0.1".to_owned()), None, 80, 1, "tcp"));
        assert_eq!(short("[::1]:8080:80"), (Some("::1".to_owned()), Some(8080), 80, 1, "tcp"));
        let one_of = spec("8000-8010:80").unwrap();
        assert_eq!((one_of.host, one_of.host_last, one_of.count), (Some(8000), Some(8010), 1));
        for bad in
            ["", "x", "80:", "70000", "0", "8000-8001:80-82", "0-9:80", "9-8", "80/sctp", "host:80:80", "1:2:3:4", "-1"]
        {
            assert!(spec(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn published_ports_are_read_as_they_are_written() {
        for text in ["127.0.0.1:8080->80/tcp", "[::1]:53->53/udp"] {
            assert_eq!(text.parse::<PortBinding>().unwrap().words(), text);
        }
        assert!("x".parse::<PortBinding>().is_err());
    }

    #[test]
    fn hardware_addresses() {
        assert_eq!("02:42:AC:11:00:02".parse::<MacAddress>().unwrap().to_string(), "02:42:ac:11:00:02");
        for bad in ["", "02:42", "01:00:00:00:00:01", "00:00:00:00:00:00", "2:42:ac:11:0:2", "02:42:ac:11:00:zz"] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}
