//! The mounts of a RUN, opened: sources found beneath their roots, caches taken, secrets in memory, sockets listening.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cache::{
    CacheMount, CacheSharing, CacheSpec, Kind, MergedTree, Owner, Snapshot, StorageDriver, TreeRoot, TreeView,
};
use grammar::{Diagnostic, Sharing};
use runtime::{Content, DeviceRule, Mount, MountPoints, OverlayOptions, Rootfs};

use super::agent::AgentSocket;
use super::cover::{Cover, lead, looks, plain};
use super::scratch::Scratch;
use super::users::StepUsers;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::mounts::{FileRights, MountFrom, Mounted, RunMount};
use crate::perform::place::{Placer, Rules};
use crate::perform::{Work, rootfs, rootfs_of};
use crate::plan::RunOp;
use crate::select::{Missing, SourceTree};
use crate::solve::CLAIM_POLL;

/// Files of a secret are for their owner only.
const SECRET_MODE: u32 = 0o400;

/// What a step's mounts need while it runs.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) mounts: Vec<Mount>,
    /// Variables that hold secrets or name a socket.
    pub(super) env: Vec<(OsString, OsString)>,
    /// Groups that the process is in besides its user's.
    pub(super) groups: Vec<u32>,
    /// What may be done with each of its devices.
    pub(super) rules: Vec<DeviceRule>,
    /// What must not be shown.
    pub(super) secrets: Vec<crate::Secret>,
    /// The layer with the places of mounts that the tree does not have.
    pub(super) places: Option<(PathBuf, Scratch)>,
    /// Whose the step is, where it is not this process's.
    pub(super) users: Option<StepUsers>,
    _snapshots: Vec<Snapshot>,
    _scratch: Vec<Scratch>,
    _caches: Vec<CacheMount>,
    _agents: Vec<AgentSocket>,
}

/// What a bind shows, found in its tree.
struct Source<'a> {
    tree: &'a dyn TreeView,
    /// Links on the way replaced.
    path: PathBuf,
    directory: bool,
    /// Other mounts inside of it: below its path, and whether they are directories.
    nested: Vec<(PathBuf, bool)>,
}

