//! Failpoints: named places at which a test can make the program fail, die or wait.
//!
//! Without the feature `failpoints` each of them is an inlined `Ok(())` and its name is not in the binary. With it,
//! [`arm_failpoints`] says what happens where: `layer.rename=abort; file.write=error:ENOSPC@2`.

/// The environment variable that arms them; `None` in a program that has none.
pub const FAILPOINTS_VARIABLE: Option<&str> =
    if cfg!(feature = "failpoints") { Some("DUNNAGE_FAILPOINTS") } else { None };

#[cfg(feature = "failpoints")]
pub use armed::{FAILPOINTS, arm_failpoints, failpoint};

/// Nothing can be armed.
///
/// # Errors
/// Never.
#[cfg(not(feature = "failpoints"))]
pub fn arm_failpoints(_text: &str) -> Result<(), String> {
    Ok(())
}

/// Nothing is armed.
///
/// # Errors
/// Never.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn failpoint(_name: &'static str) -> crate::Result<()> {
    Ok(())
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::fs::OpenOptions;
    use std::io::{self, Write};
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use crate::error::{Error, Result};

    /// Every failpoint of the program. Tests go through them one by one, and compare the list with the sources.
    pub const FAILPOINTS: &[&str] = &[
        "archive.write",
        "blob.dirsync",
        "blob.draft",
        "blob.flush",
        "blob.rename",
        "blob.write",
        "build.answer",
        "build.image",
        "check.dangling",
        "check.quarantine",
        "check.read",
        "check.rename",
        "claim.take",
        "container.lock",
        "container.make",
        "container.record",
        "container.remove",
        "file.create",
        "file.dirsync",
        "file.flush",
        "file.rename",
        "file.write",
        "image.layers",
        "image.remove",
        "image.untag",
        "image.write",
        "import.answer",
        "import.image",
        "layer.base",
        "layer.commit",
        "layer.dirsync",
        "layer.draft",
        "layer.export",
        "layer.extract",
        "layer.flush",
        "layer.look",
        "layer.measure",
        "layer.original",
        "layer.pointer",
        "layer.record",
        "layer.rename",
        "layer.seal",
        "layout.write",
        "lease.draft",
        "lease.drop",
        "lease.file",
        "lease.lock",
        "lease.pin",
        "load.answer",
        "load.document",
        "load.image",
        "load.layers",
        "load.spool",
        "name.remove",
        "name.tag",
        "name.write",
        "output.create",
        "output.flush",
        "output.link",
        "output.rename",
        "prune.answer",
        "prune.container",
        "prune.generation",
        "prune.image",
        "prune.mark",
        "prune.name",
        "prune.pointer",
        "prune.record",
        "prune.rename",
        "prune.trash",
        "record.read",
        "record.write",
        "remote.write",
        "run.answer",
        "run.start",
        "save.images",
        "save.spool",
        "snapshot.commit",
        "snapshot.make",
        "snapshot.work",
        "stats.save",
        "step.commit",
        "step.copy",
        "step.exit",
        "step.key",
        "step.perform",
        "step.record",
        "step.start",
        "step.workdir",
        "store.create",
        "store.format",
        "store.lock",
        "sweep.container",
        "sweep.drafts",
        "sweep.lease",
        "sweep.lock",
        "sweep.orphan",
        "tree.attributes",
        "tree.directory",
        "tree.write",
    ];

    /// What happens at a failpoint.
    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Action {
        /// The process dies as by a kill: nothing is dropped, nothing flushed.
        Abort,
        /// What was about to be done fails with this number of the kernel.
        Error(i32),
        /// It takes so long.
        Delay(Duration),
        /// It never comes back.
        Pause,
        /// A defect shows here.
        Panic,
        /// The name is written to a file, a line for each hit.
        Record(PathBuf),
    }

    /// Which hits of a failpoint count, from 1.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Hits {
        /// `@N`
        Only(u64),
        /// `@N+`
        From(u64),
    }

    #[derive(Debug)]
    struct Armed {
        /// `None` for `*`.
        name: Option<&'static str>,
        action: Action,
        hits: Hits,
        seen: AtomicU64,
    }

    static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();

    /// Arms failpoints for the life of the process: `NAME=ACTION[@N|@N+]`, separated by `;`. `*` stands for all of them.
    /// Actions are `abort`, `panic`, `error:EIO`, `delay:MILLISECONDS`, `pause` and `record:FILE`.
    ///
    /// # Errors
    /// The sentence to show when the text cannot be read, or they are armed already.
    pub fn arm_failpoints(text: &str) -> Result<(), String> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let armed = parts.map(parse).collect::<Result<Vec<Armed>, String>>()?;
        ARMED.set(armed).map_err(|_| "failpoints can be armed once".to_owned())
    }

    /// A place that can be made to fail.
    ///
    /// # Errors
    /// What it was armed with.
    pub fn failpoint(name: &'static str) -> Result<()> {
        for armed in ARMED.get().into_iter().flatten() {
            if armed.name.is_some_and(|wanted| wanted != name) {
                continue;
            }
            let hit = armed.seen.fetch_add(1, Ordering::Relaxed) + 1;
            let counts = match armed.hits {
                Hits::Only(number) => hit == number,
                Hits::From(number) => hit >= number,
            };
            if counts {
                armed.action.perform(name).map_err(Error::path("get past the failpoint", name))?;
            }
        }
        Ok(())
    }

    impl Action {
        #[allow(clippy::panic)]
        fn perform(&self, name: &str) -> io::Result<()> {
            match self {
                Action::Abort => std::process::abort(),
                Action::Error(number) => Err(io::Error::from_raw_os_error(*number)),
                Action::Delay(time) => {
                    std::thread::sleep(*time);
                    Ok(())
                }
                Action::Pause => loop {
                    std::thread::park();
                },
                Action::Panic => panic!("the failpoint {name}"),
                Action::Record(path) => {
                    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
                    file.write_all(format!("{name}\n").as_bytes())
                }
            }
        }
    }

    fn parse(part: &str) -> Result<Armed, String> {
        let form = || format!("`{part}` is no failpoint: it must be like NAME=abort or NAME=error:EIO@2");
        let (name, rest) = part.split_once('=').ok_or_else(form)?;
        let (action, hits) = match rest.rsplit_once('@') {
            None => (rest, Hits::From(1)),
            Some((action, number)) => match number.strip_suffix('+') {
                Some(number) => (action, Hits::From(number.parse().map_err(|_| form())?)),
                None => (action, Hits::Only(number.parse().map_err(|_| form())?)),
            },
        };
        let name = match name {
            "*" => None,
            name => Some(known(name)?),
        };
        Ok(Armed { name, action: parse_action(action).ok_or_else(form)?, hits, seen: AtomicU64::new(0) })
    }

    fn known(name: &str) -> Result<&'static str, String> {
        let found = FAILPOINTS.iter().find(|known| **known == name);
        found.copied().ok_or_else(|| format!("there is no failpoint `{name}`; there are {}", FAILPOINTS.join(", ")))
    }

    fn parse_action(text: &str) -> Option<Action> {
        match text.split_once(':') {
            None if text == "abort" => Some(Action::Abort),
            None if text == "pause" => Some(Action::Pause),
            None if text == "panic" => Some(Action::Panic),
            Some(("error", "EIO")) => Some(Action::Error(libc::EIO)),
            Some(("error", "ENOSPC")) => Some(Action::Error(libc::ENOSPC)),
            Some(("error", "EDQUOT")) => Some(Action::Error(libc::EDQUOT)),
            Some(("error", "EMFILE")) => Some(Action::Error(libc::EMFILE)),
            Some(("delay", number)) => number.parse().ok().map(Duration::from_millis).map(Action::Delay),
            Some(("record", path)) => Some(Action::Record(path.into())),
            _ => None,
        }
    }

    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    mod tests {
        use super::*;

        #[test]
        fn what_is_armed_is_read_and_what_is_unknown_is_refused() {
            let armed = parse("layer.rename=error:ENOSPC@2").unwrap();
            assert_eq!((armed.name, armed.hits), (Some("layer.rename"), Hits::Only(2)));
            assert_eq!(armed.action, Action::Error(libc::ENOSPC));
            assert_eq!(parse("*=delay:5@3+").unwrap().hits, Hits::From(3));
            assert_eq!(parse("file.flush=pause").unwrap().hits, Hits::From(1));
            assert!(parse("layer.renam=abort").unwrap_err().contains("layer.rename"));
            for wrong in ["layer.rename", "layer.rename=", "layer.rename=error:EWHAT", "layer.rename=abort@x"] {
                assert!(parse(wrong).is_err(), "{wrong}");
            }
        }
    }
}
