//! `--cache-from` and `--cache-to`: caches beyond the store, as they are written, opened, and told of.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use builder::{Cancel, Event, ExportMode, Plan, Remotes, Solved, Solver};
use cache::{Platform, Reference, RemoteCache, Store};
use registry::{
    ArchiveFormat, CacheDirectory, Client, LayerCompression, RegistryCache, S3Cache, S3Credentials, S3Place,
};

use crate::build::BuildRequest;
use crate::error::{Error, Result};
use crate::images::parse_name;
use crate::outputs::Fields;

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// `type=local`: a directory.
    Local(PathBuf),
    /// `type=registry`: a name at a registry.
    Registry(Reference),
    /// `type=s3`: a bucket of an object store.
    S3(Box<S3Place>),
}

/// One `--cache-from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFrom {
    /// Where it is.
    pub place: CachePlace,
}

/// One `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheTo {
    /// `type=inline`: the image itself says which steps gave its layers.
    Inline,
    /// A cache of its own.
    Place {
        /// Where it is; made when it is missing.
        place: CachePlace,
        /// Which steps it is given.
        mode: ExportMode,
        /// How layers are packed, where it is said.
        compression: Option<LayerCompression>,
        /// The cache mounts that it is given, by their ids.
        mounts: Vec<String>,
        /// A build whose cache cannot be written has succeeded all the same.
        ignore_error: bool,
    },
}

impl FromStr for CacheFrom {
    type Err = Error;

    fn from_str(text: &str) -> Result<CacheFrom> {
        let mut fields = fields("--cache-from", text)?;
        let place = match kind(&mut fields)?.as_str() {
            "local" => local(&mut fields, "src")?,
            "registry" => registry(&mut fields)?,
            "s3" => s3(&mut fields)?,
            "inline" => {
                return Err(
                    fields.wrong("an image that carries its cache is named by its registry: type=registry,ref=NAME")
                );
            }
            other => return Err(fields.wrong(no_such_type(other))),
        };
        fields.end()?;
        Ok(CacheFrom { place })
    }
}

impl FromStr for CacheTo {
    type Err = Error;

    fn from_str(text: &str) -> Result<CacheTo> {
        let mut fields = fields("--cache-to", text)?;
        let place = match kind(&mut fields)?.as_str() {
            "local" => local(&mut fields, "dest")?,
            "registry" => registry(&mut fields)?,
            "s3" => s3(&mut fields)?,
            "inline" => {
                if fields.take("mode").is_some_and(|mode| mode != "min") {
                    return Err(
                        fields.wrong("an image has the layers of its own steps alone: mode=max needs another type")
                    );
                }
                fields.end()?;
                return Ok(CacheTo::Inline);
            }
            other => return Err(fields.wrong(no_such_type(other))),
        };
        let mode = match fields.take("mode").as_deref() {
            None | Some("min") => ExportMode::Min,
            Some("max") => ExportMode::Max,
            Some(other) => return Err(fields.wrong(format!("mode={other} is not known: min and max are"))),
        };
        let compression = fields.given_compression(ArchiveFormat::Oci)?;
        let ignore_error = fields.flag("ignore-error", false)?;
        let mounts: Vec<String> = std::iter::from_fn(|| fields.take("mounts")).collect();
        if mounts.iter().any(String::is_empty) {
            return Err(fields.wrong("mounts= needs the id of a cache mount; it can be written several times"));
        }
        fields.end()?;
        Ok(CacheTo::Place { place, mode, compression, mounts, ignore_error })
    }
}

/// A name alone is one at a registry.
fn fields<'a>(flag: &'static str, text: &'a str) -> Result<Fields<'a>> {
    if text.contains('=') { Fields::parse(flag, text) } else { Ok(Fields::of_name(flag, text)) }
}

fn kind(fields: &mut Fields<'_>) -> Result<String> {
    fields.take("type").ok_or_else(|| fields.wrong("it needs a type, as in type=registry,ref=NAME"))
}

