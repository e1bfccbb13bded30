//! The new process between clone and exec: walks the plan. It may share locks' states with threads that do not exist here,
//! so nothing in this file allocates, formats, locks or panics. What fails is told through a pipe.
use std::ffi::{CStr, CString, c_char};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, ResolveFlags, accessat, fstat, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

use super::clone::{Cloned, NewNamespaces};
use super::mount::{ATTR_RDONLY, Reach, mount_id, pivot_onto, set_attributes};
use super::{capability, clone, given, network, notify, process, seccomp, share};
use crate::plan::{KernelFilesystem, Missing, Op, Place, Refusal, SetupOp, Slot, StagePlace, Turn};
use crate::target::{self, Kind, Target, resolve};

/// What the new process needs, all of it made before clone.
pub(crate) struct Child<'a> {
    pub(crate) ops: &'a [SetupOp],
    pub(crate) slots: &'a mut [Option<OwnedFd>],
    /// The end of the pipe that only the parent may hold.
    pub(crate) parent_side: RawFd,
    pub(crate) report: BorrowedFd<'a>,
    pub(crate) candidates: &'a [CString],
    /// Null-terminated, as execve wants it.
    pub(crate) argv: &'a [*const c_char],
    /// Null-terminated, as execve wants it.
    pub(crate) env: &'a [*const c_char],
}

/// What the child tells through the pipe: a kind, the number of the step, and an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) kind: ReportKind,
    pub(crate) step: u32,
    pub(crate) errno: i32,
}

/// The kinds of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportKind {
    /// The step failed, and with it the start.
    Failed,
    /// The step could not be done in full; the start goes on.
    Noted,
    /// No candidate could be executed.
    NotExecuted,
    /// A candidate is there, but its interpreter is not.
    NoInterpreter,
    /// It is the caller's turn.
    Turn,
}

impl Report {
    pub(crate) const SIZE: usize = 12;

    fn encode(self) -> [u8; Report::SIZE] {
        let [a, b, c, d] = (self.kind as u32).to_ne_bytes();
        let [e, f, g, h] = self.step.to_ne_bytes();
        let [i, j, k, l] = self.errno.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Report> {
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let kind = match word(0)? {
            0 => ReportKind::Failed,
            1 => ReportKind::Noted,
            2 => ReportKind::NotExecuted,
            3 => ReportKind::NoInterpreter,
            4 => ReportKind::Turn,
            _ => return None,
        };
        Some(Report { kind, step: word(4)?, errno: word(8)? as i32 })
    }
}

/// How a step ended when it did not fail.
enum Done {
    Fully,
    Partly(Errno),
}

impl Child<'_> {
    /// Clones. The new process never returns from here; the caller gets its number and descriptor.
    pub(crate) fn split_off(
        self,
        namespaces: NewNamespaces,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<(i32, OwnedFd), Errno> {
        // SAFETY: the child goes into `run`, which keeps the rules of this file and never returns.
        match unsafe { clone::clone(namespaces, cgroup) }? {
            Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
            Cloned::Child => self.run(),
        }
    }

    /// The same in the memory of the caller, who waits until the new process has become the program or has ended.
    pub(crate) fn split_off_sharing(
        self,
        namespaces: NewNamespaces,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<(i32, OwnedFd), Errno> {
        // SAFETY: the new process has descriptors of its own under the same numbers; these are for it alone.
        let copy = |fd: &OwnedFd| unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) };
        let mut slots: Vec<Option<OwnedFd>> = self.slots.iter().map(|slot| slot.as_ref().map(copy)).collect();
        let mut child = Some(Child { slots: &mut slots, ..self });
        let mut run = || match child.take() {
            Some(child) => child.run(),
            None => process::exit_now(127),
        };
        // SAFETY: signals are blocked, and `run` keeps the rules of this file and never returns.
        let split = unsafe { share::clone(namespaces, cgroup, &mut run) };
        // What numbers they hold now means something to the other process only.
        slots.into_iter().for_each(std::mem::forget);
        split
    }

