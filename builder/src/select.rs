//! What a COPY takes: sources resolved and expanded in a tree, listed, and hashed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cache::{Follow, Kind, Metadata, StatKey, TreeView};
use grammar::{IgnoreRules, IgnoreVerdict};
use rayon::prelude::*;

use crate::content;
use crate::context::{Context, stat_key};
use crate::error::{Error, Result};
use crate::paths::clean;

/// Where sources are looked up.
#[derive(Clone, Copy)]
pub(crate) struct SourceTree<'a> {
    pub(crate) root: &'a dyn TreeView,
    /// The context, when that is what it is: its rules filter and its table knows hashes.
    pub(crate) context: Option<&'a Context>,
    /// `--exclude` patterns.
    pub(crate) exclude: &'a IgnoreRules,
}

/// Bytes of facts that are hashed at once.
const DIGESTED: usize = 64 << 10;

/// One source after globs: a file with one entry, or a directory with all below it.
#[derive(Debug)]
pub(crate) struct Selected {
    /// Path in the tree.
    pub(crate) path: PathBuf,
    /// What `--parents` keeps of the path.
    pub(crate) kept: PathBuf,
    /// The source itself, links followed.
    pub(crate) metadata: Metadata,
    /// Everything below a directory, parents first; empty for a file.
    pub(crate) entries: Vec<Entry>,
    /// Hash of the source when it is a file.
    pub(crate) content: Option<[u8; 32]>,
}

/// One path below a selected directory.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Relative to the selected directory.
    pub(crate) path: PathBuf,
    pub(crate) metadata: Metadata,
    pub(crate) link: Option<OsString>,
    pub(crate) content: Option<[u8; 32]>,
}

/// A source that is not there.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) path: PathBuf,
    /// A name beside it that is spelled much alike.
    pub(crate) nearest: Option<String>,
    /// The ignore rule that keeps it out.
    pub(crate) excluded_by: Option<String>,
}

