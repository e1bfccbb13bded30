//! A thread that serves a container until who started it goes.
use std::io;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use rustix::pipe::{PipeFlags, pipe_with};

/// Bytes of its stack: what it does is shallow, and there may be many.
const STACK: usize = 256 << 10;

/// The thread; dropping this ends it and waits for it.
#[derive(Debug)]
pub(super) struct Worker {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts it. The other end of the descriptor that `serve` is given is closed when it shall end.
    pub(super) fn start(name: &str, serve: impl FnOnce(OwnedFd) + Send + 'static) -> io::Result<Worker> {
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
        Ok(Worker { stop: Some(stop), thread: Some(thread.spawn(move || serve(stopped))?) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}
