//! `--output`: where a build goes besides the store, or instead of it.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use builder::{Cancel, Written};
use cache::{Image, Lease, MergedTree, OutputFile, Owner, Reference, failpoint};
use registry::{ArchiveFormat, BuiltImage, LayerCompression, NamedImage};

use crate::error::{Error, Result};
use crate::images::parse_name;
use crate::{Engine, FetchOptions};

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// `type=image`: an image of the store, which is where a build goes when nothing is asked for.
    Image {
        /// Names besides those of `--tag`.
        names: Vec<Reference>,
        /// Times of files later than SOURCE_DATE_EPOCH become it.
        rewrite: bool,
    },
    /// `type=local`: the tree as files of a directory.
    Local {
        /// The directory; made when it is missing.
        directory: PathBuf,
    },
    /// `type=tar`: the tree as one tar.
    Tar {
        /// Where to.
        destination: Destination,
    },
    /// `type=oci`, and `type=docker` with a `dest`: the image as an archive that other tools load.
    Archive {
        /// Which.
        format: ArchiveFormat,
        /// Where to.
        destination: Destination,
        /// `tar=false`: an OCI layout directory.
        unpacked: bool,
        /// Names besides those of `--tag`.
        names: Vec<Reference>,
        /// How layers are packed.
        compression: LayerCompression,
        /// Times of files later than SOURCE_DATE_EPOCH become it.
        rewrite: bool,
    },
    /// `type=registry`, and `push=true` of `type=image`: the image at a registry, and not in the store for that.
    Registry {
        /// Names instead of those of `--tag`.
        names: Vec<Reference>,
        /// How layers are packed, where it is said.
        compression: Option<LayerCompression>,
        /// Times of files later than SOURCE_DATE_EPOCH become it.
        rewrite: bool,
    },
    /// `type=cacheonly`: nothing but the records of the steps.
    CacheOnly,
}

/// A file, or the stream that the caller offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Appears whole or not at all.
    File(PathBuf),
    /// Standard output.
    Stream,
}

impl Output {
    /// The image is kept under its names.
    pub fn is_image(&self) -> bool {
        matches!(self, Output::Image { .. })
    }

    /// The names that it gives to the image in the store.
    pub(crate) fn image_names(&self) -> &[Reference] {
        match self {
            Output::Image { names, .. } => names,
            _ => &[],
        }
    }

    /// `rewrite-timestamp=true`
    pub(crate) fn rewrites_times(&self) -> bool {
        matches!(
            self,
            Output::Image { rewrite: true, .. }
                | Output::Archive { rewrite: true, .. }
                | Output::Registry { rewrite: true, .. }
        )
    }

    /// It writes to the caller's stream.
    pub fn is_stream(&self) -> bool {
        matches!(
            self,
            Output::Tar { destination: Destination::Stream } | Output::Archive { destination: Destination::Stream, .. }
        )
    }
}

impl FromStr for Output {
    type Err = Error;

    fn from_str(text: &str) -> Result<Output> {
        if text == "-" {
            return Ok(Output::Tar { destination: Destination::Stream });
        }
        if text.is_empty() {
            return Err(Error::Usage("--output is an empty text: is a variable not set?".to_owned()));
        }
        if !text.contains('=') {
            return Ok(Output::Local { directory: PathBuf::from(text) });
        }
        let mut fields = Fields::parse("--output", text)?;
        let kind = fields.take("type").ok_or_else(|| fields.wrong("it needs a type, as in type=local,dest=out"))?;
        let output = match kind.as_str() {
            "local" => Output::Local { directory: fields.directory()? },
            "tar" => Output::Tar { destination: fields.destination() },
            "oci" => fields.archive(ArchiveFormat::Oci)?,
            // Docker's word for its own store, where no file is named.
            "docker" if !["dest", "tar", "compression", "compression-level"].iter().any(|key| fields.has(key)) => {
                fields.image()?
            }
            "docker" => fields.archive(ArchiveFormat::Docker)?,
            "image" => fields.image()?,
            "cacheonly" => Output::CacheOnly,
            "registry" => fields.pushed()?,
            other => {
                let known = ["local", "tar", "oci", "docker", "image", "registry", "cacheonly"];
                let help = match grammar::nearest(other, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", known.join(", ")),
                };
                return Err(fields.wrong(format!("`{other}` is no type of output: {help}")));
            }
        };
        fields.end()?;
        Ok(output)
    }
}

/// Fields whose values are for nobody's eyes.
const SECRET_FIELDS: [&str; 2] = ["secret_access_key", "session_token"];

