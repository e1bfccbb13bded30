//! Parts of sandboxes that are made while nobody waits for them: what the last one was made of, the next one will need.
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::planner::usual_parts;
use crate::prepare::fresh::Fresh;
use crate::room;

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
    rooms: Vec<OwnedFd>,
    rooms_asked: usize,
}

impl Spares {
    /// Most that lie ready: each of them costs a descriptor and a mount.
    const MOST: usize = 16;
    /// The same of mount namespaces.
    const MOST_ROOMS: usize = 4;

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

    /// A mount namespace that shows nothing yet.
    pub(crate) fn take_room(&self) -> Option<OwnedFd> {
        let mut shelf = self.shelf();
        shelf.rooms_asked = shelf.rooms_asked.saturating_add(1).min(Spares::MOST_ROOMS);
        shelf.rooms.pop()
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

    /// Makes a mount namespace for a sandbox, and leaves the calling thread in it: one that has nothing else to do, for it
    /// finds no file of the machine any more.
    pub fn stock_room_and_stay(&self) {
        if let Ok(room) = room::make_and_stay() {
            self.shelf().rooms.push(room);
        }
    }

    /// Makes anew what was asked for. For who has nothing to do until a sandbox ends that has been started.
    pub fn restock(&self) {
        let (asked, rooms) = {
            let mut shelf = self.shelf();
            let rooms = std::mem::take(&mut shelf.rooms_asked).saturating_sub(shelf.rooms.len());
            (std::mem::take(&mut shelf.asked), rooms)
        };
        // Who needs what could not be made is told why.
        let made: Vec<(Fresh, OwnedFd)> =
            asked.into_iter().filter_map(|fresh| fresh.make().ok().map(|fd| (fresh, fd))).collect();
        let rooms: Vec<OwnedFd> = (0..rooms).filter_map(|_| room::make().ok()).collect();
        let mut shelf = self.shelf();
        let space = Spares::MOST.saturating_sub(shelf.ready.len());
        shelf.ready.extend(made.into_iter().take(space));
        let space = Spares::MOST_ROOMS.saturating_sub(shelf.rooms.len());
        shelf.rooms.extend(rooms.into_iter().take(space));
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

    fn call() -> crate::HookCall {
        crate::HookCall { path: "/bin/true".into(), argv: Vec::new(), env: Vec::new(), seconds: None }
    }

    #[test]
    fn a_room_is_for_who_needs_nothing_of_the_machines_mounts() {
        let directory = tempfile::tempdir().unwrap();
        let rootfs = Arc::new(crate::Rootfs::directory(directory.path()).unwrap());
        let plan = |change: fn(&mut crate::Sandbox)| {
            let mut sandbox = crate::Sandbox::new(Arc::clone(&rootfs), ["true"]);
            change(&mut sandbox);
            let spares = Spares::default();
            // Nobody enters it: it is planned and no more.
            spares.shelf().rooms.push(std::fs::File::open("/").unwrap().into());
            let plan = sandbox.plan_in(Some(&spares)).unwrap().to_string();
            let left = spares.shelf().rooms.len();
            assert_eq!(plan.contains("enter       room"), left == 0, "{plan}");
            assert_eq!(plan.contains("take        root"), left == 0, "{plan}");
            assert_eq!(plan.contains("mounts      private"), left == 1, "{plan}");
            left == 0
        };
        let superuser = !crate::in_user_namespace();
        assert_eq!(plan(|_| {}), superuser);
        assert_eq!(plan(|sandbox| sandbox.privileged = true), superuser);
        assert!(!plan(|sandbox| sandbox.gate = Some(Arc::new(std::fs::File::open("/").unwrap().into()))));
        assert!(!plan(|sandbox| sandbox.hooks.create.push(call())));
        assert!(!plan(|sandbox| sandbox.hooks.start.push(call())));
    }
}
