//! The content-addressed store: digests, blobs, layers, snapshots, images, step records, leases, pruning.
//!
//! [`Store`] is the entry; `store.rs` draws its layout. Names that come from images and archives reach the disk
//! only through [`TreeRoot`]. Processes, HTTP and Dockerfiles are not known here.
#![forbid(unsafe_code)]

mod blob;
mod builds;
mod cache_mount_layers;
mod cache_mounts;
mod check;
mod claim;
mod containers;
mod descriptor;
mod digest;
mod download;
mod error;
mod failpoint;
mod gc;
mod generation;
mod guard;
mod hosted;
mod image;
mod images;
mod index;
mod layer;
mod lease;
mod manifest_lists;
mod memory;
mod networks;
mod output;
mod owner;
mod packing;
mod quarantine;
mod record;
mod reference;
mod remote;
mod sealed;
mod shift;
mod snapshot;
mod stat_table;
mod store;
mod tree;
mod usage;
mod volumes;

pub use blob::{Blob, BlobWriter};
pub use builds::{BuildPlace, Log, LogWriter, Origin, StoredBuild};
pub use cache_mounts::{CacheMount, CacheMountInfo, CacheSharing, CacheSpec};
pub use check::{Problem, StoreCheck};
pub use claim::Claim;
pub use containers::{ContainerPlace, ContainerRecord, NewContainer};
pub use descriptor::{Descriptor, MediaType, Platform};
pub use digest::{CacheKey, DiffId, Digest, ImageId, TreeHash};
pub use download::DownloadRecord;
pub use error::{Error, Result};
#[cfg(feature = "failpoints")]
pub use failpoint::FAILPOINTS;
pub use failpoint::{FAILPOINTS_VARIABLE, arm_failpoints, failpoint};
pub use gc::{
    Budget, CachePolicy, Filters, ImagePolicy, LabelFilter, PruneOptions, Pruned, PrunedCache, PrunedImage,
    VolumePolicy,
};
pub use hosted::{Hosted, HostedBlob, HostedManifest, HostedTag, HostedWriter};
pub use image::{Empty, HealthConfig, History, Image, ImageConfig, RootFs, RunConfig};
pub use images::StoredImage;
pub use layer::archive::{Archive, extract_archive, extract_stream, open_archive};
pub use layer::compress::{Compression, decompress};
pub use layer::draft::LayerDraft;
#[doc(hidden)]
pub use layer::fuzzing;
pub use layer::import::{Compressed, ImportOptions};
pub use layer::limits::Limits;
pub use layer::members::{MEMBER_HEAD, MEMBER_TAIL, member_head};
pub use layer::settle::{Sealed, Unsettled};
pub use layer::share::{Against, Earlier, EarlierDirectory, Wanted};
pub use layer::{Committed, Layer};
pub use lease::Lease;
pub use manifest_lists::{ListContent, ListEntry, ManifestList};
pub use memory::MemoryPlace;
pub use networks::{EndpointPlace, EndpointRecord, NetworkPlace, NetworkRecord, NetworkSubnet};
pub use output::OutputFile;
pub use owner::recorded_owners;
pub use packing::Packing;
pub use record::StepRecord;
pub use reference::Reference;
pub use remote::{INLINE_RECORDS, InlineRecord, RemoteCache, RemoteLayer, RemoteRecord};
pub use shift::IdShift;
pub use snapshot::{
    CommitOptions, ContainerDirectories, Leftover, MergedTree, NextPlan, NextSnapshot, Snapshot, StorageDriver,
    TreeChange, TreeView, Writable,
};
pub use stat_table::{StatKey, StatTable};
pub use store::{Store, random_hex};
pub use tree::{Attributes, Follow, Kind, Metadata, Owner, TreeRoot};
pub use usage::{CacheUsage, ContainerUsage, ImageUsage, Part, Usage, VolumeUsage};
pub use volumes::Volume;
