//! Uploads under way: each is at most one request's at a time, and lies on the disk when no request has it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache::{Hosted, HostedWriter};

use super::reply::{Code, Refused};

/// Most uploads that wait for their next piece, anywhere.
const UPLOADS: usize = 1000;
/// Those that are held open: for the others their bytes are hashed again.
const OPEN: usize = 64;
/// How long they are.
const IDLE: Duration = Duration::from_secs(300);

#[derive(Debug)]
enum Slot {
    Taken,
    Free(HostedWriter, Instant),
}

/// The uploads that this process knows.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    slots: Mutex<HashMap<String, Slot>>,
}

impl Sessions {
    /// A new one, for this request.
    pub(super) fn begin(&self, hosted: &Hosted) -> Result<HostedWriter, Refused> {
        if hosted.uploads()? >= UPLOADS {
            let sentence = "too many uploads are under way; cancel some, or wait until they expire";
            return Err(Refused::new(429, Code::TooManyRequests, sentence).with("retry-after", "60"));
        }
        let writer = hosted.begin_upload()?;
        self.lock().insert(writer.id().to_owned(), Slot::Taken);
        Ok(writer)
    }

    /// One that was begun, for this request alone.
    pub(super) fn take(&self, hosted: &Hosted, id: &str) -> Result<HostedWriter, Refused> {
        match self.lock().insert(id.to_owned(), Slot::Taken) {
            Some(Slot::Free(writer, _)) => return Ok(writer),
            Some(Slot::Taken) => {
                return Err(Refused::new(409, Code::BlobUploadInvalid, "another request is sending this upload"));
            }
            None => {}
        }
        // Another process began it, or it was quiet for long.
        match hosted.resume_upload(id) {
            Ok(Some(writer)) => Ok(writer),
            found => {
                self.forget(id);
                found?;
                Err(Refused::new(404, Code::BlobUploadUnknown, "there is no such upload; begin anew"))
            }
        }
    }

    /// A request is done with it, and another will go on.
    pub(super) fn give_back(&self, writer: HostedWriter) {
        let mut slots = self.lock();
        slots.insert(writer.id().to_owned(), Slot::Free(writer, Instant::now()));
        let free = |slot: &Slot| match slot {
            Slot::Free(_, since) => Some(*since),
            Slot::Taken => None,
        };
        if slots.values().filter_map(free).count() > OPEN {
            let oldest = slots.iter().filter_map(|(id, slot)| Some((free(slot)?, id.clone()))).min();
            oldest.map(|(_, id)| slots.remove(&id));
        }
    }

    /// It has become a blob, or nothing.
    pub(super) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Closes those that were quiet for long; they are on the disk.
    pub(super) fn let_go(&self) {
        self.lock().retain(|_, slot| match slot {
            Slot::Free(_, since) => since.elapsed() < IDLE,
            Slot::Taken => true,
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
