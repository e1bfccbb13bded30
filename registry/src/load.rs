//! Reading images: a docker archive or an OCI layout, told apart by content, in whatever order their entries come.
//!
//! Entries are spooled into the lease's drafts first: a stream cannot seek, and a document may come after what it names.
//! Where both formats are in one archive (docker writes both) the docker side is read, which has the names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use cache::{
    Compressed, Descriptor, DiffId, Digest, Image, ImportOptions, Lease, Limits, Platform, Reference, Store, failpoint,
};

use crate::documents::{DOCUMENT_LIMIT, DockerImage, FULL_NAME, Index, Manifest, REF_NAME};
use crate::error::{Error, Result};

/// Most entries of an archive.
const ENTRY_LIMIT: usize = 100_000;
/// Deepest nesting of indexes.
const INDEX_DEPTH: usize = 4;

/// An image that was read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The names that it has now.
    pub names: Vec<Reference>,
}

/// Reads a tar, compressed or not.
///
/// # Errors
/// When it is no image archive, or anything in it is not what its digest says.
pub fn load(store: &Store, lease: &Lease, input: impl Read + Send) -> Result<Vec<Loaded>> {
    let (_, plain) = cache::decompress(input)?;
    let files = Spool::fill(plain, lease)?;
    load_from(store, lease, &Files::Spool(files))
}

/// Reads an OCI layout directory.
///
/// # Errors
/// As [`load`].
pub fn load_directory(store: &Store, lease: &Lease, directory: &Path) -> Result<Vec<Loaded>> {
    load_from(store, lease, &Files::Directory(cache::TreeRoot::open(directory)?))
}

/// Which image of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutImage {
    /// The one tagged `latest`, or the only one.
    Default,
    /// The one with this tag.
    Tag(String),
    /// The one with this manifest.
    Digest(Digest),
}

/// Reads one image of an OCI layout directory and gives it no name.
///
/// # Errors
/// As [`load`], and when the layout has no such image.
pub fn load_layout_image(store: &Store, lease: &Lease, directory: &Path, wanted: &LayoutImage) -> Result<Image> {
    let root = cache::TreeRoot::open(directory)?;
    let files = Files::Directory(root);
    let bytes = files.document("index.json")?.ok_or(Error::NotAnArchive)?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| Error::document("index.json", error))?;
    let tagged = |descriptor: &Descriptor, tag: &str| {
        let names = [REF_NAME, FULL_NAME].map(|name| descriptor.annotations.get(name).map(String::as_str));
        names.into_iter().flatten().any(|name| name == tag || name.ends_with(&format!(":{tag}")))
    };
    let found = match wanted {
        LayoutImage::Digest(digest) => index.manifests.iter().find(|descriptor| descriptor.digest == *digest),
        LayoutImage::Tag(tag) => index.manifests.iter().find(|descriptor| tagged(descriptor, tag)),
        LayoutImage::Default => match index.manifests.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|descriptor| tagged(descriptor, "latest")),
        },
    };
    let missing = || {
        let what = match wanted {
            LayoutImage::Default => "tagged `latest`, and not just one".to_owned(),
            LayoutImage::Tag(tag) => format!("tagged `{tag}`"),
            LayoutImage::Digest(digest) => format!("with the manifest {digest}"),
        };
        Error::document("index.json", format!("it has no image {what}"))
    };
    let mut descriptor = found.ok_or_else(missing)?.clone();
    for _ in 0..INDEX_DEPTH {
        let bytes = files.blob(&descriptor)?;
        if !descriptor.media_type.is_index() {
            return Ok(oci_image(store, lease, &files, &bytes, None)?.image);
        }
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| Error::document("index", error))?;
        if index.layers.is_some() {
            return Err(Error::document("index", "an index must not have layers"));
        }
        descriptor = choose(&index.manifests)?.clone();
    }
    Err(Error::document("index", "indexes are nested too deeply"))
}

/// The files of an archive by name.
enum Files {
    Spool(Spool),
    Directory(cache::TreeRoot),
}

impl Files {
    fn open(&self, name: &str) -> Result<Option<File>> {
        match self {
            Files::Spool(spool) => spool.open(name),
            Files::Directory(root) => match root.metadata(Path::new(name), cache::Follow::Yes)? {
                Some(_) => Ok(Some(root.open_file(Path::new(name))?)),
                None => Ok(None),
            },
        }
    }

    fn need(&self, name: &str) -> Result<File> {
        self.open(name)?.ok_or_else(|| Error::Missing(name.chars().take(200).collect()))
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.open(name)? {
            Some(file) => bounded(file, name).map(Some),
            None => Ok(None),
        }
    }

