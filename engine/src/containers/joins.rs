//! What a container is joined to from its first moment: streams of who starts it (`--attach`), and other containers that it
//! finds by names of its own (`--link`).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::spec::ContainerSpec;
use crate::Engine;
use crate::error::{Error, Result};
use crate::networks::{Membership, NetworkChoice};

/// `--attach`: which streams lead to who starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl Streams {
    /// What a container has that nothing is said of.
    pub(super) fn usual(interactive: bool) -> Streams {
        Streams { stdin: interactive, stdout: true, stderr: true }
    }

    /// Who only types does not wait for the end.
    pub(super) fn only_types(self) -> bool {
        !self.stdout && !self.stderr
    }
}

/// `--link`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSpec {
    /// The other container.
    pub container: String,
    /// What it is called here.
    pub alias: String,
}

impl ContainerSpec {
    /// The streams that lead to who starts it.
    pub(super) fn streams(&self) -> Streams {
        let usual = Streams::usual(self.interactive);
        self.attached.map_or(usual, |asked| Streams { stdin: asked.stdin && self.interactive, ..asked })
    }
}

impl Engine {
    /// Whether the containers of `--link` are there, and can be met.
    pub(super) fn check_links(&self, spec: &ContainerSpec) -> Result<()> {
        if spec.links.is_empty() {
            return Ok(());
        }
        if !matches!(spec.network, NetworkChoice::Default | NetworkChoice::Networks(_)) {
            let network = spec.network.name();
            return Err(Error::Usage(format!("--link needs a network that both containers are on, not {network}")));
        }
        spec.links.iter().try_for_each(|link| self.container(&link.container).map(drop))
    }

    /// The names and addresses of linked containers, as they are now.
    pub(super) fn linked_hosts(&self, links: &[LinkSpec], memberships: &[Membership]) -> Result<Vec<(String, IpAddr)>> {
        let mut hosts = Vec::new();
        for link in links {
            let other = self.container(&link.container)?;
            other.running()?;
            let endpoints = self.container_endpoints(&other.record.id)?;
            let is_shared = |network: &str| memberships.iter().any(|membership| membership.network == network);
            let Some((_, endpoint)) = endpoints.iter().find(|(network, _)| is_shared(&network.name)) else {
                let name = other.name();
                return Err(Error::Usage(format!("--link {name}: it is on no network that this container is on too")));
            };
            let mut names = vec![link.alias.clone(), other.name(), other.short_id().to_owned()];
            names.dedup();
            for address in &endpoint.addresses {
                hosts.extend(names.iter().map(|name| (name.clone(), *address)));
            }
        }
        Ok(hosts)
    }
}
