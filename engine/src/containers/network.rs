//! The network of a container: what `--network` names becomes a namespace and files of /etc, and is given back at the end.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use cache::Image;
use runtime::{EtcFiles, NamespaceKind, NetworkMode};

use super::reconnect::NetworkChange;
use super::spec::ContainerSpec;
use super::uplink::{self, Uplink};
use crate::Engine;
use crate::error::{Error, Result};
use crate::networks::{Attachment, DEFAULT, Membership, NameFiles, NetworkChoice, Protocol, Wanted};

/// Where ports are published that name no address: this machine alone.
const BINDING: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a container is called.
#[derive(Debug)]
pub(super) struct Named<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) hostname: &'a str,
}

/// A network that is ready for a container, for as long as this lives.
#[derive(Debug)]
pub(super) struct Network {
    mode: NetworkMode,
    files: EtcFiles,
    notes: Vec<String>,
    attachment: Option<Attachment>,
    _uplink: Option<Uplink>,
}

impl Network {
    /// Makes it ready.
    pub(super) fn prepare(engine: &Engine, spec: &ContainerSpec, image: &Image, named: &Named<'_>) -> Result<Network> {
        match &spec.network {
            NetworkChoice::None => Ok(Network::alone(NetworkMode::None, spec)),
            NetworkChoice::Host => Ok(Network::alone(NetworkMode::Host, spec)),
            NetworkChoice::Default if runtime::in_user_namespace() => Network::of_user(engine, spec, named),
            NetworkChoice::Networks(memberships) if runtime::in_user_namespace() => {
                if memberships.iter().all(|membership| membership.network == DEFAULT) {
                    return Network::of_user(engine, spec, named);
                }
                let name = memberships.first().map_or(DEFAULT, |membership| membership.network.as_str());
                Err(Error::Usage(format!(
                    "network `{name}`: networks between containers need root in this version; without it there are the \
                     default (slirp4netns), `--network host` and `--network none`"
                )))
            }
            NetworkChoice::Container(name) => {
                let namespace = engine.running(name)?.namespace(NamespaceKind::Net)?;
                Ok(Network::alone(NetworkMode::Join(namespace), spec))
            }
            NetworkChoice::Networks(memberships) => Network::attached(engine, spec, image, named, memberships),
            NetworkChoice::Default => {
                let membership = Membership { network: DEFAULT.to_owned(), ..Membership::default() };
                match Network::attached(engine, spec, image, named, &[membership]) {
                    Err(Error::Sandbox(error @ runtime::Error::Network { .. })) => {
                        let mut network = Network::alone(NetworkMode::None, spec);
                        network.notes.push(format!(
                            "the container has no network but loopback, for this machine allows none: {error}; --network none says so without this note, --network host gives it the machine's"
                        ));
                        Ok(network)
                    }
                    other => other,
                }
            }
        }
    }

    /// Without root: a network of its own with a way out where a program for that is installed, else the host's.
    fn of_user(engine: &Engine, spec: &ContainerSpec, named: &Named<'_>) -> Result<Network> {
        let program = engine.programs.find("slirp4netns");
        let place = engine.root().join("containers").join(named.id);
        let started = program.map(|program| Uplink::start(&program, &place, &spec.ports, BINDING)).transpose();
        let why = match started {
            Ok(Some(uplink)) => return Ok(Network::with_uplink(uplink, spec)),
            Ok(None) => "slirp4netns is not installed".to_owned(),
            Err(error) if spec.ports.is_empty() => error.to_string(),
            Err(error) => return Err(error),
        };
        if !spec.ports.is_empty() {
            return Err(Error::Usage(format!("--publish: ports cannot be published without root, since {why}")));
        }
        let mut network = Network::alone(NetworkMode::Host, spec);
        network.notes.push(format!("the container has the machine's own network, since {why}"));
        Ok(network)
    }