impl Work<'_> {
    /// Opens everything. Caches come first, in the order of their ids, so that no two steps wait for each other.
    pub(super) fn open_mounts(&self, op: &RunOp) -> Result<Opened> {
        let mut opened = Opened { users: self.step_users(op)?, ..Opened::default() };
        if op.mounts.is_empty() && op.devices.is_empty() {
            return Ok(opened);
        }
        self.open_caches(op, &mut opened)?;
        let mut places: Vec<(&Path, bool)> = Vec::new();
        for (index, mount) in op.mounts.iter().enumerate() {
            let directory = match &mount.what {
                Mounted::Bind { from, source, read_only } => {
                    self.open_bind(op, index, (*from, source, *read_only), &mut opened)?
                }
                Mounted::Cache { .. } => true,
                Mounted::Tmpfs { size } => {
                    if let Some(target) = mount.target.clone() {
                        opened.mounts.push(Mount::Tmpfs { target, size: *size, mode: 0o1777, executable: true });
                    }
                    true
                }
                Mounted::Secret { id, env, required, file } => {
                    let secret = (id.as_str(), env.as_deref(), *required);
                    if !self.open_secret(mount, secret, file, &mut opened)? {
                        continue;
                    }
                    false
                }
                Mounted::Ssh { id, required, file } => {
                    if !self.open_agent(op, mount, (id, *required), file, &mut opened)? {
                        continue;
                    }
                    false
                }
            };
            if let Some(target) = mount.target.as_deref().filter(|target| outer(op, index, target).is_none()) {
                places.push((target, directory));
            }
        }
        let devices = self.open_devices(op, &mut opened)?;
        let free =
            |path: &Path| !op.mounts.iter().any(|mount| mount.target.as_deref().is_some_and(|at| path.starts_with(at)));
        places.extend(
            devices.iter().map(|(path, directory)| (path.as_path(), *directory)).filter(|(path, _)| free(path)),
        );
        self.make_places(&places, &mut opened)?;
        Ok(opened)
    }

    /// A layer with the places that the step's tree lacks. The runtime has its own below /dev and /sys.
    fn make_places(&self, places: &[(&Path, bool)], opened: &mut Opened) -> Result<()> {
        let own = |path: &Path| path.starts_with("/dev") || path.starts_with("/sys");
        if places.iter().all(|(path, _)| own(path)) {
            return Ok(());
        }
        let tree = MergedTree::new(self.parent());
        let mut cover = Cover::new(&tree, Scratch::make(self.solver.lease)?)?;
        for (path, directory) in places.iter().filter(|(path, _)| !own(path)) {
            cover.place(path, *directory).map_err(|error| self.mount_failed(path, &error))?;
        }
        opened.places = cover.finish()?;
        Ok(())
    }

    fn mount_failed(&self, target: &Path, cause: &dyn std::fmt::Display) -> Error {
        self.diagnostic("K0353", format!("cannot mount on {}: {cause}", target.display())).into()
    }

    /// A bind; gives whether its source is a directory.
    fn open_bind(
        &self,
        op: &RunOp,
        index: usize,
        (from, path, read_only): (MountFrom, &Path, bool),
        opened: &mut Opened,
    ) -> Result<bool> {
        let Some(target) = op.mounts.get(index).and_then(|mount| mount.target.clone()) else { return Ok(false) };
        let merged;
        let (tree, context): (&dyn TreeView, _) = match from {
            MountFrom::Context => (self.solver.context.root(), Some(self.solver.context)),
            MountFrom::Input(number) => {
                merged = MergedTree::new(self.layers_of(number));
                (&merged, None)
            }
        };
        let view = SourceTree { root: tree, context, exclude: &self.exclude };
        let relative = path.strip_prefix("/").unwrap_or(path);
        let Some(metadata) = tree.metadata(relative, cache::Follow::Yes)? else {
            return Err(self.no_source(from, path, &view.missing(path)));
        };
        let directory = metadata.kind == Kind::Directory;
        let nested = if directory { nested(op, index, &target) } else { Vec::new() };
        let source = Source { tree, path: lead(tree, relative)?, directory, nested };
        let mount = match from {
            MountFrom::Input(number) => self.bind_input(&source, number, target, read_only, opened)?,
            MountFrom::Context => self.bind_context(&source, &view, target, read_only, op.insecure, opened)?,
        };
        opened.mounts.push(mount);
        Ok(directory)
    }

    /// The layer over a source: places for what is mounted inside, and nothing of what is left out.
    fn cover(&self, source: &Source<'_>, left_out: &[PathBuf], target: &Path) -> Result<Option<(PathBuf, Scratch)>> {
        if source.nested.is_empty() && left_out.is_empty() {
            return Ok(None);
        }
        let mut cover = Cover::new(source.tree, Scratch::make(self.solver.lease)?)?;
        for (below, directory) in &source.nested {
            let place = source.path.join(below);
            cover.place(&place, *directory).map_err(|error| self.mount_failed(&target.join(below), &error))?;
        }
        for path in left_out {
            cover.hide(path)?;
        }
        cover.finish()
    }

    /// A snapshot of a stage or image that nobody keeps.
    fn bind_input(
        &self,
        source: &Source<'_>,
        number: usize,
        target: PathBuf,
        read_only: bool,
        opened: &mut Opened,
    ) -> Result<Mount> {
        let cover = self.cover(source, &[], &target)?;
        let over = cover.as_ref().map(|(layer, _)| layer.as_path());
        let snapshot = self.solver.store.snapshot_below(self.solver.lease, self.layers_of(number), over)?;
        look_alike(source.tree, &snapshot.upper())?;
        let rootfs = Arc::new(match &opened.users {
            Some(users) => rootfs_of(&snapshot, true, &users.namespace)?,
            None => rootfs(&snapshot, true)?,
        });
        opened._scratch.extend(cover.map(|(_, scratch)| scratch));
        opened._snapshots.push(snapshot);
        Ok(Mount::Tree { rootfs, path: source.path.clone(), target, read_only })
    }

    /// The context itself, where nothing has to be hidden, written or protected from a step that may do anything; else
    /// under a layer that nobody keeps; and where overlay cannot be had, a copy.
    fn bind_context(
        &self,
        source: &Source<'_>,
        view: &SourceTree<'_>,
        target: PathBuf,
        read_only: bool,
        insecure: bool,
        opened: &mut Opened,
    ) -> Result<Mount> {
        let root = self.solver.context.root();
        let left_out = view.left_out(&source.path)?;
        if read_only && !insecure && left_out.is_empty() && source.nested.is_empty() {
            let source = root.handle(&source.path)?.into();
            return Ok(Mount::Bind {
                source,
                target,
                read_only: true,
                recursive: true,
                propagation: None,
                mapped: true,
            });
        }
        let scratch = Scratch::make(self.solver.lease)?;
        if self.solver.store.storage_driver() == StorageDriver::Copy {
            let copy = self.copy_context(source, view, &scratch)?;
            opened._scratch.push(scratch);
            return Ok(Mount::Bind {
                source: copy.into(),
                target,
                read_only,
                recursive: false,
                propagation: None,
                mapped: true,
            });
        }
        let cover = self.cover(source, &left_out, &target)?;
        let mut lowers: Vec<PathBuf> = cover.iter().map(|(layer, _)| layer.clone()).collect();
        let handle = root.handle(Path::new(""))?;
        lowers.push(PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd())));
        let (upper, work) = (scratch.directory("fs")?, scratch.directory("work")?);
        look_alike(source.tree, &upper)?;
        let users = opened.users.as_ref().map(|users| Arc::clone(&users.namespace));
        let mount_points = MountPoints::Absent;
        let options = OverlayOptions { volatile: true, mount_points, users, ..OverlayOptions::default() };
        let rootfs = Arc::new(Rootfs::overlay(&lowers, &upper, &work, options)?);
        drop(handle);
        opened._scratch.extend(cover.map(|(_, scratch)| scratch));
        opened._scratch.push(scratch);
        Ok(Mount::Tree { rootfs, path: source.path.clone(), target, read_only })
    }

    fn copy_context(&self, source: &Source<'_>, view: &SourceTree<'_>, scratch: &Scratch) -> Result<PathBuf> {
        let selected = match view.exact(&source.path)? {
            Ok(selected) => selected,
            Err(missing) => return Err(self.no_source(MountFrom::Context, &source.path, &missing)),
        };
        let copy = scratch.directory("fs")?;
        let target = TreeRoot::open(&copy)?;
        let rules = Rules { owner: None, chmod: None, keep_owner: true, unpack: false };
        let touched = Mutex::default();
        let placer = Placer { source: source.tree, target: &target, rules: &rules, touched: &touched, before: None };
        if !source.directory {
            placer.file(&selected, Path::new("file"), false)?;
            return Ok(copy.join("file"));
        }
        placer.directory(&selected, Path::new(""))?;
        target.set_attributes(Path::new(""), &looks(source.tree, &source.path, &selected.metadata)?)?;
        for (below, directory) in &source.nested {
            let place = lead(&target, below)?;
            if target.metadata(&place, cache::Follow::No)?.is_some() {
                continue;
            }
            let parent = if *directory { &place } else { place.parent().unwrap_or(Path::new("")) };
            target.make_dirs(parent, 0o755, Owner::default())?;
            if !directory {
                target.write_bytes(&place, b"", &plain(0o644))?;
            }
        }
        Ok(copy)
    }

    pub(in crate::perform) fn no_source(&self, from: MountFrom, path: &Path, missing: &Missing) -> Error {
        let place = match from {
            MountFrom::Context => "the build context",
            MountFrom::Input(_) => "the stage or image that it names",
        };
        let message = format!("the mount's source `{}` is not in {place}", path.display());
        let diagnostic = self.diagnostic("K0354", message).label("no such file or directory");
        let diagnostic: Diagnostic = match (&missing.excluded_by, &missing.nearest) {
            (Some(rule), _) => diagnostic.help(format!("it is excluded by {rule}")),
            (None, Some(name)) => diagnostic.help(format!("a file with a similar name exists: `{name}`")),
            (None, None) => diagnostic,
        };
        diagnostic.into()
    }

    fn open_caches(&self, op: &RunOp, opened: &mut Opened) -> Result<()> {
        let mut caches: Vec<&RunMount> =
            op.mounts.iter().filter(|mount| matches!(mount.what, Mounted::Cache { .. })).collect();
        let id = |mount: &RunMount| match &mount.what {
            Mounted::Cache { id, .. } => id.clone(),
            _ => String::new(),
        };
        caches.sort_by_key(|mount| id(mount));
        let mut taken: Vec<(CacheSpec, PathBuf)> = Vec::new();
        for mount in caches {
            let (Mounted::Cache { sharing, seed, read_only, file, .. }, Some(target)) = (&mount.what, &mount.target)
            else {
                continue;
            };
            let spec = self.cache_spec(&id(mount), seed.as_ref(), file);
            // One step that mounts a cache twice must not wait for itself.
            let known = taken.iter().find(|(known, _)| *known == spec).map(|(_, path)| path.clone());
            let path = match known {
                Some(path) => path,
                None => {
                    let cache = self.take_cache(&spec, *sharing, seed.as_ref())?;
                    let path = cache.directory().to_owned();
                    opened._caches.push(cache);
                    path
                }
            };
            taken.push((spec, path.clone()));
            let (target, read_only) = (target.clone(), *read_only);
            opened.mounts.push(Mount::Bind {
                source: path.into(),
                target,
                read_only,
                recursive: false,
                propagation: None,
                mapped: true,
            });
        }
        Ok(())
    }

    /// A cache with another base, owner or mode is another cache, as with BuildKit.
    fn cache_spec(&self, id: &str, seed: Option<&(usize, PathBuf)>, file: &FileRights) -> CacheSpec {
        let mut base = String::new();
        if let Some((number, source)) = seed {
            base = source.display().to_string();
            self.layers_of(*number).iter().for_each(|layer| base.push_str(&format!("\n{}", layer.tree)));
        }
        let owner = (file.uid.is_some() || file.gid.is_some())
            .then(|| Owner { uid: file.uid.unwrap_or(0), gid: file.gid.unwrap_or(0) });
        CacheSpec { id: id.to_owned(), base, mode: file.mode, owner }
    }

    /// Takes the cache, waiting for whoever holds it.
    fn take_cache(&self, spec: &CacheSpec, sharing: Sharing, seed: Option<&(usize, PathBuf)>) -> Result<CacheMount> {
        let sharing = match sharing {
            Sharing::Shared => CacheSharing::Shared,
            Sharing::Private => CacheSharing::Private,
            Sharing::Locked => CacheSharing::Locked,
        };
        let holder = format!("`{}` of process {}", self.step.text, std::process::id());
        let failure = std::cell::RefCell::new(None);
        let fill = |root: &TreeRoot| match self.first_content(spec, seed, root) {
            Ok(()) => Ok(()),
            Err(Error::Store(error)) => Err(error),
            Err(error) => {
                let told =
                    cache::Error::Document { what: "the cache's first content".to_owned(), reason: error.to_string() };
                *failure.borrow_mut() = Some(error);
                Err(told)
            }
        };
        let mut told = false;
        loop {
            match self.solver.store.try_cache_mount(spec, sharing, &holder, &fill) {
                Ok(Ok(cache)) => return Ok(cache),
                Ok(Err(holder)) => {
                    if !told {
                        let who = if holder.is_empty() { "another step" } else { &holder };
                        let note = format!("the cache `{}` is in use by {who}: waiting for it", spec.id);
                        (self.solver.events)(Event::Note(Some(self.step.id), note));
                        told = true;
                    }
                }
                Err(error) => return Err(failure.take().unwrap_or(Error::Store(error))),
            }
            if self.solver.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(CLAIM_POLL);
        }
    }

    /// What a cache beyond the store has of it, else what the step says.
    fn first_content(&self, spec: &CacheSpec, seed: Option<&(usize, PathBuf)>, root: &TreeRoot) -> Result<()> {
        match seed {
            _ if self.solver.import_mount(spec, root)? => Ok(()),
            Some(seed) => self.fill_cache(seed, root),
            None => Ok(()),
        }
    }

    fn fill_cache(&self, (number, path): &(usize, PathBuf), target: &TreeRoot) -> Result<()> {
        let source = MergedTree::new(self.layers_of(*number));
        let tree = SourceTree { root: &source, context: None, exclude: &self.exclude };
        let selected = match tree.exact(path)? {
            Ok(selected) if selected.metadata.kind == Kind::Directory => selected,
            Ok(_) => {
                let message = format!("the source `{}` of a cache mount is no directory", path.display());
                return Err(self.diagnostic("K0354", message).into());
            }
            Err(missing) => return Err(self.no_source(MountFrom::Input(*number), path, &missing)),
        };
        let rules = Rules { owner: None, chmod: None, keep_owner: true, unpack: false };
        let touched = Mutex::default();
        Placer { source: &source, target, rules: &rules, touched: &touched, before: None }
            .directory(&selected, Path::new(""))?;
        Ok(target.set_attributes(Path::new(""), &looks(&source, &selected.path, &selected.metadata)?)?)
    }

    /// False when there is no such secret and none is needed.
    fn open_secret(
        &self,
        mount: &RunMount,
        (id, env, required): (&str, Option<&str>, bool),
        file: &FileRights,
        opened: &mut Opened,
    ) -> Result<bool> {
        let Some(secret) = self.solver.credentials.secrets.get(id) else {
            return self.lacking(required, format!("secret `{id}` is required"), format!("--secret id={id},src=FILE"));
        };
        if let Some(name) = env {
            use std::os::unix::ffi::OsStringExt;
            opened.env.push((name.into(), OsString::from_vec(secret.bytes().to_vec())));
        }
        if let Some(target) = mount.target.clone() {
            let (mode, uid, gid) = (file.mode.unwrap_or(SECRET_MODE), file.uid.unwrap_or(0), file.gid.unwrap_or(0));
            opened.mounts.push(Mount::File { content: Content::from(secret.bytes()), target, mode, uid, gid });
        }
        opened.secrets.push(secret.clone());
        Ok(mount.target.is_some())
    }

    fn lacking(&self, required: bool, what: String, flag: String) -> Result<bool> {
        if !required {
            return Ok(false);
        }
        let diagnostic = self.diagnostic("K0355", format!("{what}, and the build was given none"));
        Err(diagnostic.help(format!("pass `{flag}`")).into())
    }

    /// False when there is no such agent and none is needed.
    fn open_agent(
        &self,
        op: &RunOp,
        mount: &RunMount,
        (id, required): (&str, bool),
        file: &FileRights,
        opened: &mut Opened,
    ) -> Result<bool> {
        let (Some(agent), Some(target)) = (self.solver.credentials.agents.get(id), mount.target.clone()) else {
            return self.lacking(required, format!("the SSH agent `{id}` is required"), format!("--ssh {id}"));
        };
        let scratch = Scratch::make(self.solver.lease)?;
        let socket = AgentSocket::listen(scratch, agent, file).map_err(|error| self.mount_failed(&target, &error))?;
        let known = op.env.iter().any(|(name, _)| name == "SSH_AUTH_SOCK")
            || opened.env.iter().any(|(name, _)| name == "SSH_AUTH_SOCK");
        if !known {
            opened.env.push(("SSH_AUTH_SOCK".into(), target.clone().into_os_string()));
        }
        let source = runtime::BindSource::Descriptor(Arc::clone(&socket.handle));
        opened.mounts.push(Mount::Bind {
            source,
            target,
            read_only: false,
            recursive: false,
            propagation: None,
            mapped: true,
        });
        opened._agents.push(socket);
        Ok(true)
    }
}

