//! `network create`, `ls`, `inspect`, `rm`, `connect`, `disconnect`.

use std::net::SocketAddr;
use std::path::PathBuf;

use engine::{Membership, NetworkInfo, NewNetwork};
use serde_json::{Map, Value, json};

use super::{Failure, Outcome, open, prune};
use crate::args::{
    NetworkCommand, NetworkConnectArgs, NetworkCreateArgs, NetworkDisconnectArgs, NetworkFilter, NetworkInspectArgs,
    NetworkLsArgs, NetworkRmArgs, PortArgs,
};
use crate::ui::table::{self, Column};
use crate::ui::{self, units};

const NETWORKS: [Column; 4] = [("ID", "NETWORK ID"), ("Name", "NAME"), ("Driver", "DRIVER"), ("Scope", "SCOPE")];

pub(super) fn network(root: Option<PathBuf>, network: &NetworkCommand) -> Outcome {
    match network {
        NetworkCommand::Create(args) => create(root, args),
        NetworkCommand::Ls(args) => list(root, args),
        NetworkCommand::Inspect(args) => inspect(root, args),
        NetworkCommand::Rm(args) => remove(root, args),
        NetworkCommand::Prune(args) => prune::networks(root, args),
        NetworkCommand::Connect(args) => connect(root, args),
        NetworkCommand::Disconnect(args) => disconnect(root, args),
    }
}

fn create(root: Option<PathBuf>, args: &NetworkCreateArgs) -> Outcome {
    let new = NewNetwork {
        name: args.name.clone(),
        subnets: args.subnet.clone(),
        gateways: args.gateway.clone(),
        ranges: args.ip_range.clone(),
        internal: args.internal,
        ipv6: args.ipv6,
        attachable: args.attachable,
        labels: super::build::pairs(&args.label),
        options: super::build::pairs(&args.opt),
    };
    ui::line(&open(root)?.create_network(&new)?.id)?;
    Ok(0)
}

fn connect(root: Option<PathBuf>, args: &NetworkConnectArgs) -> Outcome {
    let (network, aliases) = (args.network.clone(), args.alias.clone());
    let link_local = args.link_local_ip.clone();
    let membership = Membership { network, aliases, ip: args.ip, ip6: args.ip6, mac: None, link_local };
    open(root)?.connect_to_network(&args.container, membership)?;
    Ok(0)
}

fn disconnect(root: Option<PathBuf>, args: &NetworkDisconnectArgs) -> Outcome {
    match open(root)?.disconnect_from_network(&args.container, &args.network) {
        Err(engine::Error::NotOnNetwork { .. }) if args.force => Ok(0),
        result => Ok(result.map(|()| 0)?),
    }
}

fn list(root: Option<PathBuf>, args: &NetworkLsArgs) -> Outcome {
    let mut rows = Vec::new();
    for network in open(root)?.networks()? {
        if args.filter.iter().all(|filter| wanted(filter, &network)) {
            rows.extend(row(&network, args.no_trunc).as_object().cloned());
        }
    }
    if args.quiet {
        rows.iter().filter_map(|row| row.get("ID")?.as_str()).try_for_each(ui::line)?;
    } else {
        table::print(&rows, &NETWORKS, args.format.as_deref())?;
    }
    Ok(0)
}

fn row(network: &NetworkInfo, whole: bool) -> Value {
    let record = &network.record;
    let labels: Vec<String> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let id = if whole { record.id.as_str() } else { record.id.get(..12).unwrap_or_default() };
    json!({
        "ID": id,
        "Name": record.name,
        "Driver": network.driver.word(),
        "Scope": "local",
        "IPv4": record.subnets.iter().any(|subnet| subnet.address.is_ipv4()).to_string(),
        "IPv6": record.subnets.iter().any(|subnet| subnet.address.is_ipv6()).to_string(),
        "Internal": record.internal.to_string(),
        "Labels": labels.join(","),
        "CreatedAt": units::docker_time(record.created),
    })
}

