//! The network of a container: what `--network` names becomes a namespace and files of /etc, and is given back at the end.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use cache::Image;
use runtime::network::{NamespaceAhead, NetworkNamespace};
use runtime::{DEFAULT_SHM_SIZE, EtcFiles, NamespaceKind, NetworkMode, Spares, UserNamespace};

use super::reconnect::NetworkChange;
use super::spec::ContainerSpec;
use crate::Engine;
use crate::error::{Error, Result};
use crate::networks::{Attachment, DEFAULT, Membership, NameFiles, NetworkChoice, Protocol, Realm, Wanted};

/// Where ports are published that name no address: this machine alone.
const BINDING: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a container is called.
#[derive(Debug)]
pub(super) struct Named<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) hostname: &'a str,
    /// Whose its network is to be.
    pub(super) users: Option<&'a UserNamespace>,
    /// What was begun for it.
    pub(super) ahead: Option<NamespaceAhead>,
}

/// What is made of a container while its files are prepared.
#[derive(Debug, Default)]
pub(super) struct Begun {
    pub(super) network: Option<NamespaceAhead>,
    pub(super) spares: Arc<Spares>,
}

/// A network that is ready for a container, for as long as this lives.
#[derive(Debug)]
pub(super) struct Network {
    mode: NetworkMode,
    files: EtcFiles,
    notes: Vec<String>,
    attachment: Option<Attachment>,
    furnished: bool,
}

impl Network {
    /// Begins to make what a container needs for it, before anything else of the container is prepared.
    pub(super) fn begin(spec: &ContainerSpec) -> Begun {
        let spares = Arc::new(Spares::default());
        let (stock, shm_size, console) = (Arc::clone(&spares), spec.shm_size.unwrap_or(DEFAULT_SHM_SIZE), spec.tty);
        let meanwhile = move || {
            runtime::compile_default_filter();
            stock.stock_usual(shm_size, console);
            stock.stock_room_and_stay();
        };
        let network = match spec.network {
            NetworkChoice::Host | NetworkChoice::Container(_) => None,
            NetworkChoice::None | NetworkChoice::Default | NetworkChoice::Networks(_) => {
                Some(NetworkNamespace::ahead(meanwhile))
            }
        };
        Begun { network, spares }
    }

    /// Makes it ready.
    pub(super) fn prepare(engine: &Engine, spec: &ContainerSpec, image: &Image, named: Named<'_>) -> Result<Network> {
        match &spec.network {
            NetworkChoice::None => {
                // Where it could not be made the sandbox tries once more, and tells what is in the way.
                let own = named.ahead.and_then(|ahead| ahead.finish().ok());
                let furnished = own.as_ref().is_some_and(NetworkNamespace::is_furnished);
                let mode = own.map_or(NetworkMode::None, |own| NetworkMode::Join(own.fd()));
                Ok(Network { furnished, ..Network::alone(mode, spec) })
            }
            NetworkChoice::Host => {
                Ok(Network { files: Engine::machine_names(spec), ..Network::alone(NetworkMode::Host, spec) })
            }
            NetworkChoice::Default if runtime::in_user_namespace() => Network::of_user(engine, spec, image, named),
            NetworkChoice::Container(name) => {
                let namespace = engine.running(name)?.namespace(NamespaceKind::Net)?;
                Ok(Network { files: engine.shared_names(name)?, ..Network::alone(NetworkMode::Join(namespace), spec) })
            }
            NetworkChoice::Networks(memberships) => Network::in_realm(engine, spec, image, named, memberships),
            NetworkChoice::Default => match Network::attached(engine, spec, image, named, &[by_default()], None) {
                Err(Error::Sandbox(error @ runtime::Error::Network { .. })) if spec.links.is_empty() => {
                    let mut network = Network::alone(NetworkMode::None, spec);
                    network.notes.push(format!(
                            "the container has no network but loopback, for this machine allows none: {error}; --network none says so without this note, --network host gives it the machine's"
                        ));
                    Ok(network)
                }
                other => other,
            },
        }
    }

