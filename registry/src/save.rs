//! Writing images: a docker archive, or an OCI layout as a directory or a tar.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use cache::{Digest, Image, Layer, Lease, MediaType, OutputFile, Reference, Store, failpoint};

use crate::documents::DockerImage;
use crate::error::{Error, Result};
use crate::index::{BuiltImage, ImagePart, write_layout};
use crate::packing::{PackError, Tally, pack};

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArchiveFormat {
    /// `docker save`'s: what `docker load` reads.
    #[default]
    Docker,
    /// An OCI layout.
    Oci,
}

/// The level of gzip where none is asked for: as small as others' level 6, in half the time.
const GZIP: u32 = 4;

/// How layers are packed in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerCompression {
    /// As they are.
    #[default]
    None,
    /// gzip, level 0 to 9.
    Gzip(u32),
    /// zstd, level 1 to 22.
    Zstd(i32),
}

impl LayerCompression {
    /// gzip at a level; `None` for one that there is not.
    pub fn gzip(level: Option<u32>) -> Option<LayerCompression> {
        Some(level.unwrap_or(GZIP)).filter(|level| *level <= 9).map(LayerCompression::Gzip)
    }

    /// zstd at a level; `None` for one that there is not.
    pub fn zstd(level: Option<u32>) -> Option<LayerCompression> {
        let level = Some(level.unwrap_or(3)).filter(|level| (1..=22).contains(level));
        level.and_then(|level| i32::try_from(level).ok()).map(LayerCompression::Zstd)
    }

    /// What archives of this format have when nothing is asked for.
    pub fn usual(format: ArchiveFormat) -> LayerCompression {
        match format {
            ArchiveFormat::Docker => LayerCompression::None,
            ArchiveFormat::Oci => LayerCompression::Gzip(GZIP),
        }
    }

    /// What layers are pushed as when nothing is asked for and nothing is known of them.
    pub(crate) const PUSHED: LayerCompression = LayerCompression::Gzip(GZIP);

    pub(crate) fn media_type(self) -> MediaType {
        match self {
            LayerCompression::None => MediaType::OciLayer,
            LayerCompression::Gzip(_) => MediaType::OciLayerGzip,
            LayerCompression::Zstd(_) => MediaType::OciLayerZstd,
        }
    }
}

/// How images are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveOptions {
    /// The kind of archive.
    pub format: ArchiveFormat,
    /// How its layers are packed.
    pub compression: LayerCompression,
}

impl From<ArchiveFormat> for SaveOptions {
    fn from(format: ArchiveFormat) -> Self {
        SaveOptions { format, compression: LayerCompression::usual(format) }
    }
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
    options: &SaveOptions,
    out: &mut dyn Write,
) -> Result<()> {
    let mut sink = TarSink { tar: tar::Builder::new(out), written: BTreeSet::new() };
    write_images(store, lease, images, options, &mut sink)?;
    sink.tar.finish().map_err(Error::write("the archive"))
}

/// Writes images as an OCI layout directory; one that is there already gets these images too.
///
/// # Errors
/// When a layer is missing or damaged, or the disk fails.
pub fn save_directory(
    store: &Store,
    lease: &Lease,
    images: &[NamedImage],
    compression: LayerCompression,
    directory: &Path,
) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(Error::write(directory))?;
    let options = SaveOptions { format: ArchiveFormat::Oci, compression };
    write_images(store, lease, images, &options, &mut DirectorySink { directory: directory.to_owned() })
}

/// Writes an image with all that is said of it as the tar of an OCI layout.
///
/// # Errors
/// When a layer is missing or damaged, or the output fails.
pub fn save_built(
    store: &Store,
    lease: &Lease,
    image: &BuiltImage,
    compression: LayerCompression,
    out: &mut dyn Write,
) -> Result<()> {
    let mut sink = TarSink { tar: tar::Builder::new(out), written: BTreeSet::new() };
    write_layout(store, lease, compression, &mut sink, std::slice::from_ref(image))?;
    sink.tar.finish().map_err(Error::write("the archive"))
}