fn wanted(filter: &NetworkFilter, network: &NetworkInfo) -> bool {
    let record = &network.record;
    match filter {
        NetworkFilter::Any => true,
        NetworkFilter::Dangling(dangling) => *dangling == (network.endpoints.is_empty() && !network.is_predefined()),
        NetworkFilter::Driver(driver) => driver == network.driver.word(),
        NetworkFilter::Id(part) => record.id.starts_with(part.as_str()),
        NetworkFilter::Name(part) => record.name.contains(part.as_str()),
        NetworkFilter::Scope(scope) => scope == "local",
        NetworkFilter::Custom(custom) => *custom != network.is_predefined(),
        NetworkFilter::Label(key, value) => {
            record.labels.get(key).is_some_and(|there| value.as_ref().is_none_or(|value| value == there))
        }
    }
}

fn inspect(root: Option<PathBuf>, args: &NetworkInspectArgs) -> Outcome {
    let engine = open(root)?;
    super::inspect::each(&args.names, args.format.as_deref(), |name| {
        engine.network(name).map(|network| shown(&network))
    })
}

pub(super) fn shown(network: &NetworkInfo) -> Value {
    let record = &network.record;
    let subnet = |subnet: &engine::NetworkSubnet| {
        let mut shown = json!({
            "Subnet": format!("{}/{}", subnet.address, subnet.length),
            "Gateway": subnet.gateway.to_string(),
        });
        if let (Some((address, length)), Some(shown)) = (subnet.range, shown.as_object_mut()) {
            shown.insert("IPRange".to_owned(), json!(format!("{address}/{length}")));
        }
        shown
    };
    json!({
        "Name": record.name,
        "Id": record.id,
        "Created": units::rfc3339(record.created),
        "Scope": "local",
        "Driver": network.driver.word(),
        "EnableIPv4": record.subnets.iter().any(|subnet| subnet.address.is_ipv4()),
        "EnableIPv6": record.subnets.iter().any(|subnet| subnet.address.is_ipv6()),
        "IPAM": {"Driver": "default", "Options": {}, "Config": record.subnets.iter().map(subnet).collect::<Vec<_>>()},
        "Internal": record.internal,
        "Attachable": record.attachable,
        "Ingress": false,
        "ConfigOnly": false,
        "Containers": containers(network),
        "Options": record.options,
        "Labels": record.labels,
    })
}

fn containers(network: &NetworkInfo) -> Map<String, Value> {
    let address = |endpoint: &engine::EndpointRecord, ipv4: bool| {
        let own = endpoint.addresses.iter().find(|address| address.is_ipv4() == ipv4);
        let length = network.record.subnets.iter().find(|subnet| subnet.address.is_ipv4() == ipv4);
        own.zip(length).map(|(own, subnet)| format!("{own}/{}", subnet.length)).unwrap_or_default()
    };
    let each = |endpoint: &engine::EndpointRecord| {
        let shown = json!({
            "Name": endpoint.shown_name(),
            "EndpointID": "",
            "MacAddress": endpoint.mac,
            "IPv4Address": address(endpoint, true),
            "IPv6Address": address(endpoint, false),
        });
        (endpoint.container.clone(), shown)
    };
    network.endpoints.iter().map(each).collect()
}

pub(super) fn port(root: Option<PathBuf>, args: &PortArgs) -> Outcome {
    let engine = open(root)?;
    let ports = engine.port_bindings(&engine.container(&args.name)?.record.id)?;
    let key = |port: &engine::PortBinding| format!("{}/{}", port.container, port.protocol.word());
    let host = |port: &engine::PortBinding| SocketAddr::new(port.address, port.host);
    let Some(one) = &args.port else {
        ports.iter().try_for_each(|port| ui::line(&format!("{} -> {}", key(port), host(port))))?;
        return Ok(0);
    };
    let wanted = format!("{}/{}", one.container, one.protocol.word());
    let mut found = ports.iter().filter(|port| key(port) == wanted).peekable();
    if found.peek().is_none() {
        ui::error(&format!("port {wanted} of container `{}` is not published", args.name));
        return Ok(1);
    }
    found.try_for_each(|port| ui::line(&host(port).to_string()))?;
    Ok(0)
}

/// Every network is tried; those that could not be removed are told one by one.
fn remove(root: Option<PathBuf>, args: &NetworkRmArgs) -> Outcome {
    let engine = open(root)?;
    let mut code = 0;
    for name in &args.names {
        match engine.remove_network(name) {
            Ok(_) => ui::line(name)?,
            Err(engine::Error::Store(error)) if args.force && error.is_missing_network() => {}
            Err(error) => code = Failure::from(error).tell(),
        }
    }
    Ok(code)
}