    /// On networks that are the machine's, or without root the user's.
    fn in_realm(
        engine: &Engine,
        spec: &ContainerSpec,
        image: &Image,
        named: Named<'_>,
        memberships: &[Membership],
    ) -> Result<Network> {
        let realm = engine.realm()?;
        let closed = realm.as_ref().and_then(Realm::closed).map(str::to_owned);
        let mut network = Network::attached(engine, spec, image, named, memberships, realm)?;
        network.notes.extend(closed.map(|why| format!("its networks have no way out of this machine, since {why}")));
        Ok(network)
    }

    /// Without root: the default network where a program gives it a way out, else the host's.
    fn of_user(engine: &Engine, spec: &ContainerSpec, image: &Image, named: Named<'_>) -> Result<Network> {
        let attached = engine.realm().and_then(|realm| match realm.as_ref().and_then(Realm::closed) {
            Some(why) => Err(Error::Usage(why.to_owned())),
            None => Network::attached(engine, spec, image, named, &[by_default()], realm),
        });
        match attached {
            // What is wrong with the store is no reason to go without.
            Err(error @ (Error::Usage(_) | Error::Sandbox(runtime::Error::Network { .. })))
                if spec.links.is_empty() =>
            {
                let mut network = Network::alone(NetworkMode::Host, spec);
                network.notes.push(format!("the container has the machine's own network, since {error}"));
                Ok(network)
            }
            result => result,
        }
    }

    fn alone(mode: NetworkMode, spec: &ContainerSpec) -> Network {
        let extra_hosts = hosts(&spec.names, Ipv4Addr::LOCALHOST.into());
        let files = EtcFiles { hosts: Vec::new(), extra_hosts, resolv_conf: resolv_conf(&spec.names) };
        Network { mode, files, notes: Vec::new(), attachment: None, furnished: false }
    }

    fn attached(
        engine: &Engine,
        spec: &ContainerSpec,
        image: &Image,
        named: Named<'_>,
        memberships: &[Membership],
        realm: Option<Realm>,
    ) -> Result<Network> {
        let exposed = if spec.publish_all { exposed(spec, image) } else { Vec::new() };
        let wanted = Wanted {
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
            users: named.users,
        };
        let attachment = engine.attach_to_networks(&wanted, realm, named.ahead)?;
        let mut files = attachment.files().clone();
        files.extra_hosts = hosts(&spec.names, attachment.gateway().unwrap_or(Ipv4Addr::LOCALHOST.into()));
        files.extra_hosts.extend(engine.linked_hosts(&spec.links, memberships)?);
        let mode = NetworkMode::Join(attachment.namespace().fd());
        let notes = attachment.open_ports().map(|port| {
            format!("port {port} is open to other machines: -p 127.0.0.1:{port}:… is for this machine alone")
        });
        let notes = notes.collect();
        let furnished = attachment.namespace().is_furnished();
        Ok(Network { mode, files, notes, attachment: Some(attachment), furnished })
    }

    /// Whether all that docker sets in it is set.
    pub(super) fn is_furnished(&self) -> bool {
        self.furnished
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

fn by_default() -> Membership {
    Membership { network: DEFAULT.to_owned(), ..Membership::default() }
}

pub(super) fn hosts(names: &NameFiles, gateway: IpAddr) -> Vec<(String, IpAddr)> {
    names.hosts.iter().map(|host| (host.name.clone(), host.address.unwrap_or(gateway))).collect()
}

/// What the image exposes, as `80/tcp`.
fn exposed(spec: &ContainerSpec, image: &Image) -> Vec<(u16, Protocol)> {
    let read = |text: &String| {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        Some((port.parse().ok().filter(|port| *port != 0)?, protocol))
    };
    let mut ports: Vec<_> = image.config.config.exposed_ports.keys().chain(&spec.exposed).filter_map(read).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// What `--dns*` say, without a network that has names; empty when they say nothing.
pub(super) fn resolv_conf(names: &NameFiles) -> Vec<u8> {
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
