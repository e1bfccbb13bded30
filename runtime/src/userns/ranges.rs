//! Ranges of ids that no two containers have at once. A range is a lock on the bytes of a file whose numbers are the ids:
//! the kernel tells who is in the way, and frees it with its holder.
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::map::granted;
use crate::error::{Error, Result};
use crate::idmap::{IdRange, IdRanges};
use crate::sys::lock::{Part, try_lock};

/// How many ids a container has unless it asks otherwise: all that images have.
pub const USUAL_IDS: u32 = 65_536;
/// Whose lines of /etc/subuid and /etc/subgid are meant for containers of the machine's root.
const USER: &str = "dunnage";
/// Where nothing else is said: ids above those that systemd and others give away, and below those that programs take for
/// negative (systemd's UIDS-GIDS.md lists them as unused).
const DEFAULT: IdExtent = IdExtent { first: 0x7000_0000, count: 4094 * USUAL_IDS };
/// Groups are counted apart from users: in another part of the file.
const GROUPS: u64 = 1 << 33;
const LOCKS: &str = "/run/dunnage/ids";

/// Ids in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdExtent {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// What the ranges of containers are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPool {
    users: Vec<IdExtent>,
    groups: Vec<IdExtent>,
    /// Who says so.
    origin: String,
}

/// A range that is a container's as long as this lives.
#[derive(Debug)]
pub struct IdLease {
    ids: IdRanges,
    _locks: OwnedFd,
}

impl IdPool {
    /// These ids, by the word of `origin`.
    #[must_use]
    pub fn of(extents: &[IdExtent], origin: impl Into<String>) -> IdPool {
        IdPool { users: extents.to_vec(), groups: extents.to_vec(), origin: origin.into() }
    }

    /// What /etc/subuid and /etc/subgid grant the user `dunnage`, else the default.
    #[must_use]
    pub fn of_machine() -> IdPool {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        IdPool::of_files(&read("/etc/subuid"), &read("/etc/subgid"))
    }

    fn of_files(subuid: &str, subgid: &str) -> IdPool {
        let of = |file: &str| -> Vec<IdExtent> {
            granted(None, Some(USER), file).map(|(first, count)| IdExtent { first, count }).collect()
        };
        let (users, groups) = (of(subuid), of(subgid));
        if users.is_empty() || groups.is_empty() {
            return IdPool::of(&[DEFAULT], "the default");
        }
        IdPool { users, groups, origin: format!("/etc/subuid and /etc/subgid of {USER}") }
    }

    /// A range of this many ids. Where to look first is up to `hint`: a container that is started again looks where it was,
    /// and two different ones hardly meet.
    ///
    /// # Errors
    /// When all are taken, or more are asked for than there are.
    pub fn take(&self, count: u32, hint: u32) -> Result<IdLease> {
        self.take_at(Path::new(LOCKS), count, hint)
    }

    fn take_at(&self, locks: &Path, count: u32, hint: u32) -> Result<IdLease> {
        let failed = |source| Error::Container { doing: "taking a range of ids (in /run/dunnage/ids)", source };
        let locks: OwnedFd = open(locks).map_err(failed)?;
        let take = |extents: &[IdExtent], offset: u64| -> Result<u32> {
            let found = search(extents, count, hint, |first| {
                try_lock(locks.as_fd(), Part { first: offset + u64::from(first), count: count.into() })
                    .map(|other| other.map(|other| other.first + other.count - offset))
            });
            found.map_err(|errno| failed(errno.into()))?.ok_or_else(|| self.exhausted(count))
        };
        let range = |outside: u32| vec![IdRange { inside: 0, outside, count }];
        let ids = IdRanges { users: range(take(&self.users, 0)?), groups: range(take(&self.groups, GROUPS)?) };
        Ok(IdLease { ids, _locks: locks })
    }

    fn exhausted(&self, count: u32) -> Error {
        let most = self.users.iter().chain(&self.groups).map(|extent| extent.count).max().unwrap_or(0);
        let IdPool { origin, .. } = self;
        Error::invalid(
            "--userns auto",
            if count == 0 || most < count {
                format!("{count} ids are asked for, and {origin} has at most {most} in a row")
            } else {
                format!(
                    "all ranges of {count} ids by {origin} are taken: end some containers, or ask for less by size="
                )
            },
        )
    }