fn local(fields: &mut Fields<'_>, key: &str) -> Result<CachePlace> {
    let directory = fields.take(key).map(PathBuf::from);
    directory.map(CachePlace::Local).ok_or_else(|| fields.wrong(format!("type=local needs {key}=DIRECTORY")))
}

fn registry(fields: &mut Fields<'_>) -> Result<CachePlace> {
    let name = fields.take("ref").ok_or_else(|| fields.wrong("type=registry needs ref=NAME"))?;
    // Whoever writes caches by BuildKit has to choose these; here there is nothing else.
    for key in ["image-manifest", "oci-mediatypes"] {
        if !fields.flag(key, true)? {
            return Err(fields.wrong(format!("{key}=false is not known here: a cache is an OCI manifest")));
        }
    }
    Ok(CachePlace::Registry(parse_name(&name)?))
}

fn s3(fields: &mut Fields<'_>) -> Result<CachePlace> {
    let bucket = fields.take("bucket").filter(|bucket| !bucket.is_empty());
    let bucket = bucket.ok_or_else(|| fields.wrong("type=s3 needs bucket=NAME"))?;
    let path_style = match fields.has("use_path_style") {
        true => Some(fields.flag("use_path_style", true)?),
        false => None,
    };
    let credentials =
        match (fields.take("access_key_id"), fields.take("secret_access_key"), fields.take("session_token")) {
            (None, None, None) => None,
            (Some(access_key_id), Some(secret_access_key), session_token) => {
                Some(S3Credentials { access_key_id, secret_access_key, session_token })
            }
            _ => return Err(fields.wrong("access_key_id and secret_access_key go together")),
        };
    Ok(CachePlace::S3(Box::new(S3Place {
        bucket,
        prefix: fields.take("prefix").unwrap_or_default(),
        region: fields.take("region"),
        endpoint: fields.take("endpoint_url"),
        path_style,
        credentials,
    })))
}

fn no_such_type(kind: &str) -> String {
    match kind {
        "gha" | "azblob" => {
            format!(
                "caches of type={kind} are not supported by this version of dunnage: registry, local, inline and s3 are"
            )
        }
        other => format!("`{other}` is no type of cache: registry, local, inline and s3 are"),
    }
}

/// The caches of a build, opened.
#[derive(Debug)]
pub(crate) struct OpenCaches {
    from: Vec<Box<dyn RemoteCache>>,
    to: Vec<OpenExport>,
    inline: bool,
}

/// A cache that is written to.
#[derive(Debug)]
struct OpenExport {
    cache: Box<dyn RemoteCache>,
    mode: ExportMode,
    mounts: Vec<String>,
    ignore_error: bool,
}

/// How caches are reached.
struct Opening<'a> {
    request: &'a BuildRequest,
    cancel: &'a Cancel,
    client: Option<Client>,
}

impl Opening<'_> {
    /// The user's files about registries are read where a cache is at one.
    fn client(&mut self) -> Result<&Client> {
        if self.client.is_none() {
            self.client = Some(self.request.fetch.registries(self.cancel)?);
        }
        self.client.as_ref().ok_or(builder::Error::WorkerLost.into())
    }

    fn read(&mut self, place: &CachePlace, platform: &Platform) -> Result<Box<dyn RemoteCache>> {
        Ok(match place {
            CachePlace::Local(directory) => Box::new(CacheDirectory::open(directory)?),
            CachePlace::Registry(name) => Box::new(RegistryCache::open(self.client()?, name, platform)?),
            CachePlace::S3(place) => {
                let fetch = &self.request.fetch;
                Box::new(S3Cache::open(place, &fetch.s3, &fetch.http, crate::registries::stop(self.cancel))?)
            }
        })
    }

    fn write(&mut self, place: &CachePlace, compression: Option<LayerCompression>) -> Result<Box<dyn RemoteCache>> {
        let packed = compression.unwrap_or(LayerCompression::usual(ArchiveFormat::Oci));
        Ok(match place {
            CachePlace::Local(directory) => Box::new(CacheDirectory::create(directory, packed)?),
            CachePlace::Registry(name) => Box::new(RegistryCache::create(self.client()?, name, compression)?),
            CachePlace::S3(place) => {
                let fetch = &self.request.fetch;
                Box::new(S3Cache::create(place, &fetch.s3, &fetch.http, packed, crate::registries::stop(self.cancel))?)
            }
        })
    }
}

