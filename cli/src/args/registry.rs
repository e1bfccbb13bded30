//! The commands that speak to registries.

use clap::{Args, ValueEnum};
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
    fn compressions_have_levels_of_their_own() {
        assert_eq!(compression("gzip"), Ok(LayerCompression::Gzip(6)));
        assert_eq!(compression("zstd:19"), Ok(LayerCompression::Zstd(19)));
        assert_eq!(compression("uncompressed"), Ok(LayerCompression::None));
        for bad in ["gzip:10", "zstd:0", "uncompressed:1", "xz", "gzip:x"] {
            assert!(compression(bad).is_err(), "{bad}");
        }
    }
}
