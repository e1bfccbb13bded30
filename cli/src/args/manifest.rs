//! The commands about lists of manifests.

use clap::{Args, Subcommand};

/// Put images of several platforms together under one name
#[derive(Debug, Subcommand)]
#[command(defer = true)]
#[command(after_help = "Examples:
  dunnage manifest create r.example/app:1 app:amd64 r.example/app:arm64   from the store and from registries
  dunnage manifest annotate r.example/app:1 app:arm --arch arm --variant v6
  dunnage manifest push r.example/app:1                                   with the images that the registry lacks")]
pub(crate) enum ManifestCommand {
    /// Begin a list of images, which are here or at registries
    Create(ManifestCreateArgs),
    /// Say what an image of a list is for
    Annotate(ManifestAnnotateArgs),
    /// Show a list, or a manifest at a registry
    Inspect(ManifestInspectArgs),
    /// Push a list, with the images that its registry lacks
    Push(ManifestPushArgs),
    /// Remove lists; nothing at registries changes
    Rm(ManifestRmArgs),
}

/// Begin a list of images, which are here or at registries
#[derive(Debug, Args)]
pub(crate) struct ManifestCreateArgs {
    /// Add to a list that is there
    #[arg(short, long)]
    pub(crate) amend: bool,
    /// Name of the list
    pub(crate) list: String,
    /// Images: of the store, else of their registries
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// Say what an image of a list is for
#[derive(Debug, Args)]
pub(crate) struct ManifestAnnotateArgs {
    /// Architecture, in Go's words
    #[arg(long, value_name = "NAME")]
    pub(crate) arch: Option<String>,
    /// Operating system
    #[arg(long, value_name = "NAME")]
    pub(crate) os: Option<String>,
    /// Features of the operating system
    #[arg(long, value_name = "NAME")]
    pub(crate) os_features: Vec<String>,
    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    pub(crate) os_version: Option<String>,
    /// Variant of the architecture
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,
    /// Name of the list
    pub(crate) list: String,
    /// Image of it
    pub(crate) image: String,
}

/// Show a list, or a manifest at a registry
#[derive(Debug, Args)]
pub(crate) struct ManifestInspectArgs {
    /// Name of a list, else of an image at a registry
    pub(crate) name: String,
}

/// Push a list, with the images that its registry lacks
#[derive(Debug, Args)]
pub(crate) struct ManifestPushArgs {
    /// Remove the list here when it is there
    #[arg(short, long)]
    pub(crate) purge: bool,
    /// Print nothing but the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Name of the list
    pub(crate) list: String,
}

/// Remove lists; nothing at registries changes
#[derive(Debug, Args)]
pub(crate) struct ManifestRmArgs {
    /// Names of lists
    #[arg(required = true, value_name = "LIST")]
    pub(crate) lists: Vec<String>,
}
