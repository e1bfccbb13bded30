//! Copies to places where the parent's tree has nothing, which most are: they are written as the layer that they become.
//!
//! What is there and what is not is looked up in the layers; nothing is mounted. A copy that meets a file, a link, or a name
//! that is there already goes the long way, over a snapshot, and gives the same layer.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use cache::{Earlier, Follow, Kind, Layer, LayerDraft, MergedTree, Metadata, Sealed, TreeView};

use super::delta::Before;
use super::run::looks;
use super::{Taken, Work};
use crate::error::Result;
use crate::plan::{CopyOp, CopySource};
use crate::select::Selected;
use crate::settle::Made;

/// A layer that is written as such, over what its parents hold.
struct Fresh {
    draft: LayerDraft,
    /// Directories of the parents that something comes into, with the times that they keep.
    repeated: BTreeMap<PathBuf, i64>,
    large: bool,
    /// What the step gave before: files that are the same are shared with it.
    earlier: Option<Earlier>,
    /// It is all of one directory.
    alone: bool,
}

/// Entries and bytes from which a layer is flushed while it is read: below that, one flush after the other is less work.
const LARGE: (u64, u64) = (1000, 16 << 20);

/// Where one source comes to.
struct Arrival<'a> {
    target: PathBuf,
    /// Of a directory: the names that come into it.
    names: Option<BTreeSet<&'a OsStr>>,
}

/// Directories that are there on the way to a path.
type Way = BTreeMap<PathBuf, Metadata>;

impl Work<'_> {
    /// Copies that way; `None` when the copy meets what is there.
    pub(super) fn copy_fresh(&self, op: &CopyOp, taken: &[Taken], layers: &[Layer]) -> Result<Option<Made>> {
        // The second time only if a file of the layer before turned out to be damaged.
        for sharing in [true, false] {
            let Some(fresh) = self.fresh(op, taken, layers, sharing)? else { return Ok(None) };
            let before = fresh.earlier.as_ref().map(|earlier| Before { earlier, alone: fresh.alone });
            self.copy_into(op, &fresh.draft.root()?, taken, before)?;
            if let Some(committed) = self.commit_fresh(fresh)? {
                return Ok(Some(committed));
            }
        }
        Ok(None)
    }

    /// The draft with the directories in it that the copy comes into; `None` when the copy meets what is there.
    fn fresh(&self, op: &CopyOp, taken: &[Taken], layers: &[Layer], sharing: bool) -> Result<Option<Fresh>> {
        let view = MergedTree::new(layers);
        let Some(arrivals) = arrivals(op, taken, &view, layers.is_empty())? else { return Ok(None) };
        let mut way = Way::new();
        for arrival in &arrivals {
            if layers.is_empty() {
                continue;
            }
            match arrival.way(&view)? {
                Some(found) => way.extend(found),
                None => return Ok(None),
            }
        }
        let alone = matches!(arrivals.as_slice(), [Arrival { names: Some(_), .. }]);
        let draft = self.solver.store.layer_draft(self.solver.lease)?;
        let root = draft.root()?;
        for (path, metadata) in &way {
            root.make_dir(path, &looks(&view, path, metadata)?)?;
        }
        let repeated = way.into_iter().map(|(path, metadata)| (path, metadata.mtime_ns)).collect();
        let totals = taken.iter().filter_map(Taken::files).map(Selected::totals);
        let (entries, bytes) = totals.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let before = if sharing && entries >= LARGE.0 { self.layer_before()? } else { None };
        let earlier = before.map(|layer| self.solver.store.earlier(&layer, entries)).transpose()?.flatten();
        Ok(Some(Fresh { draft, repeated, large: entries >= LARGE.0 || bytes >= LARGE.1, earlier, alone }))
    }

    /// `None` when a file that is shared is not what it must be.
    fn commit_fresh(&self, fresh: Fresh) -> Result<Option<Made>> {
        let root = fresh.draft.root()?;
        for (path, mtime_ns) in fresh.repeated.iter().rev() {
            root.set_times(path, *mtime_ns)?;
        }
        super::committing()?;
        let (store, lease) = (self.solver.store, self.solver.lease);
        let sealed = match fresh.earlier {
            Some(earlier) => fresh.draft.commit_sharing(store, lease, earlier)?.map(Sealed::Settled),
            None => Some(fresh.draft.seal(store, lease, fresh.large)?),
        };
        Ok(sealed.map(|sealed| Made::new(sealed, None)))
    }
}

/// Where all that is copied comes to; `None` where that is not known before it is done.
fn arrivals<'a>(
    op: &'a CopyOp,
    taken: &'a [Taken],
    view: &MergedTree,
    empty: bool,
) -> Result<Option<Vec<Arrival<'a>>>> {
    if op.unpack {
        return Ok(None);
    }
    let destination = op.destination.strip_prefix("/").unwrap_or(Path::new(""));
    let is_there = |path: &Path| -> Result<bool> {
        Ok(!empty && view.metadata(path, Follow::Yes)?.is_some_and(|there| there.kind == Kind::Directory))
    };
    let into = op.into_directory || is_there(destination)?;
    let mut arrivals = Vec::new();
    for one in taken {
        let Taken::Files(one) = one else { return Ok(None) };
        let target = if op.parents { destination.join(&one.kept) } else { destination.to_owned() };
        if one.metadata.kind == Kind::Directory {
            arrivals.push(Arrival { target, names: Some(top_names(one)) });
        } else {
            let target = if into && !op.parents { target.join(one.name()) } else { target };
            arrivals.push(Arrival { target, names: None });
        }
    }
    for source in &op.sources {
        if let CopySource::Inline { name, .. } = source {
            let target = if into { destination.join(name) } else { destination.to_owned() };
            arrivals.push(Arrival { target, names: None });
        }
    }
    // What comes with nothing in it changes nothing where it comes to, unless that is made for it.
    let adds = |arrival: &Arrival<'_>| arrival.names.as_ref().is_none_or(|names| !names.is_empty());
    Ok((!arrivals.is_empty() && arrivals.iter().all(adds)).then_some(arrivals))
}

fn top_names(one: &Selected) -> BTreeSet<&OsStr> {
    one.entries.iter().filter_map(|entry| entry.path.components().next()).map(|part| part.as_os_str()).collect()
}

impl Arrival<'_> {
    /// The directories that are there on its way, when it meets nothing else.
    fn way(&self, view: &MergedTree) -> Result<Option<Way>> {
        let mut way = Way::new();
        let mut at = PathBuf::new();
        for part in self.target.components() {
            at.push(part);
            match view.metadata(&at, Follow::No)? {
                Some(metadata) if metadata.kind == Kind::Directory => drop(way.insert(at.clone(), metadata)),
                Some(_) => return Ok(None),
                None => return Ok(Some(way)),
            }
        }
        let Some(names) = &self.names else { return Ok(None) };
        for name in names {
            if view.metadata(&at.join(name), Follow::No)?.is_some() {
                return Ok(None);
            }
        }
        Ok(Some(way))
    }
}
