//! What keeps a container apart, or lets it see more: capabilities, filters, labels, namespaces.

use std::io::Read;

use clap::Args;
use engine::{NamespaceChoice, Security, UsernsMode};

use super::run::pair;

/// Most bytes of a profile.
const PROFILE_LIMIT: u64 = 1 << 20;

/// Isolation.
#[derive(Debug, Args)]
#[command(next_help_heading = "Isolation")]
pub(crate) struct IsolationArgs {
    /// All capabilities, no filter, the machine's devices
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Capability besides docker's fourteen, or ALL; can be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) cap_add: Vec<String>,
    /// Capability to take away, or ALL; can be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined or a file with a profile, apparmor=PROFILE, label=TYPE:VALUE,
    /// systempaths=unconfined; can be repeated
    #[arg(long, value_name = "OPTION", value_parser = security)]
    pub(crate) security_opt: Vec<SecurityOption>,
    /// Kernel setting of the container's own namespaces, as NAME=VALUE; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) sysctl: Vec<(String, String)>,
    /// Process numbers: host, or container:NAME
    #[arg(long, value_name = "MODE", value_parser = pid)]
    pub(crate) pid: Option<NamespaceChoice>,
    /// Shared memory: private, shareable, none (without /dev/shm), host, or container:NAME
    #[arg(long, value_name = "MODE", value_parser = ipc)]
    pub(crate) ipc: Option<NamespaceChoice>,
    /// Host name: private, host, or container:NAME
    #[arg(long, value_name = "MODE", value_parser = uts)]
    pub(crate) uts: Option<NamespaceChoice>,
    /// User namespace: host, or auto[:size=N], in which the container has ids of its own on this machine (65536 of them), so
    /// that its root is nobody there [default: host, or what config.toml says]
    #[arg(long, value_name = "MODE", value_parser = UsernsMode::parse)]
    pub(crate) userns: Option<UsernsMode>,
    /// View of control groups: private or host
    #[arg(long, value_name = "MODE", value_parser = host_only)]
    pub(crate) cgroupns: Option<NamespaceChoice>,
}

/// One `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecurityOption {
    NoNewPrivileges(bool),
    /// What the file says.
    Seccomp(String),
    AppArmor(String),
    Label(LabelPart, String),
    UnconfinedSeccomp,
    UnconfinedPaths,
    /// What is so anyway.
    Usual,
}

/// A part of an SELinux label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelPart {
    User,
    Role,
    Type,
    Level,
}

impl SecurityOption {
    pub(crate) fn all(options: &[SecurityOption]) -> Security {
        let mut security = Security::default();
        let mut label = ["system_u", "system_r", "container_t", "s0"].map(str::to_owned);
        for option in options {
            match option {
                SecurityOption::Seccomp(text) => security.seccomp = Some(text.clone()),
                SecurityOption::AppArmor(profile) => security.apparmor = Some(profile.clone()),
                SecurityOption::Label(part, value) => {
                    let [user, role, kind, level] = &mut label;
                    let place = match part {
                        LabelPart::User => user,
                        LabelPart::Role => role,
                        LabelPart::Type => kind,
                        LabelPart::Level => level,
                    };
                    place.clone_from(value);
                    security.selinux = Some(label.join(":"));
                }
                SecurityOption::NoNewPrivileges(on) => security.no_new_privileges = *on,
                SecurityOption::UnconfinedSeccomp => security.unconfined_seccomp = true,
                SecurityOption::UnconfinedPaths => security.unconfined_paths = true,
                SecurityOption::Usual => {}
            }
        }
        security
    }
}

fn security(text: &str) -> Result<SecurityOption, String> {
    let (name, value) = text.split_once(['=', ':']).map_or((text, None), |(name, value)| (name, Some(value)));
    match (name, value) {
        ("no-new-privileges", None | Some("true")) => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", Some("false")) => Ok(SecurityOption::NoNewPrivileges(false)),
        ("seccomp", Some("unconfined")) => Ok(SecurityOption::UnconfinedSeccomp),
        ("seccomp", Some("builtin")) => Ok(SecurityOption::Usual),
        ("seccomp", Some(path)) => profile(path).map(SecurityOption::Seccomp),
        ("systempaths", Some("unconfined")) => Ok(SecurityOption::UnconfinedPaths),
        ("apparmor", Some("unconfined")) | ("label", Some("disable")) => Ok(SecurityOption::Usual),
        ("apparmor", Some(profile)) if !profile.is_empty() => Ok(SecurityOption::AppArmor(profile.to_owned())),
        ("label", Some(part)) => label_part(part),
        _ => Err("options are no-new-privileges, seccomp=, systempaths=, apparmor= and label=".to_owned()),
    }
}

/// The file is read where it is named: a container is started again without it.
fn profile(path: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read the profile {path}: {error}");
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(PROFILE_LIMIT + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > PROFILE_LIMIT {
        return Err(format!("the profile {path} is larger than {} KiB", PROFILE_LIMIT >> 10));
    }
    Ok(text)
}

fn label_part(text: &str) -> Result<SecurityOption, String> {
    let part = match text.split_once(':') {
        Some(("user", value)) => Some((LabelPart::User, value)),
        Some(("role", value)) => Some((LabelPart::Role, value)),
        Some(("type", value)) => Some((LabelPart::Type, value)),
        Some(("level", value)) => Some((LabelPart::Level, value)),
        _ => None,
    };
    let valid = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    match part.filter(|(_, value)| valid(value)) {
        Some((part, value)) => Ok(SecurityOption::Label(part, value.to_owned())),
        None => {
            Err("labels are label=disable, label=user:USER, label=role:ROLE, label=type:TYPE and label=level:LEVEL"
                .to_owned())
        }
    }
}

fn shared(text: &str) -> Option<NamespaceChoice> {
    match text.split_once(':') {
        Some(("container", name)) if !name.is_empty() => Some(NamespaceChoice::Container(name.to_owned())),
        None if text == "host" => Some(NamespaceChoice::Host),
        _ => None,
    }
}

fn pid(text: &str) -> Result<NamespaceChoice, String> {
    shared(text).ok_or_else(|| "it must be host or container:NAME".to_owned())
}

fn uts(text: &str) -> Result<NamespaceChoice, String> {
    match text {
        "private" => Ok(NamespaceChoice::Private),
        _ => shared(text).ok_or_else(|| "it must be private, host or container:NAME".to_owned()),
    }
}

fn ipc(text: &str) -> Result<NamespaceChoice, String> {
    match text {
        "private" | "shareable" => Ok(NamespaceChoice::Private),
        "none" => Ok(NamespaceChoice::None),
        _ => shared(text).ok_or_else(|| "it must be none, private, shareable, host or container:NAME".to_owned()),
    }
}

fn host_only(text: &str) -> Result<NamespaceChoice, String> {
    match text {
        "private" => Ok(NamespaceChoice::Private),
        "host" => Ok(NamespaceChoice::Host),
        _ => Err("it must be private or host".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_are_dockers() {
        assert!(pid("private").is_err() && ipc("shareable").is_ok() && host_only("container:x").is_err());
        assert!(security("seccomp=/no-such-profile").unwrap_err().contains("/no-such-profile"));
        assert!(security("x").is_err() && security("label=x:y").is_err() && security("apparmor=").is_err());
        let label = ["label=type:a_t", "label=level:s0:c1"].map(|text| security(text).unwrap());
        assert_eq!(SecurityOption::all(&label).selinux.as_deref(), Some("system_u:system_r:a_t:s0:c1"));
        assert_eq!(security("no-new-privileges:true").unwrap(), SecurityOption::NoNewPrivileges(true));
    }
}