/// The `key=value` fields of one `--output`, or of another flag that is written so.
pub(crate) struct Fields<'a> {
    flag: &'static str,
    text: &'a str,
    pairs: Vec<(String, String)>,
}

impl<'a> Fields<'a> {
    pub(crate) fn parse(flag: &'static str, text: &'a str) -> Result<Fields<'a>> {
        let mut fields = Fields { flag, text, pairs: Vec::new() };
        let split = grammar::comma_separated(text).ok_or_else(|| fields.wrong("its quotes do not match"))?;
        for field in split {
            let Some((key, value)) = field.split_once('=') else {
                return Err(fields.wrong(format!("`{field}` must be like key=value")));
            };
            fields.pairs.push((key.trim().to_lowercase(), value.to_owned()));
        }
        Ok(fields)
    }

    /// A name of an image that stands alone, as caches may be given.
    pub(crate) fn of_name(flag: &'static str, name: &'a str) -> Fields<'a> {
        let pairs = vec![("type".to_owned(), "registry".to_owned()), ("ref".to_owned(), name.to_owned())];
        Fields { flag, text: name, pairs }
    }

    /// The sentence with what was written, but for what is secret in it.
    pub(crate) fn wrong(&self, reason: impl std::fmt::Display) -> Error {
        let shown = |field: &str| match field.split_once('=') {
            Some((key, _)) if SECRET_FIELDS.contains(&key.trim_matches(['"', ' ']).to_lowercase().as_str()) => {
                format!("{key}=…")
            }
            _ => field.to_owned(),
        };
        let text = self.text.split(',').map(shown).collect::<Vec<_>>().join(",");
        Error::Usage(format!("{} {text}: {reason}", self.flag))
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == key)
    }

    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(known, _)| known == key)?;
        Some(self.pairs.remove(at).1)
    }

    fn destination(&mut self) -> Destination {
        match self.take("dest") {
            Some(path) if path != "-" => Destination::File(PathBuf::from(path)),
            _ => Destination::Stream,
        }
    }

    fn directory(&mut self) -> Result<PathBuf> {
        self.take("dest").map(PathBuf::from).ok_or_else(|| self.wrong("type=local needs dest=DIRECTORY"))
    }

    pub(crate) fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        match self.take(key).as_deref() {
            None => Ok(default),
            Some("true" | "1" | "") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(self.wrong(format!("{key}={other} is neither true nor false"))),
        }
    }

    fn names(&mut self) -> Result<Vec<Reference>> {
        self.take("name").unwrap_or_default().split(',').filter(|name| !name.is_empty()).map(parse_name).collect()
    }

    /// Words of buildx for what is so anyway: manifests are the image-spec's, and an image of the store is unpacked there.
    fn usual(&mut self) -> Result<()> {
        if !self.flag("oci-mediatypes", true)? {
            return Err(self.wrong("oci-mediatypes=false: manifests are written in the image-spec's types only"));
        }
        if !(self.flag("unpack", true)? && self.flag("store", true)?) {
            return Err(self.wrong("unpack=false and store=false: use type=cacheonly, or another type of output"));
        }
        Ok(())
    }

    fn image(&mut self) -> Result<Output> {
        self.usual()?;
        if self.flag("push", false)? {
            return self.pushed();
        }
        Ok(Output::Image { names: self.names()?, rewrite: self.flag("rewrite-timestamp", false)? })
    }

    fn pushed(&mut self) -> Result<Output> {
        self.usual()?;
        let compression = self.given_compression(ArchiveFormat::Oci)?;
        if !self.flag("push", true)? {
            return Err(self.wrong("push=false leaves nothing to do: type=image keeps the image in the store"));
        }
        let rewrite = self.flag("rewrite-timestamp", false)?;
        Ok(Output::Registry { names: self.names()?, compression, rewrite })
    }

    fn archive(&mut self, format: ArchiveFormat) -> Result<Output> {
        if format == ArchiveFormat::Oci {
            self.usual()?;
        }
        let unpacked = !self.flag("tar", true)?;
        let destination = self.destination();
        let compression = self.compression(format)?;
        if unpacked && (format == ArchiveFormat::Docker || destination == Destination::Stream) {
            return Err(self.wrong("tar=false goes with type=oci and dest=DIRECTORY"));
        }
        let rewrite = self.flag("rewrite-timestamp", false)?;
        Ok(Output::Archive { format, destination, unpacked, names: self.names()?, compression, rewrite })
    }

    /// How layers are packed, where that is said.
    pub(crate) fn given_compression(&mut self, format: ArchiveFormat) -> Result<Option<LayerCompression>> {
        let said = self.has("compression") || self.has("compression-level");
        said.then(|| self.compression(format)).transpose()
    }

    pub(crate) fn compression(&mut self, format: ArchiveFormat) -> Result<LayerCompression> {
        let level = self.take("compression-level");
        let level = level.map(|text| text.parse::<u32>().map_err(|_| self.wrong("compression-level must be a number")));
        let level = level.transpose()?;
        let named = self.take("compression");
        match (named.as_deref(), format) {
            (None, ArchiveFormat::Docker) | (Some("uncompressed"), _) => Ok(LayerCompression::None),
            (None | Some("gzip"), _) => {
                LayerCompression::gzip(level).ok_or_else(|| self.wrong("gzip has the levels 0 to 9"))
            }
            (Some("zstd"), ArchiveFormat::Oci) => {
                LayerCompression::zstd(level).ok_or_else(|| self.wrong("zstd has the levels 1 to 22"))
            }
            (Some("zstd"), ArchiveFormat::Docker) => {
                Err(self.wrong("docker archives have no zstd layers: use type=oci"))
            }
            (Some(other), _) => {
                Err(self.wrong(format!("compression={other} is not known: gzip, zstd and uncompressed are")))
            }
        }
    }

    pub(crate) fn end(&self) -> Result<()> {
        match self.pairs.first() {
            None => Ok(()),
            Some((key, _)) => Err(self.wrong(format!("`{key}` is not known here"))),
        }
    }
}

