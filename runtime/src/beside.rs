//! Work that goes on beside that of who gives it. A kernel may wake a thread on the processor of who woke it although another
//! is idle, as those of virtual machines do that spare the host a wake-up; then the two take turns.
use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// A thread that works for others.
#[derive(Clone, Copy, Debug)]
pub struct Beside {
    thread: Pid,
}

impl Beside {
    /// The calling thread, which starts no process: that would inherit where it may run.
    #[must_use]
    pub fn this() -> Beside {
        Beside { thread: gettid() }
    }

    /// Keeps it off the processor of the caller, who will go on there, as long as there is another. It is a hint: where the
    /// kernel refuses it, all goes on as well.
    pub fn make_way(&self) {
        let Ok(mut others) = sched_getaffinity(None) else { return };
        let own = sched_getcpu();
        if own < CpuSet::MAX_CPU {
            others.unset(own);
        }
        if others.count() > 0 {
            let _ = sched_setaffinity(Some(self.thread), &others);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn it_may_run_where_the_caller_may_but_not_where_the_caller_is() {
        let (tell, told) = channel();
        let (go, wait) = channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(Beside::this()).unwrap();
            wait.recv().unwrap();
            sched_getaffinity(None).unwrap()
        });
        let beside = told.recv().unwrap();
        let all = sched_getaffinity(None).unwrap();
        beside.make_way();
        go.send(()).unwrap();
        let allowed = thread.join().unwrap();
        let expected = if all.count() > 1 { all.count() - 1 } else { all.count() };
        assert_eq!(allowed.count(), expected);
        assert_eq!(sched_getaffinity(None).unwrap(), all, "the caller stays where it may be");
    }
}
