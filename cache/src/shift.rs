//! Owners of a tree that is seen through a user namespace of others: what is its user 0 shows as the first of their ids.

use std::ffi::OsString;

use crate::tree::{Attributes, Metadata, Owner};

/// Root of the namespace in a capability (`vfs_ns_cap_data` of linux/capability.h): its revision, and how long both forms are.
const CAPABILITY: &str = "security.capability";
const PLAIN: usize = 20;
const OF_NAMESPACE: usize = 24;
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

/// Where the ids of a user namespace begin outside, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdShift {
    /// User 0.
    pub uid: u32,
    /// Group 0.
    pub gid: u32,
    /// Ids from there on.
    pub count: u32,
}

impl IdShift {
    /// As the namespace has it. Others than its own are nobody there.
    pub(crate) fn inward(self, metadata: &mut Metadata) {
        const NOBODY: u32 = 65_534;
        let inside = |id: u32, first: u32| id.checked_sub(first).filter(|id| *id < self.count).unwrap_or(NOBODY);
        (metadata.uid, metadata.gid) = (inside(metadata.uid, self.uid), inside(metadata.gid, self.gid));
    }

    /// As the machine has it. An id that the namespace lacks is one that the kernel refuses.
    pub(crate) fn outward(self, owner: Owner) -> Owner {
        let outside = |id: u32, first: u32| first.checked_add(id).filter(|_| id < self.count).unwrap_or(u32::MAX - 1);
        Owner { uid: outside(owner.uid, self.uid), gid: outside(owner.gid, self.gid) }
    }

    /// All that an entry is given, as the machine has it.
    pub(crate) fn outward_all(self, attributes: &Attributes) -> Attributes {
        let mut all = attributes.clone();
        all.owner = self.outward(all.owner);
        for (name, value) in &mut all.xattrs {
            if name == CAPABILITY && value.len() == PLAIN && set_revision(value, REVISION_3) {
                value.extend(self.uid.to_le_bytes());
            }
        }
        all
    }

    /// Capabilities of the namespace's root are those of any root to who is in it.
    pub(crate) fn inward_xattrs(self, xattrs: &mut [(OsString, Vec<u8>)]) {
        for (name, value) in xattrs {
            let own = value.get(PLAIN..) == Some(self.uid.to_le_bytes().as_slice());
            if name == CAPABILITY && value.len() == OF_NAMESPACE && own && set_revision(value, REVISION_2) {
                value.truncate(PLAIN);
            }
        }
    }
}

fn set_revision(value: &mut [u8], revision: u32) -> bool {
    let Some(head) = value.first_chunk_mut::<4>() else { return false };
    *head = (u32::from_le_bytes(*head) & !REVISION_MASK | revision).to_le_bytes();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_capabilities_go_both_ways() {
        let shift = IdShift { uid: 1000, gid: 5000, count: 10 };
        assert_eq!(shift.outward(Owner { uid: 3, gid: 9 }), Owner { uid: 1003, gid: 5009 });
        assert_eq!(shift.outward(Owner { uid: 10, gid: 0 }), Owner { uid: u32::MAX - 1, gid: 5000 });
        let mut value = vec![1, 0, 0, 2];
        value.resize(PLAIN, 7);
        let xattrs = vec![(OsString::from(CAPABILITY), value.clone()), (OsString::from("user.x"), value)];
        let attributes = Attributes { mode: 0, owner: Owner::default(), mtime_ns: 0, xattrs: xattrs.clone() };
        let mut outside = shift.outward_all(&attributes).xattrs;
        assert_eq!(outside.first().map(|(_, value)| (value.len(), value.get(3).copied())), Some((24, Some(3))));
        shift.inward_xattrs(&mut outside);
        assert_eq!(outside, xattrs);
    }
}