impl Engine {
    /// Hands a finished image to one output, and tells what became of it in one sentence.
    ///
    /// # Errors
    /// When the output fails; a file is then not there, a directory may have a part.
    pub(crate) fn deliver(
        &self,
        lease: &Lease,
        built: &BuiltImage,
        names: &[Reference],
        output: &Output,
        delivery: &Delivery<'_>,
    ) -> Result<Option<String>> {
        let first = || built.parts.first().map(|part| &part.image).ok_or(builder::Error::WorkerLost);
        match output {
            Output::Image { .. } | Output::CacheOnly => Ok(None),
            Output::Local { directory } => self.local(lease, built, directory, delivery).map(Some),
            Output::Tar { destination } => {
                let tree = self.tree(lease, first()?)?;
                let write = |out: &mut dyn Write| Ok(builder::write_tar(&tree, out, delivery.clamp)?);
                self.stream(destination, delivery, write)
            }
            Output::Registry { names: own, compression, .. } => {
                let names = if own.is_empty() { names.to_vec() } else { own.clone() };
                let options = registry::PushOptions { compression: *compression };
                let built = BuiltImage { names, ..built.clone() };
                let client = delivery.fetch.registries(delivery.cancel)?;
                let pushed = registry::push_built(&client, &self.store, lease, &built, &options, &|_| ())?;
                let told = pushed.iter().map(|pushed| format!("pushed {}@{}", pushed.name.familiar(), pushed.digest));
                Ok(Some(told.collect::<Vec<_>>().join("; ")))
            }
            Output::Archive { format, destination, unpacked, names: own, compression, .. } => {
                let names: Vec<Reference> = names.iter().chain(own).cloned().collect();
                let built = BuiltImage { names, ..built.clone() };
                match (format, destination) {
                    (ArchiveFormat::Oci, Destination::File(path)) if *unpacked => {
                        registry::save_built_directory(&self.store, lease, &built, *compression, path)?;
                        Ok(Some(format!("wrote {}", path.display())))
                    }
                    (ArchiveFormat::Oci, _) => self.stream(destination, delivery, |out| {
                        Ok(registry::save_built(&self.store, lease, &built, *compression, out)?)
                    }),
                    (ArchiveFormat::Docker, _) => {
                        let images = [NamedImage { image: first()?.clone(), names: built.names }];
                        let options = registry::SaveOptions { format: *format, compression: *compression };
                        self.stream(destination, delivery, |out| {
                            Ok(registry::save(&self.store, lease, &images, &options, out)?)
                        })
                    }
                }
            }
        }
    }

    /// Of several platforms each has a directory of its own, as with BuildKit.
    fn local(&self, lease: &Lease, built: &BuiltImage, directory: &Path, delivery: &Delivery<'_>) -> Result<String> {
        let mut notes = Vec::new();
        for part in &built.parts {
            let config = &part.image.config;
            let words = [&config.os, &config.architecture].into_iter().chain(&config.variant);
            let name = words.map(String::as_str).collect::<Vec<_>>().join("_");
            let directory = if built.parts.len() > 1 { directory.join(name) } else { directory.to_owned() };
            std::fs::create_dir_all(&directory).map_err(|error| Error::file("make", &directory, error))?;
            let written = builder::write_directory(&self.tree(lease, &part.image)?, &directory, delivery.owner)?;
            notes.push(local_note(&directory, &written));
        }
        Ok(notes.join("; "))
    }

