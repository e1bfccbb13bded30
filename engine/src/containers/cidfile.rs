//! `--cidfile`: a file with the id of a container, for the script that asked for it.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file, made before the container is: where it cannot be there is no container either. What is not finished goes.
#[derive(Debug)]
pub(super) struct CidFile {
    path: PathBuf,
    file: Option<File>,
}

impl CidFile {
    /// Makes it. One that is there belongs to another container.
    pub(super) fn begin(path: &Path) -> Result<CidFile> {
        match File::create_new(path) {
            Ok(file) => Ok(CidFile { path: path.to_owned(), file: Some(file) }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::Usage(format!(
                "--cidfile {}: the file exists, perhaps of a container that runs: remove it, or name another",
                path.display()
            ))),
            Err(error) => Err(Error::file("write the id to", path, error)),
        }
    }

    /// Writes the id.
    pub(super) fn finish(mut self, id: &str) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(id.as_bytes()).map_err(|error| Error::file("write the id to", &self.path, error))?;
        }
        self.file = None;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
