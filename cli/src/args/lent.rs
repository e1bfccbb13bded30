//! What a build lends to its steps, and how they are limited: `--secret`, `--ssh`, `--allow`, `--add-host`, `--ulimit`, …
//! read from docker's spellings.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use engine::{Entitlement, Platform, Resource, Rlimit};

/// `--secret id=ID[,src=FILE|env=NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretSpec {
    pub(crate) id: String,
    pub(crate) source: SecretSource,
}

/// Where a secret is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// A file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// The variable of the id's name, else the file of that name.
    ById,
}

/// `--ssh ID[=SOCKET]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshSpec {
    pub(crate) id: String,
    /// The agent of the environment when absent.
    pub(crate) path: Option<PathBuf>,
}

/// `NAME[=VALUE]` of a variable, an argument or a label, as it stands.
pub(super) fn named(text: &str) -> Result<String, String> {
    match text.split('=').next().unwrap_or_default().trim() {
        "" => Err("a name is missing: write it like NAME=VALUE".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

pub(super) fn secret(text: &str) -> Result<SecretSpec, String> {
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("`{field}` must be KEY=VALUE, as in id=token,src=token.txt"));
        };
        match key.to_lowercase().as_str() {
            "id" => id = Some(value.to_owned()),
            "src" | "source" => file = Some(value.to_owned()),
            "env" => variable = Some(value.to_owned()),
            "type" if value == "file" || value == "env" => kind = Some(value.to_owned()),
            "type" => return Err(format!("unsupported secret type `{value}`: it is file or env")),
            _ => return Err(unknown(key, &["id", "src", "env", "type"])),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or("a secret needs an id, as in id=token,src=token.txt")?;
    // `type=env,src=NAME` is docker's older spelling of env=NAME.
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = file.take();
    }
    let source = match (file, variable) {
        (Some(_), Some(_)) => return Err("src and env exclude each other".to_owned()),
        (Some(file), None) => SecretSource::File(file.into()),
        (None, Some(name)) => SecretSource::Variable(name),
        (None, None) if kind.as_deref() == Some("env") => SecretSource::Variable(id.clone()),
        (None, None) if kind.as_deref() == Some("file") => SecretSource::File(PathBuf::from(&id)),
        (None, None) => SecretSource::ById,
    };
    Ok(SecretSpec { id, source })
}

pub(super) fn ssh(text: &str) -> Result<SshSpec, String> {
    let (id, path) = match text.split_once('=') {
        Some((id, path)) => (id, Some(path)),
        None => (text, None),
    };
    if id.is_empty() {
        return Err("an agent needs an id, as in default or default=SOCKET".to_owned());
    }
    if path.is_some_and(|path| path.contains(',')) {
        return Err("keys are not read: add them to an agent with ssh-add, and name the agent".to_owned());
    }
    Ok(SshSpec { id: id.to_owned(), path: path.filter(|path| !path.is_empty()).map(PathBuf::from) })
}

pub(super) fn allow(text: &str) -> Result<Entitlement, String> {
    match text {
        "network.host" => Ok(Entitlement::NetworkHost),
        "security.insecure" => Ok(Entitlement::SecurityInsecure),
        "device" => Ok(Entitlement::Devices),
        _ => match text.strip_prefix("device=") {
            Some("") => Err("it must name a device, as in device=VENDOR/CLASS=DEVICE".to_owned()),
            Some(name) => Ok(Entitlement::Device(name.to_owned())),
            None => Err(unknown(text, &["network.host", "security.insecure", "device"])),
        },
    }
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`. The host of a build is reached at the loopback address: steps share its network.
pub(super) fn host(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = match text.split_once('=').or_else(|| text.split_once(':')) {
        Some((name, address)) if !name.is_empty() && !name.contains(char::is_whitespace) => (name, address),
        _ => return Err("it must be NAME:ADDRESS".to_owned()),
    };
    if address == "host-gateway" {
        return Ok((name.to_owned(), Ipv4Addr::LOCALHOST.into()));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse() {
        Ok(address) => Ok((name.to_owned(), address)),
        Err(_) => Err(format!("`{address}` is no IP address, and not host-gateway")),
    }
}

/// `NAME=SOFT[:HARD]`; -1 is unlimited.
pub(super) fn limit(text: &str) -> Result<Rlimit, String> {
    let (name, values) = text.split_once('=').ok_or("it must be NAME=SOFT[:HARD], as in nofile=1024:4096")?;
    let resource = Resource::parse(name).ok_or_else(|| format!("`{name}` is no limit: nofile and nproc are"))?;
    let number = |text: &str| match text {
        "-1" => Ok(None),
        _ => text.parse::<u64>().map(Some).map_err(|_| format!("`{text}` is no number")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    let above = hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard));
    if above {
        return Err("the soft limit must not be above the hard one".to_owned());
    }
    Ok(Rlimit { resource, soft, hard })
}

/// A path below the roots of the control groups. The root itself has no limits to give.
pub(super) fn cgroup_parent(text: &str) -> Result<String, String> {
    let names = || text.split('/').filter(|name| !matches!(*name, "" | "."));
    if names().any(|name| name == "..") {
        return Err("it must not contain `..`".to_owned());
    }
    if names().next().is_none() {
        return Err("it must name a control group, and not the root of all".to_owned());
    }
    Ok(text.to_owned())
}

/// Bytes; 0 is the default.
pub(super) fn size(text: &str) -> Result<u64, String> {
    grammar::parse_size(text).map_err(|error| error.to_string())
}

pub(super) fn platform(text: &str) -> Result<Platform, String> {
    let platform = text.parse::<Platform>().map_err(|error| error.to_string())?;
    if platform.os != "linux" {
        return Err(format!("images for {} cannot be built: linux can", platform.os));
    }
    Ok(platform)
}

fn unknown(word: &str, known: &[&str]) -> String {
    match grammar::nearest(word, known.iter().copied()) {
        Some(near) => format!("`{word}` is not known: did you mean `{near}`?"),
        None => format!("`{word}` is not known: it is one of {}", known.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_dockers_spellings() {
        let source = |text: &str| secret(text).unwrap().source;
        assert_eq!(source("id=a,src=f"), SecretSource::File("f".into()));
        assert_eq!(source("type=file,id=a,source=f"), SecretSource::File("f".into()));
        assert_eq!(source("id=a,env=V"), SecretSource::Variable("V".to_owned()));
        assert_eq!(source("type=env,id=a,src=V"), SecretSource::Variable("V".to_owned()));
        assert_eq!(source("type=env,id=a"), SecretSource::Variable("a".to_owned()));
        assert_eq!(source("id=a"), SecretSource::ById);
        for (bad, why) in
            [("src=f", "needs an id"), ("id", "KEY=VALUE"), ("id=a,scr=f", "`src`"), ("id=a,type=x", "file or env")]
        {
            assert!(secret(bad).unwrap_err().contains(why), "{bad}");
        }
    }

    #[test]
    fn control_groups_are_below_the_root() {
        assert_eq!(cgroup_parent("/builds/ci").unwrap(), "/builds/ci");
        assert!(cgroup_parent("a/../b").is_err() && cgroup_parent("/").is_err() && cgroup_parent("").is_err());
    }

    #[test]
    fn hosts_limits_and_entitlements() {
        assert_eq!(host("h:1.2.3.4").unwrap(), ("h".to_owned(), [1, 2, 3, 4].into()));
        assert_eq!(host("h=[::1]").unwrap().1.to_string(), "::1");
        assert_eq!(host("h:::1").unwrap().1.to_string(), "::1");
        assert_eq!(host("h:host-gateway").unwrap().1.to_string(), "127.0.0.1");
        assert!(host("h:nowhere").is_err() && host("h").is_err() && host(":1.2.3.4").is_err());
        let nofile = limit("nofile=1:2").unwrap();
        assert_eq!((nofile.soft, nofile.hard), (Some(1), Some(2)));
        assert_eq!(limit("core=-1").unwrap().hard, None);
        assert!(limit("nofile=3:2").is_err() && limit("files=1").is_err() && limit("nofile=-1:2").is_err());
        assert_eq!(allow("device=v/c=d").unwrap(), Entitlement::Device("v/c=d".to_owned()));
        assert!(allow("device=").is_err());
        assert!(allow("security.insecur").unwrap_err().contains("security.insecure"));
        assert!(platform("windows/amd64").is_err());
        assert_eq!(ssh("default").unwrap().path, None);
    }
}