    /// How many ranges of the usual size there are, and the first id.
    #[must_use]
    pub fn summary(&self) -> (u32, u32, &str) {
        let ranges = |extents: &[IdExtent]| extents.iter().map(|extent| extent.count / USUAL_IDS).sum::<u32>();
        let first = self.users.first().map_or(0, |extent| extent.first);
        (ranges(&self.users).min(ranges(&self.groups)), first, &self.origin)
    }
}

impl IdLease {
    /// The ids, from 0 inside.
    #[must_use]
    pub fn ids(&self) -> &IdRanges {
        &self.ids
    }
}

/// Tries one place after the other, at multiples of the count from the beginning of an extent, from where the hint says
/// to the end and then from the beginning. `attempt` gives the id behind whoever is in the way.
fn search<E>(
    extents: &[IdExtent],
    count: u32,
    hint: u32,
    mut attempt: impl FnMut(u32) -> Result<Option<u64>, E>,
) -> Result<Option<u32>, E> {
    let places = |extent: &IdExtent| extent.count.checked_div(count).unwrap_or(0);
    let all: u32 = extents.iter().map(places).fold(0, u32::saturating_add);
    let start = hint.checked_rem(all).unwrap_or(0);
    for (from, to) in [(start, all), (0, start)] {
        let mut before = 0;
        for extent in extents {
            let (begin, end) = (before, before + places(extent));
            before = end;
            let mut place = from.max(begin);
            while place < to.min(end) {
                let first = extent.first + (place - begin) * count;
                let Some(behind) = attempt(first)? else { return Ok(Some(first)) };
                let passed = u32::try_from(behind).unwrap_or(u32::MAX).saturating_sub(first).div_ceil(count).max(1);
                place = place.saturating_add(passed);
            }
        }
    }
    Ok(None)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let attempt = || {
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
    };
    let file = match attempt() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(path);
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            attempt()
        }
        result => result,
    };
    file.map(OwnedFd::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn first(lease: &IdLease) -> (u32, u32) {
        (lease.ids().user(0).unwrap(), lease.ids().group(0).unwrap())
    }

    #[test]
    fn no_two_have_the_same_ids_and_what_is_given_back_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let locks = directory.path().join("not/yet");
        let pool = IdPool::of(&[IdExtent { first: 1000, count: 35 }, IdExtent { first: 5000, count: 10 }], "a test");
        let take = |count, hint| pool.take_at(&locks, count, hint);
        let one = take(10, 1).unwrap();
        assert_eq!(first(&one), (1010, 1010));
        let held: Vec<IdLease> = (0..3).map(|_| take(10, 1).unwrap()).collect();
        assert_eq!(held.iter().map(|lease| first(lease).0).collect::<Vec<_>>(), [1020, 5000, 1000]);
        let error = take(10, 7).unwrap_err().to_string();
        assert!(error.contains("all ranges of 10 ids by a test are taken"), "{error}");
        // What is left is no whole range, but may do for less.
        assert_eq!(first(&take(5, 0).unwrap()).0, 1030);
        drop(one);
        // Processes that tests beside this one start have its descriptor until they execute something.
        let mut again = None;
        testdata::until("the range is free", || {
            again = take(10, 0).ok();
            again.is_some()
        });
        assert_eq!(first(&again.unwrap()).0, 1010);
        for count in [0, 36] {
            assert!(take(count, 0).unwrap_err().to_string().contains("at most 35 in a row"));
        }
    }

    #[test]
    fn ranges_of_other_sizes_are_kept_clear_of() {
        let directory = tempfile::tempdir().unwrap();
        let locks = directory.path().join("ids");
        let pool = IdPool::of(&[IdExtent { first: 0x7000_0000, count: 1 << 20 }], "a test");
        let small = pool.take_at(&locks, 3, 5).unwrap();
        let big = pool.take_at(&locks, 65_536, 0).unwrap();
        assert_eq!((first(&small).0, first(&big).0), (0x7000_000f, 0x7001_0000));
    }

    #[test]
    fn the_machine_may_say_which() {
        assert_eq!(
            IdPool::of_files("me:100000:65536\n", "me:100000:65536\n").summary(),
            (4094, 0x7000_0000, "the default")
        );
        let pool = IdPool::of_files("dunnage:300000:131072\n", "dunnage:400000:65536\n");
        assert_eq!(pool.summary(), (1, 300_000, "/etc/subuid and /etc/subgid of dunnage"));
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(first(&pool.take_at(&directory.path().join("ids"), 65_536, 0).unwrap()), (300_000, 400_000));
    }
}
