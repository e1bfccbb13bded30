//! Files outside of the store that appear whole or not at all: archives and layouts that users asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::store::{random_name, sync_directory};

/// A file that is being written and has its name when it is finished. Dropping it is the abort.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    path: PathBuf,
    /// The name that it has meanwhile; none where the file system can do without, so that a kill leaves nothing.
    draft: Option<PathBuf>,
}

impl OutputFile {
    /// Begins a file; one that is there stays as it is until the new one is whole.
    ///
    /// # Errors
    /// When something else than a file is there, or the directory cannot be written.
    pub fn create(path: &Path) -> Result<OutputFile> {
        let path = match std::fs::canonicalize(path) {
            Ok(there) if there.is_file() => there,
            Ok(_) => {
                return Err(Error::Tree { path: path.to_owned(), reason: "is there and is not a file".to_owned() });
            }
            Err(_) => path.to_owned(),
        };
        failpoint("output.create")?;
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(directory_of(&path), flags, Mode::from_raw_mode(0o666)) {
            Ok(fd) => Ok(OutputFile { file: fd.into(), path, draft: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let draft = draft_of(&path)?;
                let file = OpenOptions::new().create_new(true).write(true).open(&draft);
                Ok(OutputFile { file: file.map_err(Error::path("write", &path))?, path, draft: Some(draft) })
            }
            Err(errno) => Err(Error::errno("write", path)(errno)),
        }
    }

    /// Flushes it and gives it its name, durably.
    ///
    /// # Errors
    /// When the disk fails; what was there stays then.
    pub fn commit(mut self) -> Result<()> {
        failpoint("output.flush")?;
        self.file.sync_all().map_err(Error::path("write", &self.path))?;
        if self.draft.is_none() {
            failpoint("output.link")?;
            match self.link(&self.path) {
                Ok(()) => return sync_directory(directory_of(&self.path)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::errno("write", &self.path)(errno)),
            }
            let draft = draft_of(&self.path)?;
            self.link(&draft).map_err(Error::errno("write", &self.path))?;
            self.draft = Some(draft);
        }
        failpoint("output.rename")?;
        if let Some(draft) = &self.draft {
            std::fs::rename(draft, &self.path).map_err(Error::path("write", &self.path))?;
        }
        self.draft = None;
        sync_directory(directory_of(&self.path))
    }

    fn link(&self, name: &Path) -> rustix::io::Result<()> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, own.as_str(), CWD, name, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            // The error that led here is the one to tell.
            let _ = std::fs::remove_file(draft);
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn draft_of(path: &Path) -> Result<PathBuf> {
    Ok(directory_of(path).join(format!(".dunnage-{}", random_name()?)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let names = || std::fs::read_dir(directory.path()).unwrap().count();
        for text in ["old", "new"] {
            let mut file = OutputFile::create(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.commit().unwrap();
            assert_eq!((std::fs::read_to_string(&path).unwrap(), names()), (text.to_owned(), 1));
        }
        OutputFile::create(&path).unwrap().write_all(b"half").unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap(), names()), ("new".to_owned(), 1));
        assert!(OutputFile::create(directory.path()).is_err() && OutputFile::create(Path::new("/dev/null")).is_err());
    }
}
