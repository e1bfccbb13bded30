//! A plan as aligned text, for people and tests.
use std::fmt;

use super::{Memory, Op, Place, Preparation, SetupOp, SetupPlan, Slot, StagePlace};
use crate::mount::BindSource;
use crate::sys::mount::Reach;

impl fmt::Display for SetupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (slot, preparation) in &self.prepare {
            writeln!(f, "prepare     {:<8} {preparation}", slot.to_string())?;
        }
        let memory = if self.memory == Memory::Shared { ", sharing memory until exec" } else { "" };
        writeln!(f, "clone       {}{memory}", self.namespaces)?;
        for op in &self.ops {
            writeln!(f, "{op}")?;
        }
        write!(f, "exec       ")?;
        self.program.argv.iter().try_for_each(|word| write!(f, " {}", word.to_string_lossy().escape_debug()))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Slot::Root => "root",
            Slot::Stage => "stage",
            Slot::Dev => "dev",
            Slot::Pts => "pts",
            Slot::Shm => "shm",
            Slot::Mqueue => "mqueue",
            Slot::Proc => "proc",
            Slot::Sys => "sys",
            Slot::Cgroup => "cgroup",
            Slot::Room => "room",
            Slot::Join(number) => return write!(f, "join{number}"),
            Slot::View(number) => return write!(f, "view{number}"),
            Slot::Users => "users",
            Slot::Gate => "gate",
            Slot::Turn => "turn",
            Slot::State => "state",
            Slot::Stdio(number) => return write!(f, "fd{number}"),
            Slot::Ids => "ids",
            Slot::Device(number) => return write!(f, "device{number}"),
            Slot::Mount(number) => return write!(f, "mount{number}"),
        };
        f.write_str(name)
    }
}

impl fmt::Display for Preparation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Preparation::Root { attributes, .. } => write!(f, "root file system{}", Attributes(*attributes)),
            Preparation::Fresh(fresh) => fresh.fmt(f),
            Preparation::PtsOf(_) => f.write_str("devpts of the container"),
            Preparation::Mounted(_) => f.write_str("detached mount"),
            Preparation::Namespace(_) => f.write_str("namespace"),
            Preparation::Users(_) => f.write_str("user namespace"),
            Preparation::Process(_) => f.write_str("running container"),
            Preparation::GivenBind { source, reach, .. } => {
                write!(f, "{}{}", source.display(), if *reach == Reach::Below { ", recursive" } else { "" })
            }
            Preparation::Filesystem { kind, attributes, .. } => {
                write!(f, "{}{}", kind.to_string_lossy(), Attributes(u64::from(*attributes)))
            }
            Preparation::Memory => f.write_str("file in memory"),
            Preparation::Turn => f.write_str("pipe"),
            Preparation::Bind { source, attributes, reach, mapped } => {
                match source {
                    BindSource::Path(path) => write!(f, "{}", path.display())?,
                    BindSource::Descriptor(_) => f.write_str("descriptor")?,
                }
                f.write_str(if *reach == Reach::Below { ", recursive" } else { "" })?;
                f.write_str(if *mapped { ", mapped" } else { "" })?;
                write!(f, "{}", Attributes(*attributes))
            }
            Preparation::Tree(_) => f.write_str("another root"),
            Preparation::Socket => f.write_str("socket"),
            Preparation::Null => f.write_str("/dev/null"),
            Preparation::Inherit => f.write_str("the caller's"),
            Preparation::Same => f.write_str("as fd0"),
            Preparation::Pipe { uid, gid } => write!(f, "pipe of {uid}:{gid}"),
            Preparation::Terminal { size, uid } => write!(f, "terminal {}x{} of {uid}", size.rows, size.columns),
        }
    }
}

impl fmt::Display for StagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StagePlace::Root => "over the root",
            StagePlace::Aside => "aside",
        })
    }
}

/// Attributes of a mount, as words.
pub(crate) struct Attributes(pub(crate) u64);

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, name) in [(1, "ro"), (2, "nosuid"), (4, "nodev"), (8, "noexec")] {
            if self.0 & bit != 0 {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:/{}", self.base, self.path.to_string_lossy().escape_debug())
    }
}

