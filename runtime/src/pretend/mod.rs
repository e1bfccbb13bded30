//! Users that are not there. In a user namespace of one id nobody can become another user or own a file: programs that
//! install software want both. Their calls are answered here as the kernel would answer them with all ids at hand: who a
//! process is becomes a thing of this table, and owners become attributes of files, which the store reads back.
//!
//! Nothing is permitted by that which was not before: all files are the caller's own.
mod files;
mod ids;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use self::files::Files;
use self::ids::{Ids, MOST_GROUPS};
use crate::error::{Error, Result};
use crate::seccomp;
use crate::sys::notify::{self, Asked};
use crate::user::UserIds;

/// Processes whose ids are remembered before those of dead ones are dropped.
const MOST_REMEMBERED: usize = 4096;

/// Where owners are recorded that cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerAttributes {
    /// The attribute of a file or directory, `UID:GID` as text.
    pub own: &'static str,
    /// The start of an attribute of a directory, followed by the name of an entry that takes no attributes.
    pub of_entry: &'static str,
}

/// The calls that are answered here; all others go to the kernel.
const CALLS: [libc::c_long; 20] = [
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    files::CHOWN,
    files::LCHOWN,
];

/// The filter that sends these calls here.
pub(crate) fn filter() -> Option<seccomp::Program> {
    let numbers = CALLS.into_iter().filter_map(|number| u32::try_from(number).ok());
    seccomp::Program::notifying(numbers)
}

/// Answers the calls of a container from a thread of its own, which ends with the last process.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn answer(listener: OwnedFd, user: &UserIds, attributes: OwnerAttributes) -> Result<()> {
    let proc = openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::container("opening /proc"))?;
    let first = Ids::new(user.uid, user.gid, user.groups.clone());
    let table = Table { listener, files: Files { proc, attributes }, first, known: HashMap::new() };
    let started = thread::Builder::new().name("ids".to_owned()).spawn(move || table.serve());
    started.map(drop).map_err(|source| Error::Container { doing: "starting a thread", source })
}

struct Table {
    listener: OwnedFd,
    files: Files,
    /// Who the first process is.
    first: Ids,
    /// Processes that are someone else, or were asked about.
    known: HashMap<u32, Ids>,
}

/// What a call gives back.
enum Answer {
    Value(u32),
    /// Numbers to be written to these places, in order; the call gives zero.
    Numbers(Vec<(u64, Vec<u32>)>, i64),
}

impl Table {
    fn serve(mut self) {
        loop {
            let mut wait = [PollFd::new(&self.listener, PollFlags::IN)];
            match poll(&mut wait, None) {
                Err(Errno::INTR) => continue,
                Err(_) => return,
                Ok(_) => {}
            }
            if !wait.iter().any(|fd| fd.revents().contains(PollFlags::IN)) {
                // No process is left.
                return;
            }
            let Ok(asked) = notify::receive(&self.listener) else { continue };
            let result = self.perform(&asked);
            // A thread that was killed needs no answer, and nothing else can go wrong.
            let _ = notify::answer(&self.listener, asked.id, result);
        }
    }

    fn perform(&mut self, asked: &Asked) -> Result<i64, Errno> {
        let memory = self.files.memory(asked.thread)?;
        if !notify::waits(&self.listener, asked.id) {
            return Err(Errno::SRCH);
        }
        if files::is_chown(asked.number) {
            return self.files.chown(asked, &memory).map(|()| 0);
        }
        let process = self.files.process_of(asked.thread)?;
        let ids = self.ids(process);
        match ask(ids, asked, &memory)? {
            Answer::Value(value) => Ok(i64::from(value)),
            Answer::Numbers(writes, value) => {
                for (address, numbers) in writes {
                    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
                    memory.write_all_at(&bytes, address).map_err(|_| Errno::FAULT)?;
                }
                Ok(value)
            }
        }
    }

    /// A process is who its parent is, until it becomes someone else.
    fn ids(&mut self, process: u32) -> &mut Ids {
        if self.known.len() > MOST_REMEMBERED {
            let files = &self.files;
            self.known.retain(|process, _| files.is_alive(*process));
        }
        let mut ancestors = std::iter::successors(Some(process), |process| self.files.parent_of(*process));
        let inherited = ancestors.find_map(|process| self.known.get(&process)).unwrap_or(&self.first).clone();
        self.known.entry(process).or_insert(inherited)
    }
}

fn ask(ids: &mut Ids, asked: &Asked, memory: &File) -> Result<Answer, Errno> {
    let [a, b, c, ..] = asked.arguments;
    let [first, second, third] = [a, b, c].map(|argument| argument as u32);
    let done = |result: Result<(), Errno>| result.map(|()| Answer::Value(0));
    match asked.number {
        libc::SYS_getuid => Ok(Answer::Value(ids.users.real)),
        libc::SYS_geteuid => Ok(Answer::Value(ids.users.effective)),
        libc::SYS_getgid => Ok(Answer::Value(ids.groups.real)),
        libc::SYS_getegid => Ok(Answer::Value(ids.groups.effective)),
        libc::SYS_getresuid | libc::SYS_getresgid => {
            let set = if asked.number == libc::SYS_getresuid { ids.users } else { ids.groups };
            let numbers = [(a, set.real), (b, set.effective), (c, set.saved)];
            Ok(Answer::Numbers(numbers.map(|(address, number)| (address, vec![number])).into(), 0))
        }
        libc::SYS_getgroups => {
            let count = ids.supplementary.len();
            match usize::try_from(first).unwrap_or(usize::MAX) {
                0 => Ok(Answer::Value(u32::try_from(count).unwrap_or(0))),
                room if room < count => Err(Errno::INVAL),
                _ => Ok(Answer::Numbers(vec![(b, ids.supplementary.clone())], count as i64)),
            }
        }
        libc::SYS_setuid => done(ids.set_user(first)),
        libc::SYS_setgid => done(ids.set_group(first)),
        libc::SYS_setreuid => done(ids.set_two_users(first, second)),
        libc::SYS_setregid => done(ids.set_two_groups(first, second)),
        libc::SYS_setresuid => done(ids.set_three_users([first, second, third])),
        libc::SYS_setresgid => done(ids.set_three_groups([first, second, third])),
        libc::SYS_setfsuid => Ok(Answer::Value(ids.set_filesystem_user(first))),
        libc::SYS_setfsgid => Ok(Answer::Value(ids.set_filesystem_group(first))),
        libc::SYS_setgroups => done(ids.set_supplementary(groups(memory, first, b)?)),
        _ => Err(Errno::NOSYS),
    }
}

fn groups(memory: &File, count: u32, address: u64) -> Result<Vec<u32>, Errno> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > MOST_GROUPS {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0_u8; count * 4];
    memory.read_exact_at(&mut bytes, address).map_err(|_| Errno::FAULT)?;
    Ok(bytes.chunks_exact(4).filter_map(|four| four.try_into().ok()).map(u32::from_ne_bytes).collect())
}
