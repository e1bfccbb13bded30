//! Parts of sandboxes that are made while nobody waits for them: what the last one was made of, the next one will need.
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::planner::usual_parts;
use crate::prepare::fresh::Fresh;

/// What a sandbox finds ready when it is made. One serves many sandboxes, also at once.
#[derive(Debug, Default)]
pub struct Spares {
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    ready: Vec<(Fresh, OwnedFd)>,
    /// What was asked for since the last restocking.
    asked: Vec<Fresh>,
}

impl Spares {
    /// Most that lie ready: each of them costs a descriptor and a mount.
    const MOST: usize = 16;

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self, wanted: &Fresh) -> Option<OwnedFd> {
        let mut shelf = self.shelf();
        if shelf.asked.len() < Spares::MOST {
            shelf.asked.push(wanted.clone());
        }
        let place = shelf.ready.iter().position(|(ready, _)| ready == wanted)?;
        Some(shelf.ready.swap_remove(place).1)
    }

    /// Makes what nearly every sandbox has; `console` where it has a terminal. For who knows that one will be made, and no
    /// more than that.
    pub fn stock_usual(&self, shm_size: u64, console: bool) {
        for fresh in usual_parts(shm_size, console) {
            if let Ok(fd) = fresh.make() {
                self.shelf().ready.push((fresh, fd));
            }
        }
    }

    /// Makes anew what was asked for. For who has nothing to do until a sandbox ends that has been started.
    pub fn restock(&self) {
        let asked = std::mem::take(&mut self.shelf().asked);
        // Who needs what could not be made is told why.
        let made: Vec<(Fresh, OwnedFd)> =
            asked.into_iter().filter_map(|fresh| fresh.make().ok().map(|fd| (fresh, fd))).collect();
        let mut shelf = self.shelf();
        let room = Spares::MOST.saturating_sub(shelf.ready.len());
        shelf.ready.extend(made.into_iter().take(room));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::Preparation;

    impl Preparation {
        fn fresh(&self) -> Option<&Fresh> {
            if let Preparation::Fresh(fresh) = self { Some(fresh) } else { None }
        }
    }

    #[test]
    fn what_was_asked_for_is_ready_the_next_time_and_once() {
        let tmpfs = |mode| Fresh::Tmpfs { size: Some(1 << 20), mode, executable: false };
        let spares = Spares::default();
        assert!(spares.take(&tmpfs(0o700)).is_none());
        spares.restock();
        let able = tmpfs(0o700).make().is_ok();
        assert!(spares.take(&tmpfs(0o711)).is_none());
        assert_eq!(spares.take(&tmpfs(0o700)).is_some(), able, "a spare is there wherever one can be made");
        assert!(spares.take(&tmpfs(0o700)).is_none());
        (0..2 * Spares::MOST).for_each(|_| drop(spares.take(&tmpfs(0o722))));
        (0..3).for_each(|_| spares.restock());
        assert!(spares.shelf().ready.len() <= Spares::MOST);
    }

    #[test]
    fn what_is_usual_is_what_a_plain_sandbox_asks_for() {
        let directory = tempfile::tempdir().unwrap();
        let rootfs = Arc::new(crate::Rootfs::directory(directory.path()).unwrap());
        let mut sandbox = crate::Sandbox::new(rootfs, ["true"]);
        for stdio in [crate::Stdio::Pipes, crate::Stdio::Terminal(crate::TerminalSize { rows: 24, columns: 80 })] {
            sandbox.stdio = stdio;
            let plan = sandbox.plan().unwrap();
            let asked: Vec<&Fresh> = plan.prepare.iter().filter_map(|(_, what)| what.fresh()).collect();
            for usual in usual_parts(sandbox.shm_size, matches!(stdio, crate::Stdio::Terminal(_))) {
                assert!(asked.contains(&&usual), "{usual:?} is not in {asked:?}");
            }
        }
    }
}
