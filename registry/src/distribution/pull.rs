//! Pulling: a plan of what an image needs and what of it is here, then the layers side by side, each verified, unpacked and
//! written in one pass while it comes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use cache::{
    Compressed, Descriptor, DiffId, Digest, Image, ImportOptions, Lease, Limits, MediaType, Platform, Reference, Store,
};

use super::blob::{Slot, taken};
use super::ranges::read_blob;
use super::refusal::Cause;
use super::repository::{RemoteManifest, Repository, wanted};
use super::{BlobState, Client, TransferEvent};
use crate::documents::{Document, Manifest};
use crate::error::{Error, Result};

/// Deepest nesting of indexes.
const INDEX_DEPTH: usize = 4;
/// Most bytes of an image configuration.
const CONFIG_LIMIT: u64 = 8 << 20;
/// Hexadecimal digits by which blobs are called.
const SHORT: usize = 12;

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Of an index, the image for this platform; this machine's when absent.
    pub platform: Option<Platform>,
}

/// An image that was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// The digest of what the name stands for at the registry: of the index, where it is one.
    pub digest: Digest,
    /// It was here already, under this name.
    pub up_to_date: bool,
}

/// An image as a registry has it, with nothing of it here.
#[derive(Debug, Clone)]
pub struct RemoteImage {
    /// What the name stands for.
    pub top: RemoteManifest,
    /// The image's own manifest.
    pub manifest: RemoteManifest,
    /// Its configuration.
    pub image: Image,
    /// Its layers as they are packed.
    pub layers: Vec<Descriptor>,
    config: Vec<u8>,
}

impl RemoteImage {
    /// Bytes of its configuration.
    pub(super) fn config_size(&self) -> usize {
        self.config.len()
    }
}