/// The innermost mount, other than `index`, that `target` lies inside.
fn outer(op: &RunOp, index: usize, target: &Path) -> Option<usize> {
    let others = op.mounts.iter().enumerate().filter(|(other, _)| *other != index);
    let around = others.filter_map(|(other, mount)| {
        let around = mount.target.as_deref().filter(|around| target.starts_with(around) && *around != target)?;
        Some((around.components().count(), other))
    });
    around.max().map(|(_, other)| other)
}

/// Gives the root of a writable layer the looks of the tree that it covers.
fn look_alike(tree: &dyn TreeView, upper: &Path) -> Result<()> {
    let root = Path::new("");
    if let Some(metadata) = tree.metadata(root, cache::Follow::No)? {
        TreeRoot::open(upper)?.set_attributes(root, &looks(tree, root, &metadata)?)?;
    }
    Ok(())
}

/// The mounts directly inside mount `index`: where below it, and whether they are directories.
fn nested(op: &RunOp, index: usize, target: &Path) -> Vec<(PathBuf, bool)> {
    let mut found = Vec::new();
    for (other, mount) in op.mounts.iter().enumerate() {
        let Some(inner) = mount.target.as_deref() else { continue };
        if other == index || outer(op, other, inner) != Some(index) {
            continue;
        }
        let directory = !matches!(mount.what, Mounted::Secret { .. } | Mounted::Ssh { .. });
        if let Ok(below) = inner.strip_prefix(target) {
            found.push((below.to_owned(), directory));
        }
    }
    found
}
