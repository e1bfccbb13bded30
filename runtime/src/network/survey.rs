//! `Survey`: what the host's own network looks like, for networks that must not be in its way.
use std::net::IpAddr;

use super::links::{self, Prefixed, Route, Which};
use super::namespace::NetworkNamespace;
use crate::error::Result;

/// Networks that the host reaches, by which devices, and the size of packets on its way out.
#[derive(Debug)]
pub struct Survey {
    host: NetworkNamespace,
    routes: Vec<Route>,
    mtu: u32,
}

/// Of a machine without a way out.
const USUAL_MTU: u32 = 1500;
const SMALLEST_MTU: u32 = 68;

impl Survey {
    /// Looks at the caller's namespace.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn take() -> Result<Survey> {
        let host = NetworkNamespace::current()?;
        let routes = links::routes(&host.links)?;
        let way_out = routes.iter().find(|route| route.to.is_none() && route.device != 0);
        let mtu = way_out.and_then(|route| links::link(&host.links, Which::Number(route.device)).ok());
        let mtu = mtu.map(|link| link.mtu).filter(|mtu| *mtu >= SMALLEST_MTU).unwrap_or(USUAL_MTU);
        Ok(Survey { host, routes, mtu })
    }

    /// Size of packets on the way out.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether the host reaches no addresses of this network yet, but by devices whose names begin like this: what is
    /// left of them goes away by itself.
    #[must_use]
    pub fn is_free(&self, network: Prefixed, own: &str) -> bool {
        let mut known = self.routes.iter().filter(|route| route.to.is_some_and(|to| overlap(to, network)));
        known.all(|route| match links::link(&self.host.links, Which::Number(route.device)) {
            Ok(link) => link.name.starts_with(own),
            // It has gone meanwhile.
            Err(_) => true,
        })
    }
}

/// Whether two networks have addresses in common.
#[must_use]
pub fn overlap(one: Prefixed, other: Prefixed) -> bool {
    let length = one.length.min(other.length);
    let same_kind =
        matches!((one.address, other.address), (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)));
    let cut = |network: Prefixed| links::network_of(Prefixed { address: network.address, length });
    same_kind && cut(one) == cut(other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        let network = |text: &str, length| Prefixed { address: text.parse().unwrap(), length };
        assert!(overlap(network("10.0.0.0", 8), network("10.88.0.0", 16)));
        assert!(overlap(network("10.88.3.0", 24), network("10.88.0.0", 16)));
        assert!(!overlap(network("10.88.0.0", 16), network("10.89.0.0", 16)));
        assert!(!overlap(network("::", 0), network("10.89.0.0", 16)));
        assert!(overlap(network("fd00::", 8), network("fd12::1", 64)));
    }
}
