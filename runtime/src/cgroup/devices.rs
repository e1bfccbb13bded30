//! Which devices a control group may use: rules as docker writes them, what they come to, and the program for the kernel.
use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};
use crate::sys::bpf::Instruction;

/// One rule: it allows or denies some accesses to some devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Whether it allows.
    pub allow: bool,
    /// Which devices.
    pub devices: DeviceSet,
    /// Which accesses.
    pub access: DeviceAccess,
}

/// The devices that a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceSet {
    /// Character or block devices; `None` is both.
    pub kind: Option<DeviceClass>,
    /// `None` is every one.
    pub major: Option<u32>,
    /// `None` is every one.
    pub minor: Option<u32>,
}

/// The two kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DeviceClass {
    Block,
    Character,
}

/// Accesses to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct DeviceAccess {
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const EVERY: u32 = MKNOD | READ | WRITE;

impl DeviceAccess {
    /// All three.
    pub const ALL: DeviceAccess = DeviceAccess { read: true, write: true, mknod: true };

    /// Reads `rwm` or a part of it.
    pub fn parse(text: &str) -> Result<DeviceAccess> {
        if text.is_empty() || text.chars().any(|c| !"rwm".contains(c)) {
            return Err(Error::invalid("device access", format!("`{text}` must be made of r, w and m")));
        }
        Ok(DeviceAccess { read: text.contains('r'), write: text.contains('w'), mknod: text.contains('m') })
    }

    fn bits(self) -> u32 {
        (u32::from(self.mknod) * MKNOD) | (u32::from(self.read) * READ) | (u32::from(self.write) * WRITE)
    }
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (given, letter) in [(self.read, "r"), (self.write, "w"), (self.mknod, "m")] {
            f.write_str(if given { letter } else { "" })?;
        }
        Ok(())
    }
}

impl DeviceSet {
    /// Every device.
    pub const ALL: DeviceSet = DeviceSet { kind: None, major: None, minor: None };
}

impl DeviceRule {
    /// Reads docker's `--device-cgroup-rule`: `c 10:229 rwm`, `b 8:* r`, `a`.
    pub fn parse(text: &str) -> Result<DeviceRule> {
        let invalid = || {
            let reason = format!("`{text}` must be like `c 10:229 rwm`: a, b or c, numbers or *, and r, w, m");
            Error::invalid("device rule", reason)
        };
        let number = |text: &str| match text {
            "*" => Some(None),
            digits => digits.parse().ok().map(Some),
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (kind, numbers, access) = match words.as_slice() {
            ["a"] => return Ok(DeviceRule { allow: true, devices: DeviceSet::ALL, access: DeviceAccess::ALL }),
            [kind, numbers, access] => (*kind, *numbers, *access),
            _ => return Err(invalid()),
        };
        let kind = match kind {
            "a" => None,
            "b" => Some(DeviceClass::Block),
            "c" => Some(DeviceClass::Character),
            _ => return Err(invalid()),
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
        let devices =
            DeviceSet { kind, major: number(major).ok_or_else(invalid)?, minor: number(minor).ok_or_else(invalid)? };
        Ok(DeviceRule { allow: true, devices, access: DeviceAccess::parse(access).map_err(|_| invalid())? })
    }

    /// Docker's rules for every container: nodes may be made of anything, and the harmless ones opened.
    #[must_use]
    pub fn usual() -> Vec<DeviceRule> {
        let mknod = DeviceAccess { read: false, write: false, mknod: true };
        let rule = |allow, kind, major, minor, access| {
            let devices = DeviceSet { kind, major, minor };
            DeviceRule { allow, devices, access }
        };
        let character = Some(DeviceClass::Character);
        let mut rules = vec![
            rule(false, None, None, None, DeviceAccess::ALL),
            rule(true, character, None, None, mknod),
            rule(true, Some(DeviceClass::Block), None, None, mknod),
        ];
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
            rules.push(rule(true, character, Some(major), Some(minor), DeviceAccess::ALL));
        }
        rules.push(rule(true, character, Some(136), None, DeviceAccess::ALL));
        rules
    }

    /// As the devices controller of version 1 reads it.
    pub(super) fn version_1(self) -> String {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let DeviceSet { kind, major, minor } = self.devices;
        let kind = match kind {
            None => "a",
            Some(DeviceClass::Block) => "b",
            Some(DeviceClass::Character) => "c",
        };
        format!("{kind} {}:{} {}", number(major), number(minor), self.access)
    }
}

/// What a list of rules comes to: one answer for most devices, the other for some accesses to some of them.
///
/// These are the kernel's own rules for version 1: a rule for everything forgets what was said before, and a rule that
/// takes another back must name the same devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DevicePolicy {
    allow: bool,
    exceptions: BTreeMap<DeviceSet, u32>,
}

impl DevicePolicy {
    pub(super) fn of(rules: &[DeviceRule]) -> DevicePolicy {
        let mut policy = DevicePolicy { allow: true, exceptions: BTreeMap::new() };
        for rule in rules {
            policy.add(rule);
        }
        policy
    }