    pub(crate) fn tree(&self, lease: &Lease, image: &Image) -> Result<MergedTree> {
        let layers = image
            .layers
            .iter()
            .map(|id| Ok(self.store.layer(lease, id)?.ok_or_else(|| cache::Error::LayerNotFound(id.clone()))?));
        Ok(MergedTree::new(&layers.collect::<Result<Vec<_>>>()?))
    }

    fn stream(
        &self,
        destination: &Destination,
        delivery: &Delivery<'_>,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Option<String>> {
        match destination {
            Destination::Stream => {
                let stream =
                    delivery.stream.ok_or_else(|| Error::Usage("an output needs dest=FILE here".to_owned()))?;
                let mut out = BufWriter::with_capacity(1 << 20, stream());
                write(&mut out)?;
                out.flush().map_err(|error| Error::file("write", "the output", error))?;
                Ok(None)
            }
            Destination::File(path) => {
                whole_file(path, write)?;
                Ok(Some(format!("wrote {}", path.display())))
            }
        }
    }
}

/// What outputs need of the caller.
pub(crate) struct Delivery<'a> {
    /// How the network is reached.
    pub(crate) fetch: &'a FetchOptions,
    /// Stops a push.
    pub(crate) cancel: &'a Cancel,
    /// Whom files of a directory belong to.
    pub(crate) owner: Owner,
    /// SOURCE_DATE_EPOCH.
    pub(crate) clamp: Option<i64>,
    /// Standard output.
    pub(crate) stream: Option<fn() -> Box<dyn Write>>,
}

fn local_note(directory: &Path, written: &Written) -> String {
    let mut note = format!("wrote {} entries to {}", written.entries, directory.display());
    if written.left_out > 0 {
        note.push_str(&format!("; {} device nodes were left out", written.left_out));
    }
    note
}

/// Writes a file so that it is whole or not there.
pub(crate) fn whole_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, OutputFile::create(path)?);
    failpoint("archive.write")?;
    write(&mut out)?;
    let file = out.into_inner().map_err(|error| Error::file("write", path, error.into_error()))?;
    Ok(file.commit()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_docker_has_them() {
        let local = |path: &str| Output::Local { directory: path.into() };
        assert_eq!("out".parse::<Output>().unwrap(), local("out"));
        assert_eq!("type=local,dest=out".parse::<Output>().unwrap(), local("out"));
        assert_eq!("type=local,\"dest=a,b\"".parse::<Output>().unwrap(), local("a,b"));
        assert!("-".parse::<Output>().unwrap().is_stream());
        assert!("type=tar".parse::<Output>().unwrap().is_stream());
        assert!("type=image,name=a:b".parse::<Output>().unwrap().is_image());
        assert!("type=docker,name=a:b".parse::<Output>().unwrap().is_image());
        assert!("type=docker,dest=-".parse::<Output>().unwrap().is_stream());
        assert_eq!("type=cacheonly".parse::<Output>().unwrap(), Output::CacheOnly);
        let Output::Archive { compression, unpacked, .. } =
            "type=oci,dest=x,tar=false,compression=zstd,compression-level=7".parse().unwrap()
        else {
            unreachable!()
        };
        assert!(unpacked);
        assert_eq!(Some(compression), LayerCompression::zstd(Some(7)));
    }

    #[test]
    fn mistakes_are_told_with_what_was_written() {
        for (text, expected) in [
            ("type=loca,dest=x", "did you mean `local`"),
            ("type=local", "needs dest=DIRECTORY"),
            ("dest=x", "needs a type"),
            ("type=tar,dst=x", "`dst` is not known"),
            ("type=registry,push=false,name=x", "leaves nothing to do"),
            ("type=docker,compression=zstd", "use type=oci"),
            ("type=oci,compression=lzma", "is not known"),
            ("type=oci,compression=gzip,compression-level=10", "levels 0 to 9"),
            ("type=oci,tar=maybe", "neither true nor false"),
            ("type=docker,tar=false,dest=x", "goes with type=oci"),
            ("type=local,\"dest=x", "quotes"),
        ] {
            let found = text.parse::<Output>().unwrap_err().to_string();
            assert!(found.contains(expected) && found.contains(text), "{found}");
        }
    }
}
