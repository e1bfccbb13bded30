//! Carries out the part of a plan that belongs before clone: makes descriptors for mounts, devices, terminals and pipes,
//! and the mount points that are missing. All of it is undone by closing the descriptors, but for the mount points.
pub(crate) mod fresh;
mod given;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, fstat, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::OpenptFlags;

use crate::error::{Error, Result};
use crate::mount::BindSource;
use crate::plan::{MountPoint, Op, PointKind, Preparation, SetupPlan, Slot};
use crate::rootfs::clone_tree;
use crate::sandbox::{Base, TerminalSize};
use crate::spares::Spares;
use crate::sys::mount::{ATTR_NODEV, Reach, set_attributes};
use crate::target::{self, Kind};
use crate::userns::UserNamespace;

/// Descriptors for the child, and what stays with the caller.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) slots: Vec<Option<OwnedFd>>,
    pub(crate) input: Option<File>,
    pub(crate) outputs: [Option<File>; 2],
    pub(crate) terminal: Option<OwnedFd>,
    /// Lets the new process go on when it waits for the caller.
    pub(crate) turn: Option<OwnedFd>,
    /// Where hooks find the state of the container.
    pub(crate) state: Option<OwnedFd>,
    pub(crate) created: Vec<PathBuf>,
    /// The caller's end of `Slot::Ids`.
    pub(crate) ids: Option<OwnedFd>,
}

/// Fills the slots of `plan`.
pub(crate) fn prepare(plan: &SetupPlan, base: &Base, spares: Option<&Spares>) -> Result<Prepared> {
    let mut prepared = Prepared {
        slots: Vec::new(),
        input: None,
        outputs: [None, None],
        terminal: None,
        turn: None,
        state: None,
        created: Vec::new(),
        ids: None,
    };
    let made_later = plan.ops.iter().filter_map(|op| match &op.0 {
        Op::Filesystem { slot, .. } => Some(*slot),
        _ => None,
    });
    let slots = plan.prepare.iter().map(|(slot, _)| *slot).chain(made_later);
    let length = slots.map(|slot| slot.index() + 1).max().unwrap_or(0).max(Slot::Mount(0).index());
    prepared.slots.resize_with(length, || None);
    for (slot, preparation) in &plan.prepare {
        let fd = make(*slot, preparation, (base, spares), plan, &mut prepared)?;
        if let Some(entry) = prepared.slots.get_mut(slot.index()) {
            *entry = Some(fd);
        }
    }
    Ok(prepared)
}

fn make(
    slot: Slot,
    preparation: &Preparation,
    (base, spares): (&Base, Option<&Spares>),
    plan: &SetupPlan,
    prepared: &mut Prepared,
) -> Result<OwnedFd> {
    let step = |errno: Errno| Error::Setup { step: format!("preparing {slot}"), source: errno.into() };
    match preparation {
        Preparation::Root { attributes, mount_points } => {
            let Base::Rootfs(rootfs) = base else { return Err(step(Errno::INVAL)) };
            let tree = rootfs.tree()?;
            for point in mount_points {
                make_mount_point(tree.as_fd(), point, prepared)?;
            }
            set_attributes(&tree, *attributes, Reach::One).map_err(step)?;
            Ok(tree)
        }
        Preparation::Fresh(fresh) => match spares.and_then(|spares| spares.take(fresh)) {
            Some(spare) => Ok(spare),
            None => fresh.make().map_err(step),
        },
        Preparation::PtsOf(container) => container.terminals(),
        Preparation::Namespace(held) | Preparation::Mounted(held) => {
            rustix::io::fcntl_dupfd_cloexec(held, 3).map_err(step)
        }
        Preparation::Users(users) => rustix::io::fcntl_dupfd_cloexec(users.as_fd(), 3).map_err(step),
        Preparation::Process(container) => rustix::io::fcntl_dupfd_cloexec(container.as_fd(), 3).map_err(step),
        Preparation::GivenBind { source, reach, attributes, recursive, propagation } => {
            given::bind(source, *reach, *attributes, *recursive, *propagation)
        }
        Preparation::Filesystem { kind, options, attributes, copy_up } => {
            let made = crate::sys::given::filesystem(kind, options, *attributes).map_err(|errno| Error::Setup {
                step: format!("making a {}", kind.to_string_lossy()),
                source: errno.into(),
            })?;
            if let (Some(target), Base::Rootfs(rootfs)) = (copy_up, base) {
                given::copy_up(rootfs.fd(), target, &made).map_err(step)?;
            }
            Ok(made)
        }
        Preparation::Memory => {
            let file = rustix::fs::memfd_create("state", rustix::fs::MemfdFlags::CLOEXEC).map_err(step)?;
            prepared.state = Some(rustix::io::fcntl_dupfd_cloexec(&file, 3).map_err(step)?);
            Ok(file)
        }
        Preparation::Turn => {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(step)?;
            prepared.turn = Some(write);
            Ok(read)
        }
        Preparation::Bind { source, attributes, reach, mapped } => {
            bind_source(source, *attributes, *reach, plan.users.as_deref().filter(|_| *mapped))
        }
        Preparation::Tree(other) => other.tree(),
        Preparation::Socket => {
            let (outer, inner) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(step)?;
            prepared.ids = Some(outer);
            Ok(inner)
        }
        Preparation::Null => null_device().map_err(step),
        Preparation::Inherit => inherited(slot, plan.outer_root).map_err(step),
        Preparation::Same => {
            let first = prepared.slots.get(Slot::Stdio(0).index()).and_then(Option::as_ref).ok_or(Errno::BADF);
            first.and_then(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3)).map_err(step)
        }
        Preparation::Pipe { uid, gid } => {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(step)?;
            let (outer, inner) = if slot == Slot::Stdio(0) { (write, read) } else { (read, write) };
            // Programs reopen /dev/stdout as their own user.
            rustix::fs::fchown(&inner, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid))).map_err(step)?;
            let [stdout, stderr] = &mut prepared.outputs;
            let place = match slot {
                Slot::Stdio(0) => &mut prepared.input,
                Slot::Stdio(1) => stdout,
                _ => stderr,
            };
            *place = Some(outer.into());
            Ok(inner)
        }
        Preparation::Terminal { size, uid } => {
            let pts =
                prepared.slots.get(Slot::Pts.index()).and_then(Option::as_ref).ok_or(Errno::BADF).map_err(step)?;
            let (outer, inner) = terminal(pts, *size, *uid).map_err(step)?;
            prepared.terminal = Some(outer);
            Ok(inner)
        }
    }
}