/// Pulls an image and gives it the name, and its name by digest.
///
/// # Errors
/// When the registry does not give it, it is not what its digests say, or the disk fails.
pub fn pull(
    client: &Client,
    store: &Store,
    lease: &Lease,
    reference: &Reference,
    options: &PullOptions,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<Pulled> {
    let doing = format!("pull {}", reference.familiar());
    let repositories = client.repositories(reference, &doing)?;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    if let Some(pulled) = present(store, lease, reference, &repositories, &platform)? {
        return Ok(pulled);
    }
    let (repository, remote) = first_that_has(&repositories, reference, &platform, events)?;
    let own = repositories.last().unwrap_or(repository);
    fetch_layers(client, store, lease, [repository, own], &remote, events)?;
    for document in [&remote.top, &remote.manifest] {
        put_blob(store, lease, &document.bytes)?;
    }
    let digest = remote.top.digest.clone();
    let mut names = vec![reference.with_digest(&digest)];
    if reference.digest().is_none() {
        names.push(reference.clone());
    }
    let image = store.put_image_bytes(lease, &remote.config, &names)?;
    for (id, descriptor) in image.layers.iter().zip(&remote.layers) {
        store.note_packing(id, descriptor, &own.place)?;
    }
    Ok(Pulled { image, digest, up_to_date: false })
}

/// Reads what a registry has under a name, and none of its layers.
///
/// # Errors
/// As [`pull`].
pub fn remote_image(client: &Client, reference: &Reference, platform: Option<&Platform>) -> Result<RemoteImage> {
    let doing = format!("inspect {}", reference.familiar());
    let repositories = client.repositories(reference, &doing)?;
    let platform = platform.cloned().unwrap_or_else(Platform::host);
    Ok(first_that_has(&repositories, reference, &platform, &|_| ())?.1)
}

/// The image, when the registry still has under the name what is here: one question to it, none for a digest.
fn present(
    store: &Store,
    lease: &Lease,
    reference: &Reference,
    repositories: &[Repository],
    platform: &Platform,
) -> Result<Option<Pulled>> {
    let digest = match reference.digest() {
        Some(digest) => digest.clone(),
        None => {
            // Something else under the name, or nothing, is for the pull to find out.
            if store.resolve(reference)?.is_none() {
                return Ok(None);
            }
            let found = repositories.iter().find_map(|repository| {
                repository.head_manifest(&wanted(reference), &repository.pull_scope()).ok().flatten()
            });
            match found {
                Some(digest) => digest,
                None => return Ok(None),
            }
        }
    };
    let Some(id) = store.resolve(&reference.with_digest(&digest))? else { return Ok(None) };
    if reference.digest().is_none() && store.resolve(reference)?.as_ref() != Some(&id) {
        return Ok(None);
    }
    let Ok(Some(image)) = store.image(&id) else { return Ok(None) };
    let fits = image.config.os == platform.os && image.config.architecture == platform.architecture;
    for layer in &image.layers {
        if store.layer(lease, layer)?.is_none() {
            return Ok(None);
        }
    }
    Ok(fits.then_some(Pulled { image, digest, up_to_date: true }))
}

/// Mirrors may lack what they mirror, or be away: the next one is asked then, the registry itself at last.
fn first_that_has<'a>(
    repositories: &'a [Repository],
    reference: &Reference,
    platform: &Platform,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<(&'a Repository, RemoteImage)> {
    let mut last = None;
    for repository in repositories {
        match resolve(repository, reference, platform) {
            Ok(remote) => return Ok((repository, remote)),
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => {
                if repository.endpoint.settings.mirror {
                    events(TransferEvent::Note(format!(
                        "the mirror {} is passed over: {error}",
                        repository.endpoint.settings.host
                    )));
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::Network("no registry was asked".to_owned())))
}

fn resolve(repository: &Repository, reference: &Reference, platform: &Platform) -> Result<RemoteImage> {
    image_of(repository, repository.manifest(&wanted(reference))?, platform)
}

/// The image that a manifest is, or that an index has for a platform.
pub(super) fn image_of(repository: &Repository, top: RemoteManifest, platform: &Platform) -> Result<RemoteImage> {
    let mut current = top.clone();
    for _ in 0..INDEX_DEPTH {
        let manifest = match &current.document {
            Document::Manifest(manifest) => Manifest::clone(manifest),
            Document::Index(index) => {
                let entry = choose(&index.manifests, platform).map_err(|cause| repository.refused(cause))?;
                let found = repository.manifest(&entry.digest.to_string())?;
                if found.bytes.len() as u64 != entry.size {
                    let reason = format!("the manifest {} has another size than the index says", entry.digest);
                    return Err(repository.refused(Cause::Invalid(reason)));
                }
                current = found;
                continue;
            }
        };
        let (config, image) = configuration(repository, &manifest).map_err(|cause| repository.refused(cause))?;
        return Ok(RemoteImage { top, manifest: current, image, layers: manifest.layers, config });
    }
    Err(repository.refused(Cause::Invalid("indexes are nested too deeply".to_owned())))
}

pub(super) fn configuration(repository: &Repository, manifest: &Manifest) -> Result<(Vec<u8>, Image), Cause> {
    let kind = &manifest.config.media_type;
    if !matches!(kind, MediaType::OciConfig | MediaType::DockerConfig) {
        return Err(Cause::Invalid(format!("it is no image of files, but an artifact of the type {kind}")));
    }
    for layer in &manifest.layers {
        if !layer.media_type.is_layer() {
            return Err(Cause::Invalid(format!("layers of the type {} are not supported", layer.media_type)));
        }
    }
    let bytes = repository.small_blob(&manifest.config, CONFIG_LIMIT, &|_| ())?;
    let image = Image::from_bytes(&bytes).map_err(|error| Cause::Invalid(error.to_string()))?;
    if image.layers.len() != manifest.layers.len() {
        let (here, there) = (manifest.layers.len(), image.layers.len());
        return Err(Cause::Invalid(format!("the manifest has {here} layers and the configuration {there}")));
    }
    Ok((bytes, image))
}

/// The entry of an index for a platform: exactly it, else what a newer machine of its kind runs too.
pub(crate) fn choose<'a>(entries: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor, Cause> {
    let rank = |entry: &Descriptor| {
        let Some(there) = &entry.platform else { return None };
        if there.os != wanted.os || there.architecture != wanted.architecture {
            return None;
        }
        match (there.variant.as_deref(), wanted.variant.as_deref()) {
            (there, wanted) if there == wanted => Some(0),
            // arm64 is v8 whether that is said or not.
            (Some("v8"), None) | (None, Some("v8")) if wanted.architecture == "arm64" => Some(0),
            (None, _) => Some(50),
            (Some(there), wanted) => {
                let number = |text: &str| text.strip_prefix('v').and_then(|text| text.parse::<u8>().ok());
                let (there, wanted) = (number(there)?, wanted.map_or(Some(u8::MAX), number)?);
                (there <= wanted).then(|| u32::from(u8::MAX - there) + 1)
            }
        }
    };
    let best = entries.iter().filter_map(|entry| Some((rank(entry)?, entry))).min_by_key(|(rank, _)| *rank);
    if let Some((_, entry)) = best {
        return Ok(entry);
    }
    let there: BTreeSet<String> = entries
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(Platform::to_string)
        .collect();
    // An index of one image that says nothing of platforms.
    match (entries, there.is_empty()) {
        ([only], true) if only.media_type.is_manifest() => Ok(only),
        _ => {
            let there = there.into_iter().collect::<Vec<_>>().join(", ");
            let there = if there.is_empty() { "none at all".to_owned() } else { there };
            Err(Cause::Invalid(format!("it has no image for {wanted}; it has {there}; choose with --platform")))
        }
    }
}

/// One layer of the plan.
struct Wanted<'a> {
    id: &'a DiffId,
    packed: &'a Descriptor,
}

fn fetch_layers(
    client: &Client,
    store: &Store,
    lease: &Lease,
    places: [&Repository; 2],
    remote: &RemoteImage,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut wanted = Vec::new();
    for (id, packed) in remote.image.layers.iter().zip(&remote.layers) {
        if !seen.insert(id) {
            continue;
        }
        let state = match store.layer(lease, id)? {
            Some(_) => BlobState::Present,
            None => {
                wanted.push(Wanted { id, packed });
                BlobState::Waiting
            }
        };
        events(TransferEvent::Blob { id: short(&packed.digest), state, size: Some(packed.size) });
    }
    let transfers = client.settings().transfers();
    // What is big begins first: the small ones fill the gaps.
    wanted.sort_by_key(|layer| layer.packed.size);
    let connections = if wanted.len() < transfers.concurrency { transfers.ranges } else { 1 };
    side_by_side(wanted, transfers.concurrency, |layer| fetch_layer(store, lease, places, &layer, connections, events))
}

/// Works off a list from its end, several at once. All are waited for before the first error is told.
pub(super) fn side_by_side<T: Send>(
    list: Vec<T>,
    together: usize,
    each: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let workers = together.min(list.len());
    let queue = Mutex::new(list);
    let failed = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let work = || -> Result<()> {
            while !failed.load(Ordering::Relaxed) {
                let Some(next) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop() else { break };
                each(next).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..workers).map(|_| threads.spawn(work)).collect();
        let ends = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::Network("a transfer stopped".to_owned()))));
        ends.collect::<Vec<_>>().into_iter().collect()
    })
}

