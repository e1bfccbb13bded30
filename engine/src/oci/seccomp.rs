//! `linux.seccomp` as the runtime takes it.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};
use runtime::{SeccompAbi, SeccompAction, SeccompComparison, SeccompCondition, SeccompProfile, SeccompRule};

use super::config::invalid;
use crate::error::Result;

const EPERM: u32 = 1;

pub(super) fn profile(asked: &LinuxSeccomp) -> Result<SeccompProfile> {
    if asked.listener_path().is_some() {
        return Err(invalid("linux.seccomp.listenerPath", "notifications are not supported by this version"));
    }
    let flags = asked.flags().clone().unwrap_or_default();
    let mut rules = Vec::new();
    for call in asked.syscalls().iter().flatten() {
        let action = action(call.action(), call.errno_ret())?;
        let mut conditions = Vec::new();
        for argument in call.args().iter().flatten() {
            conditions.push(condition(argument)?);
        }
        rules.push(SeccompRule { names: call.names().clone(), action, conditions });
    }
    Ok(SeccompProfile {
        default: action(asked.default_action(), asked.default_errno_ret())?,
        abis: asked.architectures().iter().flatten().filter_map(|arch| abi(*arch)).collect(),
        log: flags.contains(&LinuxSeccompFilterFlag::SeccompFilterFlagLog),
        allow_speculation: flags.contains(&LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow),
        rules,
    })
}

/// ABIs of other machines run no programs here; x32 programs find no calls at all.
pub(crate) fn abi(arch: Arch) -> Option<SeccompAbi> {
    match arch {
        Arch::ScmpArchX86_64 => Some(SeccompAbi::X86_64),
        Arch::ScmpArchX86 => Some(SeccompAbi::X86),
        Arch::ScmpArchAarch64 => Some(SeccompAbi::Aarch64),
        Arch::ScmpArchArm => Some(SeccompAbi::Arm),
        _ => None,
    }
}

pub(crate) fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<SeccompAction> {
    let number = || {
        let errno = errno.unwrap_or(EPERM);
        u16::try_from(errno).map_err(|_| invalid("linux.seccomp", format!("{errno} is no error number")))
    };
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => SeccompAction::Allow,
        LinuxSeccompAction::ScmpActLog => SeccompAction::Log,
        LinuxSeccompAction::ScmpActErrno => SeccompAction::Errno(number()?),
        LinuxSeccompAction::ScmpActTrace => SeccompAction::Trace(number()?),
        LinuxSeccompAction::ScmpActTrap => SeccompAction::Trap,
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => SeccompAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => SeccompAction::KillProcess,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(invalid("linux.seccomp", "SCMP_ACT_NOTIFY is not supported by this version"));
        }
    })
}

pub(crate) fn condition(argument: &LinuxSeccompArg) -> Result<SeccompCondition> {
    let value = argument.value();
    let comparison = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => SeccompComparison::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => SeccompComparison::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => SeccompComparison::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpEq => SeccompComparison::Equal(value),
        LinuxSeccompOperator::ScmpCmpGe => SeccompComparison::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => SeccompComparison::Greater(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            SeccompComparison::Masked { mask: value, value: argument.value_two().unwrap_or(0) }
        }
    };
    let index =
        u8::try_from(argument.index()).map_err(|_| invalid("linux.seccomp", "arguments are counted from 0 to 5"))?;
    Ok(SeccompCondition { index, comparison })
}