impl OpenCaches {
    /// One that cannot be read costs its hits, and one that cannot be written to is told before anything is built.
    pub(crate) fn open(
        request: &BuildRequest,
        platform: &Platform,
        cancel: &Cancel,
        events: &dyn Fn(Event),
    ) -> Result<OpenCaches> {
        let mut open = OpenCaches { from: Vec::new(), to: Vec::new(), inline: false };
        let mut opening = Opening { request, cancel, client: None };
        for CacheFrom { place } in &request.cache_from {
            match opening.read(place, platform) {
                Ok(cache) => open.from.push(cache),
                Err(error) => events(Event::Note(None, format!("{error}; the build goes on without it"))),
            }
        }
        for to in &request.cache_to {
            let CacheTo::Place { place, mode, compression, mounts, ignore_error } = to else {
                open.inline = true;
                continue;
            };
            match opening.write(place, *compression) {
                Ok(cache) => {
                    open.to.push(OpenExport { cache, mode: *mode, mounts: mounts.clone(), ignore_error: *ignore_error })
                }
                Err(error) if *ignore_error => events(Event::Note(None, error.to_string())),
                Err(error) => return Err(error),
            }
        }
        Ok(open)
    }

    pub(crate) fn remotes(&self) -> Remotes<'_> {
        let caches = self.from.iter().map(Box::as_ref).collect();
        Remotes::new(caches, self.inline || !self.to.is_empty())
    }

    /// With `type=inline` the image tells of its steps.
    pub(crate) fn tell_inline(&self, remotes: &Remotes<'_>, solved: &mut Solved) {
        if self.inline {
            solved.inline = remotes.inline();
        }
    }

    /// Tells what came from the caches, and gives each what it lacks.
    pub(crate) fn export(&self, solver: &Solver<'_>, solved: &Solved, events: &dyn Fn(Event)) -> Result<()> {
        for to in &self.to {
            match to.write(solver, solved, events) {
                Err(error) if to.ignore_error && !matches!(error, builder::Error::Cancelled) => {
                    events(Event::Note(None, format!("cache {} was not written: {error}", to.cache.name())));
                }
                written => written?,
            }
        }
        for traffic in solver.remotes.traffic().iter().filter(|traffic| traffic.failed.is_none()) {
            events(Event::Note(
                None,
                format!(
                    "cache {}: knew {}; {} fetched ({} bytes); {} bytes of records read",
                    traffic.name,
                    count(traffic.steps, "step"),
                    count(traffic.layers, "layer"),
                    traffic.bytes,
                    traffic.records
                ),
            ));
        }
        Ok(())
    }
}