/// The same as a directory.
///
/// # Errors
/// When a layer is missing or damaged, or the disk fails.
pub fn save_built_directory(
    store: &Store,
    lease: &Lease,
    image: &BuiltImage,
    compression: LayerCompression,
    directory: &Path,
) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(Error::write(directory))?;
    let mut sink = DirectorySink { directory: directory.to_owned() };
    write_layout(store, lease, compression, &mut sink, std::slice::from_ref(image))
}

/// Where files of an archive go.
pub(crate) trait Sink {
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
        // A reader of the layout never sees half a file.
        let mut file = OutputFile::create(&path)?;
        failpoint("layout.write")?;
        io::copy(content, &mut file).map_err(Error::write(&path))?;
        Ok(file.commit()?)
    }
}

fn write_images(
    store: &Store,
    lease: &Lease,
    images: &[NamedImage],
    options: &SaveOptions,
    sink: &mut dyn Sink,
) -> Result<()> {
    match options.format {
        ArchiveFormat::Docker => docker(store, lease, images, options.compression, sink),
        ArchiveFormat::Oci => {
            let plain = |named: &NamedImage| BuiltImage {
                names: named.names.clone(),
                parts: vec![ImagePart::plain(named.image.clone())],
                ..BuiltImage::default()
            };
            let images: Vec<BuiltImage> = images.iter().map(plain).collect();
            write_layout(store, lease, options.compression, sink, &images)
        }
    }
}

pub(crate) fn layers(store: &Store, lease: &Lease, image: &Image) -> Result<Vec<Layer>> {
    image
        .layers
        .iter()
        .map(|id| Ok(store.layer(lease, id)?.ok_or_else(|| cache::Error::LayerNotFound(id.clone()))?))
        .collect()
}

pub(crate) fn config_bytes(store: &Store, image: &Image) -> Result<Vec<u8>> {
    store.image_bytes(&image.id)?.ok_or_else(|| Error::Missing(image.id.to_string()))
}

/// Writes a layer to a draft, so that its size is known before it goes into a tar.
pub(crate) fn spool(
    store: &Store,
    lease: &Lease,
    layer: &Layer,
    compression: LayerCompression,
) -> Result<(PathBuf, Digest, u64)> {
    let path = lease.draft();
    failpoint("save.spool")?;
    let file = File::create_new(&path).map_err(Error::write(&path))?;
    let mut out = io::BufWriter::with_capacity(1 << 20, file);
    let mut tally = Tally::default();
    let packed = pack(
        compression,
        1,
        |to| store.export_layer(layer, to),
        |bytes| {
            tally.update(&bytes);
            out.write_all(&bytes)
        },
    );
    match packed {
        Ok(()) => {}
        Err(PackError::Source(error)) => return Err(error.into()),
        Err(PackError::Sink(error)) => return Err(Error::write(&path)(error)),
    }
    out.flush().map_err(Error::write(&path))?;
    Ok((path, tally.digest()?, tally.size))
}

fn docker(
    store: &Store,
    lease: &Lease,
    images: &[NamedImage],
    compression: LayerCompression,
    sink: &mut dyn Sink,
) -> Result<()> {
    let mut manifest = Vec::new();
    for named in images {
        let mut paths = Vec::new();
        for layer in layers(store, lease, &named.image)? {
            let name = format!("blobs/sha256/{}", layer.diff_id.hex());
            if !sink.has(&name) {
                let (path, _, size) = spool(store, lease, &layer, compression)?;
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

pub(crate) fn send(sink: &mut dyn Sink, name: &str, size: u64, path: &Path) -> Result<()> {
    let mut file = File::open(path).map_err(Error::read(path))?;
    sink.file(name, size, &mut file)?;
    std::fs::remove_file(path).map_err(Error::write(path))
}

pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn json(name: &str, value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::document(name, error))
}