    /// A blob that is small enough to be a document, checked against its descriptor.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = bounded(self.need(&blob_name(&descriptor.digest))?, &descriptor.digest.to_string())?;
        let found = Digest::sha256_of(&bytes);
        if found != descriptor.digest {
            return Err(cache::Error::DigestMismatch { expected: descriptor.digest.clone(), found }.into());
        }
        if bytes.len() as u64 != descriptor.size {
            return Err(Error::document(descriptor.digest.to_string(), "its size is not what its descriptor says"));
        }
        Ok(bytes)
    }
}

fn bounded(file: File, name: &str) -> Result<Vec<u8>> {
    failpoint("load.document")?;
    let mut bytes = Vec::new();
    file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(Error::read(name))?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(Error::document(name, format!("it is larger than {} MiB", DOCUMENT_LIMIT >> 20)));
    }
    Ok(bytes)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// The entries of a tar, each in a draft of its own.
struct Spool {
    files: BTreeMap<String, PathBuf>,
    links: BTreeMap<String, String>,
}

impl Spool {
    fn fill(input: impl Read, lease: &Lease) -> Result<Spool> {
        let mut spool = Spool { files: BTreeMap::new(), links: BTreeMap::new() };
        let mut archive = tar::Archive::new(input);
        let not_a_tar = |error: std::io::Error| Error::NotATar(error.to_string());
        for entry in archive.entries().map_err(not_a_tar)? {
            let mut entry = entry.map_err(not_a_tar)?;
            if spool.files.len() + spool.links.len() >= ENTRY_LIMIT {
                return Err(Error::NotATar(format!("it has more than {ENTRY_LIMIT} entries")));
            }
            let name = normal(&String::from_utf8_lossy(&entry.path_bytes()));
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry
                    .link_name_bytes()
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                    .unwrap_or_default();
                let base = if kind.is_symlink() { name.rsplit_once('/').map_or("", |(base, _)| base) } else { "" };
                spool.links.insert(name.clone(), normal(&format!("{base}/{target}")));
            } else if kind.is_file() {
                let path = lease.draft();
                failpoint("load.spool")?;
                let mut file = File::create_new(&path).map_err(Error::write(&path))?;
                let size = entry.size();
                std::io::copy(&mut entry, &mut file).map_err(|error| {
                    match cache::Error::at("write", &path, error) {
                        cache::Error::Path { source, .. } => Error::NotATar(source.to_string()),
                        full => Error::Store(full.needing(size)),
                    }
                })?;
                spool.files.insert(name, path);
            }
        }
        Ok(spool)
    }

    fn open(&self, name: &str) -> Result<Option<File>> {
        let mut name = normal(name);
        // Docker writes a layer that several images share once, and links to it.
        for _ in 0..16 {
            if let Some(path) = self.files.get(&name) {
                return File::open(path).map(Some).map_err(Error::read(path));
            }
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// A name inside the archive: no `.`, `..` clamped. It is a key of a map and never a path of the host.
fn normal(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn load_from(store: &Store, lease: &Lease, files: &Files) -> Result<Vec<Loaded>> {
    if let Some(bytes) = files.document("manifest.json")? {
        let images: Vec<DockerImage> =
            serde_json::from_slice(&bytes).map_err(|error| Error::document("manifest.json", error))?;
        return images.iter().map(|image| docker_image(store, lease, files, image)).collect();
    }
    if let Some(bytes) = files.document("index.json")? {
        let mut loaded = Vec::new();
        oci_index(store, lease, files, &bytes, None, INDEX_DEPTH, &mut loaded)?;
        return Ok(loaded);
    }
    Err(Error::NotAnArchive)
}

fn docker_image(store: &Store, lease: &Lease, files: &Files, image: &DockerImage) -> Result<Loaded> {
    let config = bounded(files.need(&image.config)?, &image.config)?;
    let parsed = Image::from_bytes(&config)?;
    if parsed.layers.len() != image.layers.len() {
        return Err(Error::document(
            "manifest.json",
            format!("it has {} layers and the configuration {}", image.layers.len(), parsed.layers.len()),
        ));
    }
    let source = |name| Ok(Source { file: files.need(name)?, compressed: None });
    let sources = image.layers.iter().map(|name| source(name)).collect::<Result<Vec<Source>>>()?;
    failpoint("load.image")?;
    import_layers(store, lease, &parsed.layers, sources)?;
    let names =
        image.repo_tags.iter().flatten().map(|name| Ok(name.parse::<Reference>()?)).collect::<Result<Vec<_>>>()?;
    let image = store.put_image_bytes(lease, &config, &names)?;
    Ok(Loaded { image, names })
}

/// A layer as the archive holds it.
pub(crate) struct Source {
    pub(crate) file: File,
    /// What its descriptor says; a docker archive has none.
    pub(crate) compressed: Option<Compressed>,
}

/// Layers unpack side by side: none needs the one below it. What they must be is checked on the way; a layer that is there
/// already is not read.
pub(crate) fn import_layers(store: &Store, lease: &Lease, ids: &[DiffId], sources: Vec<Source>) -> Result<()> {
    failpoint("load.layers")?;
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let queue = std::sync::Mutex::new(ids.iter().zip(sources));
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                let Some((id, source)) = next else { return Ok(()) };
                if store.layer(lease, id)?.is_none() {
                    let diff_id = Some(id.clone());
                    let options = ImportOptions { diff_id, compressed: source.compressed, limits: Limits::default() };
                    store.import_layer_with(lease, source.file, &options)?;
                }
            }
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(Error::NotATar("a reader stopped".to_owned()))))
    })
}

