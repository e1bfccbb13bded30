//! Moving bytes and images between stores: docker archives, OCI layouts and registries, both ways, and URLs.
//!
//! The formats are documents that name blobs by digest; [`read`](load) verifies every one of them, [`save`] writes
//! them in a fixed order with fixed times, so that the same images give the same bytes.
#![forbid(unsafe_code)]

mod cache_directory;
mod distribution;
mod documents;
mod error;
mod http;
mod index;
mod load;
mod packing;
mod s3;
mod save;
mod serve;
mod settings;

pub use cache_directory::CacheDirectory;
pub use distribution::{
    BlobState, Cause, Client, Credential, Credentials, Found, PullOptions, Pulled, PushOptions, Pushed, Refusal,
    RegistryCache, RemoteImage, RemoteManifest, Repository, TransferEvent, copy_manifest, pull, push, push_built,
    push_index, push_untagged, remote_entries, remote_image, wanted,
};
pub use error::{Error, Result};
pub use http::{Download, DownloadRequest, Downloaded, Http, HttpOptions, Origin, Proxies, Validators};
pub use index::{Annotations, Attestation, BuiltImage, ImagePart, package_url};
pub use load::{LayoutImage, Loaded, load, load_directory, load_layout_image};
pub use s3::{S3Cache, S3Credentials, S3Environment, S3Place};
pub use save::{
    ArchiveFormat, LayerCompression, NamedImage, SaveOptions, save, save_built, save_built_directory, save_directory,
};
pub use serve::{ServeEvent, ServeOptions, serve};
pub use settings::{CredentialFile, Lookup, Settings, SettingsFiles, TransferSettings, credential_key, read_settings};
