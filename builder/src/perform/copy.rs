//! COPY and ADD: selects sources, then places them in the parent's tree by descriptor.

use std::path::Path;
use std::sync::Mutex;

use cache::{Kind, MergedTree, Owner, TreeRoot, TreeView, failpoint};

use super::delta::Before;
use super::place::{Placer, Rules};
use super::{Taken, Work, tree_of};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::plan::{CopyOp, CopySource};
use crate::select::{Missing, Selected};
use crate::settle::Made;

impl Work<'_> {
    /// Lists and hashes the sources, once.
    pub(super) fn select(&mut self, op: &CopyOp) -> Result<()> {
        if self.taken.is_some() {
            return Ok(());
        }
        self.open_source(op);
        let tree = self.source_tree(self.source(op), op);
        let mut taken = Vec::new();
        for source in &op.sources {
            match source {
                CopySource::Path(text) => match tree.select(text)? {
                    Ok(found) => taken.extend(found.into_iter().map(Taken::Files)),
                    Err(missing) => return Err(self.missing(op, text, &missing)),
                },
                CopySource::Url(source) => taken.push(self.take_url(source)?),
                CopySource::Git(source) => taken.push(self.take_git(source)?),
                CopySource::Inline { .. } => {}
            }
        }
        let mut files: Vec<&mut Selected> = taken
            .iter_mut()
            .filter_map(|one| match one {
                Taken::Files(selected) => Some(selected),
                Taken::Url { .. } | Taken::Git { .. } => None,
            })
            .collect();
        tree.hash(&mut files)?;
        if op.from_context && !files.is_empty() {
            let (entries, bytes) =
                files.iter().map(|one| one.totals()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            (self.solver.events)(Event::ContextRead { id: self.step.id, entries, bytes });
        }
        self.taken = Some(taken);
        Ok(())
    }

    /// A view of the stage or image that the files come from; the context has its own.
    fn open_source(&mut self, op: &CopyOp) {
        if !op.from_context && self.source.is_none() {
            let layers = self.inputs.get(1).map(|tree| tree.layers.as_slice()).unwrap_or_default();
            self.source = Some(MergedTree::new(layers));
        }
    }

    fn source(&self, op: &CopyOp) -> &dyn TreeView {
        match &self.source {
            Some(view) => view,
            None => self.context_of(op).root(),
        }
    }

    fn missing(&self, op: &CopyOp, source: &str, missing: &Missing) -> Error {
        let place = if op.from_context { "the build context" } else { "the source stage" };
        let mut diagnostic = self
            .diagnostic("K0360", format!("COPY source `{source}` not found in {place}"))
            .label("no such file or directory");
        if let Some(rule) = &missing.excluded_by {
            diagnostic = diagnostic.help(format!("it is excluded by {rule}"));
        } else if let Some(name) = &missing.nearest {
            diagnostic = diagnostic.help(format!("a file with a similar name exists: `{name}`"));
        }
        if op.from_context {
            diagnostic = diagnostic.note(format!("the context is {}", self.context_of(op).name()));
            if source.starts_with("..") || source.contains("/../") {
                diagnostic = diagnostic.note("paths outside of the context cannot be copied: `..` stops at its root");
            } else if source.starts_with('/') {
                diagnostic = diagnostic.note(format!("`{source}` is looked up below the context, not on the host"));
            }
        }
        let _ = &missing.path;
        diagnostic.into()
    }

    pub(super) fn copy(&mut self, op: &CopyOp) -> Result<Made> {
        self.select(op)?;
        let taken = self.taken.take().unwrap_or_default();
        let layers = if op.link { &[] } else { self.parent() };
        let committed = match self.copy_fresh(op, &taken, layers)? {
            Some(committed) => Ok(committed),
            None => {
                let (snapshot, rootfs) = self.snapshot(layers)?;
                self.copy_into(op, &tree_of(&rootfs)?, &taken, None)?;
                drop(rootfs);
                self.seal(snapshot)
            }
        };
        self.taken = Some(taken);
        committed
    }

    /// Places all that is copied; files that the layer before has as they must be are taken from there.
    pub(super) fn copy_into(
        &self,
        op: &CopyOp,
        root: &TreeRoot,
        taken: &[Taken],
        before: Option<Before<'_>>,
    ) -> Result<()> {
        let chmod = op
            .chmod
            .as_deref()
            .map(grammar::Chmod::parse)
            .transpose()
            .map_err(|error| Error::from(self.diagnostic("K0332", format!("invalid --chmod value: {error}"))))?;
        let rules = Rules { owner: self.owner(op)?, chmod, keep_owner: !op.from_context, unpack: op.unpack };
        let touched = Mutex::default();
        let placer = Placer { source: self.source(op), target: root, rules: &rules, touched: &touched, before };
        failpoint("step.copy")?;
        self.place_all(op, &placer, root, taken)
    }

    /// Names are looked up in the parent's tree, also where the copy itself has an empty one below it.
    fn owner(&self, op: &CopyOp) -> Result<Option<Owner>> {
        let Some(spec) = &op.chown else { return Ok(None) };
        let user = self.user(&MergedTree::new(self.parent()), spec)?;
        // `--chown=1` without a group means group 1, where USER would mean the user's own group.
        let gid = if spec.contains(':') {
            user.ids.gid
        } else if spec.chars().all(|c| c.is_ascii_digit()) {
            user.ids.uid
        } else {
            user.ids.gid
        };
        Ok(Some(Owner { uid: user.ids.uid, gid }))
    }

    fn place_all(&self, op: &CopyOp, placer: &Placer<'_>, root: &TreeRoot, taken: &[Taken]) -> Result<()> {
        let destination = op.destination.strip_prefix("/").unwrap_or(Path::new(""));
        let into = op.into_directory || is_directory(root, destination)?;
        if taken.len() > 1 && !into {
            return Err(self
                .diagnostic("K0331", "COPY of several sources needs a directory as its destination")
                .help(format!("end the destination with a slash: `{}/`", op.destination.display()))
                .into());
        }
        let place = || -> Result<()> {
            if op.into_directory && !taken.is_empty() {
                let first = taken.iter().filter_map(Taken::files).find(|one| one.metadata.kind == Kind::Directory);
                placer.make_destination(destination, first.filter(|_| !op.parents))?;
            }
            for one in taken {
                self.place(op, placer, destination, into, one)?;
            }
            for source in &op.sources {
                if let CopySource::Inline { name, content } = source {
                    let target = if into { destination.join(name) } else { destination.to_owned() };
                    placer.inline(content, &target)?;
                }
            }
            placer.restore_times()
        };
        place().map_err(|error| match error {
            Error::Store(cause) if cause.is_disk_full() => cause.below(self.solver.store.root()).into(),
            Error::Store(cause) => {
                self.diagnostic("K0361", format!("cannot copy to {}: {cause}", op.destination.display())).into()
            }
            other => other,
        })
    }

    fn place(&self, op: &CopyOp, placer: &Placer<'_>, destination: &Path, into: bool, one: &Taken) -> Result<()> {
        match one {
            Taken::Files(one) => {
                let target = if op.parents { destination.join(&one.kept) } else { destination.to_owned() };
                if one.metadata.kind == Kind::Directory {
                    placer.directory(one, &target)
                } else {
                    placer.file(one, &target, into && !op.parents)
                }
            }
            Taken::Url { source, fetched: Some(fetched) } => placer.fetched(source, fetched, destination, into),
            Taken::Url { source, fetched: None } => placer.fetched(source, &self.fetch(source)?, destination, into),
            Taken::Git { source, commit } => self.place_git(placer, source, commit, destination),
        }
    }
}

fn is_directory(root: &TreeRoot, path: &Path) -> Result<bool> {
    Ok(root.metadata(path, cache::Follow::Yes)?.is_some_and(|metadata| metadata.kind == Kind::Directory))
}
