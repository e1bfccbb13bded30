//! `Survey`: what the host's own network looks like, for networks that must not be in its way.
use std::net::IpAddr;

use super::links::{self, Prefixed, Which};
use super::namespace::NetworkNamespace;
use crate::error::Result;

/// Networks that the host reaches, and the size of packets on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    taken: Vec<Prefixed>,
    mtu: u32,
}

/// Of a machine without a way out.
const USUAL_MTU: u32 = 1500;

impl Survey {
    /// Looks at the caller's namespace.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn take() -> Result<Survey> {
        let host = NetworkNamespace::current()?;
        let routes = links::routes(&host.links)?;
        let way_out = routes.iter().find(|route| route.to.is_none() && route.device != 0);
        let mtu = match way_out {
            Some(route) => Some(links::link(&host.links, Which::Number(route.device))?.mtu),
            None => None,
        };
        let taken = routes.iter().filter_map(|route| route.to).collect();
        Ok(Survey { taken, mtu: mtu.filter(|mtu| *mtu >= 68).unwrap_or(USUAL_MTU) })
    }

    /// Size of packets on the way out.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether the host reaches addresses of this network already.
    #[must_use]
    pub fn overlaps(&self, network: Prefixed) -> bool {
        self.taken.iter().any(|taken| overlap(*taken, network))
    }
}

/// Whether two networks have addresses in common.
pub(super) fn overlap(one: Prefixed, other: Prefixed) -> bool {
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
