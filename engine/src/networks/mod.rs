//! `dunnage network`: what networks there are and who is on them. How a container comes on one is in `attach`.

mod addresses;
mod attach;
mod change;
mod names;
mod realm;
mod spec;
mod uplink;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use cache::{EndpointRecord, Filters, LabelFilter, NetworkRecord, NetworkSubnet};
use runtime::network::{NetworkNamespace, Prefixed, Survey, overlap};

use self::addresses::{contains, free_subnet, local_subnet, prefixed, read_subnet, subnet};
use crate::Engine;
use crate::error::{Error, Result};

pub(crate) use self::attach::{Attachment, Wanted, etc_files};
pub(crate) use self::realm::Realm;
pub use self::spec::{
    HostEntry, MacAddress, Membership, NameFiles, NetworkChoice, PortBinding, PortSpec, Protocol, is_link_local,
};
pub(crate) use self::uplink::UplinkProgram;

/// The network of containers that name none; made when it is first used.
pub const DEFAULT: &str = "bridge";
const HOST: &str = "host";
const NONE: &str = "none";
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const MTU: &str = "com.docker.network.driver.mtu";

/// A network that is to be.
#[derive(Debug, Clone, Default)]
pub struct NewNetwork {
    /// Its name.
    pub name: String,
    /// `--subnet`, as `ADDRESS/LENGTH`: one of IPv4 and one of IPv6 at most.
    pub subnets: Vec<String>,
    /// `--gateway`.
    pub gateways: Vec<IpAddr>,
    /// `--ip-range`, as `ADDRESS/LENGTH`.
    pub ranges: Vec<String>,
    /// `--internal`.
    pub internal: bool,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `--attachable`.
    pub attachable: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--opt`.
    pub options: BTreeMap<String, String>,
}

/// What a network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkDriver {
    /// A bridge of its own.
    Bridge,
    /// The host's network.
    Host,
    /// Nothing but loopback.
    None,
}

impl NetworkDriver {
    /// Docker's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            NetworkDriver::Bridge => "bridge",
            NetworkDriver::Host => "host",
            NetworkDriver::None => "null",
        }
    }
}

/// A network, and who is on it.
#[derive(Debug, Clone)]
pub struct NetworkInfo {
    /// What it is made of.
    pub driver: NetworkDriver,
    /// What is known of it.
    pub record: NetworkRecord,
    /// Who is on it.
    pub endpoints: Vec<EndpointRecord>,
}

impl NetworkInfo {
    /// It is always there.
    #[must_use]
    pub fn is_predefined(&self) -> bool {
        [DEFAULT, HOST, NONE].contains(&self.record.name.as_str())
    }
}

impl Engine {
    /// All networks: those that are always there, and those that were made, by name.
    ///
    /// # Errors
    /// What the store says.
    pub fn networks(&self) -> Result<Vec<NetworkInfo>> {
        let mut found = Vec::new();
        for record in self.store.networks()? {
            let endpoints = self.store.endpoints(&record.name)?;
            found.push(NetworkInfo { driver: NetworkDriver::Bridge, record, endpoints });
        }
        for (name, driver) in
            [(DEFAULT, NetworkDriver::Bridge), (HOST, NetworkDriver::Host), (NONE, NetworkDriver::None)]
        {
            if !found.iter().any(|network| network.record.name == name) {
                found.push(NetworkInfo { driver, record: bare(name), endpoints: Vec::new() });
            }
        }
        found.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        Ok(found)
    }

    /// A network by its name or the beginning of its id.
    ///
    /// # Errors
    /// When there is none.
    pub fn network(&self, name: &str) -> Result<NetworkInfo> {
        let mut all = self.networks()?;
        if let Some(at) = all.iter().position(|network| network.record.name == name) {
            return Ok(all.swap_remove(at));
        }
        let mut by_id = all.into_iter().filter(|network| !name.is_empty() && network.record.id.starts_with(name));
        match (by_id.next(), by_id.next()) {
            (Some(network), None) => Ok(network),
            _ => Err(cache::Error::NetworkNotFound(name.to_owned()).into()),
        }
    }

    /// Where a container is on its networks, while it runs.
    ///
    /// # Errors
    /// What the store says.
    pub fn container_endpoints(&self, id: &str) -> Result<Vec<(NetworkRecord, EndpointRecord)>> {
        let mut found = Vec::new();
        for record in self.store.networks()? {
            if let Some(endpoint) = self.store.endpoint(&record.name, id)? {
                found.push((record, endpoint));
            }
        }
        Ok(found)
    }

    /// The ports of this machine that lead to a container, while it runs.
    ///
    /// # Errors
    /// What the store says.
    pub fn port_bindings(&self, id: &str) -> Result<Vec<PortBinding>> {
        let endpoints = self.container_endpoints(id)?;
        let words = endpoints.first().map(|(_, endpoint)| endpoint.ports.clone()).unwrap_or_default();
        let mut ports: Vec<PortBinding> = words.iter().filter_map(|words| words.parse().ok()).collect();
        ports.sort_by_key(|port| (port.container, port.protocol));
        Ok(ports)
    }

    /// Makes a network.
    ///
    /// # Errors
    /// When the name is taken, or an address or option is not one that it can have.
    pub fn create_network(&self, new: &NewNetwork) -> Result<NetworkRecord> {
        if [DEFAULT, HOST, NONE].contains(&new.name.as_str()) {
            return Err(Error::Usage(format!("network `{}` is always there", new.name)));
        }
        check_options(&new.options)?;
        self.store.create_network(&new.name, |known| self.new_record(new, known))
    }

    fn new_record(&self, new: &NewNetwork, known: &[NetworkRecord]) -> Result<NetworkRecord> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = cache::Digest::sha256_of(format!("{}{time:?}{}", new.name, std::process::id()).as_bytes());
        let id = id.hex().to_owned();
        let own = self.device_prefix(&new.name);
        let taken: Vec<Prefixed> = known.iter().flat_map(|network| network.subnets.iter().map(prefixed)).collect();
        let mut subnets = Vec::new();
        for text in &new.subnets {
            let wanted = read_subnet(text)?;
            let holder = known.iter().find(|other| other.subnets.iter().any(|other| overlap(prefixed(other), wanted)));
            if let Some(holder) = holder {
                return Err(Error::Usage(format!("{text} overlaps the addresses of network `{}`", holder.name)));
            }
            if !new.internal && !Survey::take()?.is_free(wanted, &own) {
                return Err(Error::Usage(format!("{text} overlaps a network that this machine reaches already")));
            }
            subnets.push(subnet(wanted));
        }
        let automatic = !subnets.iter().any(|subnet| subnet.address.is_ipv4());
        if automatic {
            subnets.push(free_subnet(new.name == DEFAULT, &Survey::take()?, &own, &taken)?);
        }
        if new.ipv6 && !subnets.iter().any(|subnet| subnet.address.is_ipv6()) {
            subnets.push(local_subnet(&id));
        }
        subnets.sort_by_key(|subnet| subnet.address.is_ipv6());
        let kinds: Vec<bool> = subnets.iter().map(|subnet| subnet.address.is_ipv6()).collect();
        if !matches!(kinds.as_slice(), [false] | [false, true]) {
            return Err(Error::Usage("a network has one --subnet of IPv4 and one of IPv6 at most".to_owned()));
        }
        for gateway in &new.gateways {
            let subnet = subnets.iter_mut().find(|subnet| contains(prefixed(subnet), *gateway));
            let subnet = subnet
                .ok_or_else(|| Error::Usage(format!("the gateway {gateway} is in none of the network's subnets")))?;
            subnet.gateway = *gateway;
        }
        for text in &new.ranges {
            let range = read_range(text)?;
            let inside = |subnet: &&mut NetworkSubnet| {
                contains(prefixed(subnet), range.address) && range.length >= subnet.length
            };
            let subnet = subnets.iter_mut().find(inside);
            let subnet =
                subnet.ok_or_else(|| Error::Usage(format!("the range {text} is in none of the network's subnets")))?;
            subnet.range = Some((range.address, range.length));
        }
        Ok(NetworkRecord {
            name: new.name.clone(),
            id,
            created: time.as_secs(),
            internal: new.internal,
            attachable: new.attachable,
            subnets,
            automatic,
            labels: new.labels.clone(),
            options: new.options.clone(),
        })
    }

    /// Removes a network.
    ///
    /// # Errors
    /// When there is none, it is always there, or somebody is on it.
    pub fn remove_network(&self, name: &str) -> Result<String> {
        let network = self.network(name)?;
        if network.is_predefined() {
            return Err(Error::Usage(format!("network `{name}` is always there and cannot be removed")));
        }
        self.store.remove_network(&network.record.name)?;
        Ok(network.record.name)
    }

    /// Removes the networks that nobody is on, and gives their names.
    ///
    /// # Errors
    /// What the store says.
    pub fn prune_networks(&self, filters: &Filters, dry_run: bool) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for network in self.networks()? {
            let NetworkRecord { name, created, labels, .. } = &network.record;
            let old = filters.until.is_none_or(|until| *created <= until);
            let labelled = filters.labels.iter().all(|filter| is_labelled(filter, labels));
            if network.is_predefined() || !network.endpoints.is_empty() || !old || !labelled {
                continue;
            }
            if !dry_run {
                match self.store.remove_network(name) {
                    Ok(()) => {}
                    // Somebody came, or another did the same.
                    Err(cache::Error::NetworkInUse { .. } | cache::Error::NetworkNotFound(_)) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            removed.push(name.clone());
        }
        Ok(removed)
    }

    /// The default network is made when it is first used; any other must be there.
    pub(crate) fn ensure_network(&self, name: &str) -> Result<()> {
        if self.store.network(name)?.is_some() {
            return Ok(());
        }
        if name != DEFAULT {
            return Err(cache::Error::NetworkNotFound(name.to_owned()).into());
        }
        let new = NewNetwork { name: DEFAULT.to_owned(), ..NewNetwork::default() };
        // Others may choose addresses at the same time, in other stores.
        let host = NetworkNamespace::current()?;
        let _lock = host.lock()?;
        match self.store.create_network(DEFAULT, |known| self.new_record(&new, known)) {
            Ok(_) | Err(Error::Store(cache::Error::NetworkExists(_))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn taken_subnets(&self, except: Option<&str>) -> Result<Vec<Prefixed>> {
        let networks = self.store.networks()?;
        let others = networks.iter().filter(|network| Some(network.name.as_str()) != except);
        Ok(others.flat_map(|network| network.subnets.iter().map(prefixed)).collect())
    }

    /// How the names of a network's devices on the host begin: other stores have others.
    fn device_prefix(&self, network: &str) -> String {
        let digest = cache::Digest::sha256_of(format!("{}\n{network}", self.root().display()).as_bytes());
        format!("dn-{}", digest.hex().get(..4).unwrap_or_default())
    }
}

fn is_labelled(filter: &LabelFilter, labels: &BTreeMap<String, String>) -> bool {
    let matches =
        labels.get(&filter.key).is_some_and(|value| filter.value.as_ref().is_none_or(|wanted| wanted == value));
    matches != filter.absent
}

fn bare(name: &str) -> NetworkRecord {
    NetworkRecord {
        name: name.to_owned(),
        id: cache::Digest::sha256_of(format!("network {name}").as_bytes()).hex().to_owned(),
        created: 0,
        internal: false,
        attachable: false,
        subnets: Vec::new(),
        automatic: true,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
    }
}

fn is_on(options: &BTreeMap<String, String>, name: &str) -> bool {
    options.get(name).is_none_or(|value| value != "false")
}

/// A part of a network; unlike a network it may be a single address.
fn read_range(text: &str) -> Result<Prefixed> {
    let bad = || Error::Usage(format!("`{text}` is no range of addresses: write it as 10.1.0.128/25"));
    let (address, length) = text.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = length.parse().ok().filter(|length| (1..=longest).contains(length)).ok_or_else(bad)?;
    Ok(Prefixed { address, length })
}

/// Options that do nothing would be lies.
fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in options {
        let fits = match name.as_str() {
            BRIDGE_NAME => {
                let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
                (1..=15).contains(&value.len()) && value.bytes().all(valid) && !value.starts_with(['.', '-'])
            }
            HOST_BINDING => value.parse::<std::net::Ipv4Addr>().is_ok(),
            MASQUERADE => matches!(value.as_str(), "true" | "false"),
            MTU => value.parse::<u32>().is_ok_and(|mtu| (68..=65535).contains(&mtu)),
            _ => {
                return Err(Error::Usage(format!(
                    "the network option `{name}` is not supported: {BRIDGE_NAME}, {HOST_BINDING}, {MASQUERADE} and {MTU} are"
                )));
            }
        };
        if !fits {
            return Err(Error::Usage(format!("`{value}` is no value of the network option `{name}`")));
        }
    }
    Ok(())
}
