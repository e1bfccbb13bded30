//! `dunnage save`, `load` and `import`.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;

use cache::{DiffId, History, ImageConfig, Platform, Reference, failpoint};
pub use registry::ArchiveFormat;
use registry::{LayerCompression, NamedImage};

use crate::Engine;
use crate::containers::changed;
use crate::error::{Error, Result};
use crate::images::parse_name;
use crate::outputs::whole_file;

/// Where images are written.
pub enum SaveOutput<'a> {
    /// A tar; it appears whole or not at all.
    File(PathBuf),
    /// An OCI layout.
    Directory(PathBuf),
    /// A tar to a stream.
    Stream(&'a mut dyn Write),
}

impl std::fmt::Debug for SaveOutput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SaveOutput::File(path) => f.debug_tuple("File").field(path).finish(),
            SaveOutput::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
            SaveOutput::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// Where images are read from.
pub enum LoadInput<'a> {
    /// A tar, or an OCI layout directory.
    Path(PathBuf),
    /// A tar from a stream.
    Stream(&'a mut (dyn Read + Send)),
}

impl std::fmt::Debug for LoadInput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadInput::Path(path) => f.debug_tuple("Path").field(path).finish(),
            LoadInput::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// What is made of a root file system.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// The image's name.
    pub name: Option<String>,
    /// A remark for its history.
    pub message: Option<String>,
    /// Instructions of a Dockerfile for its configuration.
    pub changes: Vec<String>,
    /// What the files are for; this machine's platform where nothing is said.
    pub platform: Option<Platform>,
}

/// An image that was read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// `sha256:…`
    pub id: String,
    /// The names that it has now.
    pub names: Vec<String>,
}

impl Engine {
    /// Writes images, by name or id, with all they need.
    ///
    /// # Errors
    /// When there is no such image, or the output fails.
    pub fn save(&self, names: &[String], format: ArchiveFormat, output: SaveOutput<'_>) -> Result<()> {
        let lease = self.store.lease()?;
        let images = self.named_images(names)?;
        failpoint("save.images")?;
        match output {
            SaveOutput::Directory(path) => {
                if format != ArchiveFormat::Oci {
                    return Err(Error::Usage("a directory is written in the OCI format: add --format oci".to_owned()));
                }
                let compression = LayerCompression::usual(format);
                Ok(registry::save_directory(&self.store, &lease, &images, compression, &path)?)
            }
            SaveOutput::Stream(out) => {
                let mut out = BufWriter::with_capacity(1 << 20, out);
                registry::save(&self.store, &lease, &images, &format.into(), &mut out)?;
                out.flush().map_err(|error| Error::file("write", "the output", error))
            }
            SaveOutput::File(path) => {
                whole_file(&path, |out| Ok(registry::save(&self.store, &lease, &images, &format.into(), out)?))
            }
        }
    }

    /// Images in the order given; the same image under several names is written once with all of them.
    fn named_images(&self, names: &[String]) -> Result<Vec<NamedImage>> {
        let mut images: Vec<NamedImage> = Vec::new();
        for text in names {
            let image = self.find_image(text)?;
            let name = text.parse::<Reference>().ok();
            let name = match name {
                Some(name) if self.store.resolve(&name)?.as_ref() == Some(&image.id) => Some(name),
                _ => None,
            };
            match images.iter_mut().find(|known| known.image.id == image.id) {
                Some(known) => known.names.extend(name),
                None => images.push(NamedImage { image, names: name.into_iter().collect() }),
            }
        }
        Ok(images)
    }

    /// Reads the images of an archive.
    ///
    /// # Errors
    /// When it is none, or anything in it is not what its digest says.
    pub fn load(&self, input: LoadInput<'_>) -> Result<Vec<Loaded>> {
        let lease = self.store.lease()?;
        let loaded = match input {
            LoadInput::Path(path) if path.is_dir() => registry::load_directory(&self.store, &lease, &path)?,
            LoadInput::Path(path) => {
                let file = File::open(&path).map_err(|error| Error::file("read", &path, error))?;
                registry::load(&self.store, &lease, file)?
            }
            LoadInput::Stream(stream) => registry::load(&self.store, &lease, stream)?,
        };
        failpoint("load.answer")?;
        Ok(loaded
            .into_iter()
            .map(|loaded| Loaded {
                id: loaded.image.id.to_string(),
                names: loaded.names.iter().map(Reference::familiar).collect(),
            })
            .collect())
    }

    /// Makes an image of one layer from a root file system as a tar, and gives its id.
    ///
    /// # Errors
    /// When it is no tar.
    pub fn import(&self, tar: &mut (dyn Read + Send), request: &ImportRequest) -> Result<String> {
        let names = request.name.as_deref().map(parse_name).transpose()?;
        let lease = self.store.lease()?;
        let layer = self.store.import_layer(&lease, tar, None)?;
        let platform = request.platform.clone().unwrap_or_else(Platform::host);
        failpoint("import.image")?;
        let history = History {
            created_by: Some("dunnage import".to_owned()),
            comment: request.message.clone(),
            ..History::default()
        };
        let mut config = of_one_layer(platform, layer.diff_id, history);
        if !request.changes.is_empty() {
            config.config = changed(&config, &request.changes)?;
        }
        let image = self.store.put_image(&lease, &config, &names.into_iter().collect::<Vec<_>>())?;
        failpoint("import.answer")?;
        Ok(image.id.to_string())
    }
}

/// The configuration of an image of a single layer that was made at no time.
pub(crate) fn of_one_layer(platform: Platform, layer: DiffId, history: History) -> ImageConfig {
    let created = Some("1970-01-01T00:00:00Z".to_owned());
    let mut config = ImageConfig {
        created: created.clone(),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids.push(layer);
    config.history.push(History { created, ..history });
    config
}
