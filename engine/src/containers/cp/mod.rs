//! `dunnage cp`: files into a container and out of it. Every path of the container is walked by descriptor below its root,
//! as its programs see it; nothing of the container is run.

mod ends;
mod transfer;
mod view;

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use cache::Owner;

use self::ends::{Destination, Source};
use self::transfer::Transfer;
use super::state::ContainerInfo;
use crate::Engine;
use crate::error::{Error, Result};

/// One end of `dunnage cp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyEnd {
    /// `CONTAINER:PATH`.
    Container {
        /// Name or id.
        name: String,
        /// Below its root, whether it begins with `/` or not.
        path: PathBuf,
    },
    /// A path of the machine.
    Host(PathBuf),
    /// `-`: a tar, from standard input or to standard output.
    Stream,
}

/// `dunnage cp`.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// What is copied.
    pub from: CopyEnd,
    /// Where to.
    pub to: CopyEnd,
    /// `--archive`: owners, set-id bits and extended attributes too.
    pub archive: bool,
    /// `--follow-link`: what a link leads to in place of the link.
    pub follow: bool,
}

/// Standard input and output, for those copies that are tars.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "two functions")]
pub struct CopyStreams {
    /// Standard input.
    pub input: fn() -> Box<dyn Read + Send>,
    /// Standard output.
    pub output: fn() -> Box<dyn Write>,
}

impl Engine {
    /// Copies files between a container and the machine. Gives the bytes of the files.
    ///
    /// # Errors
    /// When an end is not there, is of the wrong kind, or cannot be read or written.
    pub fn copy(&self, request: &CopyRequest, streams: CopyStreams, notes: &dyn Fn(String)) -> Result<u64> {
        match (&request.from, &request.to) {
            (CopyEnd::Container { .. }, CopyEnd::Container { .. }) => usage(
                "copying between two containers is not supported: pipe one into the other, as in `dunnage cp A:/x - | dunnage cp - B:/`",
            ),
            (CopyEnd::Container { name, path }, to) => {
                let info = self.container(name)?;
                let copied = self.copy_out(&info, path, to, request, streams, notes)?;
                self.note_event_of(&info, "archive-path", &[]);
                Ok(copied)
            }
            (from, CopyEnd::Container { name, path }) => {
                let info = self.container(name)?;
                let copied = self.copy_in(&info, from, path, request, streams, notes)?;
                self.note_event_of(&info, "extract-to-dir", &[]);
                Ok(copied)
            }
            _ => usage("one of the two must be in a container, as in CONTAINER:/path"),
        }
    }

    fn copy_out(
        &self,
        info: &ContainerInfo,
        path: &Path,
        to: &CopyEnd,
        request: &CopyRequest,
        streams: CopyStreams,
        notes: &dyn Fn(String),
    ) -> Result<u64> {
        let view = self.view(info)?;
        let shown = format!("{}:{}", info.name(), path.display());
        let source = Source::find(view.root()?, path, request.follow, &shown)?;
        match to {
            CopyEnd::Host(to) => {
                let target = Destination::of_host(to)?;
                self.transfer(source, target, &to.display().to_string(), request, own_ids(), notes)
            }
            _ => {
                let mut out = std::io::BufWriter::new((streams.output)());
                source.write_tar(&mut out)?;
                out.flush().map_err(Error::Output)?;
                Ok(0)
            }
        }
    }

    fn copy_in(
        &self,
        info: &ContainerInfo,
        from: &CopyEnd,
        path: &Path,
        request: &CopyRequest,
        streams: CopyStreams,
        notes: &dyn Fn(String),
    ) -> Result<u64> {
        // What is wrong on this side is found before a container that does not run is mounted.
        let source = match from {
            CopyEnd::Host(from) => Some(Source::of_host(from, request.follow)?),
            _ => None,
        };
        let view = self.view(info)?;
        let shown = format!("{}:{}", info.name(), path.display());
        let _owner = view.write()?;
        let target = Destination::find(view.root()?, path)?;
        let copied = match source {
            Some(source) => self.transfer(source, target, &shown, request, Owner::default(), notes),
            None => target
                .directory(&shown)
                .and_then(|root| Ok(cache::extract_stream((streams.input)(), &root, None).map(|()| 0)?)),
        };
        copied.map_err(|error| read_only(error, &shown))
    }

    fn transfer(
        &self,
        source: Source,
        target: Destination,
        shown: &str,
        request: &CopyRequest,
        owner: Owner,
        notes: &dyn Fn(String),
    ) -> Result<u64> {
        let place = target.place_for(&source, shown)?;
        let mut transfer = Transfer::new(owner, request.archive, notes);
        transfer.copy(&source, &place)?;
        Ok(transfer.bytes())
    }
}

/// Who copies out of a container owns the copies.
fn own_ids() -> Owner {
    Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

/// A disk that is read-only is the machine's trouble, a container that is was meant to be so.
fn read_only(error: Error, shown: &str) -> Error {
    match &error {
        Error::Store(cache::Error::Path { source, .. }) if source.kind() == ErrorKind::ReadOnlyFilesystem => {
            Error::WrongState(format!("cannot copy to {shown}: it is read-only"))
        }
        _ => error,
    }
}

fn usage<T>(sentence: &str) -> Result<T> {
    Err(Error::Usage(sentence.to_owned()))
}
