//! System call filters: which calls a sandbox may make, compiled to a program for the kernel. Loading is `sys::seccomp`'s.
mod compile;
mod custom;
mod profile;

pub use custom::{SeccompAbi, SeccompAction, SeccompComparison, SeccompCondition, SeccompProfile, SeccompRule};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::capability::CapabilitySet;

/// One instruction of classic BPF, laid out as the kernel's `sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) if_true: u8,
    pub(crate) if_false: u8,
    pub(crate) value: u32,
}

/// A compiled filter.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Program {
    instructions: Arc<[Instruction]>,
    flags: u32,
}

impl Program {
    /// Docker's default list for a process with these capabilities; `None` on machines for which there is no list.
    pub(crate) fn standard(granted: CapabilitySet) -> Option<Program> {
        // A build starts hundreds of sandboxes with one set.
        static COMPILED: Mutex<BTreeMap<u64, Program>> = Mutex::new(BTreeMap::new());
        let abis = profile::abis();
        if abis.is_empty() {
            return None;
        }
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let program = compiled.entry(granted.bits()).or_insert_with(|| {
            let rules = profile::rules(granted);
            let abis: Vec<_> = abis.iter().collect();
            Program::new(compile::compile(
                &abis,
                compile::Verdict::Absent,
                |name| rules.verdict(name),
                |v| compile::leaf(*v),
            ))
        });
        Some(program.clone())
    }

    /// Lets another process answer these calls of the machine's own ABI; `None` on machines for which there is no list.
    pub(crate) fn notifying(numbers: impl Iterator<Item = u32>) -> Option<Program> {
        let native = profile::abis().first()?;
        Some(Program::new(compile::notifying(native.audit, numbers)))
    }

    fn new(instructions: Vec<Instruction>) -> Program {
        Program { instructions: instructions.into(), flags: 0 }
    }

    pub(crate) fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    pub(crate) fn flags(&self) -> u32 {
        self.flags
    }
}

/// Compiles docker's default list for the usual capabilities, for who starts a container a moment later.
pub fn compile_default_filter() {
    drop(Program::standard(CapabilitySet::DOCKER));
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({self})")
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} instructions", self.instructions.len())
    }
}
