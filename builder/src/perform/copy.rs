//! COPY and ADD: selects sources, then places them in the parent's tree by descriptor.

use std::path::Path;

use cache::{Kind, Layer, MergedTree, Owner, TreeRoot, TreeView};

use super::place::{Placer, Rules};
use super::{Work, tree_of};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::plan::{CopyOp, CopySource};
use crate::select::{Missing, Selected};

impl Work<'_> {
    /// Lists and hashes the sources, once.
    pub(super) fn select(&mut self, op: &CopyOp) -> Result<()> {
        if self.selected.is_some() {
            return Ok(());
        }
        self.open_source(op);
        let tree = self.source_tree(self.source(), op.from_context);
        let mut selected = Vec::new();
        for source in &op.sources {
            let CopySource::Path(text) = source else { continue };
            match tree.select(text)? {
                Ok(found) => selected.extend(found),
                Err(missing) => return Err(self.missing(op, text, &missing)),
            }
        }
        tree.hash(&mut selected)?;
        if op.from_context {
            let (entries, bytes) =
                selected.iter().map(Selected::totals).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            (self.solver.events)(Event::ContextRead { id: self.step.id, entries, bytes });
        }
        self.selected = Some(selected);
        Ok(())
    }

    /// A view of the stage or image that the files come from; the context has its own.
    fn open_source(&mut self, op: &CopyOp) {
        if !op.from_context && self.source.is_none() {
            let layers = self.inputs.get(1).map(|tree| tree.layers.as_slice()).unwrap_or_default();
            self.source = Some(MergedTree::new(layers));
        }
    }

    fn source(&self) -> &dyn TreeView {
        match &self.source {
            Some(view) => view,
            None => self.solver.context.root(),
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
            diagnostic = diagnostic.note(format!("the context is {}", self.solver.context.path().display()));
            if source.starts_with("..") || source.contains("/../") {
                diagnostic = diagnostic.note("paths outside of the context cannot be copied: `..` stops at its root");
            } else if source.starts_with('/') {
                diagnostic = diagnostic.note(format!("`{source}` is looked up below the context, not on the host"));
            }
        }
        let _ = &missing.path;
        diagnostic.into()
    }

    pub(super) fn copy(&mut self, op: &CopyOp) -> Result<(Layer, bool)> {
        self.select(op)?;
        let selected = self.selected.take().unwrap_or_default();
        let layers = if op.link { &[] } else { self.parent() };
        let (snapshot, rootfs) = self.snapshot(layers)?;
        {
            let root = tree_of(&rootfs)?;
            let owner = self.owner(op, &root)?;
            let chmod =
                op.chmod.as_deref().map(grammar::Chmod::parse).transpose().map_err(|error| {
                    Error::from(self.diagnostic("K0332", format!("invalid --chmod value: {error}")))
                })?;
            let rules = Rules { owner, chmod, keep_owner: !op.from_context, unpack: op.unpack };
            let placer = Placer { source: self.source(), target: &root, rules: &rules };
            self.place_all(op, &placer, &root, &selected)?;
        }
        drop(rootfs);
        self.commit(snapshot)
    }

    fn owner(&self, op: &CopyOp, root: &TreeRoot) -> Result<Option<Owner>> {
        let Some(spec) = &op.chown else { return Ok(None) };
        let user = if op.link { self.user(&MergedTree::new(self.parent()), spec)? } else { self.user(root, spec)? };
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

    fn place_all(&self, op: &CopyOp, placer: &Placer<'_>, root: &TreeRoot, selected: &[Selected]) -> Result<()> {
        let destination = op.destination.strip_prefix("/").unwrap_or(Path::new(""));
        let into = op.into_directory || is_directory(root, destination)?;
        if selected.len() > 1 && !into {
            return Err(self
                .diagnostic("K0331", "COPY of several sources needs a directory as its destination")
                .help(format!("end the destination with a slash: `{}/`", op.destination.display()))
                .into());
        }
        let place = || -> Result<()> {
            if op.into_directory && !selected.is_empty() {
                placer.make_dirs(destination)?;
            }
            for one in selected {
                let target = if op.parents { destination.join(&one.kept) } else { destination.to_owned() };
                if one.metadata.kind == Kind::Directory {
                    placer.directory(one, &target, op.into_directory || op.parents)?;
                } else if op.parents {
                    placer.file(one, &target)?;
                } else {
                    placer.file(one, &if into { target.join(one.name()) } else { target })?;
                }
            }
            for source in &op.sources {
                if let CopySource::Inline { name, content } = source {
                    let target = if into { destination.join(name) } else { destination.to_owned() };
                    placer.inline(content, &target)?;
                }
            }
            Ok(())
        };
        place().map_err(|error| match error {
            Error::Store(cause) => {
                self.diagnostic("K0361", format!("cannot copy to {}: {cause}", op.destination.display())).into()
            }
            other => other,
        })
    }
}

fn is_directory(root: &TreeRoot, path: &Path) -> Result<bool> {
    Ok(root.metadata(path, cache::Follow::Yes)?.is_some_and(|metadata| metadata.kind == Kind::Directory))
}