impl SourceTree<'_> {
    /// Expands and lists one source. `Ok(Err(_))` when a plain path does not exist; a glob that matches nothing is no error.
    pub(crate) fn select(&self, source: &str) -> Result<Result<Vec<Selected>, Missing>> {
        let (prefix, rest) = source.split_once("/./").map_or(("", source), |(prefix, rest)| (prefix, rest));
        let path = clean(Path::new(source));
        let kept_from = clean(Path::new(prefix)).components().count();
        let _ = rest;
        let is_glob = grammar::has_glob(source);
        let paths = if is_glob { self.expand_glob(&path)? } else { vec![path.clone()] };
        let mut selected = Vec::new();
        for path in paths {
            let kept: PathBuf = path.components().skip(kept_from).collect();
            match self.select_path(&path, kept)? {
                Some(one) => selected.push(one),
                None if is_glob => {}
                None => return Ok(Err(self.missing(&path))),
            }
        }
        Ok(Ok(selected))
    }

    /// One path as it is, a directory with all below it.
    pub(crate) fn exact(&self, path: &Path) -> Result<Result<Selected, Missing>> {
        match self.select_path(path, PathBuf::new())? {
            Some(one) => Ok(Ok(one)),
            None => Ok(Err(self.missing(path))),
        }
    }

    /// What the ignore rules keep out below `path`, outermost names only: all that a view of the tree has to hide.
    pub(crate) fn left_out(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let directory = relative(path);
        let is_directory =
            self.root.metadata(directory, Follow::Yes)?.is_some_and(|there| there.kind == Kind::Directory);
        if is_directory && self.context.is_some_and(|context| !context.rules().is_empty()) {
            self.list_left_out(directory, &mut found)?;
        }
        Ok(found)
    }

    /// Gives whether something below the directory is kept.
    fn list_left_out(&self, directory: &Path, found: &mut Vec<PathBuf>) -> Result<bool> {
        let mut any = false;
        for (name, metadata) in self.root.read_dir(directory)? {
            let path = directory.join(name);
            let is_directory = metadata.kind == Kind::Directory;
            let kept = match self.context_verdict(&path, is_directory) {
                IgnoreVerdict::Keep => {
                    if is_directory {
                        self.list_left_out(&path, found)?;
                    }
                    true
                }
                IgnoreVerdict::Drop if is_directory => {
                    let before = found.len();
                    let kept = self.list_left_out(&path, found)?;
                    if !kept {
                        found.truncate(before);
                    }
                    kept
                }
                IgnoreVerdict::Drop | IgnoreVerdict::Prune => false,
            };
            if !kept {
                found.push(path);
            }
            any |= kept;
        }
        Ok(any)
    }

    fn select_path(&self, path: &Path, kept: PathBuf) -> Result<Option<Selected>> {
        let relative = relative(path);
        let Some(metadata) = self.root.metadata(relative, Follow::Yes)? else { return Ok(None) };
        let is_directory = metadata.kind == Kind::Directory;
        let dropped = self.context_verdict(relative, is_directory) != IgnoreVerdict::Keep;
        if dropped && !is_directory {
            return Ok(None);
        }
        let entries = if is_directory { self.list(relative, Path::new(""))? } else { Vec::new() };
        if dropped && entries.is_empty() {
            return Ok(None);
        }
        Ok(Some(Selected { path: relative.to_owned(), kept, metadata, entries, content: None }))
    }

    /// Lists a directory: children in byte order, each directory before what is in it; directories are read in parallel.
    fn list(&self, directory: &Path, below: &Path) -> Result<Vec<Entry>> {
        let children = self.root.read_dir(directory)?;
        let lists: Vec<Result<Vec<Entry>>> = children
            .into_par_iter()
            .map(|(name, metadata)| self.list_child(directory, below, &name, metadata))
            .collect();
        let mut entries = Vec::new();
        for list in lists {
            entries.extend(list?);
        }
        Ok(entries)
    }

    fn list_child(&self, directory: &Path, below: &Path, name: &OsStr, metadata: Metadata) -> Result<Vec<Entry>> {
        let path = directory.join(name);
        let relative = below.join(name);
        let is_directory = metadata.kind == Kind::Directory;
        let verdict = self.verdict(&path, &relative, is_directory);
        if verdict == IgnoreVerdict::Prune || (verdict == IgnoreVerdict::Drop && !is_directory) {
            return Ok(Vec::new());
        }
        let inner = if is_directory { self.list(&path, &relative)? } else { Vec::new() };
        if verdict == IgnoreVerdict::Drop && inner.is_empty() {
            return Ok(Vec::new());
        }
        let link = match metadata.kind {
            Kind::Symlink => Some(self.root.read_link(&path)?),
            _ => None,
        };
        let mut entries = Vec::with_capacity(inner.len() + 1);
        entries.push(Entry { path: relative, metadata, link, content: None });
        entries.extend(inner);
        Ok(entries)
    }

    fn context_verdict(&self, path: &Path, is_directory: bool) -> IgnoreVerdict {
        match self.context {
            Some(context) => context.rules().verdict(&path.to_string_lossy(), is_directory),
            None => IgnoreVerdict::Keep,
        }
    }

    /// The stronger of the context's rules (path from its root) and `--exclude` (path below the copied directory).
    fn verdict(&self, path: &Path, below: &Path, is_directory: bool) -> IgnoreVerdict {
        if self.exclude.is_empty() && self.context.is_none_or(|context| context.rules().is_empty()) {
            return IgnoreVerdict::Keep;
        }
        let context = self.context_verdict(path, is_directory);
        let exclude = self.exclude.verdict(&below.to_string_lossy(), is_directory);
        match (context, exclude) {
            (IgnoreVerdict::Prune, _) | (_, IgnoreVerdict::Prune) => IgnoreVerdict::Prune,
            (IgnoreVerdict::Drop, _) | (_, IgnoreVerdict::Drop) => IgnoreVerdict::Drop,
            (IgnoreVerdict::Keep, IgnoreVerdict::Keep) => IgnoreVerdict::Keep,
        }
    }

    /// Each path element is matched by itself, as Go's `filepath.Glob` does.
    fn expand_glob(&self, pattern: &Path) -> Result<Vec<PathBuf>> {
        let mut found = vec![PathBuf::from("/")];
        for component in pattern.components() {
            let Component::Normal(name) = component else { continue };
            let text = name.to_string_lossy();
            let mut next = Vec::new();
            for base in &found {
                if !grammar::has_glob(&text) {
                    next.push(base.join(name));
                    continue;
                }
                let here = relative(base);
                match self.root.metadata(here, Follow::Yes)? {
                    Some(metadata) if metadata.kind == Kind::Directory => {}
                    _ => continue,
                }
                for (child, _) in self.root.read_dir(here)? {
                    if grammar::glob_match(&text, &child.to_string_lossy()).unwrap_or(false) {
                        next.push(base.join(child));
                    }
                }
            }
            found = next;
        }
        Ok(found)
    }

    pub(crate) fn missing(&self, path: &Path) -> Missing {
        let relative = relative(path);
        let directory = relative.parent().unwrap_or(Path::new(""));
        let wanted = relative.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names: Vec<String> = self
            .root
            .read_dir(directory)
            .unwrap_or_default()
            .into_iter()
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .collect();
        Missing {
            path: relative.to_owned(),
            nearest: grammar::nearest(&wanted, names.iter().map(String::as_str))
                .filter(|name| *name != wanted)
                .map(|name| directory.join(name).to_string_lossy().into_owned()),
            excluded_by: self.context.and_then(|context| context.excluded_by(&relative.to_string_lossy())),
        }
    }

    /// Fills in the content hash of every regular file: from the context's table where it knows the file, else by reading it.
    pub(crate) fn hash(&self, selected: &mut [&mut Selected]) -> Result<()> {
        let mut files: Vec<Unhashed<'_>> = Vec::new();
        for one in selected.iter_mut() {
            let one = &mut **one;
            let top = Path::new("");
            if one.metadata.kind == Kind::File {
                files.push(Unhashed { base: &one.path, below: top, metadata: &one.metadata, slot: &mut one.content });
            }
            for entry in one.entries.iter_mut().filter(|entry| entry.metadata.kind == Kind::File) {
                let (metadata, slot) = (&entry.metadata, &mut entry.content);
                files.push(Unhashed { base: &one.path, below: &entry.path, metadata, slot });
            }
        }
        if let Some(context) = self.context {
            context.with_known(|known| {
                files.par_iter_mut().for_each(|file| *file.slot = known.lookup(&stat_key(file.metadata)));
            });
        }
        files.retain(|file| file.slot.is_none());
        // Small files side by side; a large one keeps all threads busy by itself.
        let (mut large, mut small): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.metadata.size >= content::LARGE);
        let fill = |file: &mut Unhashed<'_>| -> Result<()> {
            *file.slot = Some(self.hash_file(&file.path(), file.metadata)?);
            Ok(())
        };
        large.iter_mut().try_for_each(&fill)?;
        small.par_iter_mut().try_for_each(fill)?;
        let fresh: BTreeMap<StatKey, [u8; 32]> =
            large.iter().chain(&small).filter_map(|file| Some((stat_key(file.metadata), (*file.slot)?))).collect();
        if let Some(context) = self.context {
            context.remember(&fresh);
        }
        Ok(())
    }

    fn hash_file(&self, path: &Path, expected: &Metadata) -> Result<[u8; 32]> {
        let mut file = self.root.open_file(path)?;
        let (hash, read) = content::hash(&mut file, expected.size).map_err(|error| Error::unreadable(path, error))?;
        if read != expected.size {
            return Err(Error::ContextChanged { path: path.to_owned() });
        }
        Ok(hash)
    }
}

