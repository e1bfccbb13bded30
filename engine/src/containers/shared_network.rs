//! `--network container:NAME` and `--network host`: as docker has it, who shares a network has the host name of its owner too,
//! and finds by name what that one finds.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

use runtime::EtcFiles;

use super::network::{hosts, resolv_conf};
use super::spec::ContainerSpec;
use super::state::ContainerInfo;
use crate::Engine;
use crate::error::{Error, Result};
use crate::networks::{NetworkChoice, etc_files};

/// Longest /etc/hosts of the machine that is taken over.
const HOSTS_LIMIT: u64 = 1 << 20;
/// Most containers that share a network by way of each other.
const CHAIN_LIMIT: usize = 8;

impl ContainerSpec {
    /// What is said of the container whose network it is, and not of this one.
    pub(super) fn check_shared_network(&self) -> Result<()> {
        let names = &self.names;
        let dns = !(names.servers.is_empty() && names.search.is_empty() && names.options.is_empty());
        let flag = [("--hostname", self.hostname.is_some()), ("--dns", dns), ("--add-host", !names.hosts.is_empty())];
        match (&self.network, flag.iter().find(|(_, given)| *given)) {
            (NetworkChoice::Container(name), Some((flag, _))) => Err(Error::Usage(format!(
                "{flag} contradicts --network container:{name}: host name and names are those of the container whose network it is"
            ))),
            _ => Ok(()),
        }
    }
}

impl Engine {
    /// The host name that a container has, or will have.
    pub(super) fn host_name(&self, spec: &ContainerSpec, id: &str) -> String {
        let own = || id.chars().take(12).collect();
        match (&spec.hostname, &spec.network) {
            (Some(name), _) => name.clone(),
            (None, NetworkChoice::Host) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            (None, NetworkChoice::Container(other)) => self.owner_of_network(other).map_or_else(
                |_| own(),
                |owner| owner.spec.hostname.clone().unwrap_or_else(|| owner.short_id().to_owned()),
            ),
            (None, _) => own(),
        }
    }

    /// The files of names of the container whose network is shared.
    pub(super) fn shared_names(&self, name: &str) -> Result<EtcFiles> {
        let owner = self.owner_of_network(name)?;
        let names = &owner.spec.names;
        let endpoints = self.container_endpoints(&owner.record.id)?;
        let subnets =
            endpoints.iter().filter(|(network, _)| !network.internal).flat_map(|(network, _)| &network.subnets);
        let gateway = subnets.map(|subnet| subnet.gateway).next();
        let mut extra_hosts = hosts(names, gateway.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        if endpoints.is_empty() {
            return Ok(EtcFiles { hosts: Vec::new(), extra_hosts, resolv_conf: resolv_conf(names) });
        }
        if let NetworkChoice::Networks(memberships) = &owner.spec.network {
            extra_hosts.extend(self.linked_hosts(&owner.spec.links, memberships).unwrap_or_default());
        }
        let addresses: Vec<IpAddr> = endpoints.iter().flat_map(|(_, endpoint)| endpoint.addresses.clone()).collect();
        let hostname = self.host_name(&owner.spec, &owner.record.id);
        Ok(EtcFiles { extra_hosts, ..etc_files(&hostname, &names.search, &names.options, &addresses) })
    }

    /// The machine's own names, and those of `--add-host`.
    pub(super) fn machine_names(spec: &ContainerSpec) -> EtcFiles {
        let mut text = Vec::new();
        // Without the file, or where it cannot be read, a container has its usual one.
        let read = File::open("/etc/hosts").and_then(|file| file.take(HOSTS_LIMIT).read_to_end(&mut text));
        let complete = read.is_ok() && (text.len() as u64) < HOSTS_LIMIT;
        let extra_hosts = hosts(&spec.names, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let hosts = if complete { text } else { Vec::new() };
        EtcFiles { hosts, extra_hosts, resolv_conf: resolv_conf(&spec.names) }
    }

    /// The container whose own the network is that `name` has.
    fn owner_of_network(&self, name: &str) -> Result<ContainerInfo> {
        let mut owner = self.container(name)?;
        for _ in 0..CHAIN_LIMIT {
            let NetworkChoice::Container(further) = &owner.spec.network else { break };
            // It may have gone, and what it gave lives on.
            let Ok(next) = self.container(further) else { break };
            owner = next;
        }
        Ok(owner)
    }
}
