//! Which rules a network and the published ports of a container need, and the socket that keeps them.
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::links::Prefixed;
use super::namespace::failed;
use super::netlink::{Family, Socket};
use super::nft::{self, Chain, Hook, Rule, Table};
use super::ports::PublishedPort;
use crate::error::Result;

/// A table of the packet filter for as long as its socket is open, in whichever processes.
#[derive(Debug)]
pub(super) struct Firewall {
    socket: Socket,
    table: String,
}

impl Firewall {
    /// Makes the table in this thread's network namespace.
    pub(super) fn new(table: &Table) -> Result<Firewall> {
        let socket = Socket::open(Family::Netfilter).map_err(failed("opening a netlink socket"))?;
        socket.execute(nft::transaction(table, false))?;
        Ok(Firewall { socket, table: table.name.clone() })
    }

    /// Another holder's.
    pub(super) fn adopt(socket: OwnedFd, table: String) -> Firewall {
        Firewall { socket: socket.into(), table }
    }

    /// Takes the table away now, of which the last holder need not wait.
    pub(super) fn remove(&self) -> Result<()> {
        self.socket.execute(nft::removal(&self.table))
    }

    /// What tells its socket from all others.
    pub(super) fn port(&self) -> Result<u32> {
        self.socket.port().map_err(failed("asking for a socket's number"))
    }
}

impl AsFd for Firewall {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Addresses that are this machine's alone.
pub(super) const LOOPBACK: Prefixed = Prefixed { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), length: 8 };

/// What a network that reaches the host by `device` needs: nothing new comes in but to published ports, nothing comes in
/// for the host's loopback, and what goes out seems to come from the host.
pub(super) fn network_table(name: String, device: &str, subnets: &[Prefixed], masquerade: bool) -> Table {
    let rule = Rule::default;
    let raw = vec![rule().comes_from(device).destination(LOOPBACK).drop()];
    let forward = vec![rule().goes_to(device).unknown().unpublished().drop()];
    let mut leaving = vec![rule().goes_to(device).source(LOOPBACK).masquerade()];
    for subnet in subnets {
        if masquerade {
            leaving.push(rule().source(*subnet).does_not_go_to(device).masquerade());
        }
        // A container that comes back to its own network by a published port: the answer must take the same way.
        leaving.push(rule().goes_to(device).source(*subnet).published().masquerade());
    }
    let chain = |place, rules| Chain { place, rules };
    let chains = vec![chain(Hook::Raw, raw), chain(Hook::Forward, forward), chain(Hook::Leaving, leaving)];
    Table { name, chains }
}

/// What sends connections to published ports to the container.
pub(super) fn ports_table(name: String, ports: &[(&PublishedPort, IpAddr)]) -> Table {
    let mut incoming = Vec::new();
    let mut output = Vec::new();
    for (port, to) in ports {
        for rule in port_rules(port, *to) {
            if !port.address.is_loopback() {
                incoming.push(rule.clone());
            }
            output.push(rule);
        }
    }
    let chain = |place, rules| Chain { place, rules };
    Table { name, chains: vec![chain(Hook::Incoming, incoming), chain(Hook::Output, output)] }
}

/// A range that keeps its numbers is one rule; any other is one for each port.
fn port_rules(port: &PublishedPort, container: IpAddr) -> Vec<Rule> {
    let matching = |first, last| {
        let rule = match port.address.is_unspecified() {
            true => Rule::default().for_this_machine(port.address),
            false => {
                let length = if port.address.is_ipv4() { 32 } else { 128 };
                Rule::default().destination(Prefixed { address: port.address, length })
            }
        };
        rule.port(port.transport, first, last)
    };
    let last = port.host_port.saturating_add(port.count.saturating_sub(1));
    if port.host_port == port.container_port && port.count > 1 {
        return vec![matching(port.host_port, last).translate(container, None)];
    }
    (0..port.count)
        .map(|at| {
            let from = port.host_port.saturating_add(at);
            let to = port.container_port.saturating_add(at);
            matching(from, from).translate(container, Some(to))
        })
        .collect()
}
