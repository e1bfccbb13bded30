//! WORKDIR: makes the directory if it is missing, owned by the current user.

use std::path::Path;

use cache::{Owner, failpoint};

use super::{Work, tree_of};
use crate::error::Result;
use crate::plan::WorkdirOp;
use crate::settle::Made;

impl Work<'_> {
    pub(super) fn workdir(&self, op: &WorkdirOp) -> Result<Made> {
        let (snapshot, rootfs) = self.snapshot(self.parent())?;
        {
            let root = tree_of(&rootfs)?;
            let user = self.user(&root, &op.user)?;
            let owner = Owner { uid: user.ids.uid, gid: user.ids.gid };
            let path = op.path.strip_prefix("/").unwrap_or(Path::new(""));
            failpoint("step.workdir")?;
            root.make_dirs(path, 0o755, owner).map_err(|error| {
                self.diagnostic("K0342", format!("cannot make the working directory {}: {error}", op.path.display()))
            })?;
        }
        drop(rootfs);
        self.seal(snapshot)
    }
}