fn terminal(pts: &OwnedFd, size: TerminalSize, uid: u32) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let outer = openat(pts, c"ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&outer)?;
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::fs::fchown(&inner, Some(Uid::from_raw(uid)), None)?;
    resize(&outer, size)?;
    Ok((outer, inner))
}

pub(crate) fn resize(terminal: impl AsFd, size: TerminalSize) -> Result<(), Errno> {
    let size = rustix::termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
}

fn bind_source(source: &BindSource, attributes: u64, reach: Reach, users: Option<&UserNamespace>) -> Result<OwnedFd> {
    let shown = || match source {
        BindSource::Path(path) => path.clone(),
        BindSource::Descriptor(_) => PathBuf::from("(descriptor)"),
    };
    let failed = |errno: Errno| Error::MountSource { path: shown(), source: errno.into() };
    let opened;
    let fd = match source {
        BindSource::Path(path) => {
            opened = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
            opened.as_fd()
        }
        BindSource::Descriptor(fd) => fd.as_fd(),
    };
    let kind = FileType::from_raw_mode(fstat(fd).map_err(failed)?.st_mode);
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let tree = clone_tree(fd, reach).map_err(failed)?;
    let attributes = if is_device { attributes & !ATTR_NODEV } else { attributes };
    if let Some(users) = users {
        users.map(&tree, reach, &shown())?;
    }
    set_attributes(&tree, attributes, reach).map_err(failed)?;
    Ok(tree)
}

fn null_device() -> Result<OwnedFd, Errno> {
    let null = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&null)?;
    let is_null =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(null) } else { Err(Errno::NODEV) }
}

fn inherited(slot: Slot, root: Option<(u32, u32)>) -> Result<OwnedFd, Errno> {
    let inherited = match slot {
        Slot::Stdio(0) => rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3),
        Slot::Stdio(1) => rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3),
        _ => rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3),
    }?;
    if let Some((uid, gid)) = root
        && is_nameless_pipe(&inherited)
    {
        // Programs reopen /dev/stdout. Who has the pipe already needs no right to it.
        rustix::fs::fchown(&inherited, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(inherited)
}

fn is_nameless_pipe(fd: &OwnedFd) -> bool {
    const PIPEFS_MAGIC: i64 = 0x5049_5045;
    rustix::fs::fstatfs(fd).is_ok_and(|stat| stat.f_type == PIPEFS_MAGIC)
}

fn make_mount_point(root: BorrowedFd<'_>, point: &MountPoint, prepared: &mut Prepared) -> Result<()> {
    let failed =
        |errno: Errno| Error::Mount { target: Path::new("/").join(point.target.relative()), source: errno.into() };
    let kind = match point.kind {
        PointKind::Directory => Kind::Directory,
        PointKind::File => Kind::File,
        PointKind::LikeSource(slot) => {
            let source =
                prepared.slots.get(slot.index()).and_then(Option::as_ref).ok_or(Errno::BADF).map_err(failed)?;
            match FileType::from_raw_mode(fstat(source).map_err(failed)?.st_mode) {
                FileType::Directory => Kind::Directory,
                _ => Kind::File,
            }
        }
    };
    let created = &mut prepared.created;
    let made = target::make(root, &point.target, kind, |place| {
        created.push(path_of(place)?);
        Ok(())
    });
    match made {
        // A link or a directory that an image has there stays as it is; the child tells about it.
        Err(Errno::EXIST) if point.kind == PointKind::File => Ok(()),
        Err(Errno::EXIST) => Err(failed(Errno::NOENT)),
        result => result.map(drop).map_err(failed),
    }
}

/// Where a file in a detached tree lies, seen from the root of that tree.
fn path_of(fd: &OwnedFd) -> Result<PathBuf, Errno> {
    use std::os::fd::AsRawFd;
    let link = rustix::fs::readlinkat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(link.into_bytes())))
}
