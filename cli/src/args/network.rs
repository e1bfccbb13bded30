//! `dunnage network`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::{Args, Subcommand};

use super::networking::{alias, link_local};
use super::prune::NetworkPruneArgs;

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum NetworkCommand {
    /// Make a network
    Create(NetworkCreateArgs),
    /// List networks
    #[command(alias = "list")]
    Ls(NetworkLsArgs),
    /// Show all that is known of networks, as JSON
    Inspect(NetworkInspectArgs),
    /// Remove networks
    #[command(alias = "remove")]
    Rm(NetworkRmArgs),
    /// Remove networks that no container is on
    Prune(NetworkPruneArgs),
    /// Put a container on a network, while it runs or for its next start
    Connect(NetworkConnectArgs),
    /// Take a container off a network
    Disconnect(NetworkDisconnectArgs),
}

/// Put a container on a network, while it runs or for its next start
#[derive(Debug, Args)]
pub(crate) struct NetworkConnectArgs {
    /// Name by which others there find it; can be repeated
    #[arg(long, value_name = "NAME", value_parser = alias)]
    pub(crate) alias: Vec<String>,
    /// IPv4 address there [default: the lowest that is free]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<Ipv4Addr>,
    /// IPv6 address there
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip6: Option<Ipv6Addr>,
    /// Address besides, of 169.254.0.0/16 or fe80::/10; can be repeated
    #[arg(long, value_name = "ADDRESS", value_parser = link_local)]
    pub(crate) link_local_ip: Vec<IpAddr>,
    /// Name or id of the network
    pub(crate) network: String,
    /// Name or id of the container
    pub(crate) container: String,
}

/// Take a container off a network
#[derive(Debug, Args)]
pub(crate) struct NetworkDisconnectArgs {
    /// One that is not on it is no error
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Name or id of the network
    pub(crate) network: String,
    /// Name or id of the container
    pub(crate) container: String,
}

/// Make a network
#[derive(Debug, Args)]
#[command(after_help = "Containers on one network reach each other by name; those of other networks do not reach them.
Nothing is made on this machine before the first container comes, and nothing is left after the last one has gone.

Examples:
  dunnage network create web
  dunnage network create --subnet 10.5.0.0/24 --gateway 10.5.0.1 back
  dunnage network create --internal data        its containers reach each other and nobody else")]
pub(crate) struct NetworkCreateArgs {
    /// Only `bridge` is there
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge", value_parser = ["bridge"])]
    pub(crate) driver: String,
    /// Addresses, as 10.5.0.0/24 or fd00:5::/64; one of each kind [default: a free private one]
    #[arg(long, value_name = "NETWORK")]
    pub(crate) subnet: Vec<String>,
    /// This machine's address in a subnet [default: its first]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) gateway: Vec<IpAddr>,
    /// The part of a subnet that containers get addresses from
    #[arg(long, value_name = "NETWORK")]
    pub(crate) ip_range: Vec<String>,
    /// No way out of it, and none to this machine
    #[arg(long)]
    pub(crate) internal: bool,
    /// IPv6 addresses too
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// Shown by `inspect`, and nothing else: containers may come on any network anyway, as on docker's outside of a swarm
    #[arg(long)]
    pub(crate) attachable: bool,
    /// KEY=VALUE to find it by
    #[arg(long, value_name = "LABEL", value_parser = super::lent::named)]
    pub(crate) label: Vec<String>,
    /// Option of the driver, as com.docker.network.driver.mtu=1400
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) opt: Vec<String>,
    /// Its name
    pub(crate) name: String,
}

/// List networks
#[derive(Debug, Args)]
pub(crate) struct NetworkLsArgs {
    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// `json`, or a template such as '{{.Name}} {{.Driver}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// dangling=true|false, driver=NAME, id=PART, label=KEY[=VALUE], name=PART, type=builtin|custom
    #[arg(short, long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<NetworkFilter>,
}

/// Show all that is known of networks, as JSON
#[derive(Debug, Args)]
pub(crate) struct NetworkInspectArgs {
    /// A template such as '{{.Internal}}'
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Names or ids
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// Remove networks
#[derive(Debug, Args)]
pub(crate) struct NetworkRmArgs {
    /// A network that is not there is no error
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names or ids
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// One `--filter` of `network ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetworkFilter {
    /// An empty text, as of a variable that is not set.
    Any,
    Dangling(bool),
    Driver(String),
    Id(String),
    Label(String, Option<String>),
    Name(String),
    Custom(bool),
    /// All there are have `local`.
    Scope(String),
}

fn filter(text: &str) -> Result<NetworkFilter, String> {
    match text.split_once('=') {
        None if text.is_empty() => Ok(NetworkFilter::Any),
        Some(("dangling", "true" | "1")) => Ok(NetworkFilter::Dangling(true)),
        Some(("dangling", "false" | "0")) => Ok(NetworkFilter::Dangling(false)),
        Some(("driver", name)) => Ok(NetworkFilter::Driver(name.to_owned())),
        Some(("id", part)) => Ok(NetworkFilter::Id(part.to_owned())),
        Some(("name", part)) => Ok(NetworkFilter::Name(part.to_owned())),
        Some(("type", "custom")) => Ok(NetworkFilter::Custom(true)),
        Some(("type", "builtin")) => Ok(NetworkFilter::Custom(false)),
        Some(("scope", scope)) => Ok(NetworkFilter::Scope(scope.to_owned())),
        Some(("label", label)) => {
            let (key, value) = super::prune::label(label)?;
            Ok(NetworkFilter::Label(key, value))
        }
        _ => {
            Err("filters are dangling=true|false, driver=NAME, id=PART, label=KEY[=VALUE], name=PART, scope=local and \
                  type=builtin|custom"
                .to_owned())
        }
    }
}