impl fmt::Display for SetupOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Op::DieWithParent => f.write_str("die         with the starting thread"),
            Op::HideMemory => f.write_str("hide        memory until exec"),
            Op::OwnKeyring => f.write_str("keyring     own"),
            Op::JoinCgroup(cgroup) => write!(f, "cgroup      {}", cgroup.path().display()),
            Op::CgroupNamespace => f.write_str("namespace   cgroup"),
            Op::Join(slot) => write!(f, "join        {slot}"),
            Op::Enter { slot, .. } => write!(f, "enter       {slot}"),
            Op::PrivateMounts => f.write_str("mounts      private"),
            Op::Room => f.write_str("enter       room"),
            Op::Stage(slot, over) => write!(f, "stage       {slot} {over}"),
            Op::Kernel { filesystem, attributes, at, .. } => {
                let name = filesystem.name().to_string_lossy();
                write!(f, "mount       {name:<8} on {at}{}", Attributes(u64::from(*attributes)))
            }
            Op::CgroupView { attributes, at, .. } => {
                write!(f, "mount       cgroup   on {at}{}", Attributes(u64::from(*attributes)))
            }
            Op::Attach { slot, at } => write!(f, "mount       {:<8} on {at}", slot.to_string()),
            Op::Mount { slot, target } => write!(
                f,
                "mount       {:<8} on root:/{}",
                slot.to_string(),
                target.path.to_string_lossy().escape_debug()
            ),
            Op::Show { from, target, attributes } => write!(
                f,
                "show        {from} on root:/{}{}",
                target.path.to_string_lossy().escape_debug(),
                Attributes(*attributes)
            ),
            Op::Bind { from, at, attributes, .. } if from == at => {
                write!(f, "restrict    {at}{}", Attributes(*attributes))
            }
            Op::Bind { from, at, attributes, .. } => write!(f, "bind        {from} on {at}{}", Attributes(*attributes)),
            Op::Mask(at) => write!(f, "mask        {at}"),
            Op::Filesystem { kind, slot, .. } => write!(f, "make        {} {slot}", kind.to_string_lossy()),
            Op::MountGiven { slot, target, .. } => {
                write!(f, "mount       {slot:<8} on root:/{}", target.path.to_string_lossy().escape_debug())
            }
            Op::Device { device, .. } => write!(f, "device      {}", device.path.display()),
            Op::Link { name, to, .. } => {
                write!(f, "link        {} to {}", name.to_string_lossy(), to.to_string_lossy())
            }
            Op::Restrict { slot, attributes } => write!(f, "restrict    {slot}{}", Attributes(*attributes)),
            Op::RootPropagation(propagation) => write!(f, "spread      {:?}", propagation.kind),
            Op::Turn(turn) => write!(f, "wait        for the caller: {turn:?}"),
            Op::FileOwner { uid, gid } => write!(f, "files       of {uid}:{gid}"),
            Op::EnterUsers { .. } => f.write_str("enter       users, with mounts of its own"),
            Op::BecomeRoot => f.write_str("ids         0:0 of the user namespace"),
            Op::Hook(hook) => write!(f, "hook        {}", hook.path.to_string_lossy().escape_debug()),
            Op::Gate { .. } => f.write_str("wait        for the start"),
            Op::PivotRoot => f.write_str("pivot       root"),
            Op::TakeRoot => f.write_str("take        root"),
            Op::Setting { at, value, .. } => {
                write!(f, "set         {at} to {}", value.to_string_lossy().escape_debug())
            }
            Op::Domainname(name) => write!(f, "domainname  {}", name.to_string_lossy().escape_debug()),
            Op::Hostname(name) => write!(f, "hostname    {}", name.to_string_lossy().escape_debug()),
            Op::LoopbackUp => f.write_str("loopback    up"),
            Op::Limit { resource, soft, hard } => {
                write!(f, "limit       {resource:?} {}:{}", Limit(*soft), Limit(*hard))
            }
            Op::WorkingDirectory(path) => write!(f, "directory   {}", path.to_string_lossy().escape_debug()),
            Op::Umask(mask) => write!(f, "umask       {mask:04o}"),
            Op::NoNewPrivileges => f.write_str("privileges  none new"),
            Op::Filter(program) => write!(f, "filter      {program}"),
            Op::Pretend(program) => write!(f, "pretend     ids, by {program}"),
            Op::BoundingSet { keep, .. } => write!(f, "bounding    {keep}"),
            Op::Ids { uid, gid, groups: Some(groups) } => write!(f, "ids         {uid}:{gid} groups {groups:?}"),
            Op::Ids { uid, gid, groups: None } => write!(f, "ids         {uid}:{gid}"),
            Op::KeepCapabilities => f.write_str("capability  kept across the change of ids"),
            Op::CapabilitySets(sets) => write!(f, "capability  {}", sets.effective),
            Op::Capabilities(set) => write!(f, "capability  {set}"),
            Op::Init { .. } => f.write_str("init        as process 1"),
            Op::Session => f.write_str("session     own"),
            Op::ControllingTerminal => f.write_str("terminal    controlling"),
            Op::Stdio => f.write_str("stdio       0 1 2"),
            Op::DefaultSignals => f.write_str("signals     default"),
            Op::CloseOnExec { from } => write!(f, "close       {from} and above on exec"),
        }
    }
}

struct Limit(Option<u64>);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(limit) => write!(f, "{limit}"),
            None => f.write_str("unlimited"),
        }
    }
}
