//! What a RUN that did not succeed is told with: its line, how it ended, its last lines, and what to do.

use runtime::{Emulation, Exit};

use crate::error::Error;
use crate::perform::Work;
use crate::plan::RunOp;

/// Lines of a failed step's log that the message repeats.
const TAIL_LINES: usize = 20;

/// Bytes kept for the last lines.
const TAIL_BYTES: usize = 16 * 1024;

/// The last lines of an output, bounded.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * TAIL_BYTES {
            self.bytes.drain(..self.bytes.len() - TAIL_BYTES);
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)).map(|line| (*line).to_owned()).collect()
    }
}

impl Work<'_> {
    /// `memory_kills` is how many processes of the machine the kernel ended meanwhile for want of memory.
    pub(super) fn failed(&self, op: &RunOp, exit: &Exit, tail: &[String], memory_kills: u64) -> Error {
        let code = exit.status_code();
        let how = match exit.signal {
            Some(signal) => format!("was killed by signal {signal}"),
            None => format!("failed with exit code {code}"),
        };
        let out_of_memory = code == 137 && memory_kills > 0;
        let how = if out_of_memory { format!("{how}: memory ran out") } else { how };
        let mut diagnostic = self.diagnostic("K0350", format!("`{}` {how}", self.step.text));
        diagnostic = diagnostic.label(format!("exit code {code}"));
        if !tail.is_empty() {
            diagnostic = diagnostic.note(format!("its last lines were:\n{}", tail.join("\n")));
        }
        if self.solver.failed.is_none() {
            diagnostic = diagnostic.note(
                "`dunnage debug` opens a shell in the state before it, `dunnage build --debug …` in the one that it left",
            );
        }
        if tail.iter().any(|line| line.contains("No space left on device")) {
            diagnostic = diagnostic.help(self.solver.store.room());
        }
        match code {
            126 if self.is_foreign(op) => diagnostic = diagnostic.help(emulation(op)),
            127 => diagnostic = diagnostic.help("the shell did not find a command: is it installed in this stage?"),
            137 if out_of_memory => {
                let peak = exit.usage.max_resident >> 20;
                diagnostic = diagnostic.help(format!(
                    "the largest of its processes had {peak} MiB; give the machine more, or do less at once"
                ));
            }
            137 => diagnostic = diagnostic.help("the process was killed from outside, or by a limit of the machine"),
            _ => {}
        }
        Error::RunFailed { diagnostic: Box::new(diagnostic), code }
    }

    /// A step that could not begin, told at its line.
    pub(super) fn not_started(&self, op: &RunOp, error: runtime::Error) -> Error {
        let program = op.argv.first().map(String::as_str).unwrap_or_default();
        let diagnostic = match &error {
            _ if op.argv.is_empty() => self
                .diagnostic("K0352", "this RUN names no program".to_owned())
                .help("write `RUN [\"/program\", \"argument\"]`, or the line for a shell without brackets"),
            runtime::Error::NotFound { .. } => {
                let empty = self.parent().is_empty();
                let message = if empty {
                    format!("this stage is empty, so there is no {program} to run the command with")
                } else {
                    format!("this stage has no {program} to run the command with")
                };
                let help =
                    "copy a shell into the stage, or run a program that it has: RUN [\"/program\", \"argument\"]";
                self.diagnostic("K0352", message).help(help)
            }
            runtime::Error::InterpreterNotFound { .. } if self.is_foreign(op) => {
                self.diagnostic("K0351", format!("{program} is a program for {}", op.platform)).help(emulation(op))
            }
            runtime::Error::NotExecutable { source, .. } if source.raw_os_error() == Some(EXEC_FORMAT) => {
                let diagnostic = self.diagnostic("K0351", format!("{program} is no program for this machine"));
                if self.is_foreign(op) {
                    diagnostic.label(format!("the stage is for {}", op.platform)).help(emulation(op))
                } else {
                    diagnostic.help("is it for another platform, or a script that does not begin with `#!`?")
                }
            }
            runtime::Error::InterpreterNotFound { .. }
            | runtime::Error::NotExecutable { .. }
            | runtime::Error::WorkingDirectory { .. }
            | runtime::Error::MountSource { .. }
            | runtime::Error::Mount { .. }
            | runtime::Error::User { .. } => self.diagnostic("K0352", error.to_string()),
            _ => return Error::Sandbox(error),
        };
        diagnostic.into()
    }

    fn is_foreign(&self, op: &RunOp) -> bool {
        op.platform.architecture != self.plan.options.build_platform.architecture
    }
}

/// ENOEXEC: a file without a format that the kernel knows.
const EXEC_FORMAT: i32 = 8;

/// What to do about programs of another architecture.
fn emulation(op: &RunOp) -> String {
    let architecture = &op.platform.architecture;
    match Emulation::of(architecture) {
        Emulation::Ready => format!("an emulator for {architecture} is registered; is the program really for it?"),
        Emulation::NotFixed => format!(
            "the emulator for {architecture} is registered without the flag F, so stages do not find it: install \
             qemu-user-static and binfmt-support, or register it with F"
        ),
        Emulation::Missing => format!(
            "no emulator for {architecture} is registered with the kernel (binfmt_misc): install qemu-user-static and \
             binfmt-support, or build it with a compiler for {architecture} in a stage `FROM --platform=$BUILDPLATFORM`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builder_r01_the_tail_keeps_the_last_lines() {
        let mut tail = Tail::default();
        for line in 0..10_000 {
            tail.push(format!("line {line}\n").as_bytes());
        }
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("line 9999"));
    }
}