fn oci_index(
    store: &Store,
    lease: &Lease,
    files: &Files,
    bytes: &[u8],
    name: Option<Reference>,
    depth: usize,
    loaded: &mut Vec<Loaded>,
) -> Result<()> {
    let index: Index = serde_json::from_slice(bytes).map_err(|error| Error::document("index", error))?;
    if index.layers.is_some() {
        return Err(Error::document("index", "an index must not have layers"));
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Error::document("index", "indexes are nested too deeply"));
    };
    let top = name.is_none();
    let chosen: Vec<&Descriptor> = if top { index.manifests.iter().collect() } else { vec![choose(&index.manifests)?] };
    for descriptor in chosen {
        let own = reference_of(descriptor)?;
        let name = own.or_else(|| name.clone());
        let bytes = files.blob(descriptor)?;
        if descriptor.media_type.is_index() {
            let name = name.or_else(|| "image".parse().ok());
            oci_index(store, lease, files, &bytes, name, depth, loaded)?;
        } else {
            loaded.push(oci_image(store, lease, files, &bytes, name)?);
        }
    }
    Ok(())
}

/// The entry for this machine; attestations and the like have a platform that is none.
fn choose(manifests: &[Descriptor]) -> Result<&Descriptor> {
    let host = Platform::host();
    let fits = |descriptor: &&Descriptor| {
        descriptor
            .platform
            .as_ref()
            .is_none_or(|platform| platform.os == host.os && platform.architecture == host.architecture)
    };
    manifests.iter().find(fits).ok_or_else(|| Error::NoPlatform(host.to_string()))
}

/// The whole name where a tool wrote it; a lone tag names nothing.
fn reference_of(descriptor: &Descriptor) -> Result<Option<Reference>> {
    let text = descriptor
        .annotations
        .get(FULL_NAME)
        .or_else(|| descriptor.annotations.get(REF_NAME).filter(|text| text.contains([':', '/'])));
    match text {
        Some(text) => Ok(Some(text.parse()?)),
        None => Ok(None),
    }
}

fn oci_image(store: &Store, lease: &Lease, files: &Files, bytes: &[u8], name: Option<Reference>) -> Result<Loaded> {
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| Error::document("manifest", error))?;
    if manifest.manifests.is_some() {
        return Err(Error::document("manifest", "a manifest must not have manifests"));
    }
    let config = files.blob(&manifest.config)?;
    let parsed = Image::from_bytes(&config)?;
    if parsed.layers.len() != manifest.layers.len() {
        return Err(Error::document(
            "manifest",
            format!("it has {} layers and the configuration {}", manifest.layers.len(), parsed.layers.len()),
        ));
    }
    let mut sources = Vec::new();
    for descriptor in &manifest.layers {
        if !descriptor.media_type.is_layer() {
            return Err(Error::document(
                "manifest",
                format!("layers of type {} are not supported", descriptor.media_type),
            ));
        }
        let file = files.need(&blob_name(&descriptor.digest))?;
        let compressed = Compressed { digest: descriptor.digest.clone(), size: descriptor.size };
        sources.push(Source { file, compressed: Some(compressed) });
    }
    import_layers(store, lease, &parsed.layers, sources)?;
    let names: Vec<Reference> = name.into_iter().collect();
    let image = store.put_image_bytes(lease, &config, &names)?;
    Ok(Loaded { image, names })
}
