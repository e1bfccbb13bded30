//! Brings large files to the disk while they are still being written: the flush at the end then finds little to do.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::error::{Error, Result};

/// So many bytes of a file are brought to the disk together.
const STEP: u64 = 32 << 20;

/// Takes files that grow.
#[derive(Debug)]
pub(crate) struct Flusher {
    files: SyncSender<File>,
}

/// How far one file is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    since: u64,
}

impl Flusher {
    /// So many bytes of a file more were written. It is no matter when the disk is behind: the end waits for it.
    pub(crate) fn written(&self, file: &File, bytes: usize, progress: &mut Progress) {
        progress.since += bytes as u64;
        if progress.since >= STEP {
            progress.since = 0;
            if let Ok(file) = file.try_clone() {
                let _ = self.files.try_send(file);
            }
        }
    }
}

/// Runs `write` with a thread beside it that flushes. What could not be written to the disk is an error, whoever was told.
pub(crate) fn flushing<T>(path: &Path, write: impl FnOnce(&Flusher) -> Result<T>) -> Result<T> {
    let (files, grown) = sync_channel::<File>(1);
    std::thread::scope(|threads| {
        let flusher = threads
            .spawn(move || grown.into_iter().try_for_each(|file| file.sync_data().map_err(Error::path("flush", path))));
        let written = write(&Flusher { files });
        let flushed = flusher.join().map_err(|_| Error::document("the layer", "a thread stopped"))?;
        let written = written?;
        flushed.map(|()| written)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_flushed_is_an_error_and_less_than_a_step_is_not_tried() {
        // No pipe can be flushed.
        let (_end, pipe) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
        let written = |bytes: u64| {
            let mut progress = Progress::default();
            flushing(Path::new("f"), |flusher| {
                flusher.written(&pipe, usize::try_from(bytes).unwrap(), &mut progress);
                Ok(())
            })
        };
        assert!(written(STEP - 1).is_ok());
        assert!(written(STEP).is_err());
    }
}
