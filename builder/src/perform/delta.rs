//! What a copy of many files changes in the layer that the same copy gave before. Where that is little, and nothing is to be
//! hidden, the new layer stands on that one and has only what differs.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;

use cache::{Against, Attributes, Earlier, EarlierDirectory, Kind, Wanted};
use rayon::prelude::*;

use super::place::Placer;
use crate::error::Result;
use crate::select::{Entry, Selected};

/// Part of the entries that may differ: with more, and after many builds, a layer of its own is the better one.
const FEW: usize = 8;
/// Part of the bytes: those of the layer before stay on the disk.
const LIGHT: u64 = 4;

/// The layer that the step gave before.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    pub(super) earlier: &'a Earlier,
    /// All that is copied is one directory's content.
    pub(super) alone: bool,
}

/// Paths below the copied directory that have to be made, with the directories that lead to them.
pub(super) type Changed<'s> = HashSet<&'s Path>;

/// Files and links of one directory that differ, or `None` where the layer before is in the way.
type Differing<'s> = Option<Vec<&'s Entry>>;

impl Placer<'_> {
    /// What differs from the layer before, when that may stay below; the layer that is made stands on it then.
    pub(super) fn changed<'s>(&self, one: &'s Selected, target: &Path) -> Result<Option<Changed<'s>>> {
        let Some(Before { earlier, alone: true }) = self.before else { return Ok(None) };
        let changed = self.compared(earlier, one, target)?;
        match &changed {
            Some(_) => earlier.stand(),
            None => earlier.forget(),
        }
        Ok(changed)
    }

    fn compared<'s>(&self, earlier: &Earlier, one: &'s Selected, target: &Path) -> Result<Option<Changed<'s>>> {
        if !leads_only_to(earlier, target)? {
            return Ok(None);
        }
        let top = Path::new("");
        let mut inside: HashMap<&Path, Vec<&Entry>> = HashMap::from([(top, Vec::new())]);
        for entry in &one.entries {
            if entry.metadata.kind == Kind::Directory {
                inside.entry(&entry.path).or_default();
            }
            inside.entry(entry.path.parent().unwrap_or(top)).or_default().push(entry);
        }
        let of_directory = |(path, entries): (&&Path, &Vec<&'s Entry>)| -> Result<Differing<'s>> {
            match earlier.directory(&target.join(path)) {
                Some(there) => self.differing(one, path, entries, &there),
                None => Ok(Some(entries.clone())),
            }
        };
        let found: Vec<Differing<'s>> = inside.par_iter().map(of_directory).collect::<Result<_>>()?;
        let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let mut changed = Changed::new();
        let mut bytes = 0;
        for entry in found.into_iter().flatten() {
            bytes += if entry.metadata.kind == Kind::File { entry.metadata.size } else { 0 };
            let way = entry.path.ancestors().take_while(|path| !path.as_os_str().is_empty());
            changed.extend(way);
        }
        let (_, all) = one.totals();
        Ok((changed.len() * FEW <= one.entries.len() && bytes * LIGHT <= all).then_some(changed))
    }

    /// What of one directory differs from what the layer before has `there`, itself among it.
    fn differing<'s>(
        &self,
        one: &'s Selected,
        path: &Path,
        entries: &[&'s Entry],
        there: &EarlierDirectory<'_>,
    ) -> Result<Differing<'s>> {
        let names: HashSet<&OsStr> = entries.iter().map(|entry| name(entry)).collect();
        if !there.has_only(&names)? {
            return Ok(None);
        }
        let from = one.path.join(path);
        let single = self.source.single(&from)?;
        let mut differing = Vec::new();
        for entry in entries {
            let (name, metadata) = (name(entry), &entry.metadata);
            let attributes = match &single {
                Some(directory) => self.rules.attributes(directory, Path::new(name), metadata)?,
                None => self.rules.attributes(self.source, &from.join(name), metadata)?,
            };
            match against(there, entry, &attributes)? {
                Against::Same => {}
                Against::Differs => differing.push(*entry),
                Against::Clashes => return Ok(None),
            }
        }
        Ok(Some(differing))
    }
}

fn name(entry: &Entry) -> &OsStr {
    entry.path.file_name().unwrap_or_default()
}

fn against(there: &EarlierDirectory<'_>, entry: &Entry, attributes: &Attributes) -> Result<Against> {
    let name = name(entry);
    Ok(match (entry.metadata.kind, entry.content) {
        (Kind::File, Some(content)) => there.file(name, &Wanted { attributes, size: entry.metadata.size, content }),
        (Kind::Symlink, _) => there.link(name, entry.link.as_deref().unwrap_or_default(), attributes),
        (Kind::Directory, _) => there.directory(name, attributes)?,
        // In no layer.
        (Kind::Socket, _) => Against::Same,
        _ => Against::Clashes,
    })
}

/// Whether the layer has nothing but what lies on the way to a path, and below it.
fn leads_only_to(earlier: &Earlier, target: &Path) -> Result<bool> {
    let mut at = Path::new("").to_owned();
    for part in target.components() {
        let only = match earlier.directory(&at) {
            Some(there) => there.has_only(&HashSet::from([part.as_os_str()]))?,
            None => false,
        };
        if !only {
            return Ok(false);
        }
        at.push(part);
    }
    Ok(earlier.directory(&at).is_some())
}
