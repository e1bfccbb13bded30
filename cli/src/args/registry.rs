//! The commands that speak to registries.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use engine::{LayerCompression, Platform};

use super::lent;

/// Download images from a registry
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage pull debian:bookworm                     from Docker Hub, or the mirror that config.toml names for it
  dunnage pull registry.example:5000/team/app      the tag latest
  dunnage pull --platform linux/arm64 alpine       the image of another architecture
  dunnage pull -a registry.example:5000/team/app   all tags

The exit code is 1 when there is no such image or it is denied, 3 when the registry cannot be reached.")]
pub(crate) struct PullArgs {
    /// All tags of the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Of an image for several platforms, this one [default: this machine's]
    #[arg(long, value_name = "PLATFORM", value_parser = lent::platform)]
    pub(crate) platform: Option<Platform>,
    /// Print nothing but the names of the images
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Name, with a tag or a digest
    #[arg(required = true, value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) names: Vec<String>,
}

/// Upload images to a registry
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage push registry.example:5000/team/app:1    one name
  dunnage push -a registry.example:5000/team/app   all tags that the store has
  dunnage push --compression zstd:9 r.example/app  smaller layers, for registries' newer clients

The exit code is 1 when the registry denies it, 3 when it cannot be reached.")]
pub(crate) struct PushArgs {
    /// All tags that the store has of these repositories
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// How layers are packed, as gzip, zstd or uncompressed, with :LEVEL [default: as the registry has them, else gzip]
    #[arg(long, value_name = "KIND", value_parser = compression)]
    pub(crate) compression: Option<LayerCompression>,
    /// Print nothing but the names that were pushed
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Names of images
    #[arg(required = true, value_name = "NAME[:TAG]")]
    pub(crate) names: Vec<String>,
}

fn compression(text: &str) -> Result<LayerCompression, String> {
    let (kind, level) = match text.split_once(':') {
        Some((kind, level)) => (kind, Some(level.parse().map_err(|_| format!("`{level}` is no level"))?)),
        None => (text, None),
    };
    match (kind, level) {
        ("gzip", level) => LayerCompression::gzip(level).ok_or_else(|| "levels of gzip are 0 to 9".to_owned()),
        ("zstd", level) => LayerCompression::zstd(level).ok_or_else(|| "levels of zstd are 1 to 22".to_owned()),
        ("uncompressed" | "none", None) => Ok(LayerCompression::None),
        ("uncompressed" | "none", Some(_)) => Err("what is not compressed has no level".to_owned()),
        _ => Err(format!("`{kind}` is not known: gzip, zstd and uncompressed are")),
    }
}

/// Log in to a registry
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage login registry.example:5000                                          asks for user and password
  pass show registry | dunnage login -u me --password-stdin registry.example   from a program

The registry is asked before anything is kept. The credential goes to the helper that docker's config.json names, else into
that file.")]
pub(crate) struct LoginArgs {
    /// User
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Password; others see it in the list of processes, so prefer --password-stdin
    #[arg(short, long, value_name = "PASSWORD")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password")]
    pub(crate) password_stdin: bool,
    /// Host of the registry, and port where it has one [default: Docker Hub]
    #[arg(default_value = "")]
    pub(crate) server: String,
}

/// Log out of a registry
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// Host of the registry, and port where it has one [default: Docker Hub]
    #[arg(default_value = "")]
    pub(crate) server: String,
}

/// Look for images at a registry
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage search alpine                            at Docker Hub
  dunnage search registry.example:5000/team        at another; one that does not search is asked for the list of all that it has
  dunnage search --filter stars=100 --filter is-official=true --limit 5 web

The exit code is 1 when the registry neither searches nor lists, 3 when it cannot be reached.")]
pub(crate) struct SearchArgs {
    /// Only what fits: stars=NUMBER or is-official=true|false
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = search_filter)]
    pub(crate) filter: Vec<SearchFilter>,
    /// Most results, 1 to 100
    #[arg(long, value_name = "NUMBER", default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) limit: u16,
    /// Print whole descriptions
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// `json`, or a template such as '{{.Name}}: {{.Description}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// What to look for, after a registry's host where it is not Docker Hub
    #[arg(value_name = "[HOST/]TERM")]
    pub(crate) term: String,
}

/// What a result has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchFilter {
    /// So many stars at least.
    Stars(u64),
    /// One of docker's own, or not.
    Official(bool),
}

fn search_filter(text: &str) -> Result<SearchFilter, String> {
    match text.split_once('=') {
        Some(("stars", value)) => value.parse().map(SearchFilter::Stars).map_err(|_| format!("`{value}` is no number")),
        Some(("is-official", value)) => {
            value.parse().map(SearchFilter::Official).map_err(|_| format!("`{value}` is neither true nor false"))
        }
        _ => Err(format!("`{text}` is not known: stars=NUMBER and is-official=true|false are")),
    }
}

/// Be a registry
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum RegistryCommand {
    /// Serve the images of the store, and take images that are pushed
    Serve(ServeArgs),
}

/// Serve the images of the store, and take images that are pushed
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage registry serve                              for this machine: docker pull localhost:5000/app
  dunnage registry serve --addr 0.0.0.0:5000 --htpasswd users --tls-cert server.crt --tls-key server.key
  htpasswd -Bc users me                               a file of users; it is read again when it changes
  dunnage registry serve --read-only                  nothing can be pushed or removed

A repository is the image of that name in the store: HOST:PORT/app:1 is `dunnage run app:1`, and HOST:PORT/ghcr.io/x/y is
ghcr.io/x/y. What is pushed can be run at once. The first signal lets requests under way end; the exit code is 0 then.")]
pub(crate) struct ServeArgs {
    /// Address and port to listen on; port 0 is any that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000", value_parser = address)]
    pub(crate) addr: SocketAddr,
    /// Users who may: a file of `htpasswd -B` [default: everybody]
    #[arg(long, value_name = "FILE")]
    pub(crate) htpasswd: Option<PathBuf>,
    /// Certificate in PEM, followed by those between it and its authority
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Key of the certificate in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Take no pushes and remove nothing
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Print nothing but where it listens
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `localhost:5000`, `[::1]:5000`, or `:5000` for all addresses.
fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let bad = |_| format!("`{text}` is no address: it has to be like 127.0.0.1:5000");
    let mut found = whole.to_socket_addrs().map_err(bad)?;
    found.next().ok_or_else(|| format!("`{text}` has no address"))
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    /// Also when it is here
    Always,
    /// When it is not here
    Missing,
    /// Never
    Never,
}

impl From<Pull> for engine::PullPolicy {
    fn from(pull: Pull) -> engine::PullPolicy {
        match pull {
            Pull::Always => engine::PullPolicy::Always,
            Pull::Missing => engine::PullPolicy::Missing,
            Pull::Never => engine::PullPolicy::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port() {
        assert_eq!(address("127.0.0.1:5000").map(|address| address.port()), Ok(5000));
        assert_eq!(address(":80").map(|address| address.to_string()), Ok("0.0.0.0:80".to_owned()));
        assert!(address("127.0.0.1").is_err() && address("5000").is_err() && address("").is_err());
    }

    #[test]
    fn compressions_have_levels_of_their_own() {
        assert_eq!(compression("gzip"), Ok(LayerCompression::Gzip(4)));
        assert_eq!(compression("zstd:19"), Ok(LayerCompression::Zstd(19)));
        assert_eq!(compression("uncompressed"), Ok(LayerCompression::None));
        for bad in ["gzip:10", "zstd:0", "uncompressed:1", "xz", "gzip:x"] {
            assert!(compression(bad).is_err(), "{bad}");
        }
    }
}
