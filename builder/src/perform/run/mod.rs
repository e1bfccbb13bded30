//! RUN: one process in a sandbox over the parent's tree.

mod agent;
mod ahead;
mod cover;
mod devices;
mod failure;
mod group;
mod mask;
mod mounts;
mod output;
mod scratch;
mod shell;
mod users;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use cache::{Attributes, Layer, MergedTree, Owner, Snapshot, TreeRoot, TreeView, failpoint};
use runtime::{Mount, Rootfs, Sandbox, Stdio};

pub(crate) use self::ahead::{Ahead, Coming};
use self::ahead::{Begun, Ready};
pub(super) use self::cover::looks;
pub use self::devices::{DeviceChanges, machine_devices};
use self::mask::Mask;
use self::mounts::Opened;
pub use self::shell::{FailedRun, Shell, Side};
use super::{Work, rootfs, rootfs_of, tree_of};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::mounts::{MountFrom, Mounted};
use crate::plan::RunOp;
use crate::select::SourceTree;
use crate::settle::Made;

/// The name that a step sees as its host's; in no file of the layer.
const HOSTNAME: &str = "dunnage-build";

impl Work<'_> {
    pub(super) fn run(&mut self, op: &RunOp) -> Result<Made> {
        let bound = self.bound_content(op)?;
        let mut opened = self.open_mounts(op)?;
        runtime::mount_point_layer(&self.solver.store.mount_points_dir())?;
        let (snapshot, root) = self.root_of_step(&opened)?;
        let mut sandbox = self.sandbox(op, &snapshot, root, &opened)?;
        let group = self.step_group()?;
        group.iter().for_each(|group| group.hold(&mut sandbox));
        failpoint("step.start")?;
        let next = self.begin_next(&snapshot);
        let mut container = sandbox.start().map_err(|error| self.not_started(op, error))?;
        // Whoever asks for limits is told where they are not what was asked for.
        for note in container.notes().iter().filter(|_| !self.plan.options.run.limits.is_empty()) {
            (self.solver.events)(Event::Note(Some(self.step.id), note.clone()));
        }
        let watched = self.solver.cancel.watch(container.killer());
        // Asked while it runs: nothing is ended for want of memory as early as that.
        let kills = runtime::out_of_memory_kills();
        let mask = Mask::new(opened.secrets.iter().map(|secret| secret.bytes()));
        let tail = self.pump(container.take_stdout(), container.take_stderr(), &mask);
        let exit = container.wait()?;
        drop(watched);
        drop(container);
        drop(group);
        let places = opened.places.take().map(|(_, scratch)| scratch);
        drop(opened);
        if self.solver.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        failpoint("step.exit")?;
        if !exit.success() {
            let kills = runtime::out_of_memory_kills().saturating_sub(kills);
            if let Some(slot) = self.solver.failed {
                let failed = FailedRun { step: self.step.id, snapshot, inputs: self.inputs.to_vec(), places };
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
            }
            return Err(self.failed(op, &exit, &tail, kills));
        }
        let coming = next.and_then(|next| self.ahead?.mount(next));
        self.unchanged(op, &bound)?;
        Ok(self.seal(snapshot)?.followed_by(coming))
    }

    /// The writable tree of the step, and what it is mounted as where that was done before.
    fn root_of_step(&self, opened: &Opened) -> Result<(Snapshot, Option<Rootfs>)> {
        let (store, parent) = (self.solver.store, self.parent());
        let cover = opened.places.as_ref().map(|(layer, _)| layer.as_path());
        if cover.is_none()
            && opened.users.is_none()
            && let Some(Ready { root, snapshot }) = self.ahead.and_then(|ahead| ahead.take(parent))
        {
            return Ok((store.continued_snapshot(snapshot, parent), Some(root)));
        }
        Ok((store.sandbox_snapshot(self.solver.lease, parent, cover)?, None))
    }

    /// What there is time for while the process is born and runs.
    fn begin_next(&self, snapshot: &Snapshot) -> Option<Begun> {
        let ahead = self.ahead.filter(|_| Ahead::is_awaited(self.plan, self.step))?;
        ahead.begin(snapshot.next(self.solver.lease)?)
    }

    /// What the step sees of the context must be what its key says.
    fn unchanged(&self, op: &RunOp, before: &[(usize, String)]) -> Result<()> {
        if !op.binds_context() {
            return Ok(());
        }
        let after = self.hash_bound(op)?;
        let changed = before.iter().zip(&after).find(|(before, after)| before != after);
        match changed.and_then(|((index, _), _)| op.mounts.get(*index)).map(|mount| &mount.what) {
            Some(Mounted::Bind { source, .. }) => Err(Error::ContextChanged { path: source.clone() }),
            _ => Ok(()),
        }
    }

    /// The content of what binds show, by number of mount, read at most once; only where trees as a whole say too much.
    pub(super) fn bound_content(&mut self, op: &RunOp) -> Result<Vec<(usize, String)>> {
        if self.bound.is_none() {
            self.bound = Some(self.hash_bound(op)?);
        }
        Ok(self.bound.clone().unwrap_or_default())
    }

    fn hash_bound(&self, op: &RunOp) -> Result<Vec<(usize, String)>> {
        let mut found = Vec::new();
        for (index, mount) in op.mounts.iter().enumerate() {
            let Mounted::Bind { from, source, .. } = &mount.what else { continue };
            let stage;
            let (root, context): (&dyn TreeView, _) = match from {
                MountFrom::Context => (self.solver.context.root(), Some(self.solver.context)),
                // The whole of a tree is known by its hash.
                MountFrom::Input(_) if source.parent().is_none() => continue,
                MountFrom::Input(number) => {
                    self.solver.need(self.layers_of(*number))?;
                    stage = MergedTree::new(self.layers_of(*number));
                    (&stage, None)
                }
            };
            let tree = SourceTree { root, context, exclude: &self.exclude };
            let mut selected = match tree.exact(source)? {
                Ok(selected) => selected,
                Err(missing) => return Err(self.no_source(*from, source, &missing)),
            };
            tree.hash(&mut [&mut selected])?;
            found.push((index, selected.digest(true)));
        }
        Ok(found)
    }

    /// The layers of an input, the parent being number 0.
    fn layers_of(&self, number: usize) -> &[Layer] {
        self.inputs.get(number).map(|tree| tree.layers.as_slice()).unwrap_or_default()
    }

    /// The step's sandbox; `opened` has to live as long as it runs.
    fn sandbox(&self, op: &RunOp, snapshot: &Snapshot, root: Option<Rootfs>, opened: &Opened) -> Result<Sandbox> {
        let users = opened.users.as_ref().map(|users| &users.namespace);
        // What is found and made in the tree on the way is by the stage's own ids, whatever the step's are.
        let mut root_of_step = root.map_or_else(|| rootfs(snapshot, users.is_none()), Ok)?;
        let root = tree_of(&root_of_step)?;
        let user = self.user(&root, &op.user)?;
        self.make_working_directory(op, &root, Owner { uid: user.ids.uid, gid: user.ids.gid })?;
        drop(root);
        if let Some(users) = users {
            drop(root_of_step);
            root_of_step = rootfs_of(snapshot, true, users)?;
        }
        let mut sandbox = Sandbox::new(Arc::new(root_of_step), &op.argv);
        sandbox.users = users.map(Arc::clone);
        sandbox.pretend = crate::perform::pretended_owners();
        let mut env: Vec<(String, String)> = op.env.clone();
        if !env.iter().any(|(name, _)| name == "HOME") {
            env.push(("HOME".to_owned(), user.home.to_string_lossy().into_owned()));
        }
        env.extend(op.hidden_env.iter().cloned());
        sandbox.env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        sandbox.env.retain(|(name, _)| !opened.env.iter().any(|(secret, _)| secret == name));
        sandbox.env.extend(opened.env.iter().cloned());
        sandbox.cwd = op.cwd.as_str().into();
        sandbox.user = user.ids;
        sandbox.user.groups.extend(&opened.groups);
        sandbox.hostname = HOSTNAME.to_owned();
        sandbox.network = op.network.into();
        sandbox.privileged = op.insecure;
        sandbox.stdio = Stdio::Pipes;
        let settings = &self.plan.options.run;
        sandbox.rlimits.clone_from(&settings.limits);
        sandbox.files.extra_hosts.clone_from(&settings.hosts);
        if let Some(size) = settings.shm_size {
            sandbox.shm_size = size;
        }
        sandbox.mounts.clone_from(&opened.mounts);
        // What is mounted may be secret, and is shown once.
        if op.mounts.is_empty() && op.script.is_none() {
            sandbox.spares = self.ahead.map(|ahead| Arc::clone(&ahead.spares));
        }
        if let Some(script) = &op.script {
            let source = self.script_file(&script.body)?.into();
            let target = script.path.as_str().into();
            sandbox.mounts.push(Mount::Bind {
                source,
                target,
                read_only: true,
                recursive: false,
                propagation: None,
                mapped: true,
            });
        }
        Ok(sandbox)
    }

    /// A directory that the image names and does not have is made, as BuildKit does; one below a mount is the mount's.
    fn make_working_directory(&self, op: &RunOp, root: &TreeRoot, owner: Owner) -> Result<()> {
        let cwd = Path::new(&op.cwd);
        let is_elsewhere = ["/proc", "/sys", "/dev"].iter().any(|own| cwd.starts_with(own))
            || op.mounts.iter().any(|mount| mount.target.as_deref().is_some_and(|target| cwd.starts_with(target)));
        let relative = cwd.strip_prefix("/").unwrap_or(cwd);
        if is_elsewhere || relative.as_os_str().is_empty() {
            return Ok(());
        }
        root.make_dirs(relative, 0o755, owner).map_err(|error| {
            self.diagnostic("K0342", format!("cannot make the working directory {}: {error}", cwd.display())).into()
        })
    }

    /// The script as an executable file among the drafts.
    fn script_file(&self, script: &str) -> Result<PathBuf> {
        let path = self.solver.lease.draft();
        let directory = path.parent().unwrap_or(&path);
        let name = path.file_name().map(Path::new).unwrap_or(&path);
        let attributes = Attributes { mode: 0o755, owner: Owner::default(), mtime_ns: 0, xattrs: Vec::new() };
        TreeRoot::open(directory)?.write_bytes(name, script.as_bytes(), &attributes)?;
        Ok(path)
    }
}
