//! File systems that are made before the sandbox which shows them, and attached to nothing until then.
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use crate::error::{Error, Result};
use crate::given::MountAttributes;
use crate::sys::mount::Reach;
use crate::userns::UserNamespace;

/// Most of what the kernel says of an option that it refuses.
const REASON_LIMIT: usize = 256;

/// A file system that is to be.
#[derive(Clone, Debug)]
pub struct NewFilesystem<'a> {
    /// Its type, such as `tmpfs`.
    pub kind: &'a str,
    /// What it shows: a device, a directory of a server, or nothing in particular.
    pub source: &'a str,
    /// Options of the file system itself, in order.
    pub options: &'a [(String, Option<String>)],
    /// What holds for the mount.
    pub attributes: MountAttributes,
}

impl NewFilesystem<'_> {
    /// Makes it, with owners as a user namespace has them where there is one.
    ///
    /// # Errors
    /// When the kernel does not know the type, refuses an option, or cannot map the owners.
    pub fn make(&self, users: Option<&UserNamespace>) -> Result<OwnedFd> {
        let failed = |errno: Errno| self.refused(errno, String::new());
        let text = |text: &str| CString::new(text).map_err(|_| failed(Errno::INVAL));
        let context = fsopen(text(self.kind)?.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
        let said = |errno: Errno| self.refused(errno, kernels_words(&context));
        if !self.source.is_empty() {
            fsconfig_set_string(&context, c"source", text(self.source)?.as_c_str()).map_err(said)?;
        }
        for (name, value) in self.options {
            let name = text(name)?;
            match value {
                Some(value) => fsconfig_set_string(&context, name.as_c_str(), text(value)?.as_c_str()),
                None => fsconfig_set_flag(&context, name.as_c_str()),
            }
            .map_err(said)?;
        }
        let is_read_only = self.attributes.set & 1 != 0;
        if is_read_only {
            // A device that cannot be written is not asked for it.
            fsconfig_set_flag(&context, c"ro").map_err(said)?;
        }
        fsconfig_create(&context).map_err(said)?;
        let attributes = MountAttrFlags::from_bits_retain(self.attributes.set as u32);
        let made = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(said)?;
        if let Some(users) = users {
            users.map(&made, Reach::One, Path::new(self.kind))?;
        }
        Ok(made)
    }

    fn refused(&self, errno: Errno, words: String) -> Error {
        let kind = self.kind.escape_debug().to_string();
        let reason = match (errno, words.is_empty()) {
            (Errno::NODEV, true) => "the kernel has no such file system".to_owned(),
            (_, true) => std::io::Error::from(errno).to_string(),
            (_, false) => format!("{words} ({errno})"),
        };
        Error::Filesystem { kind, reason }
    }
}

/// The kernel writes down what is wrong, a line at a time, in a few letters of which the first is the kind.
fn kernels_words(context: &OwnedFd) -> String {
    let mut text = String::new();
    let mut line = [0_u8; REASON_LIMIT];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut line) {
        let words = String::from_utf8_lossy(line.get(..length).unwrap_or_default()).into_owned();
        if let Some(error) = words.strip_prefix("e ").filter(|_| text.is_empty()) {
            text = error.trim().escape_debug().to_string();
        }
    }
    text
}
