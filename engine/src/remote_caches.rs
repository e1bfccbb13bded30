//! `--cache-from` and `--cache-to`: caches beyond the store, as they are written, opened, and told of.

use std::path::PathBuf;
use std::str::FromStr;

use builder::{Event, ExportMode, Remotes, Solved, Solver};
use cache::RemoteCache;
use registry::{ArchiveFormat, CacheDirectory, LayerCompression};

use crate::build::BuildRequest;
use crate::error::{Error, Result};
use crate::outputs::Fields;

/// One `--cache-from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheFrom {
    /// `type=local`
    Local {
        /// The directory.
        directory: PathBuf,
    },
}

/// One `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheTo {
    /// `type=local`
    Local {
        /// The directory; made when it is missing.
        directory: PathBuf,
        /// Which steps it is given.
        mode: ExportMode,
        /// How layers are packed.
        compression: LayerCompression,
        /// A build whose cache cannot be written has succeeded all the same.
        ignore_error: bool,
    },
}

impl FromStr for CacheFrom {
    type Err = Error;

    fn from_str(text: &str) -> Result<CacheFrom> {
        let mut fields = local("--cache-from", text)?;
        let directory = fields.take("src").map(PathBuf::from);
        let directory = directory.ok_or_else(|| fields.wrong("type=local needs src=DIRECTORY"))?;
        fields.end()?;
        Ok(CacheFrom::Local { directory })
    }
}

impl FromStr for CacheTo {
    type Err = Error;

    fn from_str(text: &str) -> Result<CacheTo> {
        let mut fields = local("--cache-to", text)?;
        let directory = fields.take("dest").map(PathBuf::from);
        let directory = directory.ok_or_else(|| fields.wrong("type=local needs dest=DIRECTORY"))?;
        let mode = match fields.take("mode").as_deref() {
            None | Some("min") => ExportMode::Min,
            Some("max") => ExportMode::Max,
            Some(other) => return Err(fields.wrong(format!("mode={other} is not known: min and max are"))),
        };
        let compression = fields.compression(ArchiveFormat::Oci)?;
        let ignore_error = fields.flag("ignore-error", false)?;
        fields.end()?;
        Ok(CacheTo::Local { directory, mode, compression, ignore_error })
    }
}

/// The fields of a cache of the one type that there is.
fn local<'a>(flag: &'static str, text: &'a str) -> Result<Fields<'a>> {
    let mut fields = Fields::parse(flag, text).map_err(|error| match text.contains('=') {
        true => error,
        false => Error::Usage(format!("{flag} {text}: {}", no_such_type("registry"))),
    })?;
    match fields.take("type").as_deref() {
        Some("local") => Ok(fields),
        Some(other) => Err(fields.wrong(no_such_type(other))),
        None => Err(fields.wrong("it needs a type, as in type=local")),
    }
}

fn no_such_type(kind: &str) -> String {
    match kind {
        "registry" | "inline" | "gha" | "s3" | "azblob" => {
            format!("caches of type={kind} are not supported by this version of dunnage: type=local is")
        }
        other => format!("`{other}` is no type of cache: local is"),
    }
}

/// The caches of a build, opened.
#[derive(Debug)]
pub(crate) struct OpenCaches {
    from: Vec<CacheDirectory>,
    to: Vec<(CacheDirectory, ExportMode, bool)>,
}

impl OpenCaches {
    /// One that cannot be read costs its hits, and one that cannot be written to is told before anything is built.
    pub(crate) fn open(request: &BuildRequest, events: &dyn Fn(Event)) -> Result<OpenCaches> {
        let mut open = OpenCaches { from: Vec::new(), to: Vec::new() };
        for CacheFrom::Local { directory } in &request.cache_from {
            match CacheDirectory::open(directory) {
                Ok(cache) => open.from.push(cache),
                Err(error) => events(Event::Note(None, format!("{error}; the build goes on without it"))),
            }
        }
        for CacheTo::Local { directory, mode, compression, ignore_error } in &request.cache_to {
            match CacheDirectory::create(directory, *compression) {
                Ok(cache) => open.to.push((cache, *mode, *ignore_error)),
                Err(error) if *ignore_error => events(Event::Note(None, error.to_string())),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(open)
    }

    pub(crate) fn remotes(&self) -> Remotes<'_> {
        let caches = self.from.iter().map(|cache| cache as &dyn RemoteCache).collect();
        Remotes::new(caches, !self.to.is_empty())
    }

    /// Tells what came from the caches, and gives each what it lacks.
    pub(crate) fn export(&self, solver: &Solver<'_>, solved: &Solved, events: &dyn Fn(Event)) -> Result<()> {
        for (cache, mode, ignore_error) in &self.to {
            match solver.export(solved, *mode, cache) {
                Ok(exported) => events(Event::Note(
                    None,
                    format!(
                        "cache {}: wrote {} and {} ({} bytes); {} there already",
                        cache.name(),
                        count(exported.records, "record"),
                        count(exported.layers, "layer"),
                        exported.bytes,
                        if exported.known == 1 {
                            "1 layer was".to_owned()
                        } else {
                            format!("{} layers were", exported.known)
                        },
                    ),
                )),
                Err(error) if *ignore_error => {
                    events(Event::Note(None, format!("cache {} was not written: {error}", cache.name())));
                }
                Err(error) => return Err(error.into()),
            }
        }
        for traffic in solver.remotes.traffic().iter().filter(|traffic| traffic.failed.is_none()) {
            events(Event::Note(
                None,
                format!(
                    "cache {}: knew {}; {} fetched ({} bytes)",
                    traffic.name,
                    count(traffic.steps, "step"),
                    count(traffic.layers, "layer"),
                    traffic.bytes
                ),
            ));
        }
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
        assert_eq!(
            "type=local,src=a".parse::<CacheFrom>().unwrap(),
            CacheFrom::Local { directory: PathBuf::from("a") }
        );
        let CacheTo::Local { mode, compression, ignore_error, .. } =
            "type=local,dest=a,mode=max,compression=zstd,ignore-error=true".parse().unwrap();
        assert_eq!((mode, Some(compression), ignore_error), (ExportMode::Max, LayerCompression::zstd(None), true));
        for (text, expected) in [
            ("user/app:cache", "type=registry"),
            ("type=gha", "type=gha are not supported"),
            ("type=lokal", "no type of cache"),
            ("src=x", "needs a type"),
            ("type=local", "needs src=DIRECTORY"),
            ("type=local,src=x,tag=y", "`tag` is not known"),
        ] {
            let found = text.parse::<CacheFrom>().unwrap_err().to_string();
            assert!(found.contains(expected) && found.contains(text), "{found}");
        }
        assert!("type=local,dest=x,mode=full".parse::<CacheTo>().unwrap_err().to_string().contains("min and max"));
    }
}
