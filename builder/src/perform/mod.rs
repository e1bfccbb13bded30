//! Carrying out one step: its keys, then its work on a fresh snapshot.

mod copy;
mod delta;
mod fresh;
mod place;
mod remote;
mod run;
mod workdir;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use cache::{CommitOptions, Layer, MergedTree, NextSnapshot, Snapshot, TreeRoot, TreeView, Writable, failpoint};
use grammar::{Diagnostic, IgnoreRules};
use runtime::{MountPoints, OverlayOptions, OwnerAttributes, ResolvedUser, Rootfs, UserNamespace};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::key::{self, KeyParts};
use crate::plan::{CopyOp, Op, Plan, RunOp, Step};
use crate::reason;
use crate::select::SourceTree;
use crate::settle::Made;
use crate::solve::{Solver, Tree};

pub(crate) use self::remote::Taken;
pub(crate) use self::run::{Ahead, Coming};
pub use self::run::{DeviceChanges, FailedRun, Shell, Side, machine_devices};

/// Where an executable heredoc of a RUN is mounted.
pub(crate) const SCRIPTS: &str = "/dev/pipes";

/// Most of `/etc/passwd` and `/etc/group` that is read; a larger file is not a user database.
const USER_FILE_LIMIT: u64 = 1 << 20;

/// A step with all that is needed to key and perform it.
pub(crate) struct Work<'a> {
    solver: &'a Solver<'a>,
    plan: &'a Plan,
    step: &'a Step,
    inputs: &'a [Tree],
    /// The selection of a COPY, read at most once.
    taken: Option<Vec<Taken>>,
    exclude: IgnoreRules,
    source: Option<MergedTree>,
    /// What the binds of a RUN show, read at most once.
    bound: Option<Vec<(usize, String)>>,
    /// The key by content of a COPY, once it was made.
    content: Option<KeyParts>,
    /// What is made before its time, where others may come after it.
    pub(crate) ahead: Option<&'a Ahead>,
}

impl<'a> Work<'a> {
    pub(crate) fn prepare(solver: &'a Solver<'a>, plan: &'a Plan, step: &'a Step, inputs: &'a [Tree]) -> Result<Self> {
        let exclude = match &step.op {
            Op::Copy(op) if !op.exclude.is_empty() => IgnoreRules::parse(&op.exclude.join("\n"))
                .map_err(|error| Error::from(diagnostic(plan, step, "K0340", error.to_string())))?,
            _ => IgnoreRules::none(),
        };
        let (taken, source, bound, content) = (None, None, None, None);
        Ok(Work { solver, plan, step, inputs, taken, exclude, source, bound, content, ahead: None })
    }

    pub(crate) fn parent(&self) -> &[Layer] {
        self.inputs.first().map(|tree| tree.layers.as_slice()).unwrap_or_default()
    }

    /// Keys that need no file to be read.
    pub(crate) fn keys(&self) -> Vec<KeyParts> {
        match &self.step.op {
            // What a step sees of the context is known by reading it only.
            Op::Run(op) if op.binds_context() => Vec::new(),
            Op::Run(op) => vec![self.run_key(op, &[])],
            Op::Workdir(op) => vec![key::workdir_key(op, self.parent())],
            Op::Copy(op) if !op.from_context => {
                let source = self.inputs.get(1).map(|tree| tree.layers.as_slice()).unwrap_or_default();
                vec![key::copy_definition_key(op, self.parent(), source)]
            }
            Op::Copy(_) | Op::Scratch | Op::Image { .. } => Vec::new(),
        }
    }

    /// The key by content of a COPY: reads what it selects.
    pub(crate) fn content_key(&mut self) -> Result<Option<KeyParts>> {
        let op = match &self.step.op {
            Op::Run(op) => {
                let bound = self.bound_content(op)?;
                return Ok((!bound.is_empty()).then(|| self.run_key(op, &bound)));
            }
            Op::Copy(op) => op,
            _ => return Ok(None),
        };
        if self.content.is_some() {
            return Ok(self.content.clone());
        }
        if let Some(source) = self.inputs.get(1).filter(|_| !op.from_context) {
            self.solver.need(&source.layers)?;
        }
        self.select(op)?;
        let with_owner = !op.from_context && op.chown.is_none();
        let mut parts: Vec<(String, String)> = Vec::new();
        for one in self.taken.iter().flatten() {
            parts.push(one.part(with_owner));
        }
        for source in &op.sources {
            if let crate::plan::CopySource::Inline { name, content } = source {
                parts.push((format!("<<{name}"), blake3::hash(content.as_bytes()).to_hex().to_string()));
            }
        }
        self.content = Some(key::copy_content_key(op, self.parent(), &parts));
        Ok(self.content.clone())
    }

    fn run_key(&self, op: &RunOp, bound: &[(usize, String)]) -> KeyParts {
        let inputs: Vec<&[Layer]> = self.inputs.iter().map(|tree| tree.layers.as_slice()).collect();
        key::run_key(op, &self.plan.options.run, &inputs, bound)
    }

    /// What each selected directory holds, by the digest that the key has of it.
    pub(crate) fn listings(&self) -> BTreeMap<String, Vec<u8>> {
        let Op::Copy(op) = &self.step.op else { return BTreeMap::new() };
        let with_owner = !op.from_context && op.chown.is_none();
        let known = self.taken.iter().flatten().filter_map(Taken::files);
        known.filter_map(|one| Some((one.digest(with_owner), crate::listing::of(one, with_owner)?))).collect()
    }

