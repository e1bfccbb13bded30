//! `process` of a configuration, or of `exec --process`, as the runtime takes it.

use oci_spec::runtime::{Capabilities, PosixRlimit, Process};
use runtime::{Capability, CapabilitySet, CapabilitySets, Resource, Rlimit, Sandbox, TerminalSize, UserIds};

use super::config::invalid;
use crate::error::Result;

/// Unlimited, in the kernel's number.
const INFINITY: u64 = u64::MAX;

pub(super) fn argv(process: &Process) -> Result<Vec<String>> {
    let argv = process.args().clone().unwrap_or_default();
    if argv.is_empty() {
        return Err(invalid("process.args", "is empty: there is nothing to run"));
    }
    Ok(argv)
}

/// Everything but the terminal.
pub(super) fn apply(sandbox: &mut Sandbox, process: &Process) -> Result<()> {
    refuse_unsupported(process)?;
    sandbox.env.clear();
    for entry in process.env().iter().flatten() {
        let (name, value) =
            entry.split_once('=').ok_or_else(|| invalid("process.env", format!("`{entry}` has no =")))?;
        sandbox.env.push((name.into(), value.into()));
    }
    sandbox.cwd = process.cwd().clone();
    let user = process.user();
    sandbox.user =
        UserIds { uid: user.uid(), gid: user.gid(), groups: user.additional_gids().clone().unwrap_or_default() };
    sandbox.umask = user.umask().unwrap_or(0o022);
    sandbox.no_new_privileges = process.no_new_privileges().unwrap_or(false);
    sandbox.capability_sets = Some(sets(process)?);
    sandbox.rlimits = process.rlimits().iter().flatten().map(limit).collect::<Result<_>>()?;
    sandbox.oom_score_adj = process.oom_score_adj();
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    sandbox.apparmor = text(process.apparmor_profile()).filter(|profile| profile != "unconfined");
    sandbox.selinux = text(process.selinux_label());
    Ok(())
}

/// Rows and columns, where they are said.
pub(super) fn terminal_size(process: &Process) -> TerminalSize {
    let cut = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    process.console_size().as_ref().map_or_else(TerminalSize::default, |size| TerminalSize {
        rows: cut(size.height()),
        columns: cut(size.width()),
    })
}

fn refuse_unsupported(process: &Process) -> Result<()> {
    let asked = [
        (process.scheduler().is_some(), "process.scheduler"),
        (process.io_priority().is_some(), "process.ioPriority"),
        (process.exec_cpu_affinity().is_some(), "process.execCPUAffinity"),
    ];
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, field)) => Err(invalid(field, "is not supported by this version; leave it out")),
        None => Ok(()),
    }
}

/// Sets that are not listed are empty.
fn sets(process: &Process) -> Result<CapabilitySets> {
    let empty = CapabilitySet::EMPTY;
    let Some(listed) = process.capabilities() else {
        return Ok(CapabilitySets {
            bounding: empty,
            effective: empty,
            permitted: empty,
            inheritable: empty,
            ambient: empty,
        });
    };
    Ok(CapabilitySets {
        bounding: set(listed.bounding())?,
        effective: set(listed.effective())?,
        permitted: set(listed.permitted())?,
        inheritable: set(listed.inheritable())?,
        ambient: set(listed.ambient())?,
    })
}

fn set(listed: &Option<Capabilities>) -> Result<CapabilitySet> {
    let mut set = CapabilitySet::EMPTY;
    for capability in listed.iter().flatten() {
        set = set.with(Capability::parse(&capability.to_string())?);
    }
    Ok(set)
}

fn limit(limit: &PosixRlimit) -> Result<Rlimit> {
    let unknown = || invalid("process.rlimits", format!("{:?} is not known", limit.typ()));
    let name = serde_json::to_value(limit.typ()).ok().and_then(|name| name.as_str().map(str::to_ascii_lowercase));
    let name = name.ok_or_else(unknown)?;
    let resource = name.strip_prefix("rlimit_").and_then(Resource::parse).ok_or_else(unknown)?;
    let bound = |number: u64| (number != INFINITY).then_some(number);
    if limit.soft() > limit.hard() {
        return Err(invalid("process.rlimits", format!("{name}: the soft limit is above the hard one")));
    }
    Ok(Rlimit { resource, soft: bound(limit.soft()), hard: bound(limit.hard()) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_and_capability_of_the_specification_is_known() {
        for name in ["NOFILE", "NPROC", "CORE", "RTTIME", "MSGQUEUE"] {
            let text = serde_json::json!({"type": format!("RLIMIT_{name}"), "hard": u64::MAX, "soft": 5});
            let limit = limit(&serde_json::from_value(text).unwrap()).unwrap();
            assert_eq!((limit.soft, limit.hard), (Some(5), None));
        }
        for capability in Capability::ALL {
            let name = format!("CAP_{}", capability.name());
            let listed: Capabilities = serde_json::from_value(serde_json::json!([name])).unwrap();
            assert_eq!(set(&Some(listed)).unwrap(), CapabilitySet::of(&[*capability]));
        }
    }
}