    fn add(&mut self, rule: &DeviceRule) {
        let mut sets = vec![rule.devices];
        if rule.devices == DeviceSet::ALL {
            if rule.access == DeviceAccess::ALL {
                *self = DevicePolicy { allow: rule.allow, exceptions: BTreeMap::new() };
                return;
            }
            sets = [DeviceClass::Block, DeviceClass::Character]
                .map(|kind| DeviceSet { kind: Some(kind), ..DeviceSet::ALL })
                .to_vec();
        }
        for set in sets {
            let entry = self.exceptions.entry(set).or_insert(0);
            match rule.allow == self.allow {
                true => *entry &= !rule.access.bits(),
                false => *entry |= rule.access.bits(),
            }
            if *entry == 0 {
                self.exceptions.remove(&set);
            }
        }
    }

    /// The program that answers the same, for version 2: 1 allows, 0 refuses.
    pub(super) fn program(&self) -> Vec<Instruction> {
        use Instruction as I;
        // The context holds the access above the kind, the major and the minor number.
        let mut program = vec![
            I::load(2, 1, 0),
            I::and(2, 0xffff),
            I::load(3, 1, 0),
            I::shift_right(3, 16),
            I::load(4, 1, 4),
            I::load(5, 1, 8),
        ];
        for (set, access) in &self.exceptions {
            let mut tests = Vec::new();
            if let Some(kind) = set.kind {
                tests.push(I::unless_equal(2, if kind == DeviceClass::Block { 1 } else { 2 }, 0));
            }
            for (register, number) in [(4, set.major), (5, set.minor)] {
                tests.extend(number.map(|number| I::unless_equal(register, number, 0)));
            }
            // An exception that allows must cover the whole access, one that refuses only a part of it.
            if !self.allow && *access != EVERY {
                tests.extend([I::copy(1, 3), I::and(1, EVERY & !*access), I::unless_equal(1, 0, 0)]);
            } else if self.allow && *access != EVERY {
                tests.extend([I::copy(1, 3), I::and(1, *access), I::if_equal(1, 0, 0)]);
            }
            tests.extend([I::answer(u32::from(!self.allow)), I::exit()]);
            let length = tests.len();
            for (at, test) in tests.iter_mut().enumerate() {
                // A test that does not hold leads behind the last of this exception.
                test.aim(length - at - 1);
            }
            program.extend(tests);
        }
        program.extend([I::answer(u32::from(self.allow)), I::exit()]);
        program
    }

    #[cfg(test)]
    fn answer(&self, class: DeviceClass, major: u32, minor: u32, access: u32) -> bool {
        let held = self.exceptions.iter().any(|(set, given)| {
            set.kind.is_none_or(|kind| kind == class)
                && set.major.is_none_or(|number| number == major)
                && set.minor.is_none_or(|number| number == minor)
                && if self.allow { access & given != 0 } else { access & !given == 0 }
        });
        self.allow != held
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn rule(allow: bool, text: &str) -> DeviceRule {
        DeviceRule { allow, ..DeviceRule::parse(text).unwrap() }
    }

    #[test]
    fn rules_are_read_and_written() {
        for text in ["c 10:229 rwm", "b 8:* r", "a *:* rw"] {
            assert_eq!(DeviceRule::parse(text).unwrap().version_1(), text);
        }
        for text in ["", "c", "c 1:3", "x 1:3 rwm", "c 1 rwm", "c 1:3 rwx", "c 1:3 rwm x", "c -1:3 r"] {
            assert!(DeviceRule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn runtime_m14_rules_come_to_a_policy_and_the_program_says_the_same() {
        let lists: [Vec<DeviceRule>; 4] = [
            DeviceRule::usual(),
            [DeviceRule::usual(), vec![rule(true, "c 10:229 rw")]].concat(),
            vec![rule(false, "c 1:3 w"), rule(false, "b 8:* rwm")],
            vec![rule(false, "a"), rule(true, "c 1:3 r"), rule(true, "c 1:3 w"), rule(false, "c 1:3 r")],
        ];
        for rules in lists {
            let policy = DevicePolicy::of(&rules);
            let program = policy.program();
            for class in [DeviceClass::Block, DeviceClass::Character] {
                for (major, minor) in [(1, 3), (1, 4), (8, 0), (10, 229), (10, 200), (136, 7)] {
                    for access in 1..=EVERY {
                        let kind = if class == DeviceClass::Block { 1 } else { 2 };
                        let context = [(access << 16) | kind, major, minor];
                        let answer = crate::sys::bpf::interpret(&program, context);
                        let wanted = policy.answer(class, major, minor, access);
                        assert_eq!(answer == 1, wanted, "{class:?} {major}:{minor} {access} {policy:?}");
                    }
                }
            }
        }
        let policy = DevicePolicy::of(&DeviceRule::usual());
        assert!(policy.answer(DeviceClass::Character, 1, 3, READ | WRITE));
        assert!(policy.answer(DeviceClass::Block, 8, 0, MKNOD) && !policy.answer(DeviceClass::Block, 8, 0, READ));
    }
}