    /// Does the work.
    pub(crate) fn perform(&mut self) -> Result<Made> {
        let step = self.step;
        self.need_inputs()?;
        match &step.op {
            Op::Run(op) => self.run(op),
            Op::Copy(op) => self.copy(op),
            Op::Workdir(op) => self.workdir(op),
            Op::Scratch | Op::Image { .. } => Err(Error::WorkerLost),
        }
    }

    /// Brings the layers that the step works on, where they are not here.
    fn need_inputs(&self) -> Result<()> {
        // A linked copy is made on nothing, and looks into its parent only for names of users.
        let parentless = matches!(&self.step.op, Op::Copy(op) if op.link && op.chown.is_none());
        self.inputs.iter().skip(usize::from(parentless)).try_for_each(|tree| self.solver.need(&tree.layers))
    }

    /// A writable tree over layers, for files to be placed in.
    fn snapshot(&self, layers: &[Layer]) -> Result<(Snapshot, Rootfs)> {
        let snapshot = self.solver.store.snapshot(self.solver.lease, layers)?;
        let rootfs = rootfs(&snapshot, true)?;
        Ok((snapshot, rootfs))
    }

    fn seal(&self, snapshot: Snapshot) -> Result<Made> {
        committing()?;
        // The files of a COPY have the times of its source.
        let inherit = if let Op::Run(_) = self.step.op { self.layer_before()? } else { None };
        let options = CommitOptions { inherit };
        let (sealed, leftover) = snapshot.seal(self.solver.store, self.solver.lease, &options)?;
        Ok(Made::new(sealed, Some(leftover)))
    }

    /// What the step gave when it was finished last, where the store has it still.
    fn layer_before(&self) -> Result<Option<Layer>> {
        let seen = self.solver.memory.before(&reason::name(self.step));
        match seen.and_then(|seen| seen.gave()).and_then(|tree| tree.parse().ok()) {
            Some(tree) => Ok(self.solver.store.layer_by_tree(self.solver.lease, &tree)?),
            None => Ok(None),
        }
    }

    /// Numbers of a USER or `--chown`, looked up in the tree's own files.
    fn user(&self, root: &dyn TreeView, spec: &str) -> Result<ResolvedUser> {
        let passwd = root.read_file(Path::new("etc/passwd"), USER_FILE_LIMIT)?.unwrap_or_default();
        let group = root.read_file(Path::new("etc/group"), USER_FILE_LIMIT)?.unwrap_or_default();
        runtime::resolve_user(spec, &passwd, &group)
            .map_err(|error| diagnostic(self.plan, self.step, "K0341", error.to_string()).into())
    }

    /// The context that a COPY reads.
    fn context_of(&self, op: &CopyOp) -> &'a Context {
        let named = op.context.as_ref().and_then(|name| self.solver.contexts.get(name));
        named.unwrap_or(self.solver.context)
    }

    fn source_tree<'s>(&'s self, root: &'s dyn TreeView, op: &CopyOp) -> SourceTree<'s> {
        let context = op.from_context.then(|| self.context_of(op));
        SourceTree { root, context, exclude: &self.exclude }
    }

    fn diagnostic(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        diagnostic(self.plan, self.step, code, message)
    }
}

/// The work is done; its layer is not made yet.
fn committing() -> Result<()> {
    Ok(failpoint("step.commit")?)
}

/// An error at the instruction of a step.
fn diagnostic(plan: &Plan, step: &Step, code: &'static str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(code, message.into()).at(&plan.source, step.span)
}

/// A snapshot as the root of a sandbox. `volatile` skips flushes: what is written is worth nothing after a crash.
///
/// # Errors
/// When it cannot be mounted.
pub fn rootfs(snapshot: &Snapshot, volatile: bool) -> Result<Rootfs> {
    let options = OverlayOptions { volatile, mount_points: MountPoints::Absent, ..OverlayOptions::default() };
    mounted(snapshot.writable(), options)
}

/// The same as those in a user namespace see it: the files of the snapshot keep their owners.
///
/// # Errors
/// When it cannot be mounted, or the file system of the store shows no files with mapped owners.
pub fn rootfs_of(snapshot: &Snapshot, volatile: bool, users: &Arc<UserNamespace>) -> Result<Rootfs> {
    let users = Some(Arc::clone(users));
    let options = OverlayOptions { volatile, mount_points: MountPoints::Absent, users, ..OverlayOptions::default() };
    mounted(snapshot.writable(), options)
}

/// The same of one that will be a snapshot.
fn rootfs_of_next(next: &NextSnapshot, volatile: bool) -> Result<Rootfs> {
    let options = OverlayOptions { volatile, mount_points: MountPoints::Absent, ..OverlayOptions::default() };
    mounted(next.writable(), options)
}

fn mounted(writable: Writable<'_>, options: OverlayOptions) -> Result<Rootfs> {
    Ok(match (writable, &options.users) {
        // The snapshot has the mount points among its lowers.
        (Writable::Overlay { lowers, upper, work }, _) => Rootfs::overlay(lowers, &upper, &work, options)?,
        (Writable::Directory(path), Some(users)) => Rootfs::directory_of(path, users)?,
        (Writable::Directory(path), None) => Rootfs::directory(path)?,
    })
}

/// What a sandbox needs to know of a store in which owners are recorded.
pub fn pretended_owners() -> Option<OwnerAttributes> {
    cache::recorded_owners().map(|(own, of_entry)| OwnerAttributes { own, of_entry })
}

/// The tree behind a mounted root file system.
fn tree_of(rootfs: &Rootfs) -> Result<TreeRoot> {
    Ok(TreeRoot::from_fd(rootfs.fd().as_fd())?)
}
