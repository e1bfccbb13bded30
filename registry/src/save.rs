//! Writing images: a docker archive, or an OCI layout as a directory or a tar.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use cache::{Digest, Image, Layer, Lease, MediaType, Platform, Reference, Store};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::documents::{DockerImage, FULL_NAME, Index, LAYOUT, Manifest, REF_NAME, descriptor};
use crate::error::{Error, Result};

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArchiveFormat {
    /// `docker save`'s: what `docker load` reads.
    #[default]
    Docker,
    /// An OCI layout.
    Oci,
}

/// An image and the names that it is saved under.
#[derive(Debug, Clone)]
pub struct NamedImage {
    /// The image.
    pub image: Image,
    /// Its names; none for an image given by id.
    pub names: Vec<Reference>,
}

/// Writes images as one tar.
///
/// # Errors
/// When a layer is missing or damaged, or the output fails.
pub fn save(
    store: &Store,
    lease: &Lease,
    images: &[NamedImage],
    format: ArchiveFormat,
    out: &mut dyn Write,
) -> Result<()> {
    let mut sink = TarSink { tar: tar::Builder::new(out), written: BTreeSet::new() };
    write_images(store, lease, images, format, &mut sink)?;
    sink.tar.finish().map_err(Error::write("the archive"))
}

/// Writes images as an OCI layout directory; one that is there already gets these images too.
///
/// # Errors
/// When a layer is missing or damaged, or the disk fails.
pub fn save_directory(store: &Store, lease: &Lease, images: &[NamedImage], directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(Error::write(directory))?;
    write_images(store, lease, images, ArchiveFormat::Oci, &mut DirectorySink { directory: directory.to_owned() })
}

/// Where files of an archive go.
trait Sink {
    fn has(&self, name: &str) -> bool;
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()>;

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.file(name, bytes.len() as u64, &mut &*bytes)
    }
}

struct TarSink<'a> {
    tar: tar::Builder<&'a mut dyn Write>,
    written: BTreeSet<String>,
}

impl Sink for TarSink<'_> {
    fn has(&self, name: &str) -> bool {
        self.written.contains(name)
    }

    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        self.tar.append_data(&mut header, name, content).map_err(Error::write(name))?;
        self.written.insert(name.to_owned());
        Ok(())
    }
}

struct DirectorySink {
    directory: PathBuf,
}

impl Sink for DirectorySink {
    fn has(&self, name: &str) -> bool {
        self.directory.join(name).is_file()
    }

    fn file(&mut self, name: &str, _size: u64, content: &mut dyn Read) -> Result<()> {
        let path = self.directory.join(name);
        let parent = path.parent().unwrap_or(&self.directory);
        std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
        // Made aside and renamed: a reader of the layout never sees half a file.
        let mut draft = tempfile(parent)?;
        io::copy(content, &mut draft.1).and_then(|_| draft.1.sync_all()).map_err(Error::write(&path))?;
        std::fs::rename(&draft.0, &path).map_err(Error::write(&path))
    }
}

fn tempfile(directory: &Path) -> Result<(PathBuf, File)> {
    let path = directory.join(format!(".dunnage-{}", std::process::id()));
    let file = File::create(&path).map_err(Error::write(&path))?;
    Ok((path, file))
}

fn write_images(
    store: &Store,
    lease: &Lease,
    images: &[NamedImage],
    format: ArchiveFormat,
    sink: &mut dyn Sink,
) -> Result<()> {
    match format {
        ArchiveFormat::Docker => docker(store, lease, images, sink),
        ArchiveFormat::Oci => oci(store, lease, images, sink),
    }
}

fn layers(store: &Store, lease: &Lease, image: &Image) -> Result<Vec<Layer>> {
    image
        .layers
        .iter()
        .map(|id| Ok(store.layer(lease, id)?.ok_or_else(|| cache::Error::LayerNotFound(id.clone()))?))
        .collect()
}

fn config_bytes(store: &Store, image: &Image) -> Result<Vec<u8>> {
    store.image_bytes(&image.id)?.ok_or_else(|| Error::Missing(image.id.to_string()))
}

/// Writes a layer to a draft, so that its size is known before it goes into a tar.
fn spool(store: &Store, lease: &Lease, layer: &Layer, gzip: bool) -> Result<(PathBuf, Digest, u64)> {
    let path = lease.draft();
    let file = File::create_new(&path).map_err(Error::write(&path))?;
    let mut out = Hashing { hasher: sha2_hasher(), inner: io::BufWriter::with_capacity(1 << 20, file), size: 0 };
    if gzip {
        // No name and no time in the header: the same layer gives the same bytes.
        let mut encoder = GzEncoder::new(&mut out, Compression::new(6));
        store.export_layer(layer, &mut encoder)?;
        encoder.finish().map_err(Error::write(&path))?;
    } else {
        store.export_layer(layer, &mut out)?;
    }
    out.flush().map_err(Error::write(&path))?;
    Ok((path, out.digest()?, out.size))
}

