//! Garbage collection: mark under the shared lock, sweep under the exclusive one in short sections, delete under none.
//!
//! What living processes pinned, and what was made or used since the mark, is never removed: each section looks again
//! before it takes anything away. The files decide; the index only says how old and how large things are.

mod filter;
mod mark;
mod sweep;

pub use filter::{Budget, Filters, LabelFilter};

use crate::digest::ImageId;
use crate::error::Result;
use crate::reference::Reference;
use crate::store::Store;

/// Which images go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ImagePolicy {
    /// None.
    #[default]
    Keep,
    /// Those without a name.
    Dangling,
    /// Those that no container stands on.
    Unused,
}

/// How much of the build cache goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CachePolicy {
    /// Nothing.
    #[default]
    Keep,
    /// Layers that neither an image nor a step record has.
    Orphans,
    /// And records whose layer no image has.
    Unshared,
    /// And all other records.
    All,
}

/// Which volumes go, of those that no container has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VolumePolicy {
    /// None.
    #[default]
    Keep,
    /// Those that nobody gave a name.
    Anonymous,
    /// All.
    All,
}

/// What may go.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Stopped containers.
    pub containers: bool,
    /// Images.
    pub images: ImagePolicy,
    /// Build cache.
    pub cache: CachePolicy,
    /// Volumes.
    pub volumes: VolumePolicy,
    /// What was put aside as damaged.
    pub quarantine: bool,
    /// What of all that.
    pub filters: Filters,
    /// Where the build cache may stop.
    pub budget: Budget,
    /// Only tells what would go.
    pub dry_run: bool,
}

impl PruneOptions {
    /// Everything that nothing uses.
    pub fn everything() -> PruneOptions {
        PruneOptions {
            containers: true,
            images: ImagePolicy::Unused,
            cache: CachePolicy::All,
            volumes: VolumePolicy::Keep,
            quarantine: true,
            ..PruneOptions::default()
        }
    }
}

/// An image that went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedImage {
    /// Its id.
    pub id: ImageId,
    /// The names that it had.
    pub names: Vec<Reference>,
}

/// A record of the build cache that went, or a layer that had none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedCache {
    /// Key of the record, or hexadecimal part of the layer.
    pub id: String,
    /// The step's text; empty for a layer without a record.
    pub text: String,
    /// Bytes that went with it.
    pub bytes: u64,
    /// Unix seconds of its last use.
    pub last_used: u64,
}

/// What went.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// Stopped containers, by id.
    pub containers: Vec<String>,
    /// Volumes, by name.
    pub volumes: Vec<String>,
    /// Images.
    pub images: Vec<PrunedImage>,
    /// Build cache, the oldest first.
    pub cache: Vec<PrunedCache>,
    /// Layers.
    pub layers: u64,
    /// Bytes freed on the disk.
    pub bytes: u64,
}

impl Store {
    /// Removes what nothing uses, as far as `options` say.
    ///
    /// # Errors
    /// When the disk fails; what went before stays gone.
    pub fn prune(&self, options: &PruneOptions) -> Result<Pruned> {
        self.close_index();
        let before = self.index_bytes();
        let marked = self.mark(options)?;
        if options.dry_run {
            let mut forecast = marked.forecast(self)?;
            self.prune_cache_mounts(options, &mut forecast)?;
            return Ok(forecast);
        }
        let mut pruned = self.sweep(marked)?;
        self.prune_cache_mounts(options, &mut pruned)?;
        self.compact_index();
        // The index is on the same disk: what it grew is not free.
        pruned.bytes = (pruned.bytes + before).saturating_sub(self.index_bytes());
        Ok(pruned)
    }

    /// Cache mounts go with the whole build cache, but for those that a step uses now. No filter or budget tells them apart.
    fn prune_cache_mounts(&self, options: &PruneOptions, pruned: &mut Pruned) -> Result<()> {
        let whole = options.filters == Filters::default() && options.budget == Budget::default();
        if options.cache != CachePolicy::All || !whole {
            return Ok(());
        }
        for cache in self.cache_mounts()?.into_iter().filter(|cache| !cache.in_use) {
            let bytes = match options.dry_run {
                true => Some(cache.bytes),
                false => self.remove_cache_mount(&cache.name)?,
            };
            let Some(bytes) = bytes else { continue };
            pruned.bytes += bytes;
            let text = format!("cache mount {}", cache.id);
            pruned.cache.push(PrunedCache { id: cache.name, text, bytes, last_used: cache.used });
        }
        Ok(())
    }
}
