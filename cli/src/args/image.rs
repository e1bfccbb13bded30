//! The commands about images.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::BootstrapBase;

/// List images
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Also the digests that the images have at registries
    #[arg(long)]
    pub(crate) digests: bool,
    /// Also images without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// `json`, or a template such as '{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// dangling=true|false, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=AGE; can be repeated
    #[arg(short, long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<ImageFilter>,
    /// Only images of this name, with or without a tag; * and ? stand for parts of it
    pub(crate) name: Option<String>,
}

/// One `--filter` of `images`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageFilter {
    /// An empty text, as of a variable that is not set.
    Any,
    Dangling(bool),
    /// `*` and `?` do not cross a `/`.
    Reference(String),
    Label(String, Option<String>),
    Before(String),
    Since(String),
    /// Unix seconds.
    Until(u64),
}

fn filter(text: &str) -> Result<ImageFilter, String> {
    match text.split_once('=') {
        None if text.is_empty() => Ok(ImageFilter::Any),
        Some(("dangling", "true" | "1")) => Ok(ImageFilter::Dangling(true)),
        Some(("dangling", "false" | "0")) => Ok(ImageFilter::Dangling(false)),
        Some(("reference", pattern)) => Ok(ImageFilter::Reference(pattern.to_owned())),
        Some(("before", image)) => Ok(ImageFilter::Before(image.to_owned())),
        Some(("since", image)) => Ok(ImageFilter::Since(image.to_owned())),
        Some(("until", when)) => super::prune::until(when, jiff::Timestamp::now()).map(ImageFilter::Until),
        Some(("label", label)) => {
            let (key, value) = super::prune::label(label)?;
            Ok(ImageFilter::Label(key, value))
        }
        _ => {
            Err("filters are dangling=true|false, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE and \
                  until=AGE"
                .to_owned())
        }
    }
}

/// Give an image another name
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Name or id of the image
    pub(crate) source: String,
    /// The other name
    pub(crate) target: String,
}

/// Remove images
#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// Remove an image given by id with all its names
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Remove it from its registry, and nothing here: a tag, or by digest an image with all its tags
    #[arg(long, conflicts_with = "force")]
    pub(crate) remote: bool,
    /// Names or ids
    #[arg(required = true)]
    pub(crate) images: Vec<String>,
}

/// What `inspect` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectKind {
    Container,
    Image,
    Network,
    Volume,
}

/// Show all that is known of what has a name, as JSON
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A template such as '{{json .Config}}' or '{{.Config.User}}'
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Only what is a container, an image, a network or a volume
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<InspectKind>,
    /// Of containers, also the bytes that they wrote and that they have in all
    #[arg(short, long)]
    pub(crate) size: bool,
    /// Ask the registry, and pull nothing
    #[arg(long)]
    pub(crate) remote: bool,
    /// Of an image for several platforms, this one [default: this machine's]
    #[arg(long, value_name = "PLATFORM", value_parser = super::lent::platform, requires = "remote")]
    pub(crate) platform: Option<engine::Platform>,
    /// Names or ids
    #[arg(required = true)]
    pub(crate) images: Vec<String>,
}

/// Show how an image came to be
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print whole lines
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Sizes and times for people; false for exact ones
    #[arg(short = 'H', long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
        num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) human: bool,
    /// `json`, or a template such as '{{.CreatedBy}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Name or id
    pub(crate) image: String,
}

/// Make a base image with no registry at hand
#[derive(Debug, Args)]
#[command(after_help = "Bases:
  host              the shell and usual programs of this machine, with the libraries that they need
  busybox           a static busybox on PATH
  debian:bookworm   Debian packages, by mmdebstrap or debootstrap")]
pub(crate) struct BootstrapArgs {
    /// What to make it of
    #[arg(long, value_name = "BASE", default_value = "host", value_parser = base)]
    pub(crate) from: BootstrapBase,
    /// Name of the image
    pub(crate) name: String,
}

fn base(text: &str) -> Result<BootstrapBase, String> {
    text.parse().map_err(|error: engine::Error| error.to_string())
}

/// Make an image from a root file system in a tar
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Instruction of a Dockerfile for the configuration, as 'CMD ["app"]'; can be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Platform that the files are for [default: this machine's]
    #[arg(long, value_name = "PLATFORM", value_parser = super::lent::platform)]
    pub(crate) platform: Option<engine::Platform>,
    /// Remark for the image's history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// The tar, compressed or not; - is standard input
    pub(crate) file: PathBuf,
    /// Name of the image
    pub(crate) name: Option<String>,
}

/// Write images to an archive
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage save -o app.tar app                 an archive that docker load reads
  dunnage save --format oci -o layout/ app    an OCI layout as a directory
  dunnage save app | ssh host dunnage load    through a pipe")]
pub(crate) struct SaveArgs {
    /// File; with --format oci a directory when it ends with / or is one [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Form of the archive
    #[arg(long, value_name = "FORMAT", default_value = "docker")]
    pub(crate) format: SaveFormat,
    /// Names or ids
    #[arg(required = true)]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveFormat {
    /// What docker load reads
    Docker,
    /// An OCI layout
    Oci,
}

/// Read images from an archive
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// A tar, compressed or not, or an OCI layout directory [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Taken as docker's: it shows no progress, and none is shown anyway
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
