//! System call filters: which calls a sandbox may make, compiled to a program for the kernel. Loading is `sys::seccomp`'s.
use std::fmt;
use std::sync::Arc;

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
pub(crate) struct Program(Arc<[Instruction]>);

impl Program {
    pub(crate) fn instructions(&self) -> &[Instruction] {
        &self.0
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({self})")
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} instructions", self.0.len())
    }
}