/// Cache mounts that are to be exported are those of a step, or of the store.
pub(crate) fn check_mounts(caches: &[CacheTo], plan: &Plan, store: &Store) -> Result<()> {
    let mounts = |to: &'_ CacheTo| match to {
        CacheTo::Place { mounts, .. } => mounts.clone(),
        CacheTo::Inline => Vec::new(),
    };
    let wanted: Vec<String> = caches.iter().flat_map(mounts).collect();
    let mut known: BTreeSet<String> = builder::cache_mount_ids(plan).into_iter().map(str::to_owned).collect();
    if wanted.iter().all(|id| known.contains(id)) {
        return Ok(());
    }
    known.extend(store.cache_mounts()?.into_iter().map(|cache| cache.id));
    let Some(id) = wanted.into_iter().find(|id| !known.contains(id)) else { return Ok(()) };
    let there = match known.is_empty() {
        true => "there is none".to_owned(),
        false => format!("there are {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Err(Error::Usage(format!("--cache-to mounts={id}: no step and no cache of the store has this id; {there}")))
}

impl OpenExport {
    fn write(
        &self,
        solver: &Solver<'_>,
        solved: &Solved,
        events: &dyn Fn(Event),
    ) -> std::result::Result<(), builder::Error> {
        let (cache, name) = (self.cache.as_ref(), self.cache.name());
        let mounts = solver.export_mounts(&self.mounts, cache)?;
        let exported = solver.export(solved, self.mode, cache)?;
        for mount in mounts {
            let what = match mount.bytes {
                Some(bytes) => format!("wrote the cache mount `{}` ({bytes} bytes)", mount.id),
                None => format!("the cache mount `{}` was there already", mount.id),
            };
            events(Event::Note(None, format!("cache {name}: {what}")));
        }
        let known = match exported.known {
            1 => "1 layer was".to_owned(),
            known => format!("{known} layers were"),
        };
        let (records, layers) = (count(exported.records, "record"), count(exported.layers, "layer"));
        let bytes = exported.bytes;
        let told = format!("cache {name}: wrote {records} and {layers} ({bytes} bytes); {known} there already");
        events(Event::Note(None, told));
        Ok(())
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_as_buildx_has_them() {
        let local = |path: &str| CachePlace::Local(PathBuf::from(path));
        assert_eq!("type=local,src=a".parse::<CacheFrom>().unwrap(), CacheFrom { place: local("a") });
        let CacheTo::Place { mode, compression, ignore_error, .. } =
            "type=local,dest=a,mode=max,compression=zstd,ignore-error=true".parse().unwrap()
        else {
            unreachable!()
        };
        assert_eq!((mode, compression, ignore_error), (ExportMode::Max, LayerCompression::zstd(None), true));
        for text in ["r.example/app:cache", "type=registry,ref=r.example/app:cache,image-manifest=true"] {
            let name = "r.example/app:cache".parse().unwrap();
            assert_eq!(text.parse::<CacheFrom>().unwrap(), CacheFrom { place: CachePlace::Registry(name) });
        }
        let text = "type=s3,bucket=b,region=r,prefix=p,access_key_id=a,secret_access_key=hidden";
        let CachePlace::S3(place) = text.parse::<CacheFrom>().unwrap().place else { unreachable!() };
        assert_eq!((place.bucket.as_str(), place.prefix.as_str(), place.path_style), ("b", "p", None));
        assert_eq!("type=inline".parse::<CacheTo>().unwrap(), CacheTo::Inline);
        let text = "type=local,dest=a,mounts=/root/.cache,\"mounts=a,b\"";
        let CacheTo::Place { mounts, .. } = text.parse().unwrap() else { unreachable!() };
        assert_eq!(mounts, ["/root/.cache", "a,b"]);
        for (text, expected) in [
            ("type=gha", "type=gha are not supported"),
            ("type=lokal", "no type of cache"),
            ("src=x", "needs a type"),
            ("type=local", "needs src=DIRECTORY"),
            ("type=local,src=x,tag=y", "`tag` is not known"),
            ("type=registry", "needs ref=NAME"),
            ("type=inline", "type=registry,ref=NAME"),
            ("type=s3,region=x", "needs bucket=NAME"),
            ("type=s3,bucket=x,access_key_id=y", "go together"),
        ] {
            let found = text.parse::<CacheFrom>().unwrap_err().to_string();
            assert!(found.contains(expected) && found.contains(text), "{found}");
        }
        let found = format!("{text},nonsense=1").parse::<CacheFrom>().unwrap_err().to_string();
        assert!(found.contains("nonsense") && !found.contains("hidden"), "{found}");
        for (text, expected) in [
            ("type=local,dest=x,mode=full", "min and max"),
            ("type=inline,mode=max", "needs another type"),
            ("type=registry,ref=a,mounts=", "needs the id of a cache mount"),
            ("type=inline,mounts=x", "`mounts` is not known"),
            ("type=registry,ref=a,image-manifest=false", "OCI manifest"),
        ] {
            assert!(text.parse::<CacheTo>().unwrap_err().to_string().contains(expected), "{text}");
        }
    }
}
