//! `dunnage volume`.

use clap::{Args, Subcommand};

use super::prune::VolumePruneArgs;

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Volume {
    /// Make a volume
    Create(VolumeCreateArgs),
    /// List volumes
    #[command(alias = "list")]
    Ls(VolumeLsArgs),
    /// Show all that is known of volumes, as JSON
    Inspect(VolumeInspectArgs),
    /// Remove volumes with their data
    #[command(alias = "remove")]
    Rm(VolumeRmArgs),
    /// Remove volumes that no container has
    Prune(VolumePruneArgs),
}

/// Make a volume
#[derive(Debug, Args)]
#[command(
    after_help = "What options name is mounted when a container starts that has the volume, and is gone with it; what is in memory is one
for all containers that have it, until the last of them has ended.

Examples:
  dunnage volume create data
  dunnage volume create -o type=tmpfs -o device=tmpfs -o o=size=100m,uid=1000 cache
  dunnage volume create -o type=none -o o=bind -o device=/srv/data data
  dunnage volume create -o type=nfs -o o=addr=10.0.0.1,nfsvers=4 -o device=:/export shared"
)]
pub(crate) struct VolumeCreateArgs {
    /// KEY=VALUE to find it by
    #[arg(long, value_name = "LABEL", value_parser = super::lent::named)]
    pub(crate) label: Vec<String>,
    /// Only `local` is there
    #[arg(short, long, value_name = "DRIVER", default_value = "local", value_parser = ["local"])]
    pub(crate) driver: String,
    /// What it is in place of a directory of the store: type=, device= and o=, as of mount(8); can be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = super::run::pair)]
    pub(crate) opt: Vec<(String, String)>,
    /// Its name; one is made up when there is none
    #[arg(conflicts_with = "named")]
    pub(crate) name: Option<String>,
    /// The name, as older scripts give it
    #[arg(long = "name", value_name = "NAME", hide = true)]
    pub(crate) named: Option<String>,
}

/// List volumes
#[derive(Debug, Args)]
pub(crate) struct VolumeLsArgs {
    /// Print names only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// `json`, or a template such as '{{.Name}} {{.Mountpoint}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// dangling=true|false, driver=NAME, label=KEY[=VALUE], name=PART
    #[arg(short, long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<VolumeFilter>,
}

/// Show all that is known of volumes, as JSON
#[derive(Debug, Args)]
pub(crate) struct VolumeInspectArgs {
    /// A template such as '{{.Mountpoint}}'
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Names
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// Remove volumes with their data
#[derive(Debug, Args)]
pub(crate) struct VolumeRmArgs {
    /// A volume that is not there is no error
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// One `--filter` of `volume ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VolumeFilter {
    /// An empty text, as of a variable that is not set.
    Any,
    Dangling(bool),
    Driver(String),
    Label(String, Option<String>),
    Name(String),
}

fn filter(text: &str) -> Result<VolumeFilter, String> {
    match text.split_once('=') {
        None if text.is_empty() => Ok(VolumeFilter::Any),
        Some(("dangling", "true" | "1")) => Ok(VolumeFilter::Dangling(true)),
        Some(("dangling", "false" | "0")) => Ok(VolumeFilter::Dangling(false)),
        Some(("driver", name)) => Ok(VolumeFilter::Driver(name.to_owned())),
        Some(("name", part)) => Ok(VolumeFilter::Name(part.to_owned())),
        Some(("label", label)) => {
            let (key, value) = super::prune::label(label)?;
            Ok(VolumeFilter::Label(key, value))
        }
        _ => Err("filters are dangling=true|false, driver=NAME, label=KEY[=VALUE] and name=PART".to_owned()),
    }
}
