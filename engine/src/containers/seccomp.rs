//! Profiles for seccomp in docker's form: rules with conditions on the machine and on the capabilities that are granted.

use oci_spec::runtime::{Arch, LinuxSeccompAction, LinuxSeccompArg};
use runtime::{Capability, CapabilitySet, SeccompAbi, SeccompProfile, SeccompRule};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::oci::seccomp::{abi, action, condition};

/// The file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<Arch>,
    #[serde(default)]
    arch_map: Vec<Architecture>,
    #[serde(default)]
    syscalls: Vec<Rule>,
    listener_path: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Filter,
    #[serde(default)]
    excludes: Filter,
}

/// Where a rule counts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// What a profile comes to on this machine, for a process with these capabilities.
pub(super) fn profile(text: &str, granted: CapabilitySet) -> Result<SeccompProfile> {
    let refused =
        |reason: String| Error::Usage(format!("--security-opt seccomp: the profile cannot be used: {reason}"));
    let profile: Profile = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
    if profile.listener_path.is_some() {
        return Err(refused("notifications are not supported by this version".to_owned()));
    }
    let mut rules = Vec::new();
    for rule in profile.syscalls {
        if !rule.counts(granted).map_err(refused)? {
            continue;
        }
        let action = action(rule.action, rule.errno_ret).map_err(|error| refused(error.to_string()))?;
        let arguments = rule.args.iter().flatten();
        let conditions =
            arguments.map(condition).collect::<Result<Vec<_>>>().map_err(|error| refused(error.to_string()))?;
        let mut names = rule.names;
        names.extend(Some(rule.name).filter(|name| !name.is_empty()));
        rules.push(SeccompRule { names, action, conditions });
    }
    let mapped = profile.arch_map.into_iter().filter(|map| abi(map.architecture).is_some_and(is_native));
    let mapped = mapped.flat_map(|map| [vec![map.architecture], map.sub_architectures.unwrap_or_default()].concat());
    let default = action(profile.default_action, profile.default_errno_ret);
    Ok(SeccompProfile {
        default: default.map_err(|error| refused(error.to_string()))?,
        abis: profile.architectures.into_iter().chain(mapped).filter_map(abi).collect(),
        log: false,
        allow_speculation: false,
        rules,
    })
}

fn is_native(abi: SeccompAbi) -> bool {
    match abi {
        SeccompAbi::X86_64 => cfg!(target_arch = "x86_64"),
        SeccompAbi::Aarch64 => cfg!(target_arch = "aarch64"),
        SeccompAbi::X86 | SeccompAbi::Arm => false,
    }
}

impl Rule {
    /// All that it includes must hold, and nothing that it excludes.
    fn counts(&self, granted: CapabilitySet) -> Result<bool, String> {
        let has = |name: &String| Ok(granted.contains(Capability::parse(name).map_err(|error| error.to_string())?));
        let here = |name: &String| name == native();
        let (includes, excludes) = (&self.includes, &self.excludes);
        let new_enough = |least: &Option<String>| least.as_deref().map(kernel_is).transpose();
        let included = includes.caps.iter().map(has).collect::<Result<Vec<bool>, String>>()?;
        let excluded = excludes.caps.iter().map(has).collect::<Result<Vec<bool>, String>>()?;
        Ok(included.into_iter().all(|has| has)
            && (includes.arches.is_empty() || includes.arches.iter().any(here))
            && new_enough(&includes.min_kernel)?.unwrap_or(true)
            && !excluded.into_iter().any(|has| has)
            && !excludes.arches.iter().any(here)
            && !new_enough(&excludes.min_kernel)?.unwrap_or(false))
    }
}

/// As the profiles of docker call it.
fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// Whether the kernel is this one or a later one: `4.8`.
fn kernel_is(least: &str) -> Result<bool, String> {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let wanted = numbers(least).ok_or_else(|| format!("`{least}` is no version of a kernel"))?;
    Ok(numbers(&release).unwrap_or((0, 0)) >= wanted)
}

fn numbers(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rules_count_by_capability_machine_and_kernel() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
                        {"architecture": "SCMP_ARCH_MIPS"}],
            "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
                {"name": "write", "action": "SCMP_ACT_ALLOW", "args": null},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
                {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "999.0"}},
                {"names": ["s390_pci_mmio_read"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
                 "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
        let names = |granted| -> Vec<String> {
            profile(text, granted).unwrap().rules.into_iter().flat_map(|rule| rule.names).collect()
        };
        assert_eq!(names(CapabilitySet::DOCKER), ["read", "write", "ptrace", "clone"]);
        assert_eq!(names(CapabilitySet::from_bits(u64::MAX)), ["read", "write", "mount", "ptrace"]);
        assert_eq!(profile(text, CapabilitySet::DOCKER).unwrap().abis.len(), 2);
        for bad in ["", "{}", r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#] {
            let message = profile(bad, CapabilitySet::DOCKER).unwrap_err().to_string();
            assert!(message.starts_with("--security-opt seccomp"), "{message}");
        }
    }
}
