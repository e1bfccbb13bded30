//! Sandboxes: one way to start a process in a container. A `Sandbox` is data, `plan` turns it into the list of steps that
//! the new process takes, `start` takes them, and a `Container` is what runs then. Images, registries and Dockerfiles
//! are not known here.
#![deny(unsafe_code)]

mod attach;
mod start;

mod planner;
mod prepare;

mod beside;
mod cgroup;
mod classic;
mod container;
mod emulation;
mod filesystem;
mod given;
mod hooks;
mod host;
mod idmap;
mod idmapped;
mod plan;
mod pretend;
mod probe;
mod processes;
mod room;
mod rootfs;
mod running;
mod sandbox;
mod seccomp;
mod spares;

mod capability;
mod exit;
mod mount;
pub mod network;
mod signal;
mod target;
mod user;
mod userns;

mod error;
mod sys;

pub use attach::{AttachOptions, ForwardedSignals, RawMode, attach, resize_terminal, terminal_size};
pub use beside::Beside;
pub use capability::{Capability, CapabilitySet};
pub use cgroup::{
    Bound, CGROUP_PARENT, Cgroup, CgroupStats, Controller, CpuStats, Delegated, DeviceAccess, DeviceClass, DeviceRule,
    DeviceSet, DeviceWeight, Extent, IoStats, MemoryStats, Resources, Throttle, ThrottleKind, delegated_control_group,
    sweep_control_groups,
};
pub use container::{Container, Killer, Terminal};
pub use emulation::Emulation;
pub use error::{Error, Result};
pub use exit::{Exit, Usage};
pub use filesystem::NewFilesystem;
pub use given::{
    GivenDevice, GivenLayout, GivenMount, GivenSource, MountAttributes, NodeKind, Propagation, PropagationKind,
};
pub use hooks::HookCall;
pub use host::{give_back_memory, make_fifo, out_of_memory_kills, seal_program};
pub use idmap::{IdRange, IdRanges};
pub use mount::{BindSource, Content, Mount, default_masked_paths, default_read_only_paths};
pub use plan::{SetupOp, SetupPlan, Slot};
pub use pretend::OwnerAttributes;
pub use probe::{Overlay, is_superuser, mount_identity, probe_overlay};
pub use rootfs::{MountPoints, OverlayInterface, OverlayOptions, Rootfs, joins_by_descriptor, mount_point_layer};
pub use running::{NamespaceKind, Running, start_time};
pub use sandbox::{
    CapabilitySets, DEFAULT_PATH, DEFAULT_SHM_SIZE, EtcFiles, Namespace, Namespaces, NetworkMode, Resource, Rlimit,
    Sandbox, SandboxHooks, Seccomp, Stdio, TerminalSize,
};
pub use seccomp::{
    SeccompAbi, SeccompAction, SeccompComparison, SeccompCondition, SeccompProfile, SeccompRule, compile_default_filter,
};
pub use signal::Signal;
pub use spares::Spares;
pub use sys::file_owner::FileOwner;
pub use user::{ResolvedUser, USER_FILE_LIMIT, UserIds, resolve_user};
pub use userns::{
    IdExtent, IdHelpers, IdLease, IdPool, Ids, USUAL_IDS, UserNamespace, enter_user_namespace, in_user_namespace,
    needs_user_namespace,
};