fn fetch_layer(
    store: &Store,
    lease: &Lease,
    places: [&Repository; 2],
    layer: &Wanted<'_>,
    connections: usize,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<()> {
    let id = short(&layer.packed.digest);
    let size = Some(layer.packed.size);
    events(TransferEvent::Blob { id: id.clone(), state: BlobState::Moving, size });
    let [chosen, own] = places;
    let fetched = fetch_from(store, lease, chosen, layer, connections, &id, events);
    match fetched {
        // A mirror that has the manifest may lack a layer, or hold a damaged one.
        Err(error) if chosen.endpoint.settings.mirror && !matches!(error, Error::Cancelled) => {
            events(TransferEvent::Note(format!("{id} comes from {}: {error}", own.endpoint.settings.host)));
            fetch_from(store, lease, own, layer, connections, &id, events)?;
        }
        fetched => fetched?,
    }
    events(TransferEvent::Blob { id, state: BlobState::Done, size });
    Ok(())
}

fn fetch_from(
    store: &Store,
    lease: &Lease,
    repository: &Repository,
    layer: &Wanted<'_>,
    connections: usize,
    id: &str,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<()> {
    let slot = Slot::default();
    let tell = |count| events(TransferEvent::Bytes { id: id.to_owned(), count });
    let options = ImportOptions {
        diff_id: Some(layer.id.clone()),
        compressed: Some(Compressed { digest: layer.packed.digest.clone(), size: layer.packed.size }),
        limits: Limits::default(),
    };
    let imported = read_blob(repository, layer.packed, connections, &slot, &tell, |stream| {
        store.import_layer_with(lease, stream, &options)
    });
    match (imported, taken(&slot)) {
        (Ok(_), _) => Ok(()),
        (Err(_), Some(cause)) => Err(repository.refused(cause)),
        (Err(error), None) if error.is_environment() => Err(error.into()),
        (Err(error), None) => Err(repository.refused(Cause::Invalid(format!("layer {id}: {error}")))),
    }
}

pub(crate) fn put_blob(store: &Store, lease: &Lease, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let digest = Digest::sha256_of(bytes);
    if store.blob(&digest)?.is_none() {
        let mut writer = store.blob_writer(lease)?;
        writer.write_all(bytes).map_err(Error::write("the manifest"))?;
        writer.commit(Some(&digest))?;
    }
    Ok(())
}

pub(super) fn short(digest: &Digest) -> String {
    digest.hex().chars().take(SHORT).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::documents::descriptor;

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let entry = |text: &&str| {
            let mut entry = descriptor(MediaType::OciManifest, Digest::sha256_of(text.as_bytes()), 1);
            let mut parts = text.split('/').map(str::to_owned);
            entry.platform = Some(Platform {
                os: parts.next().unwrap(),
                architecture: parts.next().unwrap(),
                variant: parts.next(),
            });
            entry
        };
        platforms.iter().map(entry).collect()
    }

    #[test]
    fn of_an_index_the_best_that_runs_is_chosen() {
        let all =
            ["unknown/unknown", "linux/arm/v5", "linux/arm/v7", "linux/amd64", "linux/amd64/v3", "linux/arm64/v8"];
        let cases = [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v5")),
            ("linux/arm64", Some("linux/arm64/v8")),
            ("linux/riscv64", None),
        ];
        let entries = index(&all);
        for (wanted, found) in cases {
            let chosen = choose(&entries, &wanted.parse().unwrap()).ok().and_then(|entry| entry.platform.clone());
            assert_eq!(chosen.map(|platform| platform.to_string()).as_deref(), found, "{wanted}");
        }
        let error = choose(&entries, &"linux/riscv64".parse().unwrap()).unwrap_err();
        assert!(matches!(error, Cause::Invalid(text) if text.contains("linux/arm/v7") && !text.contains("unknown")));
    }
}