fn docker(store: &Store, lease: &Lease, images: &[NamedImage], sink: &mut dyn Sink) -> Result<()> {
    let mut manifest = Vec::new();
    for named in images {
        let mut paths = Vec::new();
        for layer in layers(store, lease, &named.image)? {
            let name = format!("blobs/sha256/{}", layer.diff_id.hex());
            if !sink.has(&name) {
                let (path, _, size) = spool(store, lease, &layer, false)?;
                send(sink, &name, size, &path)?;
            }
            paths.push(name);
        }
        let config = format!("blobs/sha256/{}", named.image.id.hex());
        if !sink.has(&config) {
            sink.bytes(&config, &config_bytes(store, &named.image)?)?;
        }
        let tags: Vec<String> = named.names.iter().map(Reference::familiar).collect();
        manifest.push(DockerImage { config, repo_tags: (!tags.is_empty()).then_some(tags), layers: paths });
    }
    sink.bytes("manifest.json", &json("manifest.json", &manifest)?)
}

fn send(sink: &mut dyn Sink, name: &str, size: u64, path: &Path) -> Result<()> {
    let mut file = File::open(path).map_err(Error::read(path))?;
    sink.file(name, size, &mut file)?;
    std::fs::remove_file(path).map_err(Error::write(path))
}

fn oci(store: &Store, lease: &Lease, images: &[NamedImage], sink: &mut dyn Sink) -> Result<()> {
    let mut manifests = Vec::new();
    for named in images {
        let manifest = oci_manifest(store, lease, named, sink)?;
        let bytes = json("manifest", &manifest)?;
        let digest = Digest::sha256_of(&bytes);
        let name = blob_name(&digest);
        if !sink.has(&name) {
            sink.bytes(&name, &bytes)?;
        }
        let mut entry = descriptor(MediaType::OciManifest, digest, bytes.len() as u64);
        let config = &named.image.config;
        entry.platform = Some(Platform {
            os: config.os.clone(),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
        });
        if named.names.is_empty() {
            manifests.push(entry.clone());
        }
        for reference in &named.names {
            let mut entry = entry.clone();
            entry.annotations.insert(REF_NAME.to_owned(), reference.tag().unwrap_or("latest").to_owned());
            entry.annotations.insert(FULL_NAME.to_owned(), reference.to_string());
            manifests.push(entry);
        }
    }
    sink.bytes("oci-layout", LAYOUT.as_bytes())?;
    let index = Index { schema_version: 2, media_type: Some(MediaType::OciIndex), manifests, layers: None };
    sink.bytes("index.json", &json("index.json", &index)?)
}

fn oci_manifest(store: &Store, lease: &Lease, named: &NamedImage, sink: &mut dyn Sink) -> Result<Manifest> {
    let mut descriptors = Vec::new();
    for layer in layers(store, lease, &named.image)? {
        let (path, digest, size) = spool(store, lease, &layer, true)?;
        let name = blob_name(&digest);
        if !sink.has(&name) {
            send(sink, &name, size, &path)?;
        }
        descriptors.push(descriptor(MediaType::OciLayerGzip, digest, size));
    }
    let config = config_bytes(store, &named.image)?;
    let digest = named.image.id.0.clone();
    let name = blob_name(&digest);
    if !sink.has(&name) {
        sink.bytes(&name, &config)?;
    }
    Ok(Manifest {
        schema_version: 2,
        media_type: Some(MediaType::OciManifest),
        config: descriptor(MediaType::OciConfig, digest, config.len() as u64),
        layers: descriptors,
        manifests: None,
    })
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn json(name: &str, value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::document(name, error))
}

/// Counts and hashes what goes through.
struct Hashing<W> {
    hasher: sha2::Sha256,
    inner: W,
    size: u64,
}

fn sha2_hasher() -> sha2::Sha256 {
    <sha2::Sha256 as sha2::Digest>::new()
}

impl<W> Hashing<W> {
    fn digest(&self) -> Result<Digest> {
        let hash = <sha2::Sha256 as sha2::Digest>::finalize(self.hasher.clone());
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("sha256:{hex}").parse()?)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        sha2::Digest::update(&mut self.hasher, bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