/// A file whose content is to be hashed, where that is not known.
struct Unhashed<'a> {
    base: &'a Path,
    below: &'a Path,
    metadata: &'a Metadata,
    slot: &'a mut Option<[u8; 32]>,
}

impl Unhashed<'_> {
    fn path(&self) -> PathBuf {
        if self.below.as_os_str().is_empty() { self.base.to_owned() } else { self.base.join(self.below) }
    }
}

/// TreeRoot paths are relative to its root.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

impl Selected {
    /// The name under which a file, or a directory of `--parents`, lands.
    pub(crate) fn name(&self) -> OsString {
        self.path.file_name().map(OsStr::to_owned).unwrap_or_default()
    }

    /// Number of entries and bytes of file content.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let own = if self.metadata.kind == Kind::File { self.metadata.size } else { 0 };
        let bytes =
            self.entries.iter().filter(|entry| entry.metadata.kind == Kind::File).map(|entry| entry.metadata.size);
        (self.entries.len() as u64 + 1, own + bytes.sum::<u64>())
    }

    /// Content, mode, kind and links of all that is selected; owners too when they are kept. Never times.
    pub(crate) fn digest(&self, with_owner: bool) -> String {
        let mut hasher = blake3::Hasher::new();
        // Few large updates: the hash of many small ones costs several times as much.
        let mut pending = Vec::with_capacity(2 * DIGESTED);
        let mut one = |path: &Path, metadata: &Metadata, link: Option<&OsString>, content: Option<&[u8; 32]>| {
            let mut feed = |bytes: &[u8]| {
                pending.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                pending.extend_from_slice(bytes);
            };
            feed(path.as_os_str().as_bytes());
            feed(&[metadata.kind as u8]);
            feed(&metadata.mode.to_le_bytes());
            if with_owner {
                feed(&metadata.uid.to_le_bytes());
                feed(&metadata.gid.to_le_bytes());
            }
            feed(&metadata.rdev.to_le_bytes());
            feed(link.map(|link| link.as_bytes()).unwrap_or_default());
            feed(content.map(|hash| hash.as_slice()).unwrap_or_default());
            if pending.len() >= DIGESTED {
                hasher.update(&pending);
                pending.clear();
            }
        };
        one(Path::new(&self.name()), &self.metadata, None, self.content.as_ref());
        for entry in &self.entries {
            one(&entry.path, &entry.metadata, entry.link.as_ref(), entry.content.as_ref());
        }
        hasher.update(&pending);
        hasher.finalize().to_hex().to_string()
    }
}
