//! RUN: one process in a sandbox over the parent's tree.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache::{Attributes, Layer, Owner, TreeRoot};
use runtime::{Exit, Mount, Sandbox, Stdio};

use super::{Work, rootfs, tree_of};
use crate::error::{Error, Result};
use crate::event::{Event, Stream};
use crate::plan::RunOp;

/// The name that a step sees as its host's; in no file of the layer.
const HOSTNAME: &str = "dunnage-build";

/// Lines of a failed step's log that the message repeats.
const TAIL_LINES: usize = 20;

impl Work<'_> {
    pub(super) fn run(&self, op: &RunOp) -> Result<(Layer, bool)> {
        runtime::mount_point_layer(&self.solver.store.mount_points_dir())?;
        let snapshot = self.solver.store.sandbox_snapshot(self.solver.lease, self.parent())?;
        let rootfs = Arc::new(rootfs(&snapshot, true)?);
        let root = tree_of(&rootfs)?;
        let sandbox = self.sandbox(op, &root, rootfs)?;
        drop(root);
        let mut container = sandbox.start()?;
        let watched = self.solver.cancel.watch(container.killer());
        let tail = self.pump(container.take_stdout(), container.take_stderr());
        let exit = container.wait()?;
        drop(watched);
        drop(container);
        if self.solver.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if !exit.success() {
            return Err(self.failed(&exit, &tail));
        }
        self.commit(snapshot)
    }

    fn sandbox(&self, op: &RunOp, root: &TreeRoot, rootfs: Arc<runtime::Rootfs>) -> Result<Sandbox> {
        let user = self.user(root, &op.user)?;
        let mut env: Vec<(String, String)> = op.env.clone();
        if !env.iter().any(|(name, _)| name == "HOME") {
            env.push(("HOME".to_owned(), user.home.to_string_lossy().into_owned()));
        }
        env.extend(op.hidden_env.iter().cloned());
        let mut sandbox = Sandbox::new(rootfs, &op.argv);
        sandbox.env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        sandbox.cwd = op.cwd.as_str().into();
        sandbox.user = user.ids;
        sandbox.hostname = HOSTNAME.to_owned();
        sandbox.network = op.network.into();
        sandbox.stdio = Stdio::Pipes;
        if let Some(script) = &op.script {
            let source = self.script_file(&script.body)?.into();
            let target = script.path.as_str().into();
            sandbox.mounts.push(Mount::Bind { source, target, read_only: true, recursive: false });
        }
        Ok(sandbox)
    }

    /// The script as an executable file among the drafts.
    fn script_file(&self, script: &str) -> Result<PathBuf> {
        let path = self.solver.lease.draft();
        let directory = path.parent().unwrap_or(&path);
        let name = path.file_name().map(Path::new).unwrap_or(&path);
        let attributes = Attributes { mode: 0o755, owner: Owner::default(), mtime_ns: 0, xattrs: Vec::new() };
        TreeRoot::open(directory)?.write_bytes(name, script.as_bytes(), &attributes)?;
        Ok(path)
    }

    /// Reads both streams to their ends, each on a thread of its own, and keeps the last lines.
    fn pump(&self, stdout: Option<impl Read + Send>, stderr: Option<impl Read + Send>) -> Vec<String> {
        let tail = std::sync::Mutex::new(Tail::default());
        std::thread::scope(|scope| {
            let tail = &tail;
            if let Some(stderr) = stderr {
                scope.spawn(move || self.pump_one(stderr, Stream::Stderr, tail));
            }
            if let Some(stdout) = stdout {
                self.pump_one(stdout, Stream::Stdout, tail);
            }
        });
        tail.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).lines()
    }

    fn pump_one(&self, mut from: impl Read, stream: Stream, tail: &std::sync::Mutex<Tail>) {
        let mut buffer = vec![0_u8; 64 * 1024];
        // A read error ends the stream as its end does: the exit status tells what became of the process.
        while let Ok(count) = from.read(&mut buffer) {
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(bytes);
            (self.solver.events)(Event::Output(self.step.id, stream, bytes.to_vec()));
        }
    }

    fn failed(&self, exit: &Exit, tail: &[String]) -> Error {
        let code = exit.status_code();
        let how = match exit.signal {
            Some(signal) => format!("was killed by signal {signal}"),
            None => format!("failed with exit code {code}"),
        };
        let mut diagnostic = self.diagnostic("K0350", format!("RUN {how}")).label(format!("exit code {code}"));
        if !tail.is_empty() {
            diagnostic = diagnostic.note(format!("its last lines were:\n{}", tail.join("\n")));
        }
        match code {
            127 => diagnostic = diagnostic.help("the shell did not find a command: is it installed in this stage?"),
            137 => diagnostic = diagnostic.help("the process was killed, most often because memory ran out"),
            _ => {}
        }
        Error::RunFailed { diagnostic: Box::new(diagnostic), code }
    }
}

/// The last lines of an output, bounded.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
}

/// Bytes kept for the last lines.
const TAIL_BYTES: usize = 16 * 1024;

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * TAIL_BYTES {
            self.bytes.drain(..self.bytes.len() - TAIL_BYTES);
        }
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)).map(|line| (*line).to_owned()).collect()
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