    fn with_uplink(uplink: Uplink, spec: &ContainerSpec) -> Network {
        let mode = NetworkMode::Join(uplink.namespace().fd());
        let extra_hosts = hosts(&spec.names, uplink::GATEWAY.into());
        let resolv_conf = uplink::resolv_conf(&spec.names.servers, &resolv_conf(&spec.names));
        let files = EtcFiles { hosts: Vec::new(), extra_hosts, resolv_conf };
        Network { mode, files, notes: Vec::new(), attachment: None, _uplink: Some(uplink) }
    }

    fn alone(mode: NetworkMode, spec: &ContainerSpec) -> Network {
        let extra_hosts = hosts(&spec.names, Ipv4Addr::LOCALHOST.into());
        let files = EtcFiles { hosts: Vec::new(), extra_hosts, resolv_conf: resolv_conf(&spec.names) };
        Network { mode, files, notes: Vec::new(), attachment: None, _uplink: None }
    }

    fn attached(
        engine: &Engine,
        spec: &ContainerSpec,
        image: &Image,
        named: &Named<'_>,
        memberships: &[Membership],
    ) -> Result<Network> {
        let exposed = if spec.publish_all { exposed(image) } else { Vec::new() };
        let attachment = engine.attach_to_networks(&Wanted {
            id: named.id,
            name: named.name,
            hostname: named.hostname,
            memberships,
            ports: &spec.ports,
            exposed: &exposed,
            servers: &spec.names.servers,
            search: &spec.names.search,
            options: &spec.names.options,
            binding: BINDING,
        })?;
        let mut files = attachment.files().clone();
        files.extra_hosts = hosts(&spec.names, attachment.gateway().unwrap_or(Ipv4Addr::LOCALHOST.into()));
        let mode = NetworkMode::Join(attachment.namespace().fd());
        Ok(Network { mode, files, notes: Vec::new(), attachment: Some(attachment), _uplink: None })
    }

    /// What the sandbox joins.
    pub(super) fn mode(&self) -> NetworkMode {
        self.mode.clone()
    }

    /// /etc/hosts and /etc/resolv.conf; what is empty is written by the runtime.
    pub(super) fn files(&self) -> EtcFiles {
        self.files.clone()
    }

    /// Changes it under a container that runs.
    pub(super) fn change(&mut self, engine: &Engine, (id, name): (&str, &str), change: &NetworkChange) -> Result<()> {
        let Some(attachment) = &mut self.attachment else {
            return Err(Error::WrongState(format!(
                "container {name} was started without a network that could be changed: stop it, and start it again"
            )));
        };
        match change {
            NetworkChange::Connect(membership) => attachment.connect(engine, (id, name), membership),
            NetworkChange::Disconnect(network) => attachment.disconnect((id, name), network),
        }
    }

    /// Gives it back, as a process that has nothing else to do.
    pub(super) fn leave(self) {
        if let Some(attachment) = self.attachment {
            attachment.leave();
        }
    }

    /// What could not be had, in words for the user.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }
}

fn hosts(names: &NameFiles, gateway: IpAddr) -> Vec<(String, IpAddr)> {
    names.hosts.iter().map(|host| (host.name.clone(), host.address.unwrap_or(gateway))).collect()
}

/// What the image exposes, as `80/tcp`.
fn exposed(image: &Image) -> Vec<(u16, Protocol)> {
    let read = |text: &String| {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        Some((port.parse().ok().filter(|port| *port != 0)?, protocol))
    };
    image.config.config.exposed_ports.keys().filter_map(read).collect()
}

/// What `--dns*` say, without a network that has names; empty when they say nothing.
fn resolv_conf(names: &NameFiles) -> Vec<u8> {
    let mut text = String::new();
    let search: Vec<&str> = names.search.iter().map(String::as_str).filter(|domain| *domain != ".").collect();
    if !search.is_empty() {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    for server in &names.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !names.options.is_empty() {
        let _ = writeln!(text, "options {}", names.options.join(" "));
    }
    text.into_bytes()
}
