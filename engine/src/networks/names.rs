//! Who is called what on a container's networks, read from the store whenever it changed.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cache::{EndpointRecord, Store};
use runtime::network::{Known, Names, Prefixed};

use super::addresses::contains;

/// A directory that changed so lately may have changed again without a sign of it.
const SETTLED: Duration = Duration::from_secs(1);
const RESOLV_CONF: &str = "/etc/resolv.conf";
const RESOLV_CONF_LIMIT: u64 = 64 << 10;
/// What the C library takes.
const MOST_UPSTREAMS: usize = 3;
/// Digits of an id that make a name.
const ID_DIGITS: usize = 12;

/// The names of a container's networks.
pub(super) struct NetworkNames {
    store: Store,
    scope: Scope,
}

/// On which networks a container is, and whom it asks besides: shared with whoever changes that while it runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    networks: Vec<Network>,
    upstreams: Upstreams,
}

impl Scope {
    pub(super) fn set(&self, networks: Vec<(String, Vec<Prefixed>)>, upstreams: Upstreams) {
        let network = |(name, subnets)| Network { name, subnets, endpoints: Vec::new(), read: None };
        *self.lock() = Inner { networks: networks.into_iter().map(network).collect(), upstreams };
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Network {
    name: String,
    subnets: Vec<Prefixed>,
    endpoints: Vec<EndpointRecord>,
    /// When the directory had last changed as it was read.
    read: Option<SystemTime>,
}

/// Who is asked for what is not ours.
#[derive(Debug, Default)]
pub(super) enum Upstreams {
    /// These.
    Fixed(Vec<IpAddr>),
    /// Whom the host asks, at any time.
    #[default]
    Host,
}

impl NetworkNames {
    pub(super) fn new(store: &Store, scope: &Scope) -> NetworkNames {
        NetworkNames { store: store.clone(), scope: scope.clone() }
    }

    fn lives(&self, network: &Network, endpoint: &EndpointRecord) -> bool {
        // One whose process was killed has left its file behind.
        self.store.endpoint(&network.name, &endpoint.container).is_ok_and(|found| found.is_some())
    }
}

impl Inner {
    fn refresh(&mut self, store: &Store) {
        for network in &mut self.networks {
            let changed = modified(&store.network_endpoints_dir(&network.name));
            let settled = changed.is_some_and(|at| at.elapsed().is_ok_and(|age| age > SETTLED));
            if changed.is_none() || network.read != changed {
                // What cannot be read has nobody on it.
                network.endpoints = store.endpoints(&network.name).unwrap_or_default();
                network.read = changed.filter(|_| settled);
            }
        }
    }
}

impl Names for NetworkNames {
    fn addresses(&mut self, name: &str) -> Known<Option<Vec<IpAddr>>> {
        let mut inner = self.scope.lock();
        inner.refresh(&self.store);
        let mut found = Vec::new();
        let mut ours = !name.contains('.');
        for network in &inner.networks {
            let suffix = format!(".{}", network.name.to_ascii_lowercase());
            let bare = name.strip_suffix(&suffix);
            ours |= bare.is_some();
            let called = |endpoint: &&EndpointRecord| {
                is_called(endpoint, name) || bare.is_some_and(|bare| is_called(endpoint, bare))
            };
            for endpoint in network.endpoints.iter().filter(called).filter(|endpoint| self.lives(network, endpoint)) {
                ours = true;
                found.extend(endpoint.addresses.iter().copied());
            }
        }
        match (ours, found.is_empty()) {
            (false, _) => Known::Elsewhere,
            (true, true) => Known::Ours(None),
            (true, false) => Known::Ours(Some(found)),
        }
    }

    fn name_of(&mut self, address: IpAddr) -> Known<Option<String>> {
        let mut inner = self.scope.lock();
        inner.refresh(&self.store);
        for network in &inner.networks {
            if let Some(endpoint) = network.endpoints.iter().find(|endpoint| endpoint.addresses.contains(&address)) {
                let name = self.lives(network, endpoint).then(|| format!("{}.{}", endpoint.shown_name(), network.name));
                return Known::Ours(name);
            }
        }
        let ours = inner.networks.iter().flat_map(|network| &network.subnets).any(|subnet| contains(*subnet, address));
        if ours { Known::Ours(None) } else { Known::Elsewhere }
    }

    fn upstreams(&mut self) -> Vec<SocketAddr> {
        let addresses = match &self.scope.lock().upstreams {
            Upstreams::Fixed(addresses) => addresses.clone(),
            Upstreams::Host => HostResolvers::read().servers,
        };
        addresses.into_iter().map(|address| SocketAddr::new(address, 53)).collect()
    }
}

fn is_called(endpoint: &EndpointRecord, name: &str) -> bool {
    let same = |known: &String| known.eq_ignore_ascii_case(name);
    endpoint.name.as_ref().is_some_and(same)
        || endpoint.aliases.iter().any(same)
        || (name.len() >= ID_DIGITS && endpoint.container.starts_with(name))
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// What the host's /etc/resolv.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostResolvers {
    pub(super) servers: Vec<IpAddr>,
    pub(super) search: Vec<String>,
}

impl HostResolvers {
    pub(super) fn read() -> HostResolvers {
        use std::io::Read;
        let mut text = String::new();
        let read = std::fs::File::open(PathBuf::from(RESOLV_CONF))
            .and_then(|file| file.take(RESOLV_CONF_LIMIT).read_to_string(&mut text));
        // A machine without it asks nobody.
        read.map(|_| HostResolvers::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> HostResolvers {
        let mut found = HostResolvers::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // An address of one link, as fe80::1%eth0, means nothing elsewhere.
                    found.servers.extend(words.next().and_then(|address| address.parse::<IpAddr>().ok()));
                }
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        found.servers.truncate(MOST_UPSTREAMS);
        found
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_c_library_reads_it() {
        let text =
            "# remark\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\n nameserver ::1\nsearch a.b c\noptions x\n";
        let found = HostResolvers::parse(text);
        let servers: Vec<String> = found.servers.iter().map(ToString::to_string).collect();
        assert_eq!((servers, found.search), (vec!["127.0.0.53".into(), "::1".into()], vec!["a.b".into(), "c".into()]));
    }
}