    /// The same by a process in between, which first calls `before`.
    pub(crate) fn split_off_beside(
        self,
        namespaces: NewNamespaces,
        cgroup: Option<BorrowedFd<'_>>,
        before: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(i32, OwnedFd), Errno> {
        // SAFETY: as above; what callers do before is one system call.
        match unsafe { clone::clone_beside(namespaces, cgroup, before) }? {
            Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
            Cloned::Child => self.run(),
        }
    }

    /// Walks the plan and becomes the program.
    fn run(mut self) -> ! {
        process::close(self.parent_side);
        let ops = self.ops;
        let mut step = 0;
        for op in ops {
            match self.perform(&op.0) {
                Ok(Done::Fully) => {}
                Ok(Done::Partly(errno)) => self.tell(ReportKind::Noted, step, errno),
                Err(errno) => {
                    self.tell(ReportKind::Failed, step, errno);
                    process::exit_now(125);
                }
            }
            step += 1;
        }
        let (kind, errno) = self.execute();
        self.tell(kind, step, errno);
        process::exit_now(127)
    }

    fn tell(&self, kind: ReportKind, step: u32, errno: Errno) {
        let report = Report { kind, step, errno: errno.raw_os_error() };
        // Nobody is left to be told when this fails.
        let _ = rustix::io::write(self.report, &report.encode());
    }

    fn perform(&mut self, op: &Op) -> Result<Done, Errno> {
        match op {
            Op::Enter { slot, spaces } => self.enter(*slot, *spaces).map(|()| Done::Fully),
            Op::EnterUsers { terminal } => self.enter_users(*terminal).map(|()| Done::Fully),
            Op::Filesystem { .. }
            | Op::MountGiven { .. }
            | Op::Device { .. }
            | Op::Link { .. }
            | Op::Restrict { .. }
            | Op::RootPropagation(_) => self.perform_given(op).map(|()| Done::Fully),
            Op::Gate { descriptors } => self.gate(*descriptors).map(|()| Done::Fully),
            Op::Stage(..)
            | Op::Kernel { .. }
            | Op::CgroupView { .. }
            | Op::Attach { .. }
            | Op::Mount { .. }
            | Op::Show { .. }
            | Op::Bind { .. }
            | Op::Mask(_)
            | Op::Setting { .. }
            | Op::PrivateMounts
            | Op::Room
            | Op::PivotRoot
            | Op::TakeRoot => self.perform_mount(op),
            _ => self.perform_on_process(op),
        }
    }

    fn perform_mount(&mut self, op: &Op) -> Result<Done, Errno> {
        match op {
            Op::PrivateMounts => mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?,
            Op::Stage(slot, place) => self.stage(*slot, *place)?,
            Op::Kernel { filesystem, slot, attributes, at } => {
                let mount = kernel_filesystem(*filesystem, *attributes)?;
                self.attach(mount.as_fd(), at, ResolveFlags::NO_SYMLINKS)?;
                self.keep(*slot, mount)?;
            }
            Op::CgroupView { options, attributes, at } => {
                let mount = cgroup_view(options, *attributes)?;
                self.attach(mount.as_fd(), at, ResolveFlags::NO_SYMLINKS)?;
            }
            Op::Attach { slot, at } => self.attach(self.slot(*slot)?, at, ResolveFlags::NO_SYMLINKS)?,
            Op::Mount { slot, target } => self.mount(self.slot(*slot)?, target)?,
            Op::Show { from, target, attributes } => self.show(from, target, *attributes)?,
            Op::Bind { from, at, attributes, reach, missing } => {
                return on_missing(self.bind(from, at, *attributes, *reach), *missing);
            }
            Op::Mask(at) => return on_missing(self.mask(at), Missing::Skip),
            Op::Room => {
                rustix::thread::move_into_link_name_space(self.slot(Slot::Room)?, Some(LinkNameSpaceType::Mount))?;
            }
            Op::PivotRoot => pivot_onto(self.slot(Slot::Root)?)?,
            Op::TakeRoot => self.take_root()?,
            Op::Setting { at, value, refusal } => match (self.set(at, value), refusal) {
                (Err(errno), Refusal::Note) => return Ok(Done::Partly(errno)),
                (result, _) => result?,
            },
            _ => return Err(Errno::INVAL),
        }
        Ok(Done::Fully)
    }

    fn perform_given(&mut self, op: &Op) -> Result<(), Errno> {
        match op {
            Op::Filesystem { slot, kind, options, attributes } => {
                let made = given::filesystem(kind, options, *attributes)?;
                self.keep(*slot, made)
            }
            Op::MountGiven { slot, target, over_proc, links } => {
                given::mount(self.slot(Slot::Root)?, self.slot(*slot)?, target, *over_proc, *links)
            }
            Op::Device { parent, name, device } => given::device(self.slot(Slot::Root)?, parent.as_ref(), name, device),
            Op::Link { parent, name, to } => given::link(self.slot(Slot::Root)?, parent.as_ref(), name, to),
            Op::Restrict { slot, attributes } => {
                super::mount::change_attributes(self.slot(*slot)?, *attributes, 0, 0, Reach::One)
            }
            Op::RootPropagation(propagation) => given::spread(*propagation),
            _ => Err(Errno::INVAL),
        }
    }

    /// Tells the caller that it is its turn, and waits for its answer. Without one the caller is gone.
    fn turn(&self, which: Turn) -> Result<(), Errno> {
        self.tell(ReportKind::Turn, which as u32, Errno::INTR);
        let mut byte = [0_u8; 1];
        loop {
            match rustix::io::read(self.slot(Slot::Turn)?, &mut byte) {
                Ok(0) => process::exit_now(125),
                Err(Errno::INTR) => {}
                result => return result.map(drop),
            }
        }
    }

    /// Everything is ready. What can be said of the program is said now, since later nobody listens; then nothing of the
    /// host stays open, and the process waits for the start.
    fn gate(&mut self, descriptors: u32) -> Result<(), Errno> {
        let found = self.find();
        if let Err((kind, errno)) = found {
            self.tell(kind, 0, errno);
            process::exit_now(127);
        }
        let number = |fd: BorrowedFd<'_>| fd.as_raw_fd().unsigned_abs();
        let gate = number(self.slot(Slot::Gate)?);
        let state = self.slot(Slot::State).map_or(gate, number);
        // SAFETY: of the descriptors in the slots only these two are used from here on, and this process never drops any.
        unsafe { process::close_from_but(3_u32.saturating_add(descriptors), [gate.min(state), gate.max(state)]) };
        let mut byte = [0_u8; 1];
        loop {
            match rustix::io::read(self.slot(Slot::Gate)?, &mut byte) {
                Ok(0) => process::exit_now(125),
                Err(Errno::INTR) => {}
                result => return result.map(drop),
            }
        }
    }

    /// Whether `execute` will find a program, as far as that can be known before.
    fn find(&self) -> Result<(), (ReportKind, Errno)> {
        let mut outcome = (ReportKind::NotExecuted, Errno::NOENT);
        for path in self.candidates {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let Ok(program) = openat(rustix::fs::CWD, path.as_c_str(), flags, Mode::empty()) else { continue };
            let is_file =
                fstat(&program).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
            let allowed = accessat(rustix::fs::CWD, path.as_c_str(), Access::EXEC_OK, AtFlags::EACCESS);
            match (is_file, allowed) {
                (true, Ok(())) => return Ok(()),
                _ => outcome = (ReportKind::NotExecuted, Errno::ACCESS),
            }
        }
        Err(outcome)
    }

    fn perform_on_process(&self, op: &Op) -> Result<Done, Errno> {
        match op {
            Op::DieWithParent => self.die_with_parent()?,
            Op::HideMemory => capability::set_dumpable(0)?,
            // A kernel without keyrings, or a full quota, leaves the process without one: nothing leaks then either.
            Op::OwnKeyring => {
                return Ok(process::own_keyring().map_or_else(Done::Partly, |()| Done::Fully));
            }
            Op::JoinCgroup(cgroup) => cgroup.join()?,
            Op::CgroupNamespace => own_cgroup_namespace()?,
            Op::Join(slot) => rustix::thread::move_into_link_name_space(self.slot(*slot)?, None)?,
            Op::Hostname(name) => rustix::system::sethostname(name.to_bytes())?,
            Op::LoopbackUp => network::loopback_up()?,
            Op::Limit { resource, soft, hard } => {
                let limit = rustix::process::Rlimit { current: *soft, maximum: *hard };
                return Ok(
                    rustix::process::setrlimit(resource.kernel(), limit).map_or_else(Done::Partly, |()| Done::Fully)
                );
            }
            Op::WorkingDirectory(path) => self.working_directory(path)?,
            Op::Umask(mask) => drop(rustix::process::umask(Mode::from_raw_mode(*mask))),
            Op::NoNewPrivileges => capability::no_new_privileges()?,
            Op::Filter(program) => seccomp::load(program.instructions(), program.flags())?,
            Op::Pretend(program) => {
                let listener = notify::load(program.instructions())?;
                notify::send_descriptor(self.slot(Slot::Ids)?, listener.as_fd())?;
            }
            Op::BoundingSet { keep, last } => capability::limit_bounding(*keep, *last)?,
            Op::Ids { uid, gid, groups: Some(groups) } => capability::set_ids(*uid, *gid, groups)?,
            Op::Ids { uid, gid, groups: None } => capability::set_user_and_group(*uid, *gid)?,
            Op::KeepCapabilities => capability::keep()?,
            Op::CapabilitySets(sets) => capability::set_all(sets)?,
            Op::Turn(turn) => self.turn(*turn)?,
            Op::FileOwner { uid, gid } => super::file_owner::become_one(*uid, *gid)?,
            Op::BecomeRoot => capability::set_ids(0, 0, &[])?,
            Op::Hook(hook) => super::hook::run(hook, self.slot(Slot::State)?)?,
            Op::Domainname(name) => process::set_domainname(name.to_bytes())?,
            Op::Capabilities(set) => capability::set(*set)?,
            Op::Init { arguments } => become_init(arguments)?,
            Op::Session => drop(rustix::process::setsid()?),
            Op::ControllingTerminal => rustix::process::ioctl_tiocsctty(self.slot(Slot::Stdio(0))?)?,
            Op::Stdio => self.stdio()?,
            Op::DefaultSignals => {
                process::reset_dispositions();
                process::unblock_signals();
            }
            Op::CloseOnExec { from } => process::close_on_exec_from(*from)?,
            _ => return Err(Errno::INVAL),
        }
        Ok(Done::Fully)
    }

    fn slot(&self, slot: Slot) -> Result<BorrowedFd<'_>, Errno> {
        self.slots.get(slot.index()).and_then(Option::as_ref).map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn keep(&mut self, slot: Slot, fd: OwnedFd) -> Result<(), Errno> {
        *self.slots.get_mut(slot.index()).ok_or(Errno::BADF)? = Some(fd);
        Ok(())
    }

    /// Moves into a running container. The kernel sets the root, and every later path is walked from there.
    fn enter(&mut self, slot: Slot, spaces: ThreadNameSpaceType) -> Result<(), Errno> {
        rustix::thread::move_into_thread_name_spaces(self.slot(slot)?, spaces)?;
        let root = openat(rustix::fs::CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        self.keep(Slot::Root, root)
    }

    /// A namespace of mounts that belongs to other users is a copy in which all is locked. What was opened in the first one
    /// is found no more by its name.
    fn enter_users(&mut self, terminal: bool) -> Result<(), Errno> {
        rustix::thread::move_into_link_name_space(self.slot(Slot::Users)?, Some(LinkNameSpaceType::User))?;
        super::userns::unshare(UnshareFlags::NEWNS)?;
        let open = |path: &CStr, flags: OFlags| openat(rustix::fs::CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
        self.keep(Slot::Root, open(c"/", OFlags::PATH | OFlags::DIRECTORY)?)?;
        if terminal {
            for number in 0..3 {
                self.keep(Slot::Stdio(number), open(c"/dev/pts/0", OFlags::RDWR | OFlags::NOCTTY)?)?;
            }
        }
        Ok(())
    }

    fn set(&self, at: &Place, value: &CStr) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.slot(at.base)?, at.path.as_c_str(), flags, Mode::empty())?;
        rustix::io::write(&file, value.to_bytes()).map(drop)
    }

    /// Attaches a detached mount. Only paths below the root can hold something that an image chose.
    fn attach(&self, mount: BorrowedFd<'_>, at: &Place, links: ResolveFlags) -> Result<(), Errno> {
        let base = self.slot(at.base)?;
        if at.base == Slot::Root {
            let place = resolve(base, &at.path, links)?;
            return attach_on(mount, place.as_fd());
        }
        move_mount(mount, c"", base, at.path.as_c_str(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }

    /// Kernels before 6.15 clone a part of a mount only where it is attached, which a staged one is by now.
    fn show(&self, from: &Place, target: &Target, attributes: u64) -> Result<(), Errno> {
        let part = resolve(self.slot(from.base)?, &from.path, ResolveFlags::empty())?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = open_tree(&part, c"", clone)?;
        set_attributes(&mount, attributes, Reach::One)?;
        self.mount(mount.as_fd(), target)
    }

    fn mount(&self, mount: BorrowedFd<'_>, target: &Target) -> Result<(), Errno> {
        let root = self.slot(Slot::Root)?;
        let kind = if is_directory(mount)? { Kind::Directory } else { Kind::File };
        let place = target::make(root, target, kind, |_| Ok(()))?;
        // A link in the image may lead into /proc; what is mounted there would fool every reader of it.
        if rustix::fs::fstatfs(&place)?.f_type == libc::PROC_SUPER_MAGIC {
            return Err(Errno::PERM);
        }
        attach_on(mount, place.as_fd())
    }

    fn bind(&self, from: &Place, at: &Place, attributes: u64, reach: Reach) -> Result<(), Errno> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if reach == Reach::Below {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let part = if from.base == Slot::Root {
            let part = resolve(self.slot(from.base)?, &from.path, ResolveFlags::empty())?;
            open_tree(&part, c"", flags | OpenTreeFlags::AT_EMPTY_PATH)?
        } else {
            open_tree(self.slot(from.base)?, from.path.as_c_str(), flags)?
        };
        if attributes != 0 {
            set_attributes(&part, attributes, reach)?;
        }
        self.attach(part.as_fd(), at, ResolveFlags::empty())
    }

    fn mask(&self, at: &Place) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Below the root anything may lie, below the runtime's own mounts nothing but the kernel's.
        let (place, devices) = match at.base {
            Slot::Root => (resolve(self.slot(at.base)?, &at.path, ResolveFlags::empty())?, Slot::Stage),
            base => (openat(self.slot(base)?, at.path.as_c_str(), flags, Mode::empty())?, Slot::Dev),
        };
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let cover = if is_directory(place.as_fd())? {
            let empty = open_tree(self.slot(Slot::Stage)?, c"empty", clone)?;
            set_attributes(&empty, ATTR_RDONLY, Reach::One)?;
            empty
        } else {
            open_tree(self.slot(devices)?, c"null", clone)?
        };
        attach_on(cover.as_fd(), place.as_fd())
    }

    fn stage(&self, slot: Slot, place: StagePlace) -> Result<(), Errno> {
        let from = self.slot(slot)?;
        let over =
            |directory| move_mount(from, c"", rustix::fs::CWD, directory, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
        match place {
            StagePlace::Root => over(c"/"),
            StagePlace::Aside => over(c"/dev").or_else(|_| over(c"/")),
        }
    }

    /// In a namespace that shows nothing else there is nothing to drop: what lies below the root cannot be reached from it.
    fn take_root(&self) -> Result<(), Errno> {
        let root = self.slot(Slot::Root)?;
        rustix::process::fchdir(root)?;
        rustix::process::chroot(c".")?;
        if mount_id(rustix::fs::CWD, c"/..")? == mount_id(root, c"")? { Ok(()) } else { Err(Errno::BUSY) }
    }

    /// The death signal covers what comes; a parent that is gone already shows as a pipe without reader.
    fn die_with_parent(&self) -> Result<(), Errno> {
        capability::die_with_parent()?;
        let mut pipe = [PollFd::from_borrowed_fd(self.report, PollFlags::empty())];
        poll(&mut pipe, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if pipe.iter().any(|pipe| pipe.revents().contains(PollFlags::ERR)) {
            process::exit_now(125);
        }
        Ok(())
    }

    /// Walked from the root, so that no link of /proc leads to a descriptor that is still open here.
    fn working_directory(&self, path: &CStr) -> Result<(), Errno> {
        let directory = resolve(self.slot(Slot::Root)?, path, ResolveFlags::empty())?;
        rustix::process::fchdir(&directory)?;
        if process::working_directory_in_user_namespace() { Ok(()) } else { Err(Errno::XDEV) }
    }

    fn stdio(&self) -> Result<(), Errno> {
        for number in 0..3 {
            process::become_stdio(self.slot(Slot::Stdio(number))?, i32::from(number))?;
        }
        Ok(())
    }

    /// Tries the candidates as execvp does: a missing one is passed over, one that may not be executed is remembered.
    fn execute(&self) -> (ReportKind, Errno) {
        let mut outcome = (ReportKind::NotExecuted, Errno::NOENT);
        for path in self.candidates {
            // SAFETY: `argv` and `env` are null-terminated and point into the plan, which this process has a copy of.
            match unsafe { process::execute(path, self.argv, self.env) } {
                Errno::ACCESS => outcome = (ReportKind::NotExecuted, Errno::ACCESS),
                Errno::NOENT
                    if accessat(rustix::fs::CWD, path.as_c_str(), Access::EXISTS, AtFlags::empty()).is_ok() =>
                {
                    return (ReportKind::NoInterpreter, Errno::NOENT);
                }
                Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP => {}
                errno => return (ReportKind::NotExecuted, errno),
            }
        }
        outcome
    }
}

fn on_missing(result: Result<(), Errno>, missing: Missing) -> Result<Done, Errno> {
    match (result, missing) {
        (Ok(()), _) | (Err(Errno::NOENT), Missing::Skip) => Ok(Done::Fully),
        (Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL)), Missing::Note) => {
            Ok(Done::Partly(errno))
        }
        (Err(errno), _) => Err(errno),
    }
}

pub(super) fn attach_on(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", place, c"", flags)
}

pub(super) fn is_directory(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

fn kernel_filesystem(filesystem: KernelFilesystem, attributes: u32) -> Result<OwnedFd, Errno> {
    let context = fsopen(filesystem.name(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", filesystem.name())?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes))
}

fn cgroup_view(options: &[CString], attributes: u32) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"cgroup", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"cgroup")?;
    for option in options {
        match option.to_bytes().strip_prefix(b"name=") {
            Some(name) => fsconfig_set_string(&context, c"name", name)?,
            None => fsconfig_set_flag(&context, option.as_c_str())?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes))
}

fn own_cgroup_namespace() -> Result<(), Errno> {
    // SAFETY: no memory, descriptors or file system state are unshared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }
}

/// Leaves a reaper behind as process 1 and goes on as its child, once that shows nothing of the caller any more.
fn become_init(arguments: &Range<usize>) -> Result<(), Errno> {
    process::reset_dispositions();
    let (listen, held) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: this process has one thread, and the child goes on under the same rules as before.
    match unsafe { clone::fork() }? {
        0 => {
            drop(held);
            // It ends when the reaper has closed what it had.
            rustix::io::retry_on_intr(|| rustix::io::read(&listen, &mut [0_u8; 1])).map(drop)
        }
        payload => reap_until(payload, arguments),
    }
}

/// Process 1: hands every signal on to the payload, reaps whatever ends, and ends as the payload does.
fn reap_until(payload: i32, arguments: &Range<usize>) -> ! {
    process::set_name(c"init");
    // SAFETY: the kernel gave this range as this process's command line, and nothing below reads it.
    unsafe { process::forget_arguments(arguments) };
    // SAFETY: nothing below uses a descriptor.
    unsafe { process::close_all() };
    loop {
        match process::next_signal() {
            Ok(libc::SIGCHLD) => {
                while let Ok((pid, status)) = process::reap_any() {
                    if pid == payload {
                        process::exit_now(process::shell_code(status));
                    }
                    if pid == 0 {
                        break;
                    }
                }
            }
            Ok(signal) => process::send(payload, signal),
            Err(_) => {}
        }
    }
}
