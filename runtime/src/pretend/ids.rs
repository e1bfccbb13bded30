//! The ids of a process as the kernel would keep them (credentials(7)): pure, so that each rule can be tested.
use rustix::io::Errno;

/// "Leave it as it is" in a call that takes several ids.
const KEEP: u32 = u32::MAX;
/// The kernel's NGROUPS_MAX.
pub(super) const MOST_GROUPS: usize = 65_536;

/// Users or groups of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    filesystem: u32,
}

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) users: Set,
    pub(super) groups: Set,
    pub(super) supplementary: Vec<u32>,
}

impl Set {
    fn all(id: u32) -> Set {
        Set { real: id, effective: id, saved: id, filesystem: id }
    }

    /// setuid(2), setgid(2).
    fn set(&mut self, id: u32, privileged: bool) -> Result<(), Errno> {
        if privileged {
            *self = Set::all(id);
        } else if id == self.real || id == self.saved {
            self.change_effective(id);
        } else {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// setreuid(2), setregid(2).
    fn set_two(&mut self, real: u32, effective: u32, privileged: bool) -> Result<(), Errno> {
        let real_allowed = [KEEP, self.real, self.effective].contains(&real);
        let effective_allowed = [KEEP, self.real, self.effective, self.saved].contains(&effective);
        if !(privileged || real_allowed && effective_allowed) {
            return Err(Errno::PERM);
        }
        let before = self.real;
        if real != KEEP {
            self.real = real;
        }
        if effective != KEEP {
            self.change_effective(effective);
        }
        if real != KEEP || (effective != KEEP && effective != before) {
            self.saved = self.effective;
        }
        Ok(())
    }

    /// setresuid(2), setresgid(2).
    fn set_three(&mut self, [real, effective, saved]: [u32; 3], privileged: bool) -> Result<(), Errno> {
        let allowed = |id: u32| [KEEP, self.real, self.effective, self.saved].contains(&id);
        if !privileged && ![real, effective, saved].into_iter().all(allowed) {
            return Err(Errno::PERM);
        }
        if real != KEEP {
            self.real = real;
        }
        if effective != KEEP {
            self.change_effective(effective);
        }
        if saved != KEEP {
            self.saved = saved;
        }
        Ok(())
    }

    /// setfsuid(2), setfsgid(2): gives what it was before, whether or not it changed.
    fn set_filesystem(&mut self, id: u32, privileged: bool) -> u32 {
        let before = self.filesystem;
        if privileged || [self.real, self.effective, self.saved, before].contains(&id) {
            self.filesystem = id;
        }
        before
    }

    fn change_effective(&mut self, id: u32) {
        self.effective = id;
        self.filesystem = id;
    }
}

impl Ids {
    pub(super) fn new(user: u32, group: u32, supplementary: Vec<u32>) -> Ids {
        Ids { users: Set::all(user), groups: Set::all(group), supplementary }
    }

    fn privileged(&self) -> bool {
        self.users.effective == 0
    }

    pub(super) fn set_user(&mut self, id: u32) -> Result<(), Errno> {
        let privileged = self.privileged();
        self.users.set(id, privileged)
    }

    pub(super) fn set_group(&mut self, id: u32) -> Result<(), Errno> {
        let privileged = self.privileged();
        self.groups.set(id, privileged)
    }

    pub(super) fn set_two_users(&mut self, real: u32, effective: u32) -> Result<(), Errno> {
        let privileged = self.privileged();
        self.users.set_two(real, effective, privileged)
    }

    pub(super) fn set_two_groups(&mut self, real: u32, effective: u32) -> Result<(), Errno> {
        let privileged = self.privileged();
        self.groups.set_two(real, effective, privileged)
    }

    pub(super) fn set_three_users(&mut self, ids: [u32; 3]) -> Result<(), Errno> {
        let privileged = self.privileged();
        self.users.set_three(ids, privileged)
    }

    pub(super) fn set_three_groups(&mut self, ids: [u32; 3]) -> Result<(), Errno> {
        let privileged = self.privileged();
        self.groups.set_three(ids, privileged)
    }

    pub(super) fn set_filesystem_user(&mut self, id: u32) -> u32 {
        let privileged = self.privileged();
        self.users.set_filesystem(id, privileged)
    }

    pub(super) fn set_filesystem_group(&mut self, id: u32) -> u32 {
        let privileged = self.privileged();
        self.groups.set_filesystem(id, privileged)
    }

    pub(super) fn set_supplementary(&mut self, groups: Vec<u32>) -> Result<(), Errno> {
        if !self.privileged() {
            return Err(Errno::PERM);
        }
        if groups.len() > MOST_GROUPS {
            return Err(Errno::INVAL);
        }
        self.supplementary = groups;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn root() -> Ids {
        Ids::new(0, 0, vec![0])
    }

    #[test]
    fn who_gives_up_user_0_cannot_come_back() {
        let mut ids = root();
        ids.set_supplementary(vec![65_534]).unwrap();
        ids.set_three_groups([42; 3]).unwrap();
        ids.set_three_users([42; 3]).unwrap();
        assert_eq!(ids.set_user(0), Err(Errno::PERM));
        assert_eq!(ids.set_three_users([KEEP, 0, KEEP]), Err(Errno::PERM));
        assert_eq!(ids.set_group(0), Err(Errno::PERM));
        assert_eq!(ids.set_supplementary(Vec::new()), Err(Errno::PERM));
        assert_eq!((ids.users, ids.groups), (Set::all(42), Set::all(42)));
    }

    #[test]
    fn the_saved_user_leads_back() {
        let mut ids = root();
        ids.set_three_users([KEEP, 5, KEEP]).unwrap();
        assert_eq!((ids.users.real, ids.users.effective, ids.users.saved), (0, 5, 0));
        ids.set_user(0).unwrap();
        assert_eq!(ids.users, Set::all(0));
    }

    #[test]
    fn two_ids_carry_the_saved_one_along() {
        let mut ids = root();
        ids.set_two_users(7, 8).unwrap();
        assert_eq!((ids.users.real, ids.users.effective, ids.users.saved), (7, 8, 8));
        ids.set_two_users(8, 7).unwrap();
        assert_eq!((ids.users.real, ids.users.effective, ids.users.saved), (8, 7, 7));
        assert_eq!(ids.set_two_users(9, KEEP), Err(Errno::PERM));
    }

    #[test]
    fn the_file_system_id_tells_what_it_was() {
        let mut ids = root();
        assert_eq!((ids.set_filesystem_user(3), ids.set_filesystem_user(4)), (0, 3));
        ids.set_user(5).unwrap();
        assert_eq!((ids.set_filesystem_user(9), ids.set_filesystem_user(9)), (5, 5));
    }
}
